// SPDX-License-Identifier: GPL-2.0-only
#include "fio/version.hpp"

#include <gtest/gtest.h>

namespace dmabuf {
namespace {

TEST(Version, TheSameFioIsAccepted) {
  EXPECT_EQ(version_refusal("fio-3.41", "fio-3.41"), std::nullopt);
}

TEST(Version, AnyOtherFioIsRefusedWithBothNames) {
  for (const char *running : {"fio-3.40", "fio-3.41-12-gabcdef", "fio-3.4", ""}) {
    const auto why = version_refusal(running, "fio-3.41");
    ASSERT_TRUE(why) << running;
    EXPECT_NE(why->find("built for fio-3.41"), std::string::npos) << *why;
    EXPECT_NE(why->find(running), std::string::npos) << *why;
  }
}

TEST(Version, AProgramThatIsNoFioIsRefused) {
  const auto why = version_refusal(nullptr, "fio-3.41");
  ASSERT_TRUE(why);
  EXPECT_NE(why->find("no fio"), std::string::npos);
}

} // namespace
} // namespace dmabuf
