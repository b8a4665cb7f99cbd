// SPDX-License-Identifier: GPL-2.0-only
#include "invalidate.hpp"

#include <atomic>
#include <csignal>
#include <linux/dma-buf.h>
#include <optional>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
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

// The ways to the drive, and how the caller waits: fences hold all of them up alike.
struct Way {
  Path path;
  bool ring;
};

constexpr Way ways[] = {
    {Path::Premapped, true}, {Path::Premapped, false}, {Path::Bvec, true}, {Path::Bvec, false}};

std::string name_of(const Way &way) {
  return std::format("{}, {}", name_of(way.path), way.ring ? "io_uring" : "waited for");
}

// A buffer, and a mapping of it that is used one way.
class Bed {
public:
  Bed(const InvalidateOptions &options, const Testexp &testexp, const Way &way,
      std::uint32_t timeout_ms = 0)
      : way_(way),
        // bvec needs the CPU's view of the pages.
        buffer_(testexp.make(gpu_buffer(
            bytes, options.seed, way.path == Path::Bvec ? DMABUF_TESTEXP_DYNAMIC : gpu_like))),
        target_(open_target(options.nvme)) {
    configure(timeout_ms);
    mover_.emplace(session_, ring_, buffer_.fd(), target_.get(), way.path);
    if (mover_->error())
      die(std::format("MAP: {}, {}", errno_name(mover_->error()),
                      reason_name(mover_->entry().reason)));
  }

  // CONFIG: for mappings made from now on.
  void configure(std::uint32_t timeout_ms) {
    dmabuf_rw_config config{};
    config.timeout_ms = timeout_ms;
    if (const int error = session_.config(config))
      die("CONFIG: " + errno_name(error));
  }

  // One transfer of `length` bytes; the reason of one that is waited for, else INFO's.
  int transfer(Direction direction, std::uint32_t length = bytes) {
    if (way_.ring)
      return mover_->transfer(direction, 0, length, disk_base);
    return mover_->waited(direction, 0, length, disk_base);
  }
  void fence(std::uint32_t usage, std::uint32_t delay_ms, std::uint32_t *number = nullptr) {
    const std::uint32_t flags = delay_ms ? 0 : DMABUF_TESTEXP_FENCE_NEVER;
    if (const int error = buffer_.add_fence(usage, delay_ms, flags, number))
      die("FENCE_ADD: " + errno_name(error));
  }
  dmabuf_rw_info info() const {
    dmabuf_rw_info result{};
    if (const int error = session_.info(mover_->entry().handle, result))
      die("INFO: " + errno_name(error));
    return result;
  }
  const TestBuffer &buffer() const { return buffer_; }
  Session &session() { return session_; }
  Ring &ring() { return ring_; }
  Mover &mover() { return *mover_; }
  int target() const { return target_.get(); }
  const Way &way() const { return way_; }

private:
  Way way_;
  TestBuffer buffer_;
  UniqueFd target_;
  Session session_;
  Ring ring_{8};
  std::optional<Mover> mover_;
};

