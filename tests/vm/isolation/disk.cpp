// SPDX-License-Identifier: GPL-2.0-only
// Partitions: I/O must stay inside the one that was opened. And the page cache.
#include "isolation.hpp"
#include "lib/partition.hpp"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

namespace vmtest {

namespace {

constexpr std::uint64_t mib = 1u << 20;
// Starts at an odd sector, so that a forgotten start offset shows.
constexpr std::uint64_t part_start = 100 * mib + 7 * 512;
constexpr std::uint64_t part_bytes = 4 * mib + 512;

// By a ring, or waited for without one.
void partition_path(const IsolationOptions &options, Partition &partition, Path path, bool waited) {
  const std::string name =
      std::format("partition, {}{}", name_of(path), waited ? ", waited for" : "");
  Bed bed(options, 8u << 20);
  const UniqueFd target = open_target(partition.node());
  report().check(block_device_bytes(target.get()) == part_bytes, name + " has its size");
  // Seen from the whole disk, with a megabyte on both sides.
  DiskRegion around(bed.plain.get(), part_start - mib, part_bytes + 2 * mib);
  around.lay_down_all(11);
  if (path == Path::Registered)
    bed.ring.make_buffer_table(1);
  Mover mover(bed.session, bed.ring, bed.buffer.fd(), target.get(), path);
  if (!expect(name + " MAP", mover.error(), {0}))
    return;
  const auto move = [&](Direction direction, std::uint64_t buffer_offset, std::uint32_t length,
                        std::uint64_t offset) {
    return waited ? mover.waited(direction, buffer_offset, length, offset)
                  : mover.transfer(direction, buffer_offset, length, offset);
  };

  struct {
    std::uint64_t offset, length, buffer_offset;
  } const inside[] = {{0, 512, 512},
                      {0, 65536, 4096},
                      {512, mib, 1536},
                      {part_bytes - 512, 512, 0},
                      {part_bytes - 8192, 8192, 12288},
                      {0, part_bytes, 512}};
  std::uint32_t generation = 12;
  for (const auto &range : inside) {
    const auto length = static_cast<std::uint32_t>(range.length);
    // Read: the words name their offset on the whole disk.
    expect_bytes(name + " read", move(Direction::Read, range.buffer_offset, length, range.offset),
                 length);
    {
      const CpuAccess access(bed.buffer, true);
      const auto found = bed.buffer.words().subspan(range.buffer_offset / 8, length / 8);
      const auto wrong = compare_words(found, around.expected(part_start + range.offset, length));
      report().check(!wrong, name + " read lands", wrong ? describe(*wrong, range.offset) : "");
      fill_pattern(found, ++generation, part_start + range.offset);
    }
    expect_bytes(name + " write", move(Direction::Write, range.buffer_offset, length, range.offset),
                 length);
    fill_pattern(around.expected(part_start + range.offset, length), generation,
                 part_start + range.offset);
    const auto wrong = around.check_all();
    report().check(!wrong, name + " write lands, and only there", wrong.value_or(""));
  }
  if (path != Path::Premapped)
    return; // the block layer itself guards the other paths

  struct {
    const char *name;
    std::uint64_t offset;
    std::uint32_t length;
  } const outside[] = {
      {"just past the end", part_bytes, 512},
      {"over the end", part_bytes - 512, 1024},
      {"the whole and one sector", 0, static_cast<std::uint32_t>(part_bytes + 512)},
      {"far past the end", 64 * mib, 4096},
      {"end of the disk", block_device_bytes(bed.plain.get()) - 4096, 4096},
      {"wraps to the disk's start", 0 - part_start, 4096},
      {"wraps to just before the partition", 0 - std::uint64_t{4096}, 4096},
      {"wraps over 2^64 sectors", (1ull << 63) - part_start, 4096},
      {"start wraps as a 32-bit sector", (1ull << 41) - part_start, 4096}};
  for (const auto &range : outside)
    for (const Direction direction : {Direction::Read, Direction::Write})
      expect(std::format("{} {}, {}", name, name_of(direction), range.name),
             move(direction, 0, range.length, range.offset), {EINVAL});

  // The partition shrinks under the mapping: checked with each I/O.
  if (const int error = partition.resize(part_bytes - mib)) {
    report().skip(name + " shrunk", errno_name(error));
  } else {
    for (const Direction direction : {Direction::Read, Direction::Write})
      expect(std::format("{} {} past its new, smaller size", name, name_of(direction)),
             move(direction, 0, 4096, part_bytes - mib), {EINVAL});
    expect_bytes(name + " read inside its new size",
                 move(Direction::Read, 0, 4096, part_bytes - mib - 4096), 4096);
    partition.resize(part_bytes);
  }
  const auto wrong = around.check_all();
  report().check(!wrong, name + ": nothing outside was written", wrong.value_or(""));
}

} // namespace

void test_partition(const IsolationOptions &options) {
  Partition partition(options.nvme, part_start, part_bytes);
  for (const Path path : paths_here()) {
    partition_path(options, partition, path, false);
    if (path != Path::Registered)
      partition_path(options, partition, path, true);
  }
}

void test_page_cache(const IsolationOptions &options) {
  constexpr std::uint64_t base = 120 * mib;
  constexpr std::uint32_t bytes = 256 * 1024;
  for (const Path path : paths_here()) {
    const std::string name = std::format("page cache, {}", name_of(path));
    Bed bed(options);
    DiskRegion region(bed.plain.get(), base, 2 * mib);
    region.lay_down_all(20);
    const UniqueFd cached = open_target(options.nvme, O_RDWR | O_CLOEXEC);
    if (path == Path::Registered)
      bed.ring.make_buffer_table(1);
    Mover mover(bed.session, bed.ring, bed.buffer.fd(), bed.target.get(), path);
    if (!expect(name + " MAP", mover.error(), {0}))
      return;

    // Written into the page cache only: a read must see it.
    HostBuffer host(bytes);
    fill_pattern(host.words(), 21, base + 4096);
    write_plain(cached.get(), host.words(), base + 4096);
    expect_bytes(name + ": read of what is dirty in the page cache",
                 mover.transfer(Direction::Read, 512, bytes, base + 4096), bytes);
    {
      const CpuAccess access(bed.buffer, false);
      const auto wrong =
          compare_words(bed.buffer.words().subspan(512 / 8, bytes / 8), host.words());
      report().check(!wrong, name + ": dirty data is written back first",
                     wrong ? describe(*wrong, 512) : "");
    }
    // Cached and then written through the dma-buf: a buffered read must see the new data.
    read_plain(cached.get(), host.words(), base + 4096);
    {
      const CpuAccess access(bed.buffer, true);
      fill_pattern(bed.buffer.words().subspan(0, bytes / 8), 22, base + 4096);
    }
    expect_bytes(name + ": write under the page cache",
                 mover.transfer(Direction::Write, 0, bytes, base + 4096), bytes);
    read_plain(cached.get(), host.words(), base + 4096);
    HostBuffer wanted(bytes);
    fill_pattern(wanted.words(), 22, base + 4096);
    const auto stale = compare_words(host.words(), wanted.words());
    report().check(!stale, name + ": the stale cache is dropped",
                   stale ? describe(*stale, base + 4096) : "");
    // Dirty again, then overwritten: what was dirty must not come back later.
    fill_pattern(host.words(), 23, base + 4096);
    write_plain(cached.get(), host.words(), base + 4096);
    expect_bytes(name + ": write over dirty pages",
                 mover.transfer(Direction::Write, 0, bytes, base + 4096), bytes);
    if (::fdatasync(cached.get()) != 0)
      die("fdatasync");
    std::ranges::copy(wanted.words(), region.expected(base + 4096, bytes).begin());
    const auto wrong = region.check_all();
    report().check(!wrong, name + ": old dirty pages do not come back", wrong.value_or(""));
  }
}

} // namespace vmtest
