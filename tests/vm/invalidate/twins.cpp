// SPDX-License-Identifier: GPL-2.0-only
// UNMAP while the memory moves, beside a second mapping of the same buffer that goes on with its
// I/O: what the second brings back to life must not be what is being unmapped.
#include "invalidate.hpp"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 440u << 20;
constexpr std::size_t buffer_bytes = 1u << 20, half = buffer_bytes / 2;
constexpr std::uint32_t part = 32768;
constexpr unsigned siblings = half / part; // mapped, used and unmapped together
constexpr unsigned enough = 300;           // rounds of each, and moves
constexpr double limit_s = 240;

struct Twins {
  const InvalidateOptions &options;
  const TestBuffer &buffer;
  std::atomic<std::uint64_t> unmaps = 0, rounds = 0, met_none = 0;
  std::atomic<bool> stop = false, bad = false;

  void fail(const std::string &name, const std::string &what) {
    if (!bad.exchange(true))
      report().fail(name, what);
  }
};

// Maps several times in one call, lets each read its part of the buffer's first half, and unmaps
// all in one call with the reads under way. Those end with their data, or met no mapping any more.
void come_and_go(Twins &twins) {
  const std::string name = "UNMAP beside a twin";
  const UniqueFd target = open_target(twins.options.nvme);
  Session session;
  Ring ring(2 * siblings, 0);
  while (!twins.stop && !twins.bad) {
    std::vector<dmabuf_rw_map_entry> entries(
        siblings, map_entry(twins.buffer.fd(), target.get(), Path::Premapped));
    std::uint32_t count = 0;
    if (const int error = session.map(entries, &count); error || count != siblings)
      return twins.fail(name + ": MAP", std::format("{}, {} mapped", errno_name(error), count));
    std::vector<std::uint32_t> handles;
    for (unsigned i = 0; i < siblings; ++i) {
      handles.push_back(entries[i].handle);
      ring.queue_command(session.fd(), DMABUF_RW_URING_READ, std::uint64_t{i} * part, part,
                         {.file_offset = disk_base + std::uint64_t{i} * part,
                          .handle = entries[i].handle,
                          .flags = 0});
    }
    ring.submit();
    if (const int error = session.unmap(handles, &count); error || count != siblings)
      return twins.fail(name + ": UNMAP", std::format("{}, {} unmapped", errno_name(error), count));
    for (unsigned left = siblings; left > 0;) {
      const int reaped = ring.reap([&](std::uint64_t, int result) {
        --left;
        twins.met_none += result == -ENOENT;
        if (result != static_cast<int>(part) && result != -ENOENT)
          twins.fail(name + ": a read", errno_name(result));
      });
      if (reaped < 0)
        die("io_uring_enter: " + errno_name(reaped));
    }
    ++twins.unmaps;
  }
}

// Goes on with both directions in the buffer's second half, every byte looked at.
void stay(Twins &twins) {
  const std::string name = "the twin that stays";
  const UniqueFd target = open_target(twins.options.nvme), plain = open_target(twins.options.nvme);
  DiskRegion region(plain.get(), disk_base + half, half);
  Session session;
  Ring ring(8, 0);
  Mover mover(session, ring, twins.buffer.fd(), target.get(), Path::Premapped);
  if (mover.error())
    return twins.fail(name + ": MAP", errno_name(mover.error()));
  std::vector<Word> words(half / 8);
  std::uint32_t generation = 10;
  while (!twins.stop && !twins.bad) {
    region.lay_down_all(++generation);
    int result = mover.transfer(Direction::Read, half, half, region.base());
    if (result != static_cast<int>(half))
      return twins.fail(name + ": read", errno_name(result));
    twins.buffer.must_read(words, half);
    if (const auto wrong = compare_words(words, region.expected(region.base(), half)))
      return twins.fail(name + ": what it read", describe(*wrong, half));
    fill_pattern(words, ++generation, region.base());
    twins.buffer.must_write(words, half);
    result = mover.transfer(Direction::Write, half, half, region.base());
    if (result != static_cast<int>(half))
      return twins.fail(name + ": write", errno_name(result));
    std::ranges::copy(words, region.expected(region.base(), half).begin());
    if (const auto wrong = region.check_all())
      return twins.fail(name + ": what it wrote", *wrong);
    ++twins.rounds;
  }
}

