// SPDX-License-Identifier: GPL-2.0-only
// READV and WRITEV: every byte in and beside each range, each range's own result, arrays that are
// hostile, fences, memory that moves, cancellation and death in the middle.
//
// usage: ranges [--seconds N]
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr const char *drive = "/dev/nvme0n1";
constexpr std::uint64_t disk_base = 64u << 20;
constexpr std::size_t bytes = 2u << 20; // of the buffer, and of the part of the drive
constexpr std::uint32_t page = 4096, hint = 16 << 10;

using Ranges = std::vector<dmabuf_rw_range>;

std::uint32_t operation(Direction direction) {
  return direction == Direction::Read ? DMABUF_RW_URING_READV : DMABUF_RW_URING_WRITEV;
}

int move(Ring &ring, const Session &session, Direction direction, std::uint32_t handle,
         dmabuf_rw_range *ranges, std::uint32_t count, unsigned sqe_flags = 0,
         std::uint64_t file_offset = 0, std::uint32_t flags = 0) {
  const dmabuf_rw_uring_io io{.file_offset = file_offset, .handle = handle, .flags = flags};
  return ring.command(session.fd(), operation(direction), reinterpret_cast<std::uintptr_t>(ranges),
                      count, io, sqe_flags);
}

int move(Ring &ring, const Session &session, Direction direction, std::uint32_t handle,
         Ranges &ranges, unsigned sqe_flags = 0) {
  return move(ring, session, direction, handle, ranges.data(),
              static_cast<std::uint32_t>(ranges.size()), sqe_flags);
}

DmaBuf make_buffer(std::size_t size = bytes) {
  auto made = DmaBuf::create(Exporter::UdmabufScattered, size);
  if (!made)
    die(made.error());
  return std::move(*made);
}

// Ranges that share no byte of buffer or drive: the pages of each dealt out anew.
Ranges deal(std::mt19937_64 &random, std::size_t count) {
  constexpr std::size_t pages = bytes / page;
  std::vector<std::size_t> cuts(pages - 1);
  std::iota(cuts.begin(), cuts.end(), 1);
  std::ranges::shuffle(cuts, random);
  cuts.resize(count * 2);
  std::ranges::sort(cuts);
  Ranges ranges(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t room = cuts[2 * i + 1] - cuts[2 * i];
    // Few are longer than a command; the first and the last sector may be left out.
    const std::size_t used = 1 + random() % std::min<std::size_t>(room, random() % 8 ? 2 : 24);
    ranges[i].buffer_offset = cuts[2 * i] * page;
    ranges[i].file_offset = disk_base + cuts[2 * i] * page;
    ranges[i].length = static_cast<std::uint32_t>(used * page);
    if (random() % 4 == 0) {
      ranges[i].length -= 512;
      ranges[i].file_offset += 512 * (random() % 2);
    }
  }
  std::ranges::shuffle(ranges, random);
  return ranges;
}

std::string results(const Ranges &ranges) {
  for (std::size_t i = 0; i < ranges.size(); ++i)
    if (ranges[i].error || ranges[i].moved != ranges[i].length)
      return std::format("range {}: {} of {} bytes, {}, {}", i, ranges[i].moved, ranges[i].length,
                         errno_name(ranges[i].error), reason_name(ranges[i].reason));
  return "";
}

bool all_moved(const std::string &name, int got, const Ranges &ranges) {
  const std::string wrong = results(ranges);
  return report().check(
      got == static_cast<int>(ranges.size()) && wrong.empty(), name,
      std::format("{}; {}", got < 0 ? errno_name(got) : std::to_string(got), wrong));
}

// A mapping of a buffer for the drive.
struct Mapped {
  explicit Mapped(Path path, int dmabuf_fd, std::uint32_t command = 0)
      : target(open_target(drive)), plain(open_target(drive)) {
    entry = map_entry(dmabuf_fd, target.get(), path);
    entry.max_command_hint = path == Path::Premapped ? command : 0;
    if (const int error = session.map_one(entry))
      die(std::format("MAP: {} {}", errno_name(error), reason_name(entry.reason)));
  }
  dmabuf_rw_info info() const {
    dmabuf_rw_info found{};
    session.info(entry.handle, found);
    return found;
  }
  UniqueFd target, plain;
  Session session;
  Ring ring{64};
  dmabuf_rw_map_entry entry{};
};

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

