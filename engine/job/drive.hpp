// SPDX-License-Identifier: GPL-2.0-only
// What an NVMe drive says of itself.
#pragma once

#include <cstdint>

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

} // namespace dmabuf
