// SPDX-License-Identifier: GPL-2.0-only
#include "job/drive.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace dmabuf {
namespace {

namespace fs = std::filesystem;

/// A sysfs with one disk, 259:0, and its partition, 259:1.
class PollingTest : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/libdmabuf-sys-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    sysfs = name;
    fs::create_directories(fs::path(sysfs) / "devices/nvme0n1/nvme0n1p1");
    fs::create_directories(fs::path(sysfs) / "devices/nvme0n1/queue");
    fs::create_directories(fs::path(sysfs) / "dev/block");
    fs::create_symlink("../../devices/nvme0n1", fs::path(sysfs) / "dev/block/259:0");
    fs::create_symlink("../../devices/nvme0n1/nvme0n1p1", fs::path(sysfs) / "dev/block/259:1");
  }
  void TearDown() override { fs::remove_all(sysfs); }
  void say(const char *text) {
    std::ofstream(fs::path(sysfs) / "devices/nvme0n1/queue/io_poll") << text;
  }
  std::string sysfs;
};

TEST_F(PollingTest, DisksAndPartitionsSayWhetherTheyCanBePolled) {
  for (const unsigned minor : {0U, 1U}) {
    say("0\n");
    EXPECT_EQ(has_polled_queues(sysfs, makedev(259, minor)), false) << minor;
    say("1\n");
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
