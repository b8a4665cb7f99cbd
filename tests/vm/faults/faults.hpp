// SPDX-License-Identifier: GPL-2.0-only
// Refuses the allocations of a call one after the other. Part of the program faults (main.cpp).
#pragma once

#include "lib/exporter.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace vmtest {

inline constexpr std::size_t buffer_bytes = 64 << 10;

// A file of the kernel's fault injection, below its debugfs.
void setting(const std::string &file, const char *value);

// Addresses of a kernel function, as "0x…" up to the next one. Where there is only gcc's variant of
// it (.isra.0), of that.
std::pair<std::string, std::string> range_of(const std::string &function,
                                             const std::string &module = "");

// This thread's countdown: the n-th allocation from now fails.
class Countdown {
public:
  Countdown();
  void start(unsigned n);
  // Ends it; whether an allocation was refused.
  bool stop();

private:
  UniqueFd fd_;
};

// What one call did: a result as the kernel gave it, and whether that may be.
struct Result {
  long value;   // 0 or more, or a negative errno
  bool allowed; // with a refused allocation; success always is
};

class Faults {
public:
  // `call` does it once and undoes it: called with allocations failing up to the end of what it
  // passes to `watched`.
  using Watched = std::function<void(const std::function<void()> &)>;
  // `least`: so many allocations it has at least; 0 for what needs no memory.
  void every(const std::string &name, const std::function<Result(const Watched &)> &call,
             unsigned least = 1);

private:
  Countdown countdown_;
};

struct Memory {
  std::string name;
  int fd;
};

// What makes something: a session, a mapping, a slot of a ring's table, an rw fd.
void sessions(Faults &faults);
void maps(Faults &faults, const Memory &memory, int target, Path path);
// MAP where the attachment is there already, and UNMAP that leaves it.
void maps_again(Faults &faults, const Memory &memory, int target);
void registrations(Faults &faults, const Memory &memory, int target, bool window);
// OPEN, and a read of what it made.
void opens(Faults &faults, const Memory &memory);

// I/O. READ by a command, or by several of `hint` bytes: moves all, or says that it could not.
void transfers(Faults &faults, const DmaBuf &buffer, DiskRegion &region, int target, Path path,
               std::uint32_t hint = 0);
// The ioctl IO in both directions, of one command and of several.
void waited(Faults &faults, const DmaBuf &buffer, DiskRegion &region, int target, Path path,
            std::uint32_t hint);
// A READ that the drive refuses once.
void sent_again();
// RW after the memory was moved.
void remaps(Faults &faults, const TestBuffer &buffer, DiskRegion &region, int target);

// Completions that the block layer loses.
void timeouts();

} // namespace vmtest
