// SPDX-License-Identifier: GPL-2.0-only
// Premapped I/O on regular files: every byte, what is refused, what is held still meanwhile, and
// users who try to get at blocks that are not the file's.
//
// usage: files FILESYSTEM… [GROUP…], of: ext4 xfs; bytes refusals held hostile shrink unknown (all,
// unless
//        any is named); large (dmabuf-lab run --drive-gib 8), bar (--p2p), cut and
//        durable (of power_cut.py and durable.py, the latter of the type "raw", too)
// Destroys data on /dev/nvme0n1.
#include "files.hpp"

#include <algorithm>
#include <span>
#include <string_view>

namespace vmtest {

namespace {

struct Group {
  std::string_view name;
  void (*run)(const FileSystem &fs);
  bool named_only = false;
};

constexpr Group groups[] = {{"bytes", test_bytes},
                            {"refusals", test_refusals},
                            {"held", test_held},
                            {"hostile", test_hostile},
                            {"bar", test_bar, true}};

struct OwnGroup {
  std::string_view name;
  void (*run)(const std::string &type);
  bool named_only = false;
};

constexpr OwnGroup own_groups[] = {{"shrink", test_shrink},
                                   {"unknown", test_unknown},
                                   {"large", test_large, true},
                                   {"cut", test_cut, true},
                                   {"durable", test_durable, true}};

bool is_group(std::string_view name) {
  return std::ranges::contains(groups, name, &Group::name) ||
         std::ranges::contains(own_groups, name, &OwnGroup::name);
}

bool is_wanted(const auto &group, std::span<const std::string> chosen) {
  return chosen.empty() ? !group.named_only : std::ranges::contains(chosen, group.name);
}

// Groups that make a file system as they want it.
void test_own(const std::string &type, std::span<const std::string> chosen) {
  for (const OwnGroup &group : own_groups) {
    if (!is_wanted(group, chosen))
      continue;
    const double begin = now_s();
    group.run(type);
    report().note(std::format("{}, {}: {:.1f} s", type, group.name, now_s() - begin));
  }
}

void test_file_system(const std::string &type, std::uint64_t start,
                      std::span<const std::string> chosen) {
  if (std::ranges::none_of(groups, [&](const Group &group) { return is_wanted(group, chosen); }))
    return;
  const FileSystem fs(type, start);
  for (const Group &group : groups) {
    if (!is_wanted(group, chosen))
      continue;
    const double begin = now_s();
    group.run(fs);
    report().note(std::format("{}, {}: {:.1f} s", fs.name(), group.name, now_s() - begin));
  }
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  std::vector<std::string> types, chosen;
  for (const char *const argument : std::span(argv, static_cast<std::size_t>(argc)).subspan(1))
    (is_group(argument) ? chosen : types).emplace_back(argument);
  if (types.empty())
    die("usage: files FILESYSTEM… [GROUP…]");
  for (const std::string &type : types) {
    test_file_system(type, 0, chosen);
    // A partition that begins neither at a block of the file system nor at a page.
    test_file_system(type, (64u << 20) + 512 * 7, chosen);
    test_own(type, chosen);
  }
  return report().finish("files");
}
