// SPDX-License-Identifier: GPL-2.0-only
#include "memory.hpp"

#include "lib/report.hpp"
#include "lib/unique_fd.hpp"

#include <algorithm>
#include <sys/mman.h>

namespace vmtest::fuzz {

namespace {

// Below everything that the kernel places itself.
constexpr std::uint64_t places_begin = 0x20'0000'0000;

} // namespace

char *place(std::uint64_t number) {
  return reinterpret_cast<char *>(places_begin + (number % places) * place_bytes);
}

bool empty_place(std::uint64_t number) {
  return ::mmap(place(number), place_bytes, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

void reserve_places() {
  for (unsigned i = 0; i < places; ++i)
    if (!empty_place(i))
      die("mmap of the places for mappings");
}

Arena::Arena() {
  UniqueFd memfd(::memfd_create("arena", MFD_CLOEXEC));
  if (!memfd || ::ftruncate(memfd.get(), all) != 0)
    die("memfd of an arena");
  const auto map = [&](void *where, int protection, int flags) {
    void *mapped = ::mmap(where, all, protection, MAP_SHARED | flags, memfd.get(), 0);
    if (mapped == MAP_FAILED)
      die("mmap of an arena");
    return static_cast<char *>(mapped);
  };
  own_ = map(nullptr, PROT_READ | PROT_WRITE, 0);
  view_ = map(nullptr, PROT_READ | PROT_WRITE, 0);
  if (::mprotect(view_ + read_only, nowhere - read_only, PROT_READ) != 0 ||
      ::mprotect(view_ + nowhere, all - nowhere, PROT_NONE) != 0)
    die("mprotect of an arena");
}

Piece Arena::piece(std::uint64_t kind, std::size_t bytes, std::size_t at) const {
  const auto here = [&](std::size_t offset) {
    return Piece{own_ + offset, reinterpret_cast<std::uintptr_t>(view_ + offset)};
  };
  // What does not begin in the arena is written where it does no harm.
  const auto elsewhere = [&](std::uint64_t address) { return Piece{own_ + at, address}; };
  const std::size_t half = std::min<std::size_t>(bytes, 2 * page) / 2;
  switch (static_cast<Memory>(kind)) {
  case Memory::Good:
    return here(at);
  case Memory::ReadOnly:
    return here(bytes <= nowhere - read_only ? read_only : at);
  case Memory::EndsReadOnly:
    return here(read_only - half);
  case Memory::EndsNowhere:
    return here(nowhere - half);
  case Memory::Nowhere:
    return elsewhere(reinterpret_cast<std::uintptr_t>(view_ + nowhere));
  case Memory::Null:
    return elsewhere(0);
  case Memory::Kernel:
    return elsewhere(0xFFFF'8880'0000'1000);
  case Memory::NonCanonical:
    return elsewhere(0x8000'0000'0000'0000);
  case Memory::Odd:
    return here(at + 1);
  default:
    return elsewhere(reinterpret_cast<std::uintptr_t>(
        place(kind - static_cast<std::uint64_t>(Memory::FirstPlace))));
  }
}

} // namespace vmtest::fuzz