// Bad ones among good ones: the good ones move, the bad ones say why, and nothing else happens.
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

void expect(const std::string &name, int got, int want) {
  report().check(got == want, name,
                 std::format("{} instead of {}", got < 0 ? errno_name(got) : std::to_string(got),
                             want < 0 ? errno_name(want) : std::to_string(want)));
}

void test_hostile_arrays() {
  DmaBuf buffer = make_buffer();
  Mapped mapped(Path::Premapped, buffer.fd());
  dmabuf_rw_query query{};
  mapped.session.query(query);
  const auto most = static_cast<std::uint32_t>(query.max_ranges);
  auto *pages = static_cast<std::byte *>(
      ::mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (pages == MAP_FAILED)
    die("no memory");
  ::munmap(pages + 2 * page, page);
  auto *const two = reinterpret_cast<dmabuf_rw_range *>(pages + 2 * page) - 2;
  for (const Direction direction : {Direction::Read, Direction::Write})
    for (const unsigned flags : {0u, unsigned{IOSQE_ASYNC}}) {
      const auto name = [&](const char *what) {
        return std::format("{}, {}{}", what, name_of(direction), flags ? ", by a worker" : "");
      };
      const auto call = [&](dmabuf_rw_range *ranges, std::uint32_t count, std::uint64_t offset = 0,
                            std::uint32_t io_flags = 0, std::uint32_t wrong_handle = 0) {
        return move(mapped.ring, mapped.session, direction, mapped.entry.handle ^ wrong_handle,
                    ranges, count, flags, offset, io_flags);
      };
      Ranges ranges(most + 1);
      for (auto &range : ranges)
        range = {.file_offset = disk_base, .buffer_offset = 0, .length = page};
      expect(name("no range"), call(ranges.data(), 0), -EINVAL);
      expect(name("too many ranges"), call(ranges.data(), most + 1), -EINVAL);
      expect(name("2^32 - 1 ranges"), call(ranges.data(), ~0u), -EINVAL);
      expect(name("a file offset"), call(ranges.data(), 1, 512), -EINVAL);
      expect(name("a flag"), call(ranges.data(), 1, 0, 1), -EINVAL);
      expect(name("another handle"), call(ranges.data(), 1, 0, 0, 1u << 20), -ENOENT);
      expect(name("no array"), call(nullptr, 1), -EFAULT);
      expect(name("an array of the kernel's"),
             call(reinterpret_cast<dmabuf_rw_range *>(0xffff888000000000ull), 1), -EFAULT);
      expect(name("an array that wraps"),
             call(reinterpret_cast<dmabuf_rw_range *>(0 - std::uintptr_t{64}), 8), -EFAULT);
      two[0] = two[1] = ranges[0];
      expect(name("an array that ends past mapped memory"), call(two, 3), -EFAULT);
      expect(name("an array that ends with mapped memory"), call(two, 2), 2);
      expect(name("as many as may be, all of the same bytes"), call(ranges.data(), most),
             static_cast<int>(most));
      const std::uint64_t before = mapped.info().errors;
      ::mprotect(pages + page, page, PROT_READ);
      expect(name("results that cannot be stored"), call(two, 2), -EFAULT);
      ::mprotect(pages + page, page, PROT_READ | PROT_WRITE);
      report().check(mapped.info().errors == before, name("no I/O failed for that"));
    }
  ::munmap(pages, 2 * page);
  // Of another path, and in a direction that is not mapped.
  if (std::ranges::contains(paths_here(), Path::Registered)) {
    auto registered = map_entry(buffer.fd(), mapped.target.get(), Path::Registered);
    if (const int error = mapped.session.map_one(registered))
      die("MAP registered: " + errno_name(error));
    Ranges one{{.file_offset = disk_base, .buffer_offset = 0, .length = page}};
    expect("a registered mapping",
           move(mapped.ring, mapped.session, Direction::Read, registered.handle, one), -EOPNOTSUPP);
  }
  auto reading = map_entry(buffer.fd(), mapped.target.get(), Path::Premapped, DMABUF_RW_DIR_READ);
  if (const int error = mapped.session.map_one(reading))
    die("MAP: " + errno_name(error));
  for (const unsigned flags : {0u, unsigned{IOSQE_ASYNC}}) {
    Ranges ranges(3, {.file_offset = disk_base, .buffer_offset = 0, .length = page});
    expect("a direction that is not mapped",
           move(mapped.ring, mapped.session, Direction::Write, reading.handle, ranges, flags), 0);
    report().check(std::ranges::all_of(ranges,
                                       [](const auto &range) {
                                         return range.error == EACCES &&
                                                range.reason == DMABUF_RW_REASON_DIRECTION;
                                       }),
                   "each range says that the direction is not mapped");
  }
}

// Another thread turns ranges into ones past the buffer and back while they are read: what goes by
// is one or the other, as a whole.
void test_changing(double seconds) {
  DmaBuf buffer = make_buffer();
  Mapped mapped(Path::Premapped, buffer.fd());
  DiskRegion region(mapped.plain.get(), disk_base, bytes);
  region.lay_down_all(20);
  DiskRegion beside(mapped.plain.get(), disk_base + bytes, bytes);
  beside.lay_down_all(21);
  constexpr std::size_t count = 64;
  Ranges ranges(count);
  std::atomic<bool> stop = false;
  for (std::size_t i = 0; i < count; ++i)
    ranges[i] = {.file_offset = disk_base + i * page, .buffer_offset = i * page, .length = page};
  std::thread changer([&] {
    for (std::size_t i = 0; !stop; i = (i + 7) % count) {
      __atomic_store_n(&ranges[i].buffer_offset, bytes - page / 2, __ATOMIC_RELAXED);
      __atomic_store_n(&ranges[i].length, 1u << 30, __ATOMIC_RELAXED);
      __atomic_store_n(&ranges[i].buffer_offset, i * page, __ATOMIC_RELAXED);
      __atomic_store_n(&ranges[i].length, page, __ATOMIC_RELAXED);
    }
  });
  std::uint64_t moved = 0, refused = 0, other = 0, calls = 0;
  // Until both were seen, with a limit.
  const double limit = now_s() + 60 * seconds;
  const std::uint64_t enough = 2000;
  while ((calls < enough || !moved || !refused) && now_s() < limit) {
    const Direction direction = calls % 2 ? Direction::Write : Direction::Read;
    const int got = move(mapped.ring, mapped.session, direction, mapped.entry.handle, ranges,
                         calls % 3 ? 0 : unsigned{IOSQE_ASYNC});
    ++calls;
    std::uint64_t good = 0;
    for (const auto &range : ranges) {
      good += !range.error;
      moved += !range.error && range.moved == page;
      refused += range.error == EINVAL && range.moved == 0;
      other += range.error ? range.error != EINVAL || range.moved : range.moved != page;
    }
    if (got != static_cast<int>(good))
      ++other;
  }
  stop = true;
  changer.join();
  report().check(moved && refused, "ranges that change are seen either way",
                 std::format("{} moved, {} refused in {} calls", moved, refused, calls));
  report().check(other == 0, "no range that changed is anything in between", std::to_string(other));
  const auto wrong = beside.check_all();
  report().check(!wrong, "nothing beside is written", wrong.value_or(""));
}

// Waits `seconds` for a completion of what was submitted.
std::optional<int> within(Ring &ring, double seconds) {
  __kernel_timespec time{.tv_sec = static_cast<long>(seconds),
                         .tv_nsec =
                             static_cast<long>((seconds - static_cast<long>(seconds)) * 1e9)};
  io_uring_cqe *cqe = nullptr;
  if (io_uring_wait_cqe_timeout(ring.raw(), &cqe, &time))
    return std::nullopt;
  const int result = cqe->res;
  io_uring_cqe_seen(ring.raw(), cqe);
  return result;
}

void queue(Mapped &mapped, Direction direction, Ranges &ranges, std::uint64_t user_data) {
  const dmabuf_rw_uring_io io{.file_offset = 0, .handle = mapped.entry.handle, .flags = 0};
  mapped.ring.queue_command(mapped.session.fd(), operation(direction),
                            reinterpret_cast<std::uintptr_t>(ranges.data()),
                            static_cast<std::uint32_t>(ranges.size()), io, user_data);
}

Ranges few(std::size_t count) {
  Ranges ranges(count);
  for (std::size_t i = 0; i < count; ++i)
    ranges[i] = {.file_offset = disk_base + i * page, .buffer_offset = i * page, .length = page};
  return ranges;
}

void test_fences(const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, 3, 0));
  Mapped mapped(Path::Premapped, buffer.fd());
  DiskRegion region(mapped.plain.get(), disk_base, bytes);
  region.lay_down_all(30);
  for (const Direction direction : {Direction::Read, Direction::Write}) {
    Ranges ranges = few(8);
    buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER);
    queue(mapped, direction, ranges, 1);
    mapped.ring.submit();
    const auto early = within(mapped.ring, 0.3);
    report().check(!early, std::format("a fence is waited for, {}", name_of(direction)));
    buffer.signal();
    const auto got = within(mapped.ring, 60);
    report().check(got == 8 && results(ranges).empty(),
                   std::format("all go when it has signalled, {}", name_of(direction)),
                   std::format("{}; {}", got.value_or(-ETIME), results(ranges)));
  }
  // One that does not signal: the time that is waited is that of one I/O.
  dmabuf_rw_config config{.flags = 0, .timeout_ms = 500};
  Mapped timed(Path::Premapped, buffer.fd());
  timed.session.config(config);
  timed.session.unmap_one(timed.entry.handle);
  timed.entry = map_entry(buffer.fd(), timed.target.get(), Path::Premapped);
  if (timed.session.map_one(timed.entry))
    die("MAP");
  buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER);
  Ranges ranges = few(64);
  const double start = now_s();
  const int got = move(timed.ring, timed.session, Direction::Read, timed.entry.handle, ranges);
  const double took = now_s() - start;
  report().check(got == 0 && std::ranges::all_of(ranges,
                                                 [](const auto &range) {
                                                   return range.error == ETIMEDOUT &&
                                                          range.reason ==
                                                              DMABUF_RW_REASON_FENCE_TIMEOUT;
                                                 }),
                 "a fence that does not signal in time fails each range", std::to_string(got));
  report().check(took >= 0.4 && took < 0.5 * 32, "they wait together", std::format("{} s", took));

  // Cancelled: the worker that waits is told, and the ranges that had not been sent are not.
  ranges = few(64);
  queue(mapped, Direction::Read, ranges, 7);
  mapped.ring.submit();
  report().check(!within(mapped.ring, 0.3), "it waits, to be cancelled");
  io_uring_sqe *sqe = mapped.ring.sqe();
  io_uring_prep_cancel64(sqe, 7, 0);
  sqe->user_data = 8;
  mapped.ring.submit();
  int ended = 0, ranges_ended = -1;
  for (; ended < 2; ++ended) {
    __kernel_timespec time{.tv_sec = 20, .tv_nsec = 0};
    io_uring_cqe *cqe = nullptr;
    if (io_uring_wait_cqe_timeout(mapped.ring.raw(), &cqe, &time))
      break;
    if (cqe->user_data == 7)
      ranges_ended = cqe->res;
    io_uring_cqe_seen(mapped.ring.raw(), cqe);
  }
  report().check(ended == 2, "a cancelled command ends", std::format("{} of 2", ended));
  report().check(ranges_ended == -ECANCELED ||
                     (ranges_ended == 0 &&
                      std::ranges::all_of(ranges,
                                          [](const auto &range) {
                                            return range.error == EINTR &&
                                                   range.reason == DMABUF_RW_REASON_INTERRUPTED;
                                          })),
                 "and none of its ranges is moved",
                 std::format("{}, first {}", ranges_ended, errno_name(ranges[0].error)));
  buffer.signal();
}

