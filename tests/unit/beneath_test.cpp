// SPDX-License-Identifier: GPL-2.0-only
#include "module/beneath.hpp"

#include "fake_sysfs.hpp"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace dmabuf {
namespace {

class BeneathTest : public FakeSysfs {
protected:
  void lies_on(const char *disk) const {
    std::filesystem::create_directories(sysfs / "disk/slaves" / disk);
  }
  std::string text(unsigned minor = 0) const {
    return beneath(sysfs.string(), makedev(259, minor));
  }
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
