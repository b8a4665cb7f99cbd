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

TEST_F(BeneathTest, AFileIsOfTheMountThatItWasOpenedThrough) {
  // The first mount's number begins as the second one's does, and has no optional words.
  say("mountinfo",
      "3 1 0:20 / / rw - rootfs root rw\n"
      "31 3 0:44 /a /data rw,noatime shared:7 master:2 - btrfs /dev/mapper/vg-x rw,ssd\n");
  say("fdinfo/5", "pos:\t0\nflags:\t0100000\nmnt_id:\t31\nino:\t257\n");
  say("fdinfo/6", "pos:\t0\nmnt_id:\t4\n");
  const Mount mount = mount_of(sysfs.string(), 5);
  EXPECT_EQ(mount.type, "btrfs");
  EXPECT_EQ(mount.source, "/dev/mapper/vg-x");
  EXPECT_EQ(mount_of(sysfs.string(), 6).type, "");
  EXPECT_EQ(mount_of(sysfs.string(), 7).type, "");
}

TEST(Beneath, AFileHasItsFileSystem) {
  // In any container and any machine: Linux has shared memory on its own file system.
  const int shared = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
  ASSERT_GE(shared, 0);
  EXPECT_EQ(beneath(shared), "it lies on tmpfs");
  close(shared);
}

TEST(Beneath, WhatIsNoBlockDeviceIsNothing) {
  EXPECT_EQ(beneath(-1), "");
  const int null = open("/dev/null", O_RDONLY);
  EXPECT_EQ(beneath(null), "");
  close(null);
}

} // namespace
} // namespace dmabuf