// The exporter moves its memory all the time: bytes are right, and none lands where it was.
void test_moves(const Testexp &testexp) {
  if (!testexp.can_move()) {
    report().skip("ranges while the memory moves", "this kernel does not tell importers");
    return;
  }
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, 9));
  Mapped mapped(Path::Premapped, buffer.fd());
  DiskRegion region(mapped.plain.get(), disk_base, bytes);
  region.lay_down_all(40);
  buffer.start_mover(500);
  std::mt19937_64 random(11);
  HostBuffer want(bytes), found(bytes);
  fill_pattern(want.words(), 40, disk_base);
  std::uint64_t rounds = 0;
  const double limit = now_s() + 120;
  while ((rounds < 100 || buffer.must_stats().moves < 50) && now_s() < limit) {
    Ranges ranges = few(64);
    std::ranges::shuffle(ranges, random);
    if (!all_moved("ranges while the memory moves",
                   move(mapped.ring, mapped.session, Direction::Read, mapped.entry.handle, ranges),
                   ranges))
      break;
    ++rounds;
  }
  buffer.stop_mover();
  buffer.must_read(found.words(), 0);
  const auto wrong = compare_words(found.words().first(64 * page / sizeof(Word)),
                                   want.words().first(64 * page / sizeof(Word)));
  report().check(!wrong, "what was read while the memory moved", wrong ? describe(*wrong, 0) : "");
  const auto stats = buffer.must_stats();
  report().check(stats.moves >= 50 && stats.stray_words == 0, "nothing lands where the memory was",
                 std::format("{} moves, {} stray words", std::uint64_t{stats.moves},
                             std::uint64_t{stats.stray_words}));
}

