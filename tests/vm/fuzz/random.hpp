// SPDX-License-Identifier: GPL-2.0-only
// Random numbers that are the same on every machine for the same seed.
#pragma once

#include <cstdint>
#include <span>

namespace vmtest::fuzz {

class Random {
public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  // splitmix64
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // 0 … limit - 1
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }
  // Happens `times` times in `of`.
  bool chance(unsigned times, unsigned of) { return below(of) < times; }
  template <typename Value> Value one_of(std::span<const Value> values) {
    return values[below(values.size())];
  }

private:
  std::uint64_t state_;
};

} // namespace vmtest::fuzz
