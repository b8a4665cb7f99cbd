// SPDX-License-Identifier: GPL-2.0-only
// Directions: what the dma-buf's and the target's open modes and the mapping allow.
#include "isolation.hpp"
#include "lib/sysfs.hpp"

#include <array>
#include <cstdlib>
#include <fcntl.h>
#include <linux/fs.h>
#include <sstream>
#include <sys/ioctl.h>
#include <sys/utsname.h>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 32u << 20;
constexpr std::uint32_t bytes = 64 * 1024;

// A dma-buf opened for one direction only.
void one_way_dmabuf(const IsolationOptions &options, Exporter exporter, Access access, Path path) {
  const std::string name =
      std::format("{} dma-buf of {}, {}", access == Access::ReadOnly ? "read-only" : "write-only",
                  name_of(exporter), name_of(path));
  Bed bed(options);
  auto buffer = DmaBuf::create(exporter, 1u << 20, access);
  if (!buffer) {
    report().fail(name, buffer.error());
    return;
  }
  // Reading the target writes the dma-buf, and the other way round.
  const std::uint32_t forbidden =
      access == Access::ReadOnly ? DMABUF_RW_DIR_READ : DMABUF_RW_DIR_WRITE;
  const std::uint32_t allowed = both_directions ^ forbidden;
  for (const std::uint32_t directions : {forbidden, both_directions})
    expect_refused(name + " mapped for what it is not open for", bed.session,
                   map_entry(buffer->fd(), bed.target.get(), path, directions),
                   {EBADF, EACCES, EPERM}, {DMABUF_RW_REASON_DMABUF_MODE});

  DiskRegion region(bed.plain.get(), disk_base, 1u << 20);
  region.lay_down_all(3);
  if (path == Path::Registered)
    bed.ring.make_buffer_table(1);
  Mover mover(bed.session, bed.ring, buffer->fd(), bed.target.get(), path, 0, allowed);
  if (!expect(name + " mapped for what it is open for", mover.error(), {0}))
    return;
  const Direction good = access == Access::ReadOnly ? Direction::Write : Direction::Read;
  const Direction bad = access == Access::ReadOnly ? Direction::Read : Direction::Write;
  expect(name + ": the direction not mapped", mover.transfer(bad, 0, bytes, disk_base),
         {EBADF, EACCES, EPERM, EFAULT});
  const auto wrong = region.check_all();
  report().check(!wrong, name + ": the drive is as it was", wrong.value_or(""));
  expect_bytes(name + ": the direction mapped", mover.transfer(good, 0, bytes, disk_base), bytes);
}

// Nor can the drive write a dma-buf that nobody may write: it is mapped for it one way.
void one_way_dma(const IsolationOptions &options) {
  const std::string trace = "/sys/kernel/tracing/";
  const std::string event = trace + "events/dma/dma_map_sg/enable";
  const std::string function = pci_function("nvme0");
  const auto count = [&](Access access, std::string_view direction) {
    Bed bed(options);
    auto buffer = DmaBuf::create(Exporter::Heap, 1u << 20, access);
    if (!buffer)
      die(buffer.error());
    write_file(trace + "trace", "");
    if (const int error = write_file(event, "1"))
      die("trace event dma/dma_map_sg: " + errno_name(error));
    auto entry = map_entry(buffer->fd(), bed.target.get(), Path::Premapped, DMABUF_RW_DIR_WRITE);
    const int mapped = bed.session.map_one(entry);
    write_file(event, "0");
    expect("MAP for writes", mapped, {0});
    std::istringstream lines(read_file(trace + "trace"));
    int found = 0;
    for (std::string line; std::getline(lines, line);)
      found += line.contains("dma_map_sg: " + function) && line.contains(direction);
    return found;
  };
  const int both = count(Access::ReadWrite, "dir=BIDIRECTIONAL");
  report().check(both == 1, "a dma-buf that may be written is mapped for the drive both ways",
                 std::format("{} such maps", both));
  // The dma-buf framework of 6.12, and not of 7.2, maps a buffer of such an exporter itself, both
  // ways, as soon as somebody attaches who can follow moves; what we ask for later is answered with
  // that.
  utsname kernel{};
  if (::uname(&kernel) != 0 || std::atoi(kernel.release) < 7)
    return report().skip("one way for the drive", "this kernel's framework maps both ways itself");
  const int one = count(Access::ReadOnly, "dir=TO_DEVICE");
  report().check(one == 1, "a read-only dma-buf is mapped for the drive one way",
                 std::format("{} such maps", one));
}

