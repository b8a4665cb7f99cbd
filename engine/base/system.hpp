// SPDX-License-Identifier: GPL-2.0-only
// What the machine says of itself: its page size, its memory to spare, numbers in small files.
#pragma once

#include "base/error.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace dmabuf {

/// What makes a job's I/O memory smaller, and what a file under test; for messages.
inline constexpr const char *kShrinkIo = "lower iodepth or bs";
inline constexpr const char *kShrinkFile = "lower size";

/// System page size in bytes.
uint64_t page_bytes();

/// Why a machine with `available_kib` KiB of memory to spare cannot hold `bytes` bytes: the
/// sentence for the user; nothing if it can.
std::optional<std::string> over_memory(uint64_t bytes, uint64_t available_kib,
                                       const char *shrink = kShrinkIo);

/// Refuses a buffer of `bytes` bytes that is larger than the memory to spare (MemAvailable). Allows
/// it where that is not known.
Result<void> check_memory(uint64_t bytes, const char *shrink = kShrinkIo);

/// An unsigned number read from a small file such as a module parameter; nothing if that fails.
std::optional<uint64_t> read_number(const char *path);

} // namespace dmabuf
