// SPDX-License-Identifier: GPL-2.0-only
// What the program was told, and its two processes.
#pragma once

#include "generate.hpp"
#include "shared.hpp"
#include "world.hpp"

#include <string>
#include <vector>

namespace vmtest::fuzz {

struct Options {
  std::uint64_t seed = 1;
  std::uint64_t calls = 0;            // 0: as many as fit into the time
  std::uint64_t epoch_calls = 100000; // then the process is killed in the middle of everything
  double seconds = 0;                 // 0: until the calls are done
  double hang_seconds = 60;
  std::string
      provoke; // "disk", "buffer", "hang" or "linger": what goes wrong on purpose, after some calls
  unsigned threads = 4;
  bool coverage = true;
  Taste taste;
  std::vector<Program> corpus;
  std::vector<Program> replay; // instead of anything random
  int trace = -1;              // file that gets every program before it runs
};

// One life of the unprivileged process: ends by exit status 0, or by SIGKILL when its calls are
// done. `calls`: of each thread.
[[noreturn]] void fuzz_process(const Options &options, Shared &shared, unsigned epoch,
                               std::uint64_t calls, bool coverage);

// Starts and watches one life after the other.
void fuzz(const Options &options, Shared &shared, World &world, bool coverage);

// What was exercised, as a table; checks that nothing was allowed that must not be and, but for a
// replay, that nothing was left out.
void summarize(const Options &options, const Shared &shared, double seconds,
               std::uint64_t features);
// Whether every type has succeeded that has to.
bool all_succeeded(const Shared &shared, std::uint64_t features);
std::uint64_t total_calls(const Shared &shared);

} // namespace vmtest::fuzz
