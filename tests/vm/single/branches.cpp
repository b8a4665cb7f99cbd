// SPDX-License-Identifier: GPL-2.0-only
// One dma-buf of 1 GiB and drives on every branch of a machine: behind root ports, behind a switch,
// on the other NUMA node. I/O of all drives is in flight at once, and each lands on its own drive
// and in its own part of the dma-buf, each direction alone; then data goes from drive to drive by
// way of the dma-buf.
//
// usage: branches [--node N]        (dmabuf-lab run --topology --memory 4096)
// --node: memory of this node only.
// Destroys the data on every NVMe drive.
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib;
constexpr std::size_t buffer_bytes = gib;
constexpr std::uint64_t disk_base = 32 * mib;
constexpr std::uint32_t piece = 256 * kib;
constexpr std::size_t pieces = 8, part_bytes = pieces * piece;
constexpr std::uint64_t margin = 64 * kib; // looked at on both sides
// From <numaif.h>, which Debian's kernel headers do not bring.
constexpr int policy_default = 0, policy_bind = 2;

// A drive and the part of the dma-buf that is its own.
struct Drive {
  std::string serial, device;
  int node;
  std::uint64_t offset; // in the dma-buf
};

std::string line_of(const std::filesystem::path &file) {
  std::string line;
  std::ifstream(file) >> line;
  return line;
}

// Every NVMe drive, by serial number. Numbers are dealt out as the kernel finds them.
std::vector<Drive> drives() {
  std::map<std::string, Drive> found;
  for (const auto &entry : std::filesystem::directory_iterator("/sys/class/nvme")) {
    const std::string serial = line_of(entry.path() / "serial");
    for (const auto &disk : std::filesystem::directory_iterator("/sys/block"))
      if (disk.path().filename().string().starts_with(entry.path().filename().string() + "n"))
        found[serial] = {serial, "/dev/" + disk.path().filename().string(),
                         std::stoi(line_of(entry.path() / "device/numa_node")), 0};
  }
  for (const char *wanted :
       {"lab-nvme", "lab-port-a", "lab-port-b", "lab-left", "lab-right", "lab-far"})
    if (!found.contains(wanted))
      die(std::format("there is no drive {} (dmabuf-lab run --topology)", wanted));
  std::vector<Drive> all;
  for (auto &[serial, drive] : found)
    all.push_back(drive);
  // Spread over the dma-buf; the last part ends with it.
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i].offset = i * (buffer_bytes / all.size()) / mib * mib + 2 * margin + 3 * 512;
  all.back().offset = buffer_bytes - part_bytes;
  return all;
}

void bind_memory(int policy, int node) {
  const unsigned long nodes = 1ul << node;
  if (::syscall(SYS_set_mempolicy, policy, policy == policy_default ? nullptr : &nodes,
                policy == policy_default ? 0ul : 64ul) != 0)
    die(std::format("set_mempolicy: {}", std::strerror(errno)));
}

// How many of the file's pages, one in each MiB, are on the node.
std::size_t pages_on(int memfd, int node) {
  void *view = ::mmap(nullptr, buffer_bytes, PROT_READ, MAP_SHARED, memfd, 0);
  if (view == MAP_FAILED)
    die("mmap of a memfd");
  std::vector<void *> pages;
  for (std::uint64_t at = 0; at < buffer_bytes; at += mib) {
    pages.push_back(static_cast<char *>(view) + at);
    static_cast<void>(
        *static_cast<volatile char *>(pages.back())); // it must be mapped to be asked about
  }
  std::vector<int> status(pages.size(), -1);
  if (::syscall(SYS_move_pages, 0, pages.size(), pages.data(), nullptr, status.data(), 0) != 0)
    die(std::format("move_pages: {}", std::strerror(errno)));
  ::munmap(view, buffer_bytes);
  return static_cast<std::size_t>(std::ranges::count(status, node));
}

