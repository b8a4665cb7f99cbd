// SPDX-License-Identifier: GPL-2.0-only
// What the tests of READV and WRITEV share: buffers, mappings, and ranges with their results.
#pragma once

#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <optional>
#include <random>
#include <string>
#include <vector>

namespace vmtest {

inline constexpr const char *drive = "/dev/nvme0n1";
inline constexpr std::uint64_t disk_base = 64u << 20;
inline constexpr std::size_t bytes = 2u << 20; // of the buffer, and of the part of the drive
inline constexpr std::uint32_t page = 4096, hint = 16 << 10;

using Ranges = std::vector<dmabuf_rw_range>;

std::uint32_t operation(Direction direction);

int move(Ring &ring, const Session &session, Direction direction, std::uint32_t handle,
         dmabuf_rw_range *ranges, std::uint32_t count, unsigned sqe_flags = 0,
         std::uint64_t file_offset = 0, std::uint32_t flags = 0);
int move(Ring &ring, const Session &session, Direction direction, std::uint32_t handle,
         Ranges &ranges, unsigned sqe_flags = 0);

DmaBuf make_buffer(std::size_t size = bytes);

// Ranges that share no byte of buffer or drive: the pages of each dealt out anew.
Ranges deal(std::mt19937_64 &random, std::size_t count);

// A page each, side by side.
Ranges few(std::size_t count);

// What the first range that did not move says; "" if all did.
std::string results(const Ranges &ranges);

bool all_moved(const std::string &name, int got, const Ranges &ranges);

void expect(const std::string &name, int got, int want);

// A mapping of a buffer for the drive.
struct Mapped {
  explicit Mapped(Path path, int dmabuf_fd, std::uint32_t command = 0)
      : target(open_target(drive)), plain(open_target(drive)) {
    entry = map_entry(dmabuf_fd, target.get(), path);
    entry.max_command_hint = path == Path::Premapped ? command : 0;
    if (const int error = session.map_one(entry))
      die(std::format("MAP: {} {}", errno_name(error), reason_name(entry.reason)));
  }
  dmabuf_rw_info info() const {
    dmabuf_rw_info found{};
    session.info(entry.handle, found);
    return found;
  }
  UniqueFd target, plain;
  Session session;
  Ring ring{64};
  dmabuf_rw_map_entry entry{};
};

// Queues a command of ranges; Ring::submit() sends it.
void queue(Mapped &mapped, Direction direction, Ranges &ranges, std::uint64_t user_data);

// Every byte in and beside each range.
void test_bytes(Path path);

// Bad ones among good ones: the good ones move, the bad ones say why, and nothing else happens.
void test_bad_among_good(Path path);

// Arrays that the kernel cannot read or write, and commands that are refused as a whole.
void test_hostile_arrays();

// Another thread turns ranges into ones past the buffer and back while they are read: what goes by
// is one or the other, as a whole.
void test_changing(double seconds);

// Fences are waited for, together, and given up.
void test_fences(const Testexp &testexp);

// The exporter moves its memory all the time: bytes are right, and none lands where it was.
void test_moves(const Testexp &testexp);

// Of a process that is killed, and of a session and a ring that are closed, with ranges under way:
// nothing keeps the buffer.
void test_death();

} // namespace vmtest