// Keeps reads under way all the time, so that memory that has moved is mapped again at once: it is
// this that must leave alone what is being unmapped.
void hurry(Twins &twins) {
  constexpr unsigned depth = 8;
  const UniqueFd target = open_target(twins.options.nvme);
  Session session;
  Ring ring(2 * depth, 0);
  Mover mover(session, ring, twins.buffer.fd(), target.get(), Path::Premapped);
  if (mover.error())
    return twins.fail("the twin in a hurry: MAP", errno_name(mover.error()));
  unsigned flying = 0;
  while (flying > 0 || (!twins.stop && !twins.bad)) {
    // The first half of the buffer holds nothing of anybody's.
    for (; flying < depth && !twins.stop && !twins.bad; ++flying)
      mover.queue(Direction::Read, std::uint64_t{flying} * 4096, 4096, disk_base);
    const int reaped = ring.reap([&](std::uint64_t, int result) {
      --flying;
      if (result != 4096)
        twins.fail("the twin in a hurry: a read", errno_name(result));
    });
    if (reaped < 0)
      die("io_uring_enter: " + errno_name(reaped));
  }
}

} // namespace

void test_twins(const InvalidateOptions &options, const Testexp &testexp) {
  const std::string name = "UNMAP beside a twin, the memory moving";
  const TestBuffer buffer = testexp.make(gpu_buffer(buffer_bytes, options.seed));
  const UniqueFd plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base, half);
  region.lay_down_all(5);
  buffer.put_pattern(0, half, buffer_poison, 0);
  Twins twins{.options = options, .buffer = buffer};
  std::atomic<int> running = 3;
  std::thread first([&] { come_and_go(twins), --running; });
  std::thread second([&] { stay(twins), --running; });
  std::thread third([&] { hurry(twins), --running; });
  const double begin = now_s();
  // One move, then none until two more UNMAPs have returned: what was brought back to life while it
  // was being unmapped would be waited for until the next move.
  unsigned moves = 0;
  bool ended = true;
  while (ended && !twins.bad && now_s() - begin < limit_s &&
         (moves < enough || twins.rounds < enough / 10)) {
    const std::uint64_t before = twins.unmaps;
    if (const int error = buffer.move())
      twins.fail(name + ": MOVE", errno_name(error));
    ++moves;
    for (const double end = now_s() + 20; twins.unmaps < before + 2 && !twins.bad;) {
      if (now_s() > end) {
        ended = false;
        break;
      }
      ::usleep(1000);
    }
  }
  report().check(ended, name + ": UNMAP returns while the memory stays where it is",
                 "not within 20 s");
  if (!ended)
    buffer.move(); // lets it go on, so that the rest of this program can be looked at
  const bool reached = moves >= enough && twins.rounds >= enough / 10;
  twins.stop = true;
  for (const double end = now_s() + 60; running && now_s() < end;)
    ::usleep(20000);
  report().check(reached, name + ": enough happened",
                 std::format("{} UNMAPs, {} rounds in {:.0f} s", twins.unmaps.load(),
                             twins.rounds.load(), now_s() - begin));
  if (running) {
    // Whoever waits in the kernel cannot be waited for, and what follows would not work.
    report().fail(name + ": nobody hangs", std::format("{} of 3 threads do", running.load()));
    std::_Exit(report().finish("invalidate"));
  }
  first.join();
  second.join();
  third.join();
  const auto wrong = region.check_all();
  report().check(!wrong, name + ": reads did not change the drive", wrong.value_or(""));
  report().note(std::format("{}: {} UNMAPs of {}, {} rounds of the twin, {} moves, {} reads met no "
                            "mapping, {:.1f} s",
                            name, twins.unmaps.load(), siblings, twins.rounds.load(),
                            std::uint64_t{buffer.must_stats().moves}, twins.met_none.load(),
                            now_s() - begin));
  check_nothing_left(buffer, name);
}

} // namespace vmtest
