// SPDX-License-Identifier: GPL-2.0-only
// Where the fuzzer's files are. Every pool has numbers of its own, and a slot of it holds a file of
// that kind or nothing: a call that another thread's close() overtakes hits nothing else.
#pragma once

#include <cstdint>

namespace vmtest::fuzz {

struct Pool {
  int first, count;
  bool has(std::uint64_t fd) const {
    return fd >= static_cast<std::uint64_t>(first) &&
           fd < static_cast<std::uint64_t>(first + count);
  }
};

inline constexpr Pool sessions{100, 8};
inline constexpr Pool dmabufs{120, 24};
inline constexpr Pool targets{150, 24};
inline constexpr Pool rw_files{180, 16};
inline constexpr Pool pipes{200, 8}; // a reading end, then its writing end

// What a slot is filled from; never closed.
inline constexpr int dmabuf_masters = 300, target_masters = 330, rw_masters = 360;
inline constexpr int rw_master_count = 2;
inline constexpr int heap_device = 370, udmabuf_device = 371, testexp_device = 372, sink_file = 373;
inline constexpr int epoll_file = 374;
// Bytes of the partitions that may be written.
inline constexpr std::uint64_t partition_bytes = 32u << 20;
// Nothing is ever open there.
inline constexpr int closed_fd = 399;

// A CPU access that nobody shares. udmabuf maps its memory with the first one, without a lock: two
// first ones at a time leak a mapping.
void access_first(int dmabuf);

} // namespace vmtest::fuzz
