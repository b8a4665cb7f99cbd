// SPDX-License-Identifier: GPL-2.0-only
// A sysfs of a test's own: one disk, 259:0, and its partition, 259:1.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>

namespace dmabuf {

class FakeSysfs : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/libdmabuf-sys-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    sysfs = name;
    std::filesystem::create_directories(sysfs / "dev/block");
    say("disk/size", "1\n");
    say("disk/disk1/partition", "1\n");
    std::filesystem::create_symlink("../../disk", sysfs / "dev/block/259:0");
    std::filesystem::create_symlink("../../disk/disk1", sysfs / "dev/block/259:1");
  }
  void TearDown() override { std::filesystem::remove_all(sysfs); }

  /// A file of it, below its top, holds `text` from now on.
  void say(const std::filesystem::path &file, const char *text) const {
    std::filesystem::create_directories((sysfs / file).parent_path());
    std::ofstream(sysfs / file) << text;
  }

  std::filesystem::path sysfs;
};

} // namespace dmabuf
