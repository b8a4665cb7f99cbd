// SPDX-License-Identifier: GPL-2.0-only
#include "world.hpp"

#include "fds.hpp"
#include "lib/report.hpp"
#include "memory.hpp"
#include "worker.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <linux/blkpg.h>
#include <linux/dmabuf_rw.h>
#include <linux/io_uring.h>
#include <linux/memfd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <vector>

namespace vmtest::fuzz {

namespace {

namespace fs = std::filesystem;

const std::string nvme = "/dev/nvme0n1", virtio = "/dev/vda", folder = "/tmp/fuzz";
constexpr std::uint64_t mib = 1u << 20;
// Numbers that no table here has. The last has a file system, whose file can be held still.
constexpr int writable_part = 27, other_part = 28, files_part = 29;
constexpr std::size_t canary_bytes = 65536;
constexpr std::uint32_t canary_generation = 77;
constexpr int direct = O_DIRECT | O_CLOEXEC;

std::string part_path(const std::string &disk, int number) {
  return std::format("{}{}{}", disk, disk == nvme ? "p" : "", number);
}

int blkpg(int disk, int operation, int number, std::uint64_t start, std::uint64_t bytes) {
  blkpg_partition part{};
  part.pno = number;
  part.start = static_cast<long long>(start);
  part.length = static_cast<long long>(bytes);
  blkpg_ioctl_arg arg{.op = operation, .flags = 0, .datalen = sizeof(part), .data = &part};
  return ::ioctl(disk, BLKPG, &arg);
}

void place_at(int fd, int number) {
  if (::dup3(fd, number, O_CLOEXEC) < 0)
    die(std::format("dup of descriptor {} to {}: {}", fd, number, std::strerror(errno)));
}

UniqueFd must(int fd, std::string_view what) {
  if (fd < 0)
    die(std::format("{}: {}", what, std::strerror(errno)));
  return UniqueFd(fd);
}

UniqueFd scratch_file(const std::string &path, int flags) {
  UniqueFd fd = must(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600), path);
  if (::ftruncate(fd.get(), mib) != 0)
    die("ftruncate of " + path);
  return open_target(path, flags);
}

// A file of the unprivileged process, all of it written, that it can have held still.
UniqueFd held_file(const std::string &part, const std::string &mounted) {
  if (std::system(std::format("mkfs.ext4 -q -F {} >/dev/null", part).c_str()) != 0 ||
      ::mount(part.c_str(), mounted.c_str(), "ext4", 0, "") != 0)
    die("the file system of the file that is held cannot be made");
  const std::string path = mounted + "/file";
  const std::vector<char> bytes(mib, 'h');
  const UniqueFd fd = must(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600), path);
  if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
      ::fchown(fd.get(), 65534, 65534) != 0 || ::fsync(fd.get()) != 0)
    die("write of " + path);
  return open_target(path, O_RDONLY | direct);
}

DmaBuf make(Exporter exporter, std::size_t bytes, Access access = Access::ReadWrite) {
  auto buffer = DmaBuf::create(exporter, bytes, access);
  if (!buffer)
    die(std::format("{}: {}", name_of(exporter), buffer.error()));
  return std::move(*buffer);
}

// How the words of a canary differ from what they were; empty when they do not.
std::string differences(std::span<const Word> words, std::uint32_t generation) {
  std::vector<Word> wanted(words.size(), 0);
  if (generation)
    fill_pattern(wanted, generation, 0);
  const auto mismatch = compare_words(words, wanted);
  return mismatch ? describe(*mismatch, 0) : "";
}

// What a dma-buf that is open for reading only holds.
std::string look_at(const DmaBuf &buffer, std::uint32_t generation) {
  void *view = ::mmap(nullptr, buffer.size(), PROT_READ, MAP_SHARED, buffer.fd(), 0);
  if (view == MAP_FAILED)
    return std::format("mmap: {}", std::strerror(errno));
  buffer.begin_cpu(false);
  const std::string found =
      differences({static_cast<const Word *>(view), buffer.size() / 8}, generation);
  buffer.end_cpu(false);
  ::munmap(view, buffer.size());
  return found;
}

} // namespace