// The dma-buf, mapped for all drives at once by one datapath.
class Machine {
public:
  Machine(const std::string &name, const DmaBuf &buffer, const std::vector<Drive> &all, Path path)
      : name_(name), buffer_(buffer), all_(all) {
    if (path == Path::Registered && ring_.make_buffer_table(static_cast<unsigned>(all.size())) < 0)
      die("no table of registered buffers");
    for (unsigned i = 0; i < all.size(); ++i) {
      plain_.push_back(open_target(all[i].device));
      files_.push_back(open_target(all[i].device));
      regions_.emplace_back(plain_[i].get(), disk_base - margin, part_bytes + 2 * margin);
      movers_.emplace_back(session_, ring_, buffer.fd(), files_[i].get(), path, i);
      ok_ &=
          report().check(movers_[i].error() == 0, std::format("{}, {}: MAP", name, all[i].serial),
                         std::format("{} {}", errno_name(movers_[i].error()),
                                     reason_name(movers_[i].entry().reason)));
    }
  }

  void run(std::uint32_t generation) {
    if (!ok_)
      return;
    for (unsigned i = 0; i < all_.size(); ++i) {
      dmabuf_rw_info info{};
      const int error = session_.info(movers_[i].entry().handle, info);
      report().check(error == 0 && info.memory == DMABUF_RW_MEM_SYSTEM &&
                         info.route == DMABUF_RW_ROUTE_MEMORY && info.shared == 1,
                     std::format("{}, {}: INFO", name_, all_[i].serial),
                     std::format("{}, memory {}, route {}, shared {}", errno_name(error),
                                 info.memory, info.route, info.shared));
    }
    read(generation);
    write(generation + 20);
    across(generation + 40);
    for (unsigned i = 0; i < all_.size(); ++i)
      report().check(movers_[i].release() == 0,
                     std::format("{}, {}: release", name_, all_[i].serial));
  }

private:
  std::uint64_t at(unsigned drive) const { return all_[drive].offset; }

  // The drive's part, and what lies around it as far as the dma-buf goes.
  std::span<Word> around(unsigned drive) const {
    const std::uint64_t first = at(drive) - margin;
    const std::uint64_t last =
        std::min<std::uint64_t>(at(drive) + part_bytes + margin, buffer_bytes);
    return buffer_.words().subspan(first / 8, (last - first) / 8);
  }
  std::span<Word> part(unsigned drive) const {
    return buffer_.words().subspan(at(drive) / 8, part_bytes / 8);
  }

  // Each drive with its own part, or with that of a drive `shift` further; all of them in flight at
  // once.
  void move(Direction direction, const std::string &what, unsigned shift = 0) {
    const auto count = static_cast<unsigned>(all_.size());
    for (unsigned n = 0; n < pieces; ++n)
      for (unsigned i = 0; i < count; ++i)
        movers_[i].queue(direction, at((i + shift) % count) + n * piece, piece,
                         disk_base + n * piece, i);
    for (std::size_t left = pieces * count; left > 0;) {
      const int got = ring_.reap([&](std::uint64_t drive, int result) {
        report().check(result == static_cast<int>(piece),
                       std::format("{}, {}: {}", name_, all_[drive].serial, what),
                       errno_name(result));
      });
      if (got <= 0)
        die("the ring gives no completion: " + errno_name(got));
      left -= std::min<std::size_t>(left, static_cast<std::size_t>(got));
    }
  }

  void check_drives(const std::string &what) {
    for (unsigned i = 0; i < all_.size(); ++i) {
      const auto wrong = regions_[i].check_all();
      report().check(!wrong, std::format("{}, {}: {}", name_, all_[i].serial, what),
                     wrong.value_or(""));
    }
  }

