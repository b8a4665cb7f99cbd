// SPDX-License-Identifier: GPL-2.0-only
// One dma-buf and several targets: two drives with DMA addresses of their own, a partition, other
// open modes, other limits, all in one MAP. Each handle's I/O lands on its own target.
//
// usage: drives        (dmabuf-lab run --formats)
// Destroys the data on /dev/nvme0n1 and on the namespace with 4 KiB blocks of /dev/nvme1.
#include "lib/exporter.hpp"
#include "lib/partition.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <linux/fs.h>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t kib = 1024, mib = 1024 * kib;
constexpr std::size_t buffer_bytes = 2 * mib;
constexpr std::uint64_t region_base = 8 * mib; // on every target
constexpr std::size_t region_bytes = 4 * mib;
constexpr char first_drive[] = "/dev/nvme0n1";
constexpr unsigned second_namespace = 4; // of nvme1: 4 KiB blocks, nothing else unusual
// Both drives' blocks fit in this.
constexpr std::uint32_t block = 4096;
// The partition begins where neither drive's pattern can be taken for its own.
constexpr std::uint64_t part_start = 100 * mib + 7 * block, part_bytes = 32 * mib;

std::string second_drive() {
  for (const auto &entry : std::filesystem::directory_iterator("/sys/block")) {
    const std::string name = entry.path().filename();
    unsigned number = 0;
    if (name.starts_with("nvme1n") && std::ifstream(entry.path() / "nsid") >> number &&
        number == second_namespace)
      return "/dev/" + name;
  }
  die("there is no second drive (dmabuf-lab run --formats)");
}

DmaBuf make_buffer(Exporter exporter) {
  auto buffer = DmaBuf::create(exporter, buffer_bytes);
  if (!buffer)
    die(buffer.error());
  return std::move(*buffer);
}

// The dma-buf, what it must hold, and I/O of one handle at a time.
class Hand {
public:
  Hand(const DmaBuf &buffer, const Session &session)
      : buffer_(buffer), session_(session), model_(buffer.size()) {
    poison();
  }

  void poison() {
    const CpuAccess access(buffer_, true);
    fill_pattern(buffer_.words(), buffer_poison, 0);
    fill_pattern(model_.words(), buffer_poison, 0);
  }

  // Reads `region`'s bytes and looks at the whole dma-buf.
  void read(const std::string &name, std::uint32_t handle, DiskRegion &region,
            std::uint64_t region_offset, std::uint64_t buffer_offset, std::uint32_t length,
            std::uint64_t file_offset) {
    expect(name + ": read", run(DMABUF_RW_URING_READ, handle, buffer_offset, length, file_offset),
           length);
    const auto data = region.expected(region.base() + region_offset, length);
    std::ranges::copy(data,
                      model_.words().begin() + static_cast<std::ptrdiff_t>(buffer_offset / 8));
    const CpuAccess access(buffer_, false);
    const auto wrong = compare_words(buffer_.words(), model_.words());
    report().check(!wrong, name + ": read, every byte", wrong ? describe(*wrong, 0) : "");
  }

  // Writes a new generation; the caller looks at the drives.
  void write(const std::string &name, std::uint32_t handle, DiskRegion &region,
             std::uint64_t region_offset, std::uint64_t buffer_offset, std::uint32_t length,
             std::uint64_t file_offset, std::uint32_t generation) {
    const std::uint64_t at = region.base() + region_offset;
    {
      const CpuAccess access(buffer_, true);
      fill_pattern(buffer_.words().subspan(buffer_offset / 8, length / 8), generation, at);
      fill_pattern(model_.words().subspan(buffer_offset / 8, length / 8), generation, at);
    }
    expect(name + ": write", run(DMABUF_RW_URING_WRITE, handle, buffer_offset, length, file_offset),
           length);
    fill_pattern(region.expected(at, length), generation, at);
  }

  // Must be refused with this errno.
  void refused(const std::string &name, std::uint32_t handle, Direction direction, int error) {
    expect(name,
           run(direction == Direction::Read ? DMABUF_RW_URING_READ : DMABUF_RW_URING_WRITE, handle,
               0, block, region_base),
           -error);
  }

private:
  int run(std::uint32_t op, std::uint32_t handle, std::uint64_t buffer_offset, std::uint32_t length,
          std::uint64_t file_offset) {
    return ring_.command(session_.fd(), op, buffer_offset, length,
                         {.file_offset = file_offset, .handle = handle, .flags = 0});
  }
  static void expect(const std::string &name, long got, long wanted) {
    report().check(got == wanted, name,
                   std::format("{} instead of {}", got < 0 ? errno_name(got) : std::to_string(got),
                               wanted < 0 ? errno_name(wanted) : std::to_string(wanted)));
  }
  const DmaBuf &buffer_;
  const Session &session_;
  HostBuffer model_;
  Ring ring_{8};
};

dmabuf_rw_info info_of(const Session &session, std::uint32_t handle) {
  dmabuf_rw_info info{};
  if (const int error = session.info(handle, info))
    die("INFO: " + errno_name(error));
  return info;
}

