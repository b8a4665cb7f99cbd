// SPDX-License-Identifier: GPL-2.0-only
// Arithmetic on sizes and offsets, in one tested place.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>

namespace dmabuf {

inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;

/// Most bytes one io_uring request can ask for: its length field has 32 bits and the kernel stops
/// a read or write at 2 GiB less one page of its own.
constexpr uint64_t max_request(uint64_t page) { return (uint64_t{1} << 31) - page; }

/// Entries io_uring allows in a submission queue.
inline constexpr unsigned kMaxRingEntries = 32768;

/// Slots io_uring allows in a registered-buffer table.
inline constexpr unsigned kMaxFixedBuffers = 16384;

/// `bytes` rounded up to a multiple of `unit` (a power of two); nothing if that overflows.
constexpr std::optional<uint64_t> round_up(uint64_t bytes, uint64_t unit) {
  if (bytes > std::numeric_limits<uint64_t>::max() - (unit - 1))
    return std::nullopt;
  return (bytes + unit - 1) & ~(unit - 1);
}

/// Ring entries for a queue depth: the next power of two, at least 1; nothing above io_uring's
/// limit.
constexpr std::optional<unsigned> ring_entries(unsigned depth) {
  if (depth > kMaxRingEntries)
    return std::nullopt;
  return std::bit_ceil(depth ? depth : 1U);
}

/// Byte offset of `buffer` in the dma-buf whose CPU view starts at `base`. fio's I/O buffers do not
/// start at their index times their size (iomem_align shifts them, a requeued I/O starts in the
/// middle), so the offset always comes from the address.
inline uint64_t buffer_offset(const void *base, const void *buffer) {
  return static_cast<uint64_t>(static_cast<const std::byte *>(buffer) -
                               static_cast<const std::byte *>(base));
}

/// Whole MiB that hold `bytes`.
constexpr uint64_t mib_up(uint64_t bytes) { return bytes / kMiB + (bytes % kMiB != 0); }

} // namespace dmabuf
