// SPDX-License-Identifier: GPL-2.0-only
#include "module/reasons.hpp"

#include <cerrno>
#include <fstream>
#include <gtest/gtest.h>
#include <linux/dmabuf_rw.h>
#include <map>
#include <set>
#include <sstream>
#include <string>

namespace dmabuf {
namespace {

/// Every DMABUF_RW_REASON_* the header defines, as it stands in the source: name to number.
std::map<std::string, uint32_t> reasons_in_header() {
  std::map<std::string, uint32_t> reasons;
  std::ifstream header(DMABUF_RW_HEADER);
  for (std::string line; std::getline(header, line);) {
    std::istringstream words(line);
    std::string define, name;
    uint32_t number;
    const std::string prefix = "DMABUF_RW_REASON_";
    if (words >> define >> name >> number && define == "#define" && name.starts_with(prefix))
      reasons[name.substr(prefix.size())] = number;
  }
  return reasons;
}

TEST(Reasons, EveryCodeOfTheHeaderIsInTheTable) {
  const auto reasons = reasons_in_header();
  ASSERT_EQ(reasons.size(), static_cast<size_t>(DMABUF_RW_NR_REASONS));
  for (const auto &[name, number] : reasons) {
    EXPECT_EQ(reason(number).name, name);
    EXPECT_EQ(reason(number).code, number);
  }
}

TEST(Reasons, EverySentenceAndRemedySaysSomething) {
  std::set<std::string> names, sentences;
  for (uint32_t code = 0; code < DMABUF_RW_NR_REASONS; code++) {
    const Reason &entry = reason(code);
    EXPECT_GT(std::string(entry.sentence).size(), 10U) << entry.name;
    EXPECT_GT(std::string(entry.remedy).size(), 10U) << entry.name;
    EXPECT_NE(std::string(entry.sentence).back(), '.')
        << entry.name << ": the message adds punctuation";
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_TRUE(sentences.insert(entry.sentence).second) << entry.name;
  }
}

TEST(Reasons, CodesOfTheFutureAreNotMistakenForKnownOnes) {
  EXPECT_STREQ(reason(DMABUF_RW_NR_REASONS).name, "UNKNOWN");
  EXPECT_STREQ(reason(UINT32_MAX).name, "UNKNOWN");
}

TEST(Reasons, TextHoldsSentenceNameErrnoAndRemedy) {
  const std::string text = reason_text(DMABUF_RW_REASON_NOT_DIRECT, EINVAL);
  EXPECT_EQ(text, "the target is not open with O_DIRECT (NOT_DIRECT, EINVAL); add direct=1");
}

} // namespace
} // namespace dmabuf
