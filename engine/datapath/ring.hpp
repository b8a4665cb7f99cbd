// SPDX-License-Identifier: GPL-2.0-only
// The job's io_uring: set-up, submission in batches, completions read in place.
#pragma once

#include "base/error.hpp"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <liburing.h>
#include <optional>
#include <span>
#include <string>
#include <sys/uio.h>

namespace dmabuf {

struct RingOptions {
  unsigned depth = 1; ///< requests in flight at most
  bool sqpoll = false;
  int sqpoll_cpu = -1;    ///< -1: any
  bool iopoll = false;    ///< polls the drives for completions
  bool no_iowait = false; ///< a wait for completions is no iowait of the CPU, if the kernel can
};

/// One io_uring. Made, used and destroyed by one thread: it asks the kernel for the single-issuer
/// mode where there is one. It must not move while in use, as the hot path holds its address.
class Ring {
public:
  Ring() = default;
  Ring(const Ring &) = delete;
  Ring &operator=(const Ring &) = delete;
  ~Ring() { close(); }

  /// Makes the ring. Kernels that do not know a set-up flag answer EINVAL; flags are then given up
  /// one step at a time, newest first.
  Result<void> open(const RingOptions &options);

  /// Destroys the ring and with it all that is registered in it.
  void close();

  bool is_open() const { return open_; }
  int fd() const { return ring_.ring_fd; }
  unsigned setup_flags() const { return ring_.flags; }

  /// A zeroed submission entry, or nullptr when the queue is full.
  io_uring_sqe *sqe() {
    io_uring_sqe *entry = io_uring_get_sqe(&ring_);
    if (entry) [[likely]]
      *entry = {};
    return entry;
  }

  /// Hands all prepared entries to the kernel, normally with one system call, which also runs the
  /// completions that are due. With sqpoll the kernel's thread takes them and is only woken if it
  /// sleeps. Waits, with a bound, while the kernel is short of memory, counting each time in
  /// `retries`. Returns 0 or a positive errno; some entries may then have been taken.
  [[gnu::always_inline]] int submit(uint64_t &retries) {
    const int rc = submit_once();
    if (rc > 0 && (io_uring_sq_ready(&ring_) == 0 || sqpoll())) [[likely]]
      return 0;
    return submit_rest(rc, retries);
  }

  /// Entries that were prepared and that the kernel has not taken, or with sqpoll not been told of.
  unsigned unsubmitted() const {
    if (!open_)
      return 0;
    return sqpoll() ? ring_.sq.sqe_tail - *ring_.sq.ktail : io_uring_sq_ready(&ring_);
  }

  /// Takes the last of these back, so that the kernel never gets it; returns its user data. There
  /// is one.
  uint64_t take_back();

  /// Runs due completions without waiting. Returns a negative errno on failure.
  int poll() { return io_uring_get_events(&ring_); }

  /// Waits until `count` completions can be read. Returns 0 or a negative errno, -EINTR included.
  int wait(unsigned count) {
    if (wait_flags_)
      return wait_by_flags(count);
    io_uring_cqe *cqe = nullptr;
    return io_uring_wait_cqe_nr(&ring_, &cqe, count);
  }

  /// Calls `handle(cqe)` for at most `max` completions, then frees their slots with one store.
  /// Returns how many there were.
  template <class Handler> unsigned reap(unsigned max, Handler &&handle) {
    io_uring_cq &cq = ring_.cq;
    const unsigned head = *cq.khead;
    const unsigned tail = std::atomic_ref<unsigned>(*cq.ktail).load(std::memory_order_acquire);
    const unsigned there = tail - head;
    const unsigned count = there < max ? there : max;
    const unsigned mask = *cq.kring_mask;
    for (unsigned i = 0; i < count; i++)
      handle(cq.cqes[(head + i) & mask]);
    if (count)
      std::atomic_ref<unsigned>(*cq.khead).store(head + count, std::memory_order_release);
    return count;
  }

  /// Submits one prepared entry and waits for its result; only while nothing else is in flight.
  /// Returns the result, or the negative errno of the submission. -EBUSY, and nothing is submitted,
  /// when there are other entries that nobody has submitted: they are not to go along.
  int run_one();

  /// Registers memory ranges as fixed buffers 0, 1, ….
  Result<void> register_buffers(std::span<const iovec> ranges);

  /// Makes a table of `slots` empty fixed-buffer slots.
  Result<void> reserve_buffers(unsigned slots);

  /// Drops the table of fixed buffers, if there is one. What it held must not be in use.
  void drop_buffers();

  /// Makes a table of `slots` empty fixed-file slots.
  Result<void> reserve_files(unsigned slots);

  /// Puts `fd` in fixed-file slot `slot`; -1 empties it.
  Result<void> set_file(unsigned slot, int fd);

private:
  bool sqpoll() const { return ring_.flags & IORING_SETUP_SQPOLL; }
  int submit_once() {
    return sqpoll() ? io_uring_submit(&ring_) : io_uring_submit_and_get_events(&ring_);
  }
  int submit_rest(int rc, uint64_t &retries);
  int wait_by_flags(unsigned count);

  io_uring ring_ = {};
  bool open_ = false;
  bool buffers_ = false;    ///< there is a table of fixed buffers
  unsigned wait_flags_ = 0; ///< of io_uring_enter(), where liburing's own would not do; else 0
};

/// Why the kernel gave no ring, as a sentence for the user. `disabled`: kernel.io_uring_disabled;
/// nothing on a kernel without it.
std::string ring_error_text(int code, std::optional<uint64_t> disabled);

/// Why `bytes` bytes could not be registered as fixed buffers, as a sentence for the user.
/// `limit`: RLIMIT_MEMLOCK in bytes.
std::string register_error_text(int code, uint64_t bytes, uint64_t limit);

} // namespace dmabuf