World::World() : nvme_(open_target(nvme)), virtio_(open_target(virtio)) {
  for (const int disk : {nvme_.get(), virtio_.get()}) {
    add_partition(disk, writable_part, 64 * mib, partition_bytes);
    add_canary(disk, 63 * mib, mib);
    add_canary(disk, 64 * mib + partition_bytes, mib);
    add_canary(disk, mib, mib);
  }
  add_partition(nvme_.get(), other_part, 128 * mib, 2 * mib);
  add_canary(nvme_.get(), 128 * mib, 2 * mib);
  add_partition(virtio_.get(), other_part, 128 * mib, 64 * mib);
  add_partition(nvme_.get(), files_part, 192 * mib, 32 * mib);
  add_canary(nvme_.get(), 224 * mib, mib);
  make_dmabufs();
  make_targets();
  make_rw_files();
  place_at(must(::open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC), "dma-heap").get(), heap_device);
  place_at(must(::open("/dev/udmabuf", O_RDWR | O_CLOEXEC), "udmabuf").get(), udmabuf_device);
  place_at(testexp_.fd(), testexp_device);
  if (::chown(DMABUF_RW_DEVICE, 65534, 65534) != 0)
    die("chown of " DMABUF_RW_DEVICE);
}

World::~World() {
  for (int fd = dmabuf_masters; fd < closed_fd; ++fd)
    ::close(fd);
  if (::chown(DMABUF_RW_DEVICE, 0, 0) != 0)
    report().fail("chown of " DMABUF_RW_DEVICE, std::strerror(errno));
  // Rings of processes that were killed let go of their files a little later.
  const double end = now_s() + 60;
  const auto soon = [end](const std::string &name, auto call) {
    int status = -1;
    while ((status = call()) != 0 && now_s() < end)
      ::usleep(50000);
    report().check(status == 0, name, std::strerror(errno));
  };
  for (const char *system : {"/ext4", "/tmpfs", "/held"})
    soon(std::format("{} can be unmounted", system),
         [&] { return ::umount2((folder + system).c_str(), 0); });
  for (const Partition &part : partitions_)
    soon("nobody keeps a partition open",
         [&] { return blkpg(part.disk, BLKPG_DEL_PARTITION, part.number, 0, 0); });
}

void World::add_partition(int disk, int number, std::uint64_t start, std::uint64_t bytes) {
  if (blkpg(disk, BLKPG_ADD_PARTITION, number, start, bytes) != 0)
    die(std::format("BLKPG_ADD_PARTITION at {}: {}", start, std::strerror(errno)));
  partitions_.push_back({disk, number});
  const std::string path = part_path(disk == nvme_.get() ? nvme : virtio, number);
  for (int tries = 0; tries < 200 && !fs::exists(path); ++tries)
    ::usleep(20000);
}

void World::add_canary(int disk, std::uint64_t base, std::size_t bytes) {
  disk_canaries_.emplace_back(disk, base, bytes);
  disk_canaries_.back().lay_down_all(canary_generation);
}

void World::put_dmabuf(int number, DmaBuf buffer) {
  access_first(buffer.fd());
  place_at(buffer.fd(), dmabuf_masters + number);
  set_object_bytes(dmabuf_masters + number, buffer.size());
}

void World::put_target(int number, UniqueFd fd) { place_at(fd.get(), target_masters + number); }

