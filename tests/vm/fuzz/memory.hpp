// SPDX-License-Identifier: GPL-2.0-only
// The user memory that calls are given: good, and bad in many ways. One arena a thread.
#pragma once

#include "fds.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vmtest::fuzz {

inline constexpr unsigned ring_slots = 6, buffer_slots = 8, handle_slots = 32, testexp_ids = 10;

// Where mmap of a dma-buf or rw fd goes: places of this size, from a fixed address on.
inline constexpr unsigned places = 8;
inline constexpr std::size_t place_bytes = 4u << 20;
void reserve_places();
char *place(std::uint64_t number);
// Makes the place empty: any access faults.
bool empty_place(std::uint64_t number);

// What a Kind::Memory argument says.
enum class Memory : std::uint64_t {
  Good,
  ReadOnly,     // the kernel can read it, not write
  EndsReadOnly, // its second half is so
  EndsNowhere,  // its first half is read-only, its second not there
  Nowhere,
  Null,
  Kernel,
  NonCanonical,
  Odd,        // good, at an odd address
  FirstPlace, // a place for mappings, and so on
};
inline constexpr std::uint64_t memory_kinds =
    static_cast<std::uint64_t>(Memory::FirstPlace) + places;

// Memory for an argument: write it at `own`, pass `given`.
struct Piece {
  char *own;
  std::uint64_t given;
};

class Arena {
public:
  // Ends the program with exit_setup when there is no memory.
  Arena();
  Arena(const Arena &) = delete;
  Arena &operator=(const Arena &) = delete;
  // For the structure of an ioctl, for an array, for data.
  Piece structure(std::uint64_t kind, std::size_t bytes) { return piece(kind, bytes, 0); }
  Piece array(std::uint64_t kind, std::size_t bytes) { return piece(kind, bytes, 4 * page); }
  Piece data(std::uint64_t kind, std::size_t bytes) { return piece(kind, bytes, 32 * page); }

private:
  static constexpr std::size_t page = 4096, read_only = 56 * page, nowhere = 60 * page,
                               all = 64 * page;
  Piece piece(std::uint64_t kind, std::size_t bytes, std::size_t at) const;
  char *own_ = nullptr, *view_ = nullptr; // the same pages; the view is what calls get
};

} // namespace vmtest::fuzz