void check_regions(const std::string &name, std::initializer_list<DiskRegion *> regions) {
  for (DiskRegion *region : regions) {
    const auto wrong = region->check_all();
    report().check(!wrong, name + ": the drives hold what they should", wrong.value_or(""));
  }
}

// Mapped for both at once: each drive has an attachment of its own, and its own addresses.
void two_drives(Exporter exporter, const std::string &other) {
  const std::string name = std::format("two drives, {}", name_of(exporter));
  const DmaBuf buffer = make_buffer(exporter);
  const UniqueFd here = open_target(first_drive), there = open_target(other);
  DiskRegion near(here.get(), region_base, region_bytes),
      far(there.get(), region_base, region_bytes);
  near.lay_down_all(1);
  far.lay_down_all(2);
  const Session session, second;
  auto a = map_entry(buffer.fd(), here.get(), Path::Premapped);
  auto b = map_entry(buffer.fd(), there.get(), Path::Premapped);
  const int first_error = session.map_one(a), second_error = session.map_one(b);
  if (!report().check(first_error == 0 && second_error == 0, name + ": MAP",
                      errno_name(first_error) + ", " + errno_name(second_error)))
    return;
  const auto shared = [&](std::uint32_t handle) { return info_of(session, handle).shared; };
  report().check(shared(a.handle) == 1 && shared(b.handle) == 1, name + ": INFO.shared",
                 std::format("{} and {}", shared(a.handle), shared(b.handle)));
  report().check(b.length_align == block, name + ": the other drive's block size",
                 std::to_string(b.length_align));
  // A second mapping for one of them shares with that one only.
  auto c = map_entry(buffer.fd(), there.get(), Path::Premapped);
  report().check(second.map_one(c) == 0 && shared(a.handle) == 1 && shared(b.handle) == 2,
                 name + ": INFO.shared with a second mapping for one drive",
                 std::format("{} and {}", shared(a.handle), shared(b.handle)));

  Hand hand(buffer, session);
  std::uint32_t generation = 10;
  for (const std::uint64_t at : {std::uint64_t{0}, 256 * kib + block, 768 * kib - block}) {
    hand.poison();
    hand.read(name + ", the first", a.handle, near, at, at, 128 * kib, region_base + at);
    hand.read(name + ", the second", b.handle, far, at + block, at + 512 * kib, 128 * kib,
              region_base + at + block);
    // From one to the other, by way of the dma-buf, and back.
    hand.write(name + ", the first", a.handle, near, at, at + 512 * kib, 256 * kib,
               region_base + at, ++generation);
    hand.write(name + ", the second", b.handle, far, at + 2 * block, at, 256 * kib,
               region_base + at + 2 * block, ++generation);
    check_regions(name, {&near, &far});
  }
  // One goes, the other goes on.
  report().check(session.unmap_one(a.handle) == 0, name + ": UNMAP for the first");
  hand.poison();
  hand.read(name + ", the second alone", b.handle, far, 0, block, 512 * kib, region_base);
  hand.refused(name + ": the first is gone", a.handle, Direction::Read, ENOENT);
}

// The entries of one MAP.
enum Entry : std::size_t {
  Disk,
  Part,
  Other,
  ReadOnly,
  WritesOnly,
  ReadsOnly,
  Short,
  Shorter,
  DiskAgain,
  PartAgain,
  Count
};

// One MAP with an entry for every kind of target; each I/O goes where its entry said.
class OneMap {
public:
  OneMap(Exporter exporter, const std::string &other)
      : name_(std::format("one MAP, {}", name_of(exporter))), buffer_(make_buffer(exporter)),
        far_plain_(open_target(other)), there_(open_target(other)) {
    on_disk_.lay_down_all(1);
    in_part_.lay_down_all(2);
    on_other_.lay_down_all(3);
  }

  void run() {
    if (!map())
      return;
    transfers();
    infos();
  }

private:
  std::uint32_t handle(Entry which) const { return entries_[which].handle; }

  bool map() {
    entries_.assign(Count, map_entry(buffer_.fd(), disk_.get(), Path::Premapped));
    entries_[Part].target_fd = entries_[PartAgain].target_fd = static_cast<__u32>(part_.get());
    entries_[Other].target_fd = static_cast<__u32>(there_.get());
    entries_[ReadOnly].target_fd = static_cast<__u32>(readable_.get());
    entries_[ReadOnly].directions = entries_[ReadsOnly].directions = DMABUF_RW_DIR_READ;
    entries_[WritesOnly].directions = DMABUF_RW_DIR_WRITE;
    entries_[Short].max_command_hint = 32 * kib;
    entries_[Shorter].max_command_hint = 16 * kib;
    std::uint32_t count = 0;
    const int error = session_.map(entries_, &count);
    bool all = error == 0 && count == Count;
    std::string why = errno_name(error);
    for (const auto &entry : entries_) {
      all &= entry.error == 0;
      if (entry.error)
        why += std::format(", {} {}", errno_name(entry.error), reason_name(entry.reason));
    }
    return report().check(all, name_ + ": MAP", why);
  }

