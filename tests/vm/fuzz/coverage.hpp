// SPDX-License-Identifier: GPL-2.0-only
// Which code of the modules a program reached, on a kernel with KCOV.
#pragma once

#include "shared.hpp"

#include <cstdint>

namespace vmtest::fuzz {

inline constexpr int coverage_fds = 380; // one for each thread, from here on

// Opens what the threads use; as root. False: this kernel has none, or does not show it.
bool open_coverage(unsigned threads);

// Of the calling thread.
class Coverage {
public:
  // Nothing when `on` is false.
  Coverage(bool on, unsigned thread);
  Coverage(const Coverage &) = delete;
  Coverage &operator=(const Coverage &) = delete;
  void begin();
  // How many places were reached for the first time by anybody.
  std::uint32_t end(Shared &shared);

private:
  std::uint64_t *reached_ = nullptr;
};

} // namespace vmtest::fuzz
