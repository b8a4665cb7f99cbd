// SPDX-License-Identifier: GPL-2.0-only
#include "fio/dispatch.hpp"

#include <gtest/gtest.h>

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
  for (const char *name : {"", ".", "..", "fio-.so", "fio-", ".so", "fio-3.41", "fio-3.41.so.1",
                           "libfio-3.41.so", "README"})
    EXPECT_EQ(fio_of_file(name), "") << name;
  EXPECT_EQ(fio_of_file("fio-3.41.so"), "fio-3.41");
  EXPECT_EQ(fio_of_file("fio-9.so"), "fio-9");
}

TEST(Dispatch, WhatIsThereIsNamed) {
  const std::string folder = "/usr/lib/libdmabuf";
  const std::string one = no_engine_sentence("fio-3.28", folder, {"fio-3.33"});
  EXPECT_EQ(one, "libdmabuf: no engine for fio-3.28: /usr/lib/libdmabuf has fio-3.33; build one with "
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