void World::make_dmabufs() {
  using enum Exporter;
  put_dmabuf(0, make(Udmabuf, 65536));
  put_dmabuf(1, make(Udmabuf, 4096));
  put_dmabuf(2, make(UdmabufScattered, 262144));
  put_dmabuf(3, make(UdmabufHuge, 2 * mib));
  put_dmabuf(4, make(Heap, 65536));
  put_dmabuf(5, make(Heap, 262144));
  put_dmabuf(7, make(Heap, 65536, Access::WriteOnly));
  put_dmabuf(8, make(Vgem, 65536));
  put_dmabuf(9, make(VirtioGpu, 65536));
  put_dmabuf(22, make(Udmabuf, 5 * 4096));
  put_dmabuf(23, make(UdmabufScattered, mib));

  buffer_canaries_.push_back({"heap", make(Heap, canary_bytes, Access::ReadOnly), 0});
  buffer_canaries_.push_back({"vgem", make(Vgem, canary_bytes, Access::ReadOnly), 0});
  for (int i = 0; i < 2; ++i) {
    const int number = i ? 10 : 6;
    place_at(buffer_canaries_[static_cast<unsigned>(i)].buffer.fd(), dmabuf_masters + number);
    set_object_bytes(dmabuf_masters + number, canary_bytes);
  }

  constexpr std::uint32_t dynamic = DMABUF_TESTEXP_DYNAMIC, hidden = DMABUF_TESTEXP_NO_CPU;
  struct {
    std::uint64_t bytes;
    std::uint32_t flags;
  } constexpr kinds[] = {
      {65536, dynamic},
      {262144, gpu_like},
      {65536, gpu_like},
      {65536, DMABUF_TESTEXP_IO_VIEW},
      {65536, 0},
      {65536, hidden | DMABUF_TESTEXP_NO_PAGES},
      {65536, hidden | DMABUF_TESTEXP_MISALIGN_START},
      {65536, hidden | DMABUF_TESTEXP_SUM_SHORT},
      {4096, dynamic},
      {mib, dynamic | DMABUF_TESTEXP_NEED_INVALIDATE},
  };
  static_assert(std::size(kinds) == testexp_ids);
  const auto put = [&](int number, const dmabuf_testexp_create &create) {
    TestBuffer buffer = testexp_.make(create);
    place_at(buffer.fd(), dmabuf_masters + number);
    set_object_bytes(dmabuf_masters + number, create.bytes);
    return buffer;
  };
  for (unsigned i = 0; i < std::size(kinds); ++i) {
    auto create = gpu_buffer(kinds[i].bytes, i, kinds[i].flags);
    if (kinds[i].flags & DMABUF_TESTEXP_MISALIGN_START)
      create.misalign = 512;
    buffers_.push_back(put(12 + static_cast<int>(i), create));
    if (buffers_.back().id() != i + 1)
      die("the test exporter's ids do not begin at 1");
  }
  testexp_canary_ = put(11, gpu_buffer(canary_bytes, 99, dynamic | DMABUF_TESTEXP_READ_ONLY));
  testexp_canary_.put_pattern(0, canary_bytes, canary_generation, 0);
}

