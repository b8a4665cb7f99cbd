// SPDX-License-Identifier: GPL-2.0-only
#include "module/session.hpp"

#include <cerrno>
#include <gtest/gtest.h>
#include <unistd.h>

namespace dmabuf {
namespace {

testing::AssertionResult mentions(const std::string &text,
                                  std::initializer_list<const char *> words) {
  for (const char *word : words)
    if (text.find(word) == std::string::npos)
      return testing::AssertionFailure() << '"' << text << "\" does not mention " << word;
  return testing::AssertionSuccess();
}

TEST(OpenError, MissingDeviceSaysTheModuleIsNotLoaded) {
  for (const int code : {ENOENT, ENODEV, ENXIO})
    EXPECT_TRUE(mentions(open_error_text(code), {"/dev/dmabuf_rw", "not loaded", "modprobe"}));
}

TEST(OpenError, NoPermissionSaysWhoseItIs) {
  for (const int code : {EACCES, EPERM})
    EXPECT_TRUE(mentions(open_error_text(code), {"may not be opened", "root", "udev"}));
}

TEST(OpenError, LimitsAreNamed) {
  EXPECT_TRUE(mentions(open_error_text(EMFILE), {"too many open files", "EMFILE"}));
  EXPECT_TRUE(mentions(open_error_text(EUSERS), {"session", "EUSERS"}));
}

TEST(OpenError, AnythingElseKeepsItsErrno) {
  EXPECT_TRUE(mentions(open_error_text(EIO), {"/dev/dmabuf_rw", "EIO"}));
}

TEST(Session, CannotBeOpenedWithoutTheModule) {
  if (access(DMABUF_RW_DEVICE, F_OK) == 0)
    GTEST_SKIP() << "this machine has the module";
  const auto session = Session::open();
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, ENOENT);
}

TEST(MapError, NamesTargetPathReasonAndRemedy) {
  dmabuf_rw_map_entry entry = {};
  entry.error = EOPNOTSUPP;
  entry.reason = DMABUF_RW_REASON_NOT_NVME;
  EXPECT_TRUE(mentions(
      map_error_text(entry, DMABUF_RW_PATH_PREMAPPED, "/dev/sda"),
      {"/dev/sda", "premapped", "not NVMe over PCI", "NOT_NVME", "EOPNOTSUPP", "registered"}));
}

TEST(MapError, WhatTheTargetIsStandsBeforeTheRemedy) {
  dmabuf_rw_map_entry entry = {};
  entry.error = EOPNOTSUPP;
  entry.reason = DMABUF_RW_REASON_NOT_NVME;
  EXPECT_TRUE(mentions(map_error_text(entry, DMABUF_RW_PATH_PREMAPPED, "/dev/md0", "",
                                      "it is the md raid0 md0 on nvme0n1, nvme1n1"),
                       {"EOPNOTSUPP): it is the md raid0 md0 on nvme0n1, nvme1n1; give an NVMe"}));
}

TEST(MapError, AutoSaysWhyEachPathWasPassedOver) {
  dmabuf_rw_map_entry entry = {};
  entry.error = EOPNOTSUPP;
  entry.reason = DMABUF_RW_REASON_NO_PATH_FITS;
  entry.refused[DMABUF_RW_PATH_PREMAPPED] = DMABUF_RW_REASON_NOT_BLOCK;
  entry.refused[DMABUF_RW_PATH_REGISTERED] = DMABUF_RW_REASON_KERNEL;
  EXPECT_TRUE(mentions(map_error_text(entry, DMABUF_RW_PATH_AUTO, "/tmp/f"),
                       {"NO_PATH_FITS", "premapped: the target is not a block device (NOT_BLOCK)",
                        "registered: this kernel lacks", "(KERNEL)"}));
  // The same entry for one path: what AUTO would have said does not matter.
  EXPECT_EQ(map_error_text(entry, DMABUF_RW_PATH_PREMAPPED, "/tmp/f").find("KERNEL"),
            std::string::npos);
}

TEST(MapError, AnExporterThatKnowsWhyThereIsNoRoomSaysIt) {
  const std::string room = "its BAR1 of 256 MiB is full (SMALL_BAR, ENOMEM); use less";
  dmabuf_rw_map_entry entry = {};
  entry.error = ENOMEM;
  for (const uint32_t reason : {DMABUF_RW_REASON_MAP, DMABUF_RW_REASON_NO_MEMORY}) {
    entry.reason = reason;
    EXPECT_EQ(map_error_text(entry, DMABUF_RW_PATH_PREMAPPED, "/dev/nvme0n1", room),
              "/dev/nvme0n1 cannot be used with datapath premapped: " + room);
  }
  entry.reason = DMABUF_RW_REASON_MEMLOCK;
  EXPECT_TRUE(
      mentions(map_error_text(entry, DMABUF_RW_PATH_PREMAPPED, "/dev/nvme0n1", room), {"MEMLOCK"}));
  entry.reason = DMABUF_RW_REASON_MAP;
  entry.error = EIO;
  EXPECT_TRUE(mentions(map_error_text(entry, DMABUF_RW_PATH_PREMAPPED, "/dev/nvme0n1", room),
                       {"(MAP, EIO)"}));
}

TEST(Refused, IsEmptyWhenNothingWasPassedOver) {
  EXPECT_EQ(refused_text(dmabuf_rw_map_entry{}), "");
}

TEST(Names, OfPathsMemoryAndRoutes) {
  EXPECT_STREQ(path_name(DMABUF_RW_PATH_PREMAPPED), "premapped");
  EXPECT_STREQ(path_name(DMABUF_RW_PATH_REGISTERED), "registered");
  EXPECT_STREQ(path_name(99), "unknown");
  EXPECT_STREQ(memory_name(DMABUF_RW_MEM_SYSTEM), "system");
  EXPECT_STREQ(memory_name(DMABUF_RW_MEM_PEER), "peer");
  EXPECT_STREQ(memory_name(DMABUF_RW_MEM_MIXED), "mixed");
  EXPECT_STREQ(memory_name(99), "unknown");
  EXPECT_STREQ(route_name(DMABUF_RW_ROUTE_MEMORY), "memory");
  EXPECT_STREQ(route_name(DMABUF_RW_ROUTE_HOST_BRIDGE), "host_bridge");
  EXPECT_STREQ(route_name(DMABUF_RW_ROUTE_SWITCH), "switch");
  EXPECT_STREQ(route_name(99), "unknown");
}

} // namespace
} // namespace dmabuf
