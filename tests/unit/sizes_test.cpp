// SPDX-License-Identifier: GPL-2.0-only
#include "base/sizes.hpp"

#include <gtest/gtest.h>
#include <vector>

namespace dmabuf {
namespace {

TEST(Sizes, RoundsUpToTheUnit) {
  EXPECT_EQ(round_up(0, 4096), 0U);
  EXPECT_EQ(round_up(1, 4096), 4096U);
  EXPECT_EQ(round_up(4096, 4096), 4096U);
  EXPECT_EQ(round_up(4097, 4096), 8192U);
  EXPECT_EQ(round_up(3 << 20, 2 << 20), 4U << 20);
}

TEST(Sizes, RoundingUpNeverOverflows) {
  EXPECT_EQ(round_up(UINT64_MAX, 4096), std::nullopt);
  EXPECT_EQ(round_up(UINT64_MAX - 4094, 4096), std::nullopt);
  EXPECT_EQ(round_up(UINT64_MAX - 4095, 4096), UINT64_MAX - 4095);
}

TEST(Sizes, RingEntriesArePowersOfTwoWithinTheLimit) {
  EXPECT_EQ(ring_entries(0), 1U);
  EXPECT_EQ(ring_entries(1), 1U);
  EXPECT_EQ(ring_entries(3), 4U);
  EXPECT_EQ(ring_entries(128), 128U);
  EXPECT_EQ(ring_entries(20000), 32768U);
  EXPECT_EQ(ring_entries(32768), 32768U);
  EXPECT_EQ(ring_entries(32769), std::nullopt);
}

TEST(Sizes, OffsetComesFromTheAddress) {
  std::vector<std::byte> memory(1 << 16);
  EXPECT_EQ(buffer_offset(memory.data(), memory.data()), 0U);
  EXPECT_EQ(buffer_offset(memory.data(), memory.data() + 512), 512U);
  // Slot 3 of 8 KiB slots, shifted by iomem_align=512, a requeue 1536 bytes in.
  EXPECT_EQ(buffer_offset(memory.data(), memory.data() + 512 + 3 * 8192 + 1536), 26624U);
}

TEST(Sizes, MebibytesRoundUp) {
  EXPECT_EQ(mib_up(0), 0U);
  EXPECT_EQ(mib_up(1), 1U);
  EXPECT_EQ(mib_up(kMiB), 1U);
  EXPECT_EQ(mib_up(kMiB + 1), 2U);
  EXPECT_EQ(mib_up(UINT64_MAX), (UINT64_MAX >> 20) + 1);
}

} // namespace
} // namespace dmabuf