  void read(std::uint32_t generation) {
    {
      const CpuAccess access(buffer_, true);
      for (unsigned i = 0; i < all_.size(); ++i)
        fill_pattern(around(i), buffer_poison, 0);
    }
    for (unsigned i = 0; i < all_.size(); ++i)
      regions_[i].lay_down_all(generation + i);
    move(Direction::Read, "read");
    const CpuAccess access(buffer_, false);
    for (unsigned i = 0; i < all_.size(); ++i) {
      HostBuffer want(around(i).size_bytes());
      fill_pattern(want.words(), buffer_poison, 0);
      std::ranges::copy(regions_[i].expected(disk_base, part_bytes),
                        want.words().begin() + margin / 8);
      const auto wrong = compare_words(around(i), want.words());
      report().check(!wrong,
                     std::format("{}, {}: every byte read, none beside", name_, all_[i].serial),
                     wrong ? describe(*wrong, 0) : "");
    }
  }

  void write(std::uint32_t generation) {
    for (unsigned i = 0; i < all_.size(); ++i)
      regions_[i].lay_down_all(disk_poison);
    {
      const CpuAccess access(buffer_, true);
      for (unsigned i = 0; i < all_.size(); ++i) {
        fill_pattern(part(i), generation + i, disk_base);
        fill_pattern(regions_[i].expected(disk_base, part_bytes), generation + i, disk_base);
      }
    }
    move(Direction::Write, "write");
    check_drives("every byte written, none beside");
  }

  // What one drive has read the next one writes; the CPU touches none of it.
  void across(std::uint32_t generation) {
    const auto count = static_cast<unsigned>(all_.size());
    for (unsigned i = 0; i < count; ++i)
      regions_[i].lay_down_all(generation + i);
    move(Direction::Read, "read for another drive");
    move(Direction::Write, "write of another drive's data", 1);
    for (unsigned i = 0; i < count; ++i)
      fill_pattern(regions_[i].expected(disk_base, part_bytes), generation + (i + 1) % count,
                   disk_base);
    check_drives("the next drive's data, every byte");
  }

  std::string name_;
  const DmaBuf &buffer_;
  const std::vector<Drive> &all_;
  Session session_;
  Ring ring_{64};
  std::vector<UniqueFd> plain_, files_;
  std::deque<DiskRegion> regions_;
  std::deque<Mover> movers_;
  bool ok_ = true;
};

void run(const std::vector<int> &nodes) {
  const auto all = drives();
  for (const Drive &drive : all) {
    report().note(std::format("{} is {} on node {}", drive.serial, drive.device, drive.node));
    report().check((drive.node == 1) == (drive.serial == "lab-far"),
                   drive.serial + ": its NUMA node", std::to_string(drive.node));
  }
  std::uint32_t generation = 1;
  for (const int node : nodes) {
    bind_memory(policy_bind, node);
    const auto memfd = make_memfd(Exporter::Udmabuf, buffer_bytes);
    if (!memfd)
      die(memfd.error());
    if (::fallocate(memfd->get(), 0, 0, static_cast<off_t>(buffer_bytes)) != 0)
      die(std::format("fallocate: {}", std::strerror(errno)));
    bind_memory(policy_default, 0);
    const std::size_t there = pages_on(memfd->get(), node);
    report().check(there == buffer_bytes / mib, std::format("memory on node {}", node),
                   std::format("{} of {} pages", there, buffer_bytes / mib));
    const auto buffer = DmaBuf::of_memfd(memfd->get(), buffer_bytes);
    if (!buffer)
      die(buffer.error());
    for (const Path path : paths_here()) {
      Machine(std::format("memory on node {}, {}", node, name_of(path)), *buffer, all, path)
          .run(generation);
      generation += 60;
    }
  }
  report().note(std::format("{} MiB compared", compared_bytes() >> 20));
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  std::vector<int> nodes{0, 1};
  if (const std::string_view node = argc == 3 ? argv[2] : "";
      (node == "0" || node == "1") && std::string_view(argv[1]) == "--node")
    nodes = {node[0] - '0'};
  else if (argc > 1)
    die("usage: branches [--node N] [--allow-skip NAME]...");
  run(nodes);
  return report().finish("branches");
}
