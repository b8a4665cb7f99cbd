// SPDX-License-Identifier: GPL-2.0-only
// What a drive says of itself.
#pragma once

#include "base/error.hpp"
#include "job/config.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <sys/types.h>

namespace dmabuf {

/// Bytes one command may move by the drive's MDTS, taken in units of 4 KiB, the smallest there are;
/// a multiple of 4096. MDTS 0 is no limit.
constexpr uint32_t longest_command_of(uint8_t mdts) {
  constexpr uint32_t kUnit = 4096;
  constexpr uint8_t kMost = 19; // 2 GiB; the command itself counts no further than 65536 blocks
  return kUnit << (mdts && mdts < kMost ? mdts : kMost);
}

/// The same for the drive behind an open block device, asked with Identify Controller; 0 when it is
/// no NVMe drive or does not say. Behind an IOMMU the block layer names a lower limit than this.
uint32_t longest_command(int fd);

/// What the block device `device` says of itself in `sysfs` ("/sys"): whether it has polled queues.
/// A partition is asked through its disk. Nothing if it does not say.
std::optional<bool> has_polled_queues(const std::string &sysfs, dev_t device);

/// Refuses a block device, or a file on one, that has no polled queues: its I/O would be waited for
/// by interrupts, even on a ring that was asked to poll.
Result<void> check_polled(int fd, const std::string &name);

/// Refuses a file, open for reading, whose reads and writes cannot leave the page cache again
/// (RWF_DONTCACHE): its kernel or its file system does not have that. Reads one byte.
Result<void> check_uncached(int fd, const std::string &name);

/// Refuses a block device, open with O_DIRECT, some of whose transfers would be no whole logical
/// blocks: each of them would fail.
Result<void> check_steps(int fd, const std::string &name, std::span<const Step> steps);

/// Refuses a target that does not write `bytes` bytes at once, wholly or not at all.
Result<void> check_atomic(int fd, const std::string &name, uint64_t bytes);

} // namespace dmabuf