// A target opened, and a mapping made, for one direction only.
void one_way_target(const IsolationOptions &options, Path path, int mode) {
  const std::string name =
      std::format("{} target, {}", mode == O_RDONLY ? "read-only" : "write-only", name_of(path));
  Bed bed(options);
  const UniqueFd target = open_target(options.nvme, mode | O_DIRECT | O_CLOEXEC);
  const std::uint32_t allowed = mode == O_RDONLY ? DMABUF_RW_DIR_READ : DMABUF_RW_DIR_WRITE;
  for (const std::uint32_t directions : {both_directions ^ allowed, both_directions})
    expect_refused(name + " mapped for what it is not open for", bed.session,
                   map_entry(bed.buffer.fd(), target.get(), path, directions),
                   {EBADF, EACCES, EPERM}, {DMABUF_RW_REASON_TARGET_MODE});
  auto entry = map_entry(bed.buffer.fd(), target.get(), path, allowed);
  expect(name + " mapped for what it is open for", bed.session.map_one(entry), {0});
}

// Mapped one way although everything is open for both.
void one_way_mapping(const IsolationOptions &options, Path path, std::uint32_t directions) {
  const bool reads = directions == DMABUF_RW_DIR_READ;
  const std::string name =
      std::format("mapping for {} only, {}", reads ? "reads" : "writes", name_of(path));
  Bed bed(options);
  DiskRegion region(bed.plain.get(), disk_base, 1u << 20);
  region.lay_down_all(4);
  if (path == Path::Registered)
    bed.ring.make_buffer_table(1);
  Mover mover(bed.session, bed.ring, bed.buffer.fd(), bed.target.get(), path, 0, directions);
  if (!expect(name, mover.error(), {0}))
    return;
  expect(name + ": the other direction",
         mover.transfer(reads ? Direction::Write : Direction::Read, 0, bytes, disk_base),
         {EBADF, EACCES, EPERM, EFAULT});
  const auto wrong = region.check_all();
  report().check(!wrong, name + ": the drive is as it was", wrong.value_or(""));
  HostBuffer poison(bed.buffer.size());
  fill_pattern(poison.words(), buffer_poison, 0);
  {
    const CpuAccess access(bed.buffer, false);
    const auto moved = compare_words(bed.buffer.words(), poison.words());
    report().check(!moved, name + ": the dma-buf is as it was", moved ? describe(*moved, 0) : "");
  }
  expect_bytes(name + ": its direction",
               mover.transfer(reads ? Direction::Read : Direction::Write, 0, bytes, disk_base),
               bytes);
}

void set_read_only(int fd, int value) {
  if (::ioctl(fd, BLKROSET, &value) != 0)
    die("BLKROSET");
}

void read_only_device(const IsolationOptions &options) {
  Bed bed(options);
  DiskRegion region(bed.plain.get(), disk_base, 1u << 20);
  region.lay_down_all(5);
  auto before = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  expect("MAP before the device is set read-only", bed.session.map_one(before), {0});
  set_read_only(bed.plain.get(), 1);
  for (const std::uint32_t directions : {std::uint32_t{DMABUF_RW_DIR_WRITE}, both_directions})
    expect_refused("MAP for writes of a read-only device", bed.session,
                   map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped, directions),
                   {EPERM, EACCES, EROFS}, {DMABUF_RW_REASON_READ_ONLY});
  // AUTO has paths that would take it: being read-only is no reason to look for one.
  expect_refused("MAP with AUTO for writes of a read-only device", bed.session,
                 map_entry(bed.buffer.fd(), bed.target.get(), Path::Auto, both_directions), {EPERM},
                 {DMABUF_RW_REASON_READ_ONLY});
  auto reads = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped, DMABUF_RW_DIR_READ);
  expect("MAP for reads of a read-only device", bed.session.map_one(reads), {0});
  expect_bytes("read of a read-only device",
               premapped(bed, Direction::Read, reads.handle, 0, bytes, disk_base), bytes);
  expect("write through a mapping made before the device was set read-only",
         premapped(bed, Direction::Write, before.handle, 0, bytes, disk_base),
         {EPERM, EACCES, EROFS, EBADF});
  set_read_only(bed.plain.get(), 0);
  const auto wrong = region.check_all();
  report().check(!wrong, "read-only device is as it was", wrong.value_or(""));
  expect_bytes("write after the device is writable again",
               premapped(bed, Direction::Write, before.handle, 0, bytes, disk_base), bytes);
}

} // namespace

void test_modes(const IsolationOptions &options) {
  for (const Path path : paths_here()) {
    for (const Exporter exporter :
         those_there({Exporter::Heap, Exporter::Vgem, Exporter::VirtioGpu}))
      one_way_dmabuf(options, exporter, Access::ReadOnly, path);
    if (is_there(Exporter::Heap))
      one_way_dmabuf(options, Exporter::Heap, Access::WriteOnly, path);
    else
      report().skip(std::format("a dma-buf that nobody may read, {}", name_of(path)),
                    "this kernel has no heap");
    one_way_target(options, path, O_RDONLY);
    one_way_target(options, path, O_WRONLY);
    one_way_mapping(options, path, DMABUF_RW_DIR_READ);
    one_way_mapping(options, path, DMABUF_RW_DIR_WRITE);
  }
  if (is_there(Exporter::Heap))
    one_way_dma(options);
  else
    report().skip("one way for the drive", "this kernel has no heap");
  read_only_device(options);
}

} // namespace vmtest
