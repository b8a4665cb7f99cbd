// SPDX-License-Identifier: GPL-2.0-only
// The tables of datapaths and ways to submit, and the check of such tables by the compiler.
#include "datapath/kinds.hpp"

#include <fstream>
#include <gtest/gtest.h>
#include <set>
#include <string>

namespace dmabuf {
namespace {

enum class Colour : unsigned { red, green, blue };
struct Paint {
  Colour colour;
  int price;
};
constexpr Paint kAll[] = {{Colour::red, 1}, {Colour::green, 2}, {Colour::blue, 3}};
constexpr Paint kTooFew[] = {{Colour::red, 1}, {Colour::green, 2}};
constexpr Paint kShuffled[] = {{Colour::red, 1}, {Colour::blue, 3}, {Colour::green, 2}};
constexpr Paint kTwice[] = {{Colour::red, 1}, {Colour::green, 2}, {Colour::green, 3}};

TEST(EnumTable, HasARowForEachValueInOrder) {
  static_assert(is_table_of<&Paint::colour>(kAll));
  static_assert(!is_table_of<&Paint::colour>(kTooFew));
  static_assert(!is_table_of<&Paint::colour>(kShuffled));
  static_assert(!is_table_of<&Paint::colour>(kTwice));
  static_assert(is_enumerator<Colour::blue>());
  static_assert(!is_enumerator<static_cast<Colour>(3)>());
}

/// The values that the documentation's table of options has for an option, as it has them.
std::string documented(const std::string &option) {
  std::ifstream file(DMABUF_DOCS "/engine.md");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("| `" + option + "` |"))
      return line;
  return {};
}

template <class Row, size_t rows>
void expect_documented(const char *option, const Row (&table)[rows]) {
  std::set<std::string> names;
  for (const Row &row : table) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name << " is there twice";
    EXPECT_STRNE(row.what, "");
    EXPECT_NE(documented(option).find("`" + std::string(row.name) + "`"), std::string::npos)
        << row.name << " in " << documented(option);
  }
}

TEST(Kinds, AreInTheDocumentation) {
  expect_documented("dmabuf_datapath", kDatapathTraits);
  expect_documented("dmabuf_submit", kSubmitTraits);
}

TEST(Kinds, TheModulesNumbersAreThoseOfItsDatapaths) {
  EXPECT_EQ(datapath_of_module(DMABUF_RW_PATH_PREMAPPED), Datapath::premapped);
  EXPECT_EQ(datapath_of_module(DMABUF_RW_PATH_REGISTERED), Datapath::registered);
  EXPECT_EQ(datapath_of_module(DMABUF_RW_PATH_BVEC), Datapath::bvec);
  EXPECT_EQ(datapath_of_module(DMABUF_RW_PATH_AUTO), std::nullopt);
  EXPECT_EQ(datapath_of_module(DatapathTraits::kNoPath), std::nullopt);
  EXPECT_EQ(datapath_of_module(77), std::nullopt);
}

TEST(Kinds, NeedTheModuleOrNot) {
  for (const auto path : {Datapath::bounce, Datapath::host, Datapath::upstream})
    EXPECT_FALSE(needs_module(path, Submit::uring)) << datapath_name(path);
  for (const auto path : {Datapath::automatic, Datapath::premapped, Datapath::registered,
                          Datapath::bvec, Datapath::syscall})
    EXPECT_TRUE(needs_module(path, Submit::uring)) << datapath_name(path);
  EXPECT_TRUE(needs_module(Datapath::syscall, Submit::sync));
  EXPECT_FALSE(needs_module(Datapath::syscall, Submit::mmap));
}

} // namespace
} // namespace dmabuf
