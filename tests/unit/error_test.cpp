// SPDX-License-Identifier: GPL-2.0-only
#include "base/error.hpp"

#include <cerrno>
#include <gtest/gtest.h>

namespace dmabuf {
namespace {

TEST(Error, NamesErrnosOfEitherSign) {
  EXPECT_EQ(errno_name(ENOMEM), "ENOMEM");
  EXPECT_EQ(errno_name(-EOPNOTSUPP), "EOPNOTSUPP");
  EXPECT_EQ(errno_name(4000), "errno 4000");
}

TEST(Error, TextHoldsContextNameAndMeaning) {
  EXPECT_EQ(errno_text("cannot open x", ENOENT),
            "cannot open x: ENOENT (No such file or directory)");
}

TEST(Error, FormatsStringsOfAnyLength) {
  const std::string name(5000, 'x');
  EXPECT_EQ(strf("<%s:%d>", name.c_str(), 7), "<" + name + ":7>");
  EXPECT_EQ(strf("%s", ""), "");
}

} // namespace
} // namespace dmabuf
