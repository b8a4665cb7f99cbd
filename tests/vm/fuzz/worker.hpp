// SPDX-License-Identifier: GPL-2.0-only
// Runs programs: one Worker a thread. The pools, rings and handles are the process's.
#pragma once

#include "memory.hpp"
#include "program.hpp"
#include "shared.hpp"

#include <cerrno>
#include <sys/types.h>

namespace vmtest::fuzz {

// The arguments of a call, one after the other.
class Args {
public:
  explicit Args(const Call &call) : call_(call) {}
  std::uint64_t next() { return call_.args[at_++]; }
  int fd() { return static_cast<int>(next()); }
  std::uint32_t word() { return static_cast<std::uint32_t>(next()); }
  // Starts again.
  void rewind() { at_ = 0; }

private:
  const Call &call_;
  std::size_t at_ = 0;
};

// The request is on a ring: its result comes later.
inline constexpr long pending = 1L << 40;
// Not done: another thread has the ring, or there is none.
inline constexpr long not_done = pending + 1;

class Worker {
public:
  Worker(Shared &shared, unsigned thread) : shared_(shared), state_(shared.threads[thread]) {}
  // All calls. The program's own copy is where the parent finds it when one hangs.
  void run(const Program &program);
  // The next calls of the program, within another call: at most `count`. For fork and thread.
  void run_next(std::uint64_t count, bool plain_only);
  // Which call of the program it is at.
  std::uint32_t position() const { return state_.at; }
  void set_position(std::uint32_t at) { state_.at = at; }
  // The result of a call or request: counts it. Negative: an errno.
  void tally(std::uint8_t type, long result);

  Arena &arena() { return arena_; }
  Shared &shared() { return shared_; }
  std::uint8_t type() const { return type_; }

private:
  void run_call(const Call &call);
  Shared &shared_;
  ThreadState &state_;
  Arena arena_;
  std::uint8_t type_ = 0;
};

struct Action {
  const char *name;
  long (*run)(Worker &worker, Args &args);
};

std::span<const Action> ioctl_actions();
std::span<const Action> ring_actions();
std::span<const Action> file_actions();
std::span<const Action> memory_actions();
std::span<const Action> object_actions();
std::span<const Action> process_actions();

// Ends the program with exit_setup when a type has no action.
void prepare_actions();

inline long outcome(long result) { return result < 0 ? -errno : result; }
template <typename Structure> Structure &at(const Piece &piece) {
  return *reinterpret_cast<Structure *>(piece.own);
}

// Handles that MAP gave, with their session's fd and the size of the dma-buf.
struct HandleSlot {
  std::uint32_t handle;
  int session;
  std::uint64_t bytes;
};
HandleSlot handle_at(std::uint64_t slot);
// The handle that a call names: OfSession, Handle and Bend.
HandleSlot handle_of(Args &args);

// Bytes of the dma-buf or rw fd in this slot.
std::uint64_t object_bytes(int fd);
void set_object_bytes(int fd, std::uint64_t bytes);

// Leaves out what is known to go wrong: REGISTER and UNREGISTER with the flag MULTISHOT, which are
// lost for ever; EINTR of an exporter without a signal, which becomes an errno without a name.
void set_avoid_known(bool avoid);
bool avoids_known();

// Signals: what a touch of a mapping may bring.
void catch_faults();

} // namespace vmtest::fuzz