// Of a process that is killed, and of a session and a ring that are closed, with ranges under way:
// nothing keeps the buffer.
void test_death() {
  for (int round = 0; round < 6; ++round) {
    DmaBuf buffer = make_buffer();
    int pipes[2];
    if (::pipe(pipes))
      die("pipe");
    const pid_t child = ::fork();
    if (child == 0) {
      Mapped mapped(round % 2 ? Path::Bvec : Path::Premapped, buffer.fd());
      std::vector<Ranges> all(32, few(255));
      for (std::uint64_t i = 0;; ++i) {
        queue(mapped, Direction::Read, all[i % all.size()], i);
        mapped.ring.submit();
        if (i == 64 && ::write(pipes[1], "x", 1) != 1)
          ::_exit(1);
        if (round >= 4 && i == 80)
          ::_exit(0);
        if (i >= all.size() - 1) {
          io_uring_cqe *cqe = nullptr;
          io_uring_wait_cqe(mapped.ring.raw(), &cqe);
          io_uring_cqe_seen(mapped.ring.raw(), cqe);
        }
      }
    }
    char byte = 0;
    ::close(pipes[1]);
    const bool started = ::read(pipes[0], &byte, 1) == 1;
    ::close(pipes[0]);
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    report().check(started, "the child had ranges under way");
    // Its memory is its own again: whoever maps it now finds no other mapping.
    Mapped after(Path::Premapped, buffer.fd());
    std::uint64_t shared = 0;
    for (const double limit = now_s() + 60; now_s() < limit; ::usleep(10000))
      if ((shared = after.info().shared) == 1)
        break;
    report().check(shared == 1, "a process that dies leaves no mapping", std::to_string(shared));
  }
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  double seconds = 1;
  if (argc == 3 && !std::strcmp(argv[1], "--seconds"))
    seconds = std::atof(argv[2]);
  else if (argc != 1)
    die("usage: ranges [--seconds N]");
  dmabuf_rw_query query{};
  Session().query(query);
  if (!(query.features & DMABUF_RW_FEAT_RANGES)) {
    // Then the commands are not there either.
    DmaBuf buffer = make_buffer();
    Mapped mapped(Path::Premapped, buffer.fd());
    Ranges ranges = few(2);
    expect("READV of a kernel without it",
           move(mapped.ring, mapped.session, Direction::Read, mapped.entry.handle, ranges),
           -ENOTTY);
    report().check(query.max_ranges == 0, "and no ranges are promised");
    return report().finish("ranges");
  }
  report().check(query.max_ranges >= 64, "QUERY says how many");
  const Testexp testexp;
  for (const Path path : {Path::Premapped, Path::Bvec}) {
    test_bytes(path);
    test_bad_among_good(path);
  }
  test_hostile_arrays();
  test_changing(seconds);
  test_fences(testexp);
  test_moves(testexp);
  test_death();
  return report().finish("ranges");
}
