// SPDX-License-Identifier: GPL-2.0-only
// Fences, memory that moves, cancellation and death in the middle.
#include "ranges.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

namespace vmtest {

namespace {

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

} // namespace

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

} // namespace vmtest
