// SPDX-License-Identifier: GPL-2.0-only
// What runs for every I/O: prepare, submit, reap. Instantiated for each datapath and for the type
// of I/O unit, which it knows only by the adapter `Io`:
//
//   using Unit = …;                                          the unit of I/O
//   static Kind kind(const Unit &);
//   static unsigned index(const Unit &);                      I/O slot, 0 … iodepth-1
//   static Request request(const Lane &, Unit &);             reads and writes only
//   static void fill_sync(const Lane &, io_uring_sqe &, Unit &);   and trims that the ring takes
//   static uint64_t length(const Unit &);                     bytes asked for
//   static void done(Unit &, int error, uint64_t missing);    error: positive errno or 0
#pragma once

#include "datapath/lane.hpp"

#include <cerrno>
#include <cstdint>

namespace dmabuf {

/// What to do with a completion that is not a full success.
enum class Verdict { success, partial, retry, error };

/// `result`: bytes moved or a negative errno; `length`: bytes asked for, 0 for a sync;
/// `tries`: EAGAINs so far, of at most `most`; from the first on a request is issued from a worker
/// that may block, where EAGAIN is not expected at all. A transfer of nothing where something was
/// asked for is an error: fio would count it as done.
constexpr Verdict judge(int result, uint64_t length, unsigned tries, unsigned most = kMaxTries) {
  if (result == -EAGAIN && tries < most)
    return Verdict::retry;
  if (result < 0 || (result == 0 && length))
    return Verdict::error;
  return static_cast<uint64_t>(result) == length ? Verdict::success : Verdict::partial;
}

/// The errno of a completion judged an error.
constexpr int error_of(int result) { return result < 0 ? -result : EIO; }

/// A datapath whose target is memory: a sync has nothing to do.
template <class Path>
concept NothingToSync = requires { typename Path::NothingToSync; };

template <class Path, class Io> struct HotPath {
  using Unit = typename Io::Unit;

  /// Prepares one unit. False when the ring has no room: submit, then try again.
  static bool prepare(Lane &lane, Unit &unit) {
    io_uring_sqe *sqe = lane.ring.sqe();
    if (!sqe) [[unlikely]]
      return false;
    lane.tries[Io::index(unit)] = 0;
    fill(lane, *sqe, unit);
    lane.pending[lane.pending_count++] = &unit;
    lane.in_flight++;
    return true;
  }

  /// Reads at most `max` completions into lane.ready from `at` on; returns how many units are done.
  /// Requests to be tried again are prepared and counted in lane.again, and need a submission.
  static unsigned reap(Lane &lane, unsigned at, unsigned max) {
    unsigned done = at;
    lane.ring.reap(max, [&](const io_uring_cqe &cqe) {
      auto *unit = reinterpret_cast<Unit *>(static_cast<uintptr_t>(cqe.user_data));
      if (complete(lane, *unit, cqe.res)) [[likely]]
        lane.ready[done++] = unit;
    });
    lane.in_flight -= done - at;
    return done - at;
  }

  /// After an error that ends the job's I/O: hands out at most `most` units in lane.ready, first
  /// those that the kernel never got, as failed, then what it has, once that ended. Returns how
  /// many.
  [[gnu::noinline, gnu::cold]] static unsigned hand_back(Lane &lane, unsigned most) {
    unsigned done = 0;
    lane.max_tries = 0;
    // The entries themselves tell which units these are: the kernel may have taken a part of a
    // batch, and what was to be tried again is among them.
    for (lane.pending_count = 0; done < most && lane.ring.unsubmitted(); lane.in_flight--) {
      auto *unit = reinterpret_cast<Unit *>(static_cast<uintptr_t>(lane.ring.take_back()));
      Io::done(*unit, lane.fatal, 0);
      lane.ready[done++] = unit;
    }
    while (lane.submitted() && done < most) {
      const unsigned reaped = reap(lane, done, most - done);
      done += reaped;
      const int rc = reaped ? 0 : lane.ring.wait(1);
      if (rc < 0 && rc != -EINTR && rc != -EAGAIN)
        break;
    }
    return done;
  }

  /// Completions that so many units take at least.
  static unsigned completions(const Lane &, unsigned units) { return units; }

  /// True when the unit is done, false when it goes round again.
  static bool complete(Lane &lane, Unit &unit, int result) {
    const auto kind = static_cast<unsigned>(Io::kind(unit));
    if (kind <= static_cast<unsigned>(Kind::write) && result > 0 &&
        static_cast<uint64_t>(result) == Io::length(unit)) [[likely]] {
      lane.counters.ops[kind]++;
      lane.counters.bytes[kind] += static_cast<unsigned>(result);
      Path::landed(lane, Io::request(lane, unit), static_cast<unsigned>(result));
      Io::done(unit, 0, 0);
      return true;
    }
    return complete_slowly(lane, unit, result);
  }

private:
  static void fill(Lane &lane, io_uring_sqe &sqe, Unit &unit) {
    if (static_cast<unsigned>(Io::kind(unit)) <= static_cast<unsigned>(Kind::write)) [[likely]]
      Path::fill(lane, sqe, Io::request(lane, unit));
    else if constexpr (NothingToSync<Path>)
      sqe.opcode = IORING_OP_NOP;
    else
      Io::fill_sync(lane, sqe, unit);
    if (lane.force_async && ++lane.prepared == lane.force_async) [[unlikely]] {
      lane.prepared = 0;
      sqe.flags |= IOSQE_ASYNC;
    }
    sqe.user_data = reinterpret_cast<uintptr_t>(&unit);
  }

  [[gnu::noinline, gnu::cold]] static bool complete_slowly(Lane &lane, Unit &unit, int result) {
    const auto kind = static_cast<unsigned>(Io::kind(unit));
    const bool data = kind <= static_cast<unsigned>(Kind::write);
    const uint64_t length = data ? Io::length(unit) : 0;
    uint16_t &tries = lane.tries[Io::index(unit)];
    switch (judge(result, length, tries, lane.max_tries)) {
    case Verdict::retry: {
      io_uring_sqe *sqe = lane.ring.sqe();
      if (!sqe)
        break; // no room: give up on this request, loudly
      fill(lane, *sqe, unit);
      sqe->flags |= IOSQE_ASYNC;
      tries++;
      lane.again++;
      lane.counters.retries++;
      return false;
    }
    case Verdict::partial:
      lane.counters.short_requests++;
      lane.counters.partial[kind]++;
      lane.counters.bytes[kind] += static_cast<unsigned>(result);
      Path::landed(lane, Io::request(lane, unit), static_cast<unsigned>(result));
      Io::done(unit, 0, length - static_cast<unsigned>(result));
      return true;
    case Verdict::success: // only a sync or a trim gets here
      if (Io::kind(unit) == Kind::trim) {
        lane.counters.trims++;
        lane.counters.queued_trims++;
      } else {
        lane.counters.syncs++;
      }
      Io::done(unit, 0, 0);
      return true;
    case Verdict::error:
      break;
    }
    lane.counters.errors++;
    Io::done(unit, error_of(result), 0);
    return true;
  }
};

} // namespace dmabuf
