// SPDX-License-Identifier: GPL-2.0-only
// What the watching parent and the fuzzing process share: memory that outlives the latter.
#pragma once

#include "program.hpp"

#include <atomic>
#include <cstdint>

namespace vmtest::fuzz {

inline constexpr unsigned max_threads = 16, max_types = 128, max_errno = 160;
inline constexpr std::size_t max_corpus = 1024, max_pcs = 1u << 15;

// How one type of call ended, on one thread.
struct Tally {
  std::uint64_t started, succeeded;
  double seconds;                  // with the calls inside it
  std::uint64_t errors[max_errno]; // the last one: any other number
};

struct ThreadState {
  std::atomic<std::uint64_t> calls; // begun
  std::atomic<std::uint64_t> programs;
  std::atomic<std::uint32_t> at; // which call of `running`
  std::atomic<int> tid;
  Program running;
  Tally tallies[max_types];
};

struct Kept {
  std::atomic<bool> ready;
  std::uint32_t new_pcs;
  Program program;
};

struct Shared {
  std::atomic<bool> stop;
  std::atomic<std::uint64_t> kernel_addresses; // found in answers
  std::atomic<std::uint32_t> kept_count;       // may pass max_corpus; see kept()
  std::atomic<std::uint32_t> pcs_count;
  std::atomic<std::uint64_t> pcs[max_pcs]; // a hash table
  ThreadState threads[max_threads];
  Kept corpus[max_corpus];

  std::uint32_t kept() const {
    const std::uint32_t count = kept_count;
    return count < max_corpus ? count : static_cast<std::uint32_t>(max_corpus);
  }
  void keep(const Program &program, std::uint32_t new_pcs) {
    const std::uint32_t slot = kept_count++;
    if (slot >= max_corpus)
      return;
    corpus[slot].program = program;
    corpus[slot].new_pcs = new_pcs;
    corpus[slot].ready = true;
  }
};

} // namespace vmtest::fuzz
