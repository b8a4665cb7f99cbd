// SPDX-License-Identifier: GPL-2.0-only
#include "job/drive.hpp"

#include "fake_sysfs.hpp"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace dmabuf {
namespace {

class PollingTest : public FakeSysfs {
protected:
  void polls(const char *text) const { say("disk/queue/io_poll", text); }
};

TEST_F(PollingTest, DisksAndPartitionsSayWhetherTheyCanBePolled) {
  for (const unsigned minor : {0U, 1U}) {
    polls("0\n");
    EXPECT_EQ(has_polled_queues(sysfs, makedev(259, minor)), false) << minor;
    polls("1\n");
    EXPECT_EQ(has_polled_queues(sysfs, makedev(259, minor)), true) << minor;
  }
}

TEST_F(PollingTest, WhatSaysNothingIsNotKnown) {
  EXPECT_EQ(has_polled_queues(sysfs, makedev(259, 0)), std::nullopt);
  EXPECT_EQ(has_polled_queues(sysfs, makedev(8, 0)), std::nullopt);
}

TEST(Polling, AFileOnNoDiskIsLeftToTheKernel) {
  const int fd = open("/dev/shm", O_RDONLY);
  if (fd < 0)
    GTEST_SKIP() << "no /dev/shm here";
  EXPECT_TRUE(check_polled(fd, "/dev/shm"));
  close(fd);
  EXPECT_FALSE(check_polled(-1, "nothing"));
}

} // namespace
} // namespace dmabuf
