// SPDX-License-Identifier: GPL-2.0-only
// Makes programs: new ones, and others out of those that were worth keeping.
#pragma once

#include "fds.hpp"
#include "program.hpp"
#include "random.hpp"

#include <optional>
#include <utility>

namespace vmtest::fuzz {

struct Taste {
  bool avoid_known = false; // leaves out what is known to go wrong and not yet mended
};

class Generator {
public:
  Generator(std::uint64_t seed, const Taste &taste) : random_(seed), taste_(taste) {}
  Program make();
  // `program` with a few changes; `other` is one whose calls may be taken over.
  Program mutate(const Program &program, const Program &other);
  Random &random() { return random_; }

private:
  Call call();
  std::uint64_t argument(const Arg &arg);
  std::uint64_t boundary();
  std::uint64_t boundary32(); // of 32 bits
  // Descriptors and slots.
  std::uint64_t fd(int first, int count);
  std::uint64_t any_fd();
  std::uint64_t in(const Pool &pool);
  std::uint64_t session();
  std::uint64_t target();
  std::uint64_t target_master();
  // What a structure's field, or an argument, is: each is named as its kind.
  std::uint64_t path();
  std::uint64_t directions(unsigned last);
  std::uint64_t zero();
  std::uint64_t buffer_offset();
  std::uint64_t file_offset();
  std::uint64_t length();
  std::uint64_t bytes();
  std::uint64_t entries();
  std::uint64_t timeout();
  std::uint64_t map_flags();
  std::uint64_t open_flags();
  std::uint64_t rwf_flags();
  std::uint64_t sqe_flags();
  std::uint64_t command_flags();
  std::uint64_t ring_flags();
  // What the program made last: the calls after it mostly mean that.
  struct Recent {
    std::optional<std::uint64_t> handle, ring, rw;
  };
  std::uint64_t recent(const std::optional<std::uint64_t> &last, std::uint64_t other);
  std::pair<std::optional<std::uint64_t> *, std::size_t> defines(std::uint8_t type);
  void remember(const Call &made);
  Recent recent_;
  Random random_;
  Taste taste_;
};

} // namespace vmtest::fuzz
