// SPDX-License-Identifier: GPL-2.0-only
#include "invalidate.hpp"

#include <csignal>
#include <sys/wait.h>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 420u << 20;
constexpr std::size_t bytes = 256u << 10;

struct Usage {
  const char *name;
  std::uint32_t usage;
  bool holds_read, holds_write; // must a read, a write wait for it?
};

// A read overwrites the buffer, a write only looks at it.
constexpr Usage usages[] = {
    {"KERNEL", DMABUF_TESTEXP_USAGE_KERNEL, true, true},
    {"WRITE", DMABUF_TESTEXP_USAGE_WRITE, true, true},
    {"READ", DMABUF_TESTEXP_USAGE_READ, true, false},
    {"BOOKKEEP", DMABUF_TESTEXP_USAGE_BOOKKEEP, false, false},
};

// A transfer that must wait does, for a late fence, and then is right.
void late_fence(const TestBuffer &buffer, Mover &mover, DiskRegion &region, const Usage &usage,
                Direction direction, std::uint32_t generation) {
  constexpr std::uint32_t delay_ms = 250;
  const std::string name =
      std::format("{} and a {} fence of {} ms", name_of(direction), usage.name, delay_ms);
  const bool read = direction == Direction::Read;
  region.lay_down(generation, disk_base, bytes);
  buffer.put_pattern(0, bytes, read ? buffer_poison : generation + 1, disk_base);
  const double begin = now_s();
  if (const int error = buffer.add_fence(usage.usage, delay_ms))
    die("FENCE_ADD: " + errno_name(error));
  const int result = mover.transfer(direction, 0, bytes, disk_base);
  const double took = now_s() - begin;
  report().check(result == static_cast<int>(bytes), name + ": result", errno_name(result));
  report().check(took >= delay_ms / 1000.0, name + ": waits",
                 std::format("{:.0f} ms", took * 1000));
  std::vector<Word> words(bytes / 8);
  if (read) {
    buffer.must_read(words, 0);
    const auto wrong = compare_words(words, region.expected(disk_base, bytes));
    report().check(!wrong, name + ": data", wrong ? describe(*wrong, 0) : "");
  } else {
    fill_pattern(region.expected(disk_base, bytes), generation + 1, disk_base);
    const auto wrong = region.check(disk_base, bytes, 0);
    report().check(!wrong, name + ": data", wrong.value_or(""));
  }
}

// A fence that nobody need wait for is no hindrance, even if it never signals.
void other_fence(const TestBuffer &buffer, Mover &mover, const Usage &usage, Direction direction) {
  const std::string name =
      std::format("{} and a {} fence that never signals", name_of(direction), usage.name);
  if (const int error = buffer.add_fence(usage.usage, 0, DMABUF_TESTEXP_FENCE_NEVER))
    die("FENCE_ADD: " + errno_name(error));
  const int result = mover.transfer(direction, 0, bytes, disk_base);
  report().check(result == static_cast<int>(bytes), name + ": does not wait", errno_name(result));
  report().check(buffer.must_stats().fences == 1, name + ": it has not signalled");
  report().check(buffer.signal() == 0, name + ": FENCE_SIGNAL");
}

void never(const InvalidateOptions &options, const TestBuffer &buffer, DiskRegion &region) {
  const std::string name = "a fence that never signals";
  constexpr std::uint32_t timeout_ms = 2000;
  Session session;
  dmabuf_rw_config config{};
  config.timeout_ms = timeout_ms;
  if (const int error = session.config(config))
    die("CONFIG: " + errno_name(error));
  Ring ring(8);
  UniqueFd target = open_target(options.nvme);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  std::uint32_t fence = 0;
  if (const int error =
          buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER, &fence))
    die("FENCE_ADD: " + errno_name(error));
  const double begin = now_s();
  const int result = mover.transfer(Direction::Read, 0, bytes, disk_base);
  const double took = now_s() - begin;
  report().check(result == -ETIMEDOUT, name + ": result", errno_name(result));
  report().check(took >= timeout_ms / 1000.0 && took < timeout_ms / 1000.0 + 5,
                 name + ": the session's time-out", std::format("{:.2f} s", took));
  dmabuf_rw_info info{};
  session.info(mover.entry().handle, info);
  report().check(info.last_reason == DMABUF_RW_REASON_FENCE_TIMEOUT, name + ": INFO.last_reason",
                 reason_name(info.last_reason));
  report().check(buffer.signal(fence) == 0, name + ": FENCE_SIGNAL of this one");
  report().check(buffer.signal(fence) == -ENOENT, name + ": FENCE_SIGNAL again");
  const std::string wrong = check_transfer(buffer, mover, region, 40);
  report().check(wrong.empty(), name + ": once it has signalled I/O works", wrong);
}