// A transfer that must wait does, for a late fence, and then is right.
void late_fence(Bed &bed, DiskRegion &region, const Usage &usage, Direction direction,
                std::uint32_t generation) {
  constexpr std::uint32_t delay_ms = 250;
  const std::string name = std::format("{}: {} and a {} fence of {} ms", name_of(bed.way()),
                                       vmtest::name_of(direction), usage.name, delay_ms);
  const TestBuffer &buffer = bed.buffer();
  const bool read = direction == Direction::Read;
  region.lay_down(generation, disk_base, bytes);
  buffer.put_pattern(0, bytes, read ? buffer_poison : generation + 1, disk_base);
  const std::uint64_t deferred = bed.info().deferred;
  const double begin = now_s();
  bed.fence(usage.usage, delay_ms);
  const int result = bed.transfer(direction);
  const double took = now_s() - begin;
  report().check(result == static_cast<int>(bytes), name + ": result", errno_name(result));
  // On a busy machine a guest's timers come some ticks early, as it makes up for ticks that it
  // missed.
  report().check(idle(buffer) && took >= delay_ms / 2000.0, name + ": waits",
                 std::format("{:.0f} ms", took * 1000));
  // To a worker it goes only from a ring; once, or twice where the target itself would have to
  // wait.
  const std::uint64_t more = bed.info().deferred - deferred;
  report().check(bed.way().ring ? more >= 1 && more <= 2 : more == 0, name + ": INFO.deferred",
                 std::format("{} more", more));
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
void other_fence(Bed &bed, const Usage &usage, Direction direction) {
  constexpr std::uint32_t little = 4096; // that the target takes without waiting for anything
  const std::string name = std::format("{}: {} and a {} fence that never signals",
                                       name_of(bed.way()), vmtest::name_of(direction), usage.name);
  const std::uint64_t deferred = bed.info().deferred;
  bed.fence(usage.usage, 0);
  const int result = bed.transfer(direction, little);
  report().check(result == static_cast<int>(little), name + ": does not wait", errno_name(result));
  report().check(bed.buffer().must_stats().fences == 1, name + ": it has not signalled");
  report().check(bed.info().deferred == deferred, name + ": INFO.deferred",
                 std::format("{} more", bed.info().deferred - deferred));
  report().check(bed.buffer().signal() == 0, name + ": FENCE_SIGNAL");
}

void never(const InvalidateOptions &options, const Testexp &testexp, const Way &way,
           Direction direction, DiskRegion &region) {
  const std::string name = std::format("{}: {} and a fence that never signals", name_of(way),
                                       vmtest::name_of(direction));
  constexpr std::uint32_t timeout_ms = 600;
  Bed bed(options, testexp, way, timeout_ms);
  std::uint32_t fence = 0;
  bed.fence(DMABUF_TESTEXP_USAGE_WRITE, 0, &fence);
  const double begin = now_s();
  const int result = bed.transfer(direction);
  const double took = now_s() - begin;
  report().check(result == -ETIMEDOUT, name + ": result", errno_name(result));
  // Linux counts in ticks, of 10 ms at most, and begins within one. And it is not the 30 s without
  // CONFIG, however slow this machine is.
  constexpr double tick = 0.01;
  report().check(took >= timeout_ms / 1000.0 - tick && took < 25, name + ": the session's time-out",
                 std::format("{:.4f} s", took));
  const auto info = bed.info();
  // A wait without a ring that task work interrupts is begun again, and that is counted, too.
  report().check(info.last_reason == DMABUF_RW_REASON_FENCE_TIMEOUT &&
                     info.last_error == ETIMEDOUT && info.errors >= 1 &&
                     (info.errors == 1 || !way.ring),
                 name + ": INFO tells",
                 std::format("{}, {} errors", reason_name(info.last_reason), +info.errors));
  report().check(bed.buffer().signal(fence) == 0, name + ": FENCE_SIGNAL of this one");
  report().check(bed.buffer().signal(fence) == -ENOENT, name + ": FENCE_SIGNAL again");
  const std::string wrong = check_transfer(bed.buffer(), bed.mover(), region, 40);
  report().check(wrong.empty(), name + ": once it has signalled I/O works", wrong);
}

// CONFIG is for mappings made after it: an older one keeps what was said before.
void configured_later(const InvalidateOptions &options, const Testexp &testexp, const Way &way) {
  const std::string name = name_of(way) + ": CONFIG between two mappings";
  constexpr std::uint32_t short_ms = 400, long_ms = 600000;
  {
    Bed bed(options, testexp, way, short_ms);
    bed.configure(long_ms);
    std::uint32_t fence = 0;
    bed.fence(DMABUF_TESTEXP_USAGE_WRITE, 0, &fence);
    const double begin = now_s();
    const int result = bed.transfer(Direction::Read);
    report().check(result == -ETIMEDOUT && now_s() - begin < 25, name + ", the older is short",
                   std::format("{} after {:.1f} s", errno_name(result), now_s() - begin));
    bed.buffer().signal();
  }
  // The older is long: with the younger's time-out over it still waits.
  Bed bed(options, testexp, way, long_ms);
  bed.configure(short_ms);
  Mover younger(bed.session(), bed.ring(), bed.buffer().fd(), bed.target(), way.path);
  report().check(younger.error() == 0, name + ", MAP", errno_name(younger.error()));
  bed.fence(DMABUF_TESTEXP_USAGE_WRITE, 0);
  std::atomic<int> first = 1;
  std::jthread waiter([&] {
    // A ring is its task's own.
    Ring ring(8, 0);
    if (!way.ring) {
      first = bed.mover().waited(Direction::Read, 0, bytes, disk_base);
      return;
    }
    first =
        ring.command(bed.session().fd(), DMABUF_RW_URING_READ, 0, bytes,
                     {.file_offset = disk_base, .handle = bed.mover().entry().handle, .flags = 0});
  });
  const int second = way.ring ? younger.transfer(Direction::Read, 0, bytes, disk_base)
                              : younger.waited(Direction::Read, 0, bytes, disk_base);
  report().check(second == -ETIMEDOUT, name + ", the younger is short", errno_name(second));
  ::usleep(2 * short_ms * 1000);
  report().check(first == 1, name + ", the older is long", errno_name(first));
  bed.buffer().signal();
  waiter.join();
  report().check(first == static_cast<int>(bytes), name + ", the older in the end",
                 errno_name(first));
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

// The fences of a buffer are its users': an I/O takes none off, signalled or not. And one that
// comes later is waited for.
void left_alone(const InvalidateOptions &options, const Testexp &testexp, const Way &way,
                DiskRegion &region) {
  const std::string name = name_of(way) + ": fences that have signalled";
  constexpr std::uint32_t little = 4096, signalled = 3;
  Bed bed(options, testexp, way);
  const TestBuffer &buffer = bed.buffer();
  const auto write = [&] { return bed.transfer(Direction::Write, little); };
  report().check(buffer.add_signalled(DMABUF_TESTEXP_USAGE_WRITE, signalled) == 0,
                 name + ": FENCES_SIGNALLED");
  const long before = listed_fences();
  for (int tries = 0; tries < 3; ++tries, ::usleep(20000))
    report().check(write() == static_cast<int>(little), name + ": result");
  report().check(listed_fences() == before && (before < 0 || before >= signalled),
                 name + ": all are left",
                 std::format("{} listed, {} before", listed_fences(), before));
  bed.fence(DMABUF_TESTEXP_USAGE_READ, 0);
  report().check(write() == static_cast<int>(little), name + ", and one that has not: result");
  report().check(!idle(buffer), name + ", and one that has not: it stays on the buffer");
  report().check(buffer.signal() == 0 && idle(buffer), name + ": FENCE_SIGNAL");
  if (way.path == Path::Premapped && testexp.can_move()) {
    bed.fence(DMABUF_TESTEXP_USAGE_BOOKKEEP, 0);
    report().check(write() == static_cast<int>(little), name + ", and a bookkeep one: result");
    report().check(buffer.move(100) == -ETIMEDOUT,
                   name + ", and a bookkeep one: a move waits for it");
    report().check(buffer.signal() == 0, name + ": FENCE_SIGNAL of the bookkeep one");
  }
  late_fence(bed, region, usages[0], Direction::Read, 60);
}

// What the process that waits for fences shares with this one.
struct Waiting {
  std::atomic<bool> stop;
  std::atomic<unsigned> synced, moved; // waits that have ended, by whom
};

// Threads that wait for the buffer's fences again and again until `stop`: some by the framework's
// own call, some by I/O. Exit status 0: all went on to the end, and no I/O failed.
[[noreturn]] void wait_for_fences(const InvalidateOptions &options, const TestBuffer &buffer,
                                  Waiting &waiting) {
  constexpr int waiters = 5, users = 2;
  std::atomic<int> failed = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < waiters; ++i)
    threads.emplace_back([&] {
      for (; !waiting.stop; ++waiting.synced)
        for (const __u64 end : {__u64{DMA_BUF_SYNC_START}, __u64{DMA_BUF_SYNC_END}}) {
          dma_buf_sync sync{.flags = DMA_BUF_SYNC_READ | end};
          failed += ::ioctl(buffer.fd(), DMA_BUF_IOCTL_SYNC, &sync) != 0;
        }
    });
  for (int i = 0; i < users; ++i)
    threads.emplace_back([&] {
      const UniqueFd target = open_target(options.nvme);
      Session session;
      Ring ring(8, 0);
      Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
      for (; !waiting.stop; ++waiting.moved)
        failed += mover.waited(Direction::Read, 0, 4096, disk_base) != 4096;
    });
  threads.clear();
  ::_exit(failed ? 1 : 0);
}

// Whoever waits for a buffer's fences goes on when they signal, whatever I/O looks at them then:
// Linux walks the list without a lock.
void waiters_go_on(const InvalidateOptions &options, const Testexp &testexp) {
  const std::string name = "many wait for fences that signal";
  constexpr unsigned enough = 300;
  constexpr double patience_s = 240;
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
  void *shared =
      ::mmap(nullptr, sizeof(Waiting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED)
    die("no memory to share");
  auto &waiting = *new (shared) Waiting{};
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child < 0)
    die("fork failed");
  if (child == 0)
    wait_for_fences(options, buffer, waiting);
  // Until both kinds have waited often enough, however busy this machine is.
  const double begin = now_s();
  const auto over = [&] { return now_s() - begin > patience_s; };
  while ((waiting.synced < enough || waiting.moved < enough) && !over()) {
    const int added = buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER);
    report().check(added == 0, name + ": FENCE_ADD", errno_name(added));
    ::usleep(2000);
    report().check(buffer.signal() == 0, name + ": FENCE_SIGNAL");
  }
  waiting.stop = true;
  int status = -1;
  while (::waitpid(child, &status, WNOHANG) == 0 && !over())
    ::usleep(20000);
  if (!report().check(status == 0, name + ": they go on",
                      std::format("wait status 0x{:x}, {} and {} waits after {:.0f} s", status,
                                  +waiting.synced, +waiting.moved, now_s() - begin)))
    ::kill(child, SIGKILL);
  ::munmap(shared, sizeof(Waiting));
}

} // namespace

void test_fences(const InvalidateOptions &options, const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
  const UniqueFd plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base, bytes);
  region.lay_down_all(1);
  for (const Way &way : ways) {
    std::uint32_t generation = 2;
    Bed bed(options, testexp, way);
    for (const Usage &usage : usages) {
      for (const Direction direction : {Direction::Read, Direction::Write}) {
        const bool holds = direction == Direction::Read ? usage.holds_read : usage.holds_write;
        if (holds)
          late_fence(bed, region, usage, direction, generation);
        else
          other_fence(bed, usage, direction);
        generation += 2;
      }
    }
    for (const Direction direction : {Direction::Read, Direction::Write})
      never(options, testexp, way, direction, region);
    configured_later(options, testexp, way);
    left_alone(options, testexp, way, region);
  }
  killed(options, buffer);
  waiters_go_on(options, testexp);

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