  void transfers() {
    Hand hand(buffer_, session_);
    std::uint32_t generation = 20;
    struct {
      const char *name;
      Entry which;
      DiskRegion *region;
      bool reads, writes;
    } const targets[] = {{"the disk", Disk, &on_disk_, true, true},
                         {"the partition", Part, &in_part_, true, true},
                         {"the other drive", Other, &on_other_, true, true},
                         {"a read-only descriptor", ReadOnly, &on_disk_, true, false},
                         {"for writes only", WritesOnly, &on_disk_, false, true},
                         {"for reads only", ReadsOnly, &on_disk_, true, false},
                         {"a hint of 32 KiB", Short, &on_disk_, true, true},
                         {"a hint of 16 KiB", Shorter, &on_disk_, true, true},
                         {"the disk again", DiskAgain, &on_disk_, true, true},
                         {"the partition again", PartAgain, &in_part_, true, true}};
    for (const auto &target : targets) {
      const std::string what = std::format("{}, {}", name_, target.name);
      const std::uint64_t at = (generation % 7) * 16 * kib;
      hand.poison();
      if (target.reads)
        hand.read(what, handle(target.which), *target.region, at, 8 * kib, 128 * kib,
                  region_base + at);
      else
        hand.refused(what + ": no read", handle(target.which), Direction::Read, EACCES);
      if (target.writes)
        hand.write(what, handle(target.which), *target.region, at + block, 64 * kib, 64 * kib,
                   region_base + at + block, ++generation);
      else
        hand.refused(what + ": no write", handle(target.which), Direction::Write, EACCES);
      check_regions(what, {&on_disk_, &in_part_, &on_other_});
    }
  }

  // A hint is of its own entry only: the commands for 128 KiB in and 64 KiB out.
  void infos() const {
    const auto commands = [&](Entry which) {
      return std::uint64_t{info_of(session_, handle(which)).commands};
    };
    report().check(commands(Short) == 6, name_ + ": commands with a hint of 32 KiB",
                   std::to_string(commands(Short)));
    report().check(commands(Shorter) == 12, name_ + ": commands with a hint of 16 KiB",
                   std::to_string(commands(Shorter)));
    report().check(commands(DiskAgain) < 6, name_ + ": commands without a hint",
                   std::to_string(commands(DiskAgain)));
    report().check(info_of(session_, handle(Disk)).shared == Count - 1 &&
                       info_of(session_, handle(Other)).shared == 1,
                   name_ + ": INFO.shared");
  }

  std::string name_;
  DmaBuf buffer_;
  Partition partition_{first_drive, part_start, part_bytes};
  UniqueFd plain_ = open_target(first_drive), far_plain_;
  UniqueFd disk_ = open_target(first_drive), part_ = open_target(partition_.node()), there_,
           readable_ = open_target(first_drive, O_RDONLY | O_DIRECT | O_CLOEXEC);
  DiskRegion on_disk_{plain_.get(), region_base, region_bytes},
      in_part_{plain_.get(), part_start + region_base, region_bytes},
      on_other_{far_plain_.get(), region_base, region_bytes};
  std::vector<dmabuf_rw_map_entry> entries_;
  Session session_;
};

// A read-only disk: the entry for reads is mapped, the ones for writes beside it are not.
void directions_in_one_map() {
  const std::string name = "one MAP of a read-only disk";
  const DmaBuf buffer = make_buffer(Exporter::UdmabufScattered);
  const UniqueFd target = open_target(first_drive);
  int value = 1;
  if (::ioctl(target.get(), BLKROSET, &value) != 0)
    die("BLKROSET");
  std::vector<dmabuf_rw_map_entry> entries(3,
                                           map_entry(buffer.fd(), target.get(), Path::Premapped));
  entries[0].directions = DMABUF_RW_DIR_READ;
  entries[1].directions = DMABUF_RW_DIR_WRITE;
  Session session;
  std::uint32_t count = 0;
  const int error = session.map(entries, &count);
  report().check(error == 0 && count == 1 && entries[0].error == 0, name + ": for reads",
                 errno_name(entries[0].error));
  for (const int i : {1, 2})
    report().check(entries[static_cast<std::size_t>(i)].error == EPERM &&
                       entries[static_cast<std::size_t>(i)].reason == DMABUF_RW_REASON_READ_ONLY,
                   name + (i == 1 ? ": for writes" : ": for both"),
                   errno_name(entries[static_cast<std::size_t>(i)].error));
  value = 0;
  ::ioctl(target.get(), BLKROSET, &value);
}

} // namespace

} // namespace vmtest

int main(int argc, char **) {
  using namespace vmtest;
  if (argc > 1)
    die("usage: drives");
  const std::string other = second_drive();
  for (const Exporter exporter :
       those_there({Exporter::UdmabufScattered, Exporter::Heap, Exporter::VirtioGpu})) {
    two_drives(exporter, other);
    OneMap(exporter, other).run();
  }
  directions_in_one_map();
  report().note(std::format("{} MiB compared", compared_bytes() >> 20));
  return report().finish("drives");
}
