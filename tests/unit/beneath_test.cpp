// SPDX-License-Identifier: GPL-2.0-only
#include "module/beneath.hpp"

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
class BeneathTest : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/libdmabuf-sys-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    sysfs = name;
    fs::create_directories(sysfs / "dev/block");
    say("disk/size", "1\n");
    say("disk/disk1/partition", "1\n");
    fs::create_symlink("../../disk", sysfs / "dev/block/259:0");
    fs::create_symlink("../../disk/disk1", sysfs / "dev/block/259:1");
  }
  void TearDown() override { fs::remove_all(sysfs); }
  void say(const fs::path &file, const char *text) const {
    fs::create_directories((sysfs / file).parent_path());
    std::ofstream(sysfs / file) << text;
  }
  void lies_on(const char *disk) const { fs::create_directories(sysfs / "disk/slaves" / disk); }
  std::string text(unsigned minor = 0) const {
    return beneath(sysfs.string(), makedev(259, minor));
  }
  fs::path sysfs;
};

TEST_F(BeneathTest, ADiskAndWhatIsNotThereAreNothing) {
  EXPECT_EQ(text(), "");
  EXPECT_EQ(text(7), "");
  say("disk/device/transport", "pcie\n");
  EXPECT_EQ(text(), "");
}

TEST_F(BeneathTest, AVolumeOfLvmHasItsNameAndItsDisks) {
  say("disk/dm/name", "models-weights\n");
  say("disk/dm/uuid", "LVM-w8ZgBGhV\n");
  lies_on("nvme1n1p2");
  lies_on("nvme0n1p2");
  EXPECT_EQ(text(), "the LVM volume models-weights on nvme0n1p2, nvme1n1p2");
  EXPECT_EQ(text(1), text());
}

TEST_F(BeneathTest, AnyOtherTableOfDeviceMapperHasItsName) {
  say("disk/dm/name", "secret\n");
  say("disk/dm/uuid", "\n");
  lies_on("nvme0n1");
  EXPECT_EQ(text(), "the device-mapper volume secret on nvme0n1");
}

TEST_F(BeneathTest, AnArrayOfMdHasItsLevel) {
  say("disk/md/level", "raid0\n");
  lies_on("nvme0n1");
  lies_on("nvme1n1");
  EXPECT_EQ(text(), "the md raid0 disk on nvme0n1, nvme1n1");
}

TEST_F(BeneathTest, ALoopDeviceHasItsFile) {
  say("disk/loop/backing_file", "/images/one\n");
  EXPECT_EQ(text(), "the loop device of /images/one");
}

TEST_F(BeneathTest, ANamespaceHasItsTransport) {
  say("disk/device/transport", "tcp\n");
  EXPECT_EQ(text(), "an NVMe namespace over tcp");
}

TEST_F(BeneathTest, AHeadHasTheTransportsOfItsControllers) {
  say("disk/device/nvme3/transport", "loop\n");
  say("disk/device/nvme2/transport", "tcp\n");
  say("disk/device/nvme4/transport", "tcp\n");
  say("disk/device/nvme5/transport", "pcie\n");
  say("disk/device/other/transport", "none\n");
  EXPECT_EQ(text(), "an NVMe namespace over tcp, loop");
}

TEST(Beneath, WhatIsNoBlockDeviceIsNothing) {
  EXPECT_EQ(beneath(-1), "");
  const int null = open("/dev/null", O_RDONLY);
  EXPECT_EQ(beneath(null), "");
  close(null);
}

} // namespace
} // namespace dmabuf
