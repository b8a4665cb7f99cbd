// SPDX-License-Identifier: GPL-2.0-only
#include "job/drive.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace dmabuf {
namespace {

TEST(Drive, MdtsIsAPowerOfTwoOfPages) {
  EXPECT_EQ(longest_command_of(1), 8192U);
  EXPECT_EQ(longest_command_of(5), 128U << 10);
  EXPECT_EQ(longest_command_of(9), 2U << 20);
}

TEST(Drive, NoMdtsIsNoLimitAndNothingOverflows) {
  EXPECT_GE(longest_command_of(0), 1U << 30);
  for (unsigned mdts = 0; mdts < 256; mdts++) {
    EXPECT_NE(longest_command_of(static_cast<uint8_t>(mdts)), 0U) << mdts;
    EXPECT_EQ(longest_command_of(static_cast<uint8_t>(mdts)) % 4096, 0U) << mdts;
  }
}

TEST(Drive, WhatIsNoNvmeDriveSaysNothing) {
  EXPECT_EQ(longest_command(-1), 0U);
  const int null = open("/dev/null", O_RDONLY);
  EXPECT_EQ(longest_command(null), 0U);
  close(null);
  const int file = open("/proc/self/exe", O_RDONLY);
  EXPECT_EQ(longest_command(file), 0U);
  close(file);
}

} // namespace
} // namespace dmabuf