// A process that waits for a fence can be killed.
void killed(const InvalidateOptions &options, const TestBuffer &buffer) {
  const std::string name = "kill -9 while waiting for a fence";
  if (const int error = buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER))
    die("FENCE_ADD: " + errno_name(error));
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    Session session;
    Ring ring(8);
    UniqueFd target = open_target(options.nvme);
    Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
    for (std::uint64_t i = 0; i < 4; ++i)
      mover.queue(Direction::Read, i * 65536, 65536, disk_base + i * 65536, i);
    ring.reap([](std::uint64_t, int) {});
    ::_exit(3); // nothing may complete
  }
  for (int tries = 0; tries < 500 && buffer.must_stats().mappings == 0; ++tries)
    ::usleep(10000);
  ::usleep(300000);
  ::kill(child, SIGKILL);
  int status = 0;
  pid_t reaped = 0;
  const double begin = now_s();
  while ((reaped = ::waitpid(child, &status, WNOHANG)) == 0 && now_s() - begin < 10)
    ::usleep(5000);
  report().check(reaped == child && WIFSIGNALED(status), name + ": the process ends in 10 s",
                 std::format("wait status 0x{:x}", status));
  dmabuf_testexp_stats stats = buffer.must_stats();
  for (int tries = 0; tries < 500 && stats.attachments; ++tries) {
    ::usleep(20000);
    stats = buffer.must_stats();
  }
  report().check(stats.attachments == 0, name + ": nothing left while the fence is pending",
                 std::format("{} attachments after {:.1f} s", stats.attachments, now_s() - begin));
  report().check(stats.fences == 1, name + ": the fence is pending");
  report().check(buffer.signal() == 0, name + ": FENCE_SIGNAL");
}

} // namespace

void test_fences(const InvalidateOptions &options, const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
  const UniqueFd plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base, bytes);
  region.lay_down_all(1);
  {
    Session session;
    Ring ring(8);
    UniqueFd target = open_target(options.nvme);
    Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
    if (mover.error())
      die("MAP: " + errno_name(mover.error()));
    std::uint32_t generation = 2;
    for (const Usage &usage : usages) {
      for (const Direction direction : {Direction::Read, Direction::Write}) {
        const bool holds = direction == Direction::Read ? usage.holds_read : usage.holds_write;
        if (holds)
          late_fence(buffer, mover, region, usage, direction, generation);
        else
          other_fence(buffer, mover, usage, direction);
        generation += 2;
      }
    }
  }
  never(options, buffer, region);
  killed(options, buffer);

  const std::string name = "MOVE and a fence that never signals";
  if (const int error =
          buffer.add_fence(DMABUF_TESTEXP_USAGE_BOOKKEEP, 0, DMABUF_TESTEXP_FENCE_NEVER))
    die("FENCE_ADD: " + errno_name(error));
  report().check(buffer.move(100) == -ETIMEDOUT, name + ": times out");
  buffer.signal();
  report().check(buffer.move(100) == 0, name + ": works once it has signalled");
  check_nothing_left(buffer, "fences");
  // Left to itself: the end of the session must signal it.
  if (const int error = buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER))
    die("FENCE_ADD: " + errno_name(error));
}

} // namespace vmtest
