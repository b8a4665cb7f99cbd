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

TEST(Error, TheKernelsOwnErrnoHasItsNameAndOneThatUserSpaceKnows) {
  EXPECT_EQ(errno_name(524), "ENOTSUPP");
  EXPECT_EQ(errno_text("cannot map x", -524),
            "cannot map x: ENOTSUPP (Not supported, the kernel's own errno 524)");
  EXPECT_EQ(known_errno(524), EOPNOTSUPP);
  EXPECT_EQ(known_errno(EIO), EIO);
  EXPECT_EQ(errno_meaning(4000), "");
}

TEST(Error, FormatsStringsOfAnyLength) {
  const std::string name(5000, 'x');
  EXPECT_EQ(strf("<%s:%d>", name.c_str(), 7), "<" + name + ":7>");
  EXPECT_EQ(strf("%s", ""), "");
}

} // namespace
} // namespace dmabuf
