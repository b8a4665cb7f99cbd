// SPDX-License-Identifier: GPL-2.0-only
// The parts of the rwfile test: a dma-buf as a file, and RW.
#pragma once

#include "lib/testexp.hpp"

#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <fcntl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

namespace vmtest {

struct RwOptions {
  std::string nvme = "/dev/nvme0n1";
  double seconds = 2; // of each load
  int kills = 6;
  std::uint64_t seed = 1;
};

using Bytes = std::vector<std::byte>;

// Whether what took so long waited for `seconds`. The kernel's timers count ticks, which on a busy
// machine come late and then together, so a little less will do; not waiting takes next to nothing.
constexpr bool waited(double took, double seconds) { return took >= seconds * 0.75; }

// What OPEN said.
struct Opened {
  int error = 0; // negative errno
  dmabuf_rw_open answer{};
  UniqueFd fd;
};
Opened open_rw(const Session &session, int dmabuf_fd, int flags = O_RDWR);
// The same when it must succeed: ends the program with exit_setup otherwise.
UniqueFd must_open_rw(const Session &session, int dmabuf_fd, int flags = O_RDWR);
// A session with this time-out in milliseconds.
Session session_with_timeout(std::uint32_t timeout_ms);
// RW, with the errno as Session's calls return it.
int rw(const Session &session, dmabuf_rw_io &io);
dmabuf_rw_io rw_io(std::uint32_t handle, Direction direction, std::uint64_t buffer_offset,
                   std::uint64_t length, std::uint64_t file_offset);

// One check: `got` (a count or a negative errno) must be `wanted`.
bool expect_result(const std::string &name, long got, long wanted);
// -errno when a call returned -1.
long outcome(long result);
// Two ranges byte for byte: "" or where they differ.
std::string differ(std::span<const std::byte> found, std::span<const std::byte> wanted);
// Data that does not repeat every 2^n bytes, so that a misplaced piece is seen.
void fill_random(std::span<std::byte> bytes, std::uint64_t seed);
// Runs `body` in a child process, which passes when it returns 0.
void in_child(const std::string &name, const std::function<int()> &body);
// Waits up to `seconds` for a child to end; its wait status, or -1.
int wait_child(int pid, double seconds);
// Gives up root for good.
void become_nobody();
// A dma-buf of the exporter or exit_setup.
DmaBuf must_make(Exporter exporter, std::size_t bytes, Access access = Access::ReadWrite);
// A buffer of the test exporter with a CPU view.
TestBuffer cpu_buffer(const Testexp &testexp, std::uint64_t bytes, std::uint32_t flags = 0);
bool older_kernel(); // one without registered buffers: 6.12

// Every call that reads or writes, on every exporter, byte for byte.
void test_calls(const RwOptions &options);
void test_io_memory(const RwOptions &options); // the same by way of an I/O view
// What a hostile or careless program can ask for.
void test_arguments(const RwOptions &options);
void test_modes(const RwOptions &options); // permissions, mmap, /proc
void test_offsets(const RwOptions &options);
void test_faults(const RwOptions &options);
void test_limits(const RwOptions &options);
// Fences, time-outs, polling, revocation.
void test_fences(const RwOptions &options);
void test_polling(const RwOptions &options);
void test_revocation(const RwOptions &options);
// Several processes, lifetime, throughput.
void test_sharing(const RwOptions &options);
void test_lifetime(const RwOptions &options);
void test_throughput(const RwOptions &options);
// The RW ioctl.
void test_rw(const RwOptions &options);
void test_rw_waits(const RwOptions &options); // fences, moves, kills

} // namespace vmtest
