// SPDX-License-Identifier: GPL-2.0-only
#include "fio/dispatch.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace dmabuf {
namespace {

TEST(Dispatch, TheEnginesAreBesideTheLibrary) {
  EXPECT_EQ(engines_folder("/usr/lib/libdmabuf.so"), "/usr/lib/libdmabuf");
  EXPECT_EQ(engines_folder("/libdmabuf.so"), "/libdmabuf");
}

TEST(Dispatch, AnEngineIsNamedAsItsFio) {
  EXPECT_EQ(engine_file("fio-3.41"), "fio-3.41.so");
  EXPECT_EQ(engine_file("fio-3.42-135-gf5344384"), "fio-3.42-135-gf5344384.so");
}

TEST(Dispatch, NoNameLeadsOutOfTheFolder) {
  for (const char *name : {"", "/", "../fio-3.41", "fio-3.41/", "/usr/lib/fio-3.41"})
    EXPECT_EQ(engine_file(name), "") << name;
}

TEST(Dispatch, AFileThatIsNoEngineHasNoFio) {
  for (const char *name :
       {"", ".", "..", "fio-.so", "fio-", ".so", "fio-3.41", "fio-3.41.so.1", "libfio-3.41.so",
        "README", "fio-\033[2J.so", "fio-3.41\n.so", "fio-\xc3.so"})
    EXPECT_EQ(fio_of_file(name), "") << name;
  EXPECT_EQ(fio_of_file("fio-3.41.so"), "fio-3.41");
  EXPECT_EQ(fio_of_file("fio-9.so"), "fio-9");
}

/// A library with the folder of its engines, which has one.
class Installed : public testing::Test {
protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "libdmabuf-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(name.data()));
    place_ = name;
    std::filesystem::create_directory(folder());
    for (const auto &file : {library(), engine()})
      std::ofstream(file) << "code";
    mode(place_, 0755);
    mode(folder(), 0755);
    mode(library(), 0644);
    mode(engine(), 0644);
  }
  void TearDown() override { std::filesystem::remove_all(place_); }

  std::string library() const { return place_ + "/libdmabuf.so"; }
  std::string folder() const { return place_ + "/libdmabuf"; }
  std::string engine() const { return folder() + "/fio-3.41.so"; }
  static void mode(const std::string &path, mode_t mode) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
  }
  static void give(const std::string &path) { ASSERT_EQ(lchown(path.c_str(), 65534, 65534), 0); }
  std::string why() const { return others_engine(library(), folder(), engine()); }
  void refused(const std::string &says) const {
    EXPECT_NE(why().find(says), std::string::npos) << "'" << why() << "'";
  }
  std::string place_;
};

TEST_F(Installed, AnEngineThatOnlyTheLibrarysOwnerCanChangeIsTaken) {
  EXPECT_EQ(why(), "");
  mode(place_, 01777);
  EXPECT_EQ(why(), "") << "a copy in /tmp, folder and all";
  mode(engine(), 0664);
  EXPECT_EQ(why(), "") << "a group's file is its group's affair";
}

TEST_F(Installed, WhatEverybodyMayWriteToIsNot) {
  mode(engine(), 0666);
  refused("everybody may write to it; run: chmod o-w " + engine());
  mode(library(), 0666);
  EXPECT_EQ(why(), "") << "as the library itself: a share without modes";
  mode(engine(), 0644);
  mode(folder(), 0777);
  refused("everybody may write to " + folder() + "; run: chmod o-w");
  mode(place_, 0777);
  EXPECT_EQ(why(), "") << "as the library itself";
}

TEST_F(Installed, WhatAnotherUserMayHavePutBesideTheLibraryIsNot) {
  if (geteuid() != 0)
    GTEST_SKIP() << "only root can give a file away";
  give(folder());
  EXPECT_EQ(why(), "") << "who installs decides";
  mode(place_, 01777);
  refused(folder() + " belongs to user 65534");
  give(library());
  EXPECT_EQ(why(), "") << "his is the library, too";
  ASSERT_EQ(chown(library().c_str(), 0, 0), 0);
  ASSERT_EQ(chown(folder().c_str(), 0, 0), 0);
  mode(folder(), 01777);
  EXPECT_EQ(why(), "");
  give(engine());
  refused(engine() + " belongs to user 65534");
  // A link of his leads where he likes.
  ASSERT_EQ(chown(engine().c_str(), 0, 0), 0);
  std::filesystem::rename(engine(), place_ + "/moved");
  std::filesystem::create_symlink(place_ + "/moved", engine());
  EXPECT_EQ(why(), "");
  give(engine());
  refused(engine() + " belongs to user 65534");
}

TEST_F(Installed, WhatIsNotThereIsNotTaken) {
  std::filesystem::remove(engine());
  refused("cannot be looked at");
}

TEST(Dispatch, WhatIsThereIsNamed) {
  const std::string folder = "/usr/lib/libdmabuf";
  const std::string one = no_engine_sentence("fio-3.28", folder, {"fio-3.33"});
  EXPECT_EQ(one,
            "libdmabuf: no engine for fio-3.28: /usr/lib/libdmabuf has fio-3.33; build one with "
            "-DFIO_SOURCE_DIRS=<the source of fio-3.28>");
  const auto two = no_engine_sentence("fio-3.28", folder, {"fio-3.33", "fio-3.41"});
  EXPECT_NE(two.find(" has fio-3.33 and fio-3.41;"), std::string::npos) << two;
  const auto three = no_engine_sentence("fio-3.28", folder, {"fio-3.30", "fio-3.33", "fio-3.41"});
  EXPECT_NE(three.find(" has fio-3.30, fio-3.33 and fio-3.41;"), std::string::npos) << three;
}

TEST(Dispatch, ThatNothingIsThereIsSaid) {
  const auto none = no_engine_sentence("fio-3.28", "/usr/lib/libdmabuf", {});
  EXPECT_NE(none.find("no engine for fio-3.28: there is none in /usr/lib/libdmabuf"),
            std::string::npos)
      << none;
}

} // namespace
} // namespace dmabuf