void World::make_targets() {
  const std::string part = part_path(nvme, writable_part);
  int number = 0;
  for (const int flags : {O_RDWR | direct, O_RDWR | O_CLOEXEC, O_WRONLY | direct, O_RDONLY | direct,
                          O_RDWR | O_DSYNC | direct})
    put_target(number++, open_target(part, flags));
  put_target(5, open_target(nvme, O_RDONLY | direct));
  put_target(6, open_target(part_path(nvme, other_part), O_RDONLY | direct));
  const std::string virtio_part = part_path(virtio, writable_part);
  put_target(7, open_target(virtio_part, O_RDWR | direct));
  put_target(8, open_target(virtio_part, O_RDWR | O_CLOEXEC));

  for (const std::string system : {"/ext4", "/tmpfs", "/held"})
    fs::create_directories(folder + system);
  const std::string ext4 = part_path(virtio, other_part);
  if (std::system(std::format("mkfs.ext4 -q -F {} >/dev/null", ext4).c_str()) != 0 ||
      ::mount(ext4.c_str(), (folder + "/ext4").c_str(), "ext4", 0, "") != 0 ||
      ::mount("none", (folder + "/tmpfs").c_str(), "tmpfs", 0, "size=64m") != 0)
    die("the file systems cannot be made");
  put_target(9, scratch_file(folder + "/ext4/a", O_RDWR | direct));
  put_target(10, scratch_file(folder + "/ext4/b", O_RDWR | O_CLOEXEC));
  put_target(11, scratch_file(folder + "/ext4/c", O_RDWR | O_APPEND | O_CLOEXEC));
  put_target(12, scratch_file(folder + "/ext4/d", O_RDONLY | O_CLOEXEC));
  put_target(13, scratch_file(folder + "/tmpfs/a", O_RDWR | O_CLOEXEC));
  place_at(scratch_file(folder + "/tmpfs/sink", O_RDWR | O_CLOEXEC).get(), sink_file);

  put_target(14, open_target(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  int ends[2];
  if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
    die("pipe");
  put_target(15, UniqueFd(ends[0]));
  UniqueFd writing(ends[1]);
  put_target(16, must(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket"));
  UniqueFd memfd = must(::memfd_create("fuzz target", MFD_CLOEXEC), "memfd");
  if (::ftruncate(memfd.get(), mib) != 0)
    die("ftruncate of a memfd");
  put_target(17, std::move(memfd));
  put_target(18, open_target(part, O_PATH | O_CLOEXEC));
  io_uring_params params{};
  put_target(19, must(static_cast<int>(::syscall(SYS_io_uring_setup, 2, &params)), "io_uring"));
  put_target(20, must(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd"));
  put_target(21, open_target("/dev/null", O_RDWR | O_CLOEXEC));
  put_target(22, held_file(part_path(nvme, files_part), folder + "/held"));
  put_target(23, open_target(part, O_RDWR | direct));
}

// Of these dma-bufs the process has nothing but an rw fd to read them by.
void World::make_rw_files() {
  Session session;
  for (int i = 0; i < rw_master_count; ++i) {
    DmaBuf buffer = make(i ? Exporter::Heap : Exporter::Udmabuf, canary_bytes);
    {
      const CpuAccess access(buffer, true);
      fill_pattern(buffer.words(), canary_generation, 0);
    }
    dmabuf_rw_open open{};
    open.dmabuf_fd = static_cast<__u32>(buffer.fd());
    open.flags = O_RDONLY | O_CLOEXEC;
    if (::ioctl(session.fd(), DMABUF_RW_IOC_OPEN, &open) != 0)
      die(std::format("OPEN: {}", std::strerror(errno)));
    const UniqueFd file(static_cast<int>(open.fd));
    place_at(file.get(), rw_masters + i);
    set_object_bytes(rw_masters + i, canary_bytes);
    buffer_canaries_.push_back({i ? "heap behind an rw fd" : "udmabuf behind an rw fd",
                                std::move(buffer), canary_generation});
  }
}

void World::check(const std::string &when) {
  for (DiskRegion &region : disk_canaries_) {
    const auto wrong = region.check_all();
    report().check(!wrong,
                   std::format("{}: the {} at {} MiB is as it was", when,
                               region.plain_fd() == nvme_.get() ? "drive" : "virtio disk",
                               region.base() / mib),
                   wrong.value_or(""));
  }
  for (const BufferCanary &canary : buffer_canaries_) {
    const std::string wrong = look_at(canary.buffer, canary.generation);
    report().check(wrong.empty(), std::format("{}: the {} is as it was", when, canary.name), wrong);
  }
  std::vector<Word> words(canary_bytes / 8);
  testexp_canary_.must_read(words, 0);
  const std::string wrong = differences(words, canary_generation);
  report().check(wrong.empty(), when + ": the test exporter's buffer is as it was", wrong);
}

void World::spoil_disk() {
  DiskRegion &region = disk_canaries_.front();
  HostBuffer block(4096);
  std::ranges::fill(block.words(), 0);
  write_plain(region.plain_fd(), block.words(), region.base() + 4096);
}

void World::spoil_buffer() {
  const Word wrong[] = {0};
  testexp_canary_.must_write(wrong, 4096);
}

void World::signal_fences() {
  for (const TestBuffer &buffer : buffers_)
    buffer.signal();
}

void World::check_strays() {
  std::uint64_t moves = 0;
  for (const TestBuffer &buffer : buffers_) {
    const auto stats = buffer.must_stats();
    moves += stats.moves;
    report().check(stats.stray_words == 0,
                   std::format("nobody wrote to memory that buffer {} left", buffer.id()),
                   std::format("{} words", stats.stray_words));
  }
  report().note(std::format("{} moves of buffers", moves));
}

} // namespace vmtest::fuzz
