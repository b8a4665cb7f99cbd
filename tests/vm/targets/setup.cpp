// SPDX-License-Identifier: GPL-2.0-only
// What `targets` moves bytes between: it makes the memories and the files.
#include "targets.hpp"

#include "lib/report.hpp"
#include "lib/testexp.hpp"
#include "lib/vfio_bar.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <unistd.h>

namespace vmtest {

namespace {

namespace fs = std::filesystem;

const std::string nvme = "/dev/nvme0n1", virtio = "/dev/vda", mounts = "/tmp/targets";
constexpr std::uint64_t mib = 1u << 20;
// Of the whole disks: behind all partitions, and on no page boundary.
constexpr std::uint64_t disk_base = 900 * mib + 9 * 512;
// Of files: a multiple of a block, so that only the I/O itself is unaligned.
constexpr std::uint64_t file_base = 128 * 1024;
constexpr const char *log_file = "/tmp/targets.log"; // what the last command said
constexpr int direct_flags = O_RDWR | O_DIRECT | O_CLOEXEC;
constexpr int buffered_flags = O_RDWR | O_CLOEXEC;

class DmaBufMemory : public Memory {
public:
  explicit DmaBufMemory(Exporter exporter) : buffer_(make(exporter)) {
    name = name_of(exporter);
    kind = exporter == Exporter::UdmabufHuge ? Kind::HugePages : Kind::Pages;
  }
  int fd() const override { return buffer_.fd(); }
  void put(std::span<const Word> words) override {
    const CpuAccess access(buffer_, true);
    std::ranges::copy(words, buffer_.words().begin());
  }
  void get(std::span<Word> words) override {
    const CpuAccess access(buffer_, false);
    std::ranges::copy(buffer_.words(), words.begin());
  }

private:
  static DmaBuf make(Exporter exporter) {
    auto buffer = DmaBuf::create(exporter, memory_bytes);
    if (!buffer)
      die(std::format("{}: {}", name_of(exporter), buffer.error()));
    return std::move(*buffer);
  }
  DmaBuf buffer_;
};

class TestexpMemory : public Memory {
public:
  TestexpMemory(std::string called, Kind of_kind, std::uint32_t flags)
      : buffer_(exporter_.make(gpu_buffer(memory_bytes, 7, flags))) {
    name = std::move(called);
    kind = of_kind;
  }
  int fd() const override { return buffer_.fd(); }
  void put(std::span<const Word> words) override { buffer_.must_write(words, 0); }
  void get(std::span<Word> words) override { buffer_.must_read(words, 0); }

private:
  Testexp exporter_;
  TestBuffer buffer_;
};

class BarMemory : public Memory {
public:
  BarMemory() : bar_(must(VfioBar::open())), fd_(must(bar_.export_range(memory_bytes))) {
    name = "vfio-bar";
    kind = Kind::NoCpuView;
  }
  int fd() const override { return fd_.get(); }
  void put(std::span<const Word> words) override { std::ranges::copy(words, bar_.words().begin()); }
  void get(std::span<Word> words) override {
    std::ranges::copy(bar_.words().first(words.size()), words.begin());
  }

private:
  template <typename Value> static Value must(std::expected<Value, std::string> value) {
    if (!value)
      die(value.error());
    return std::move(*value);
  }
  VfioBar bar_;
  UniqueFd fd_;
};

void shell(const std::string &line) {
  if (std::system(std::format("({}) >{} 2>&1", line, log_file).c_str()) == 0)
    return;
  std::stringstream said;
  said << std::ifstream(log_file).rdbuf();
  die(std::format("{}: {}", line, said.str()));
}

std::uint64_t number_in(const std::string &file) {
  std::uint64_t number = 0;
  if (!(std::ifstream(file) >> number))
    die("no number in " + file);
  return number;
}

void wait_for(const std::string &path) {
  for (int tries = 0; tries < 200 && !fs::exists(path); ++tries)
    ::usleep(20000);
  if (!fs::exists(path))
    die("there is no " + path);
}

Target block_device(std::string name, Target::Kind kind, const std::string &path,
                    std::uint64_t base) {
  return {std::move(name), kind, true, open_target(path), base, open_target(path), base};
}

} // namespace

std::vector<std::unique_ptr<Memory>> plain_memories(const std::vector<std::string> &only) {
  std::vector<std::unique_ptr<Memory>> all;
  const auto wanted = [&](std::string_view name) {
    return only.empty() || std::ranges::contains(only, name);
  };
  for (const Exporter exporter : {Exporter::UdmabufScattered, Exporter::UdmabufHuge, Exporter::Heap,
                                  Exporter::Vgem, Exporter::VirtioGpu}) {
    if (!wanted(name_of(exporter)))
      continue;
    if (is_there(exporter))
      all.push_back(std::make_unique<DmaBufMemory>(exporter));
    else
      report().skip(name_of(exporter), "this kernel has none");
  }
  const bool pages = wanted("testexp"), gpu = wanted("testexp-gpu");
  const char *module = std::getenv("DMABUF_TESTEXP_KO");
  if ((pages || gpu) && !module_loaded("dmabuf_testexp") && !(module && fs::exists(module))) {
    report().skip("testexp", "DMABUF_TESTEXP_KO names no file");
    return all;
  }
  if (pages)
    all.push_back(
        std::make_unique<TestexpMemory>("testexp", Memory::Kind::Pages, DMABUF_TESTEXP_DYNAMIC));
  if (gpu)
    all.push_back(
        std::make_unique<TestexpMemory>("testexp-gpu", Memory::Kind::NoCpuView, gpu_like));
  return all;
}

std::vector<std::unique_ptr<Memory>> bar_memories() {
  std::vector<std::unique_ptr<Memory>> all;
  all.push_back(std::make_unique<BarMemory>());
  return all;
}

Targets::Targets() {
  shell("printf 'label: gpt\\nstart=2048,size=131072\\nsize=655360\\n' | "
        "sfdisk --quiet --wipe always " +
        nvme);
  shell("printf 'label: gpt\\nsize=1048576\\n' | sfdisk --quiet --wipe always " + virtio);
  for (const auto &part : {nvme + "p1", nvme + "p2", virtio + "1"})
    wait_for(part);
  for (const std::string folder : {"/ext4", "/xfs", "/tmpfs"})
    fs::create_directories(mounts + folder);
  shell("mkfs.ext4 -q -F " + nvme + "p2 && mount -t ext4 " + nvme + "p2 " + mounts + "/ext4");
  shell("mkfs.xfs -q -f " + virtio + "1 && mount -t xfs " + virtio + "1 " + mounts + "/xfs");
  shell("mount -t tmpfs none " + mounts + "/tmpfs");
  shell("modprobe null_blk memory_backed=1 gb=1 nr_devices=1");
  wait_for("/dev/nullb0");

  using enum Target::Kind;
  all_.push_back(block_device("nvme", Nvme, nvme, disk_base));
  add_partitions();
  all_.push_back({"nvme buffered", NvmeBuffered, false, open_target(nvme, buffered_flags),
                  disk_base + 8 * mib, open_target(nvme), disk_base + 8 * mib});
  all_.push_back(block_device("virtio-blk", OtherBlock, virtio, disk_base));
  all_.push_back(block_device("null_blk", OtherBlock, "/dev/nullb0", disk_base));
  add_loop();
  for (const bool direct : {true, false})
    for (const std::string system : {"ext4", "xfs"})
      add_file(system, mounts + "/" + system, direct);
  add_file("tmpfs", mounts + "/tmpfs", false);
}

// The witness looks from the whole disk, so that a wrong start of the partition shows.
void Targets::add_partitions() {
  const std::uint64_t start = number_in("/sys/class/block/nvme0n1p1/start") * 512;
  const std::uint64_t base = 8 * mib + 5 * 512;
  all_.push_back({"nvme partition", Target::Kind::Nvme, true, open_target(nvme + "p1"), base,
                  open_target(nvme), start + base});
}

// The witness looks at the file behind the device.
void Targets::add_loop() {
  const std::string backing = mounts + "/ext4/loop";
  shell("dd if=/dev/zero of=" + backing + " bs=1M count=16 conv=fsync");
  shell("modprobe loop && losetup --find --show --direct-io=on " + backing);
  std::getline(std::ifstream(log_file), loop_);
  const std::string name = fs::path(loop_).filename();
  if (number_in("/sys/block/" + name + "/loop/dio") != 1)
    die(loop_ + " does no direct I/O");
  const std::uint64_t base = 4 * mib + 3 * 512;
  all_.push_back({"loop", Target::Kind::OtherBlock, true, open_target(loop_), base,
                  open_target(backing), base});
}

void Targets::add_file(const std::string &system, const std::string &folder, bool direct) {
  const std::string path = folder + (direct ? "/direct" : "/buffered");
  const int plain_flags = system == "tmpfs" ? buffered_flags : direct_flags;
  UniqueFd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  Target target{system + (direct ? " direct" : " buffered"),
                Target::Kind::File,
                direct,
                open_target(path, direct ? direct_flags : buffered_flags),
                file_base,
                open_target(path, plain_flags),
                file_base};
  if (::ftruncate(target.plain.get(), static_cast<off_t>(file_base + region_bytes)) != 0)
    die(std::format("ftruncate of {}: {}", path, std::strerror(errno)));
  all_.push_back(std::move(target));
}

Targets::~Targets() {
  all_.clear();
  if (!loop_.empty())
    shell("losetup --detach " + loop_);
  for (const std::string folder : {"/tmpfs", "/xfs", "/ext4"})
    shell("umount " + mounts + folder);
  shell("modprobe -r null_blk");
}

} // namespace vmtest
