// SPDX-License-Identifier: GPL-2.0-only
// What the fuzzer runs: short programs of calls. A call is its type and a number for each argument;
// what a number means is said by the argument's kind, so that a program is the same in every run.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmtest::fuzz {

inline constexpr std::size_t max_args = 16, max_calls = 32;

struct Call {
  std::uint8_t type = 0;
  std::array<std::uint64_t, max_args> args{};
};

struct Program {
  std::uint32_t thread = 0; // which of the threads ran it
  std::uint32_t count = 0;
  std::array<Call, max_calls> calls{};

  std::span<const Call> used() const { return {calls.data(), count}; }
};

enum class Kind : std::uint8_t {
  Session,      // an fd of the pool, seldom another one
  DmaBuf,       // the same
  Target,       // the same
  Object,       // a slot of the rw fds' pool or the dma-bufs'
  RwSlot,       // an fd of the pool, always
  DmaBufSlot,   // the same
  TargetSlot,   // the same
  SessionSlot,  // the same
  TargetMaster, // what a target's slot is filled from
  Pipe,         // number of a pipe
  Ring,         // number of a ring
  Place,        // number of a place in the address space for a mapping
  Handle,       // slot of the table of handles
  OfSession,    // 0: the session of the handle; else an fd
  Bend,         // 0: the handle as it is; else how it is made wrong
  Path,         // DMABUF_RW_PATH_*
  Directions,   // DMABUF_RW_DIR_*, a mask
  Direction,    // one of them
  Zero,         // must be zero
  Memory,       // what kind of user memory: see memory.hpp
  BufferOffset, // into a dma-buf
  FileOffset,   // into a target
  Length,       // of an I/O
  Bytes,        // of a read or write of an rw fd; any length
  Position,     // in an rw fd
  Entries,      // of an array
  Timeout,      // CONFIG.timeout_ms
  MapFlags,     // of an entry of MAP
  OpenFlags,    // of OPEN
  RwfFlags,     // of preadv2
  SqeFlags,     // IOSQE_*
  CommandFlags, // of a uring_cmd
  RingFlags,    // IORING_SETUP_*
  Submit,       // see ring_calls.cpp
  Index,        // slot of a ring's table of buffers
  Choice,       // 0 … limit - 1
  Id,           // number of a buffer of the test exporter
};

struct Arg {
  const char *name;
  Kind kind;
  std::uint64_t limit = 0;
};

// Must: has to succeed some time, else the fuzzer tests nothing. Never: the module promises so.
enum class Success : std::uint8_t { Must, May, Never };

struct Type {
  const char *name;
  unsigned weight; // how often it is taken
  Success success;
  std::span<const Arg> args;
};

// All types; a Call's type is an index.
std::span<const Type> types();
std::uint8_t type_by_name(std::string_view name);
// Whether this kernel has what the type needs to succeed; `features` are those of QUERY.
bool possible(const Type &type, std::uint64_t features);

// Offsets and lengths relative to the size of what they are of.
constexpr std::uint64_t size_mark = 0x5A00'0000'0000'0000, size_mark_mask = 0xFFFF'FFFF'FFFF'0000;
constexpr std::uint64_t of_size(int delta) {
  return size_mark | static_cast<std::uint16_t>(delta + 0x8000);
}
constexpr std::uint64_t resolve(std::uint64_t value, std::uint64_t size) {
  if ((value & size_mark_mask) != size_mark)
    return value;
  return size + (value & 0xFFFF) - 0x8000;
}

// One line for each call, and a line "program" before them.
std::string to_text(const Program &program);
std::expected<std::vector<Program>, std::string> from_text(std::string_view text);
// All files of a folder, or one file.
std::expected<std::vector<Program>, std::string> read_programs(const std::string &path);

} // namespace vmtest::fuzz
