// SPDX-License-Identifier: GPL-2.0-only
// Every byte in and beside each range, and each range's own result.
#include "ranges.hpp"

#include <algorithm>
#include <cerrno>

namespace vmtest {

namespace {

void read_round(Mapped &mapped, DmaBuf &buffer, Ranges &ranges, unsigned flags,
                const std::string &name) {
  HostBuffer want(bytes);
  fill_pattern(want.words(), buffer_poison, 0);
  {
    const CpuAccess access(buffer, true);
    std::ranges::copy(want.words(), buffer.words().begin());
  }
  for (const auto &range : ranges) {
    HostBuffer disk(range.length);
    read_plain(mapped.plain.get(), disk.words(), range.file_offset);
    std::ranges::copy(disk.words(), want.words().begin() + range.buffer_offset / sizeof(Word));
  }
  if (!all_moved(
          name,
          move(mapped.ring, mapped.session, Direction::Read, mapped.entry.handle, ranges, flags),
          ranges))
    return;
  const CpuAccess access(buffer, false);
  const auto wrong = compare_words(buffer.words(), want.words());
  report().check(!wrong, name + ": every byte of the buffer", wrong ? describe(*wrong, 0) : "");
}

void write_round(Mapped &mapped, DmaBuf &buffer, DiskRegion &region, Ranges &ranges, unsigned flags,
                 std::uint32_t generation, const std::string &name) {
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), generation, 0);
    for (const auto &range : ranges)
      std::ranges::copy(
          buffer.words().subspan(range.buffer_offset / sizeof(Word), range.length / sizeof(Word)),
          region.expected(range.file_offset, range.length).begin());
  }
  if (!all_moved(
          name,
          move(mapped.ring, mapped.session, Direction::Write, mapped.entry.handle, ranges, flags),
          ranges))
    return;
  const auto wrong = region.check_all();
  report().check(!wrong, name + ": every byte of the drive", wrong.value_or(""));
}

// Commands that the ranges take, none of which is longer than the mapping's limit.
std::uint64_t commands_of(const Ranges &ranges, std::uint32_t limit) {
  std::uint64_t commands = 0;
  for (const auto &range : ranges)
    commands += (range.length + limit - 1) / limit;
  return commands;
}

struct Bad {
  const char *name;
  dmabuf_rw_range range;
};

std::vector<Bad> bad_ranges(std::uint64_t device) {
  return {{"length 0", {disk_base, 0, 0}},
          {"length 2^32 - 512", {disk_base, 0, 0xFFFFFE00u}},
          {"buffer offset = size", {disk_base, bytes, page}},
          {"one sector past the buffer", {disk_base, bytes - 512, 1024}},
          {"buffer end wraps", {disk_base, 0 - std::uint64_t{page}, 2 * page}},
          {"buffer offset 2^63", {disk_base, 1ull << 63, page}},
          {"a length of 100", {disk_base, 0, 100}},
          {"a file offset of no sector", {disk_base + 100, 0, 512}},
          {"an odd buffer offset", {disk_base, 1, 512}},
          {"file offset = size of the drive", {device, 0, page}},
          {"one sector past the drive", {device - 512, 0, 1024}},
          {"file end wraps", {0 - std::uint64_t{512}, 0, 1024}}};
}

} // namespace

void test_bytes(Path path) {
  DmaBuf buffer = make_buffer();
  std::mt19937_64 random(static_cast<unsigned>(path));
  std::uint32_t generation = 100;
  // Commands of any length, and such that some ranges are several.
  for (const std::uint32_t command : {0u, hint}) {
    Mapped mapped(path, buffer.fd(), command);
    DiskRegion region(mapped.plain.get(), disk_base, bytes);
    region.lay_down_all(++generation);
    const std::uint32_t limit = mapped.entry.max_command_bytes;
    std::uint64_t reads = 0, writes = 0, commands = 0;
    for (const std::size_t count : {1u, 2u, 3u, 8u, 31u, 32u, 33u, 64u, 255u})
      for (const unsigned flags : {0u, unsigned{IOSQE_ASYNC}}) {
        const std::string name =
            std::format("{}, {} ranges{}{}", name_of(path), count, flags ? ", by a worker" : "",
                        command ? ", short commands" : "");
        Ranges ranges = deal(random, std::min<std::size_t>(count, bytes / page / 2 - 1));
        read_round(mapped, buffer, ranges, flags, name + ", read");
        reads += ranges.size();
        commands += limit ? commands_of(ranges, limit) : 0;
        ranges = deal(random, std::min<std::size_t>(count, bytes / page / 2 - 1));
        write_round(mapped, buffer, region, ranges, flags, ++generation, name + ", write");
        writes += ranges.size();
        commands += limit ? commands_of(ranges, limit) : 0;
      }
    const dmabuf_rw_info info = mapped.info();
    report().check(info.reads == reads && info.writes == writes && info.errors == 0,
                   std::format("{}: INFO counts each range", name_of(path)),
                   std::format("{} of {} reads, {} of {} writes, {} errors",
                               std::uint64_t{info.reads}, reads, std::uint64_t{info.writes}, writes,
                               std::uint64_t{info.errors}));
    if (limit)
      report().check(info.commands == commands,
                     std::format("{}: as many commands as the limit of {} bytes asks for",
                                 name_of(path), limit),
                     std::format("{}, not {}", std::uint64_t{info.commands}, commands));
  }
}

void test_bad_among_good(Path path) {
  DmaBuf buffer = make_buffer();
  Mapped mapped(path, buffer.fd());
  DiskRegion region(mapped.plain.get(), disk_base, bytes);
  region.lay_down_all(7);
  std::mt19937_64 random(5);
  std::uint64_t errors = 0;
  for (const auto &[what, bad] : bad_ranges(block_device_bytes(mapped.plain.get())))
    for (const auto direction : {Direction::Read, Direction::Write})
      for (const unsigned flags : {0u, unsigned{IOSQE_ASYNC}}) {
        // What a file system or the block layer makes of places past the end is their business.
        if (path == Path::Bvec && bad.file_offset + bad.length > disk_base + bytes)
          continue;
        const std::string name = std::format("{}, {} among good ones, {}{}", name_of(path), what,
                                             name_of(direction), flags ? ", by a worker" : "");
        Ranges ranges = deal(random, 16);
        const std::size_t at = random() % ranges.size();
        ranges[at] = bad;
        if (direction == Direction::Write) {
          const CpuAccess access(buffer, true);
          fill_pattern(buffer.words(), 8, 0);
          for (std::size_t i = 0; i < ranges.size(); ++i)
            if (i != at)
              std::ranges::copy(buffer.words().subspan(ranges[i].buffer_offset / sizeof(Word),
                                                       ranges[i].length / sizeof(Word)),
                                region.expected(ranges[i].file_offset, ranges[i].length).begin());
        }
        const int got =
            move(mapped.ring, mapped.session, direction, mapped.entry.handle, ranges, flags);
        report().check(got == 15, name + ": ranges that ended well", std::to_string(got));
        const dmabuf_rw_range told = ranges[at];
        report().check(told.error == EINVAL && told.moved == 0 &&
                           told.reason == DMABUF_RW_REASON_RANGE,
                       name + ": what is told of it",
                       std::format("{}, {} bytes, {}", errno_name(told.error), told.moved,
                                   reason_name(told.reason)));
        ++errors;
        ranges.erase(ranges.begin() + static_cast<std::ptrdiff_t>(at));
        const std::string wrong = results(ranges);
        report().check(wrong.empty(), name + ": the good ones", wrong);
        if (direction == Direction::Write) {
          const auto changed = region.check_all();
          report().check(!changed, name + ": every byte of the drive", changed.value_or(""));
        }
      }
  const dmabuf_rw_info info = mapped.info();
  report().check(info.errors == errors, std::format("{}: INFO counts the bad ones", name_of(path)),
                 std::format("{} of {}", std::uint64_t{info.errors}, errors));
}

} // namespace vmtest
