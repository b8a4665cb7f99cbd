// SPDX-License-Identifier: GPL-2.0-only
#include "witness.hpp"

#include <algorithm>
#include <array>

namespace vmtest {

namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t sector = 512;
constexpr std::uint64_t mib = 1u << 20;
constexpr std::uint64_t longest = 8 * mib;

std::uint64_t file_offset_for(std::uint64_t length, const DiskRegion &region,
                              std::mt19937_64 &random) {
  const std::uint64_t room = (region.size() - length) / sector;
  return region.base() + sector * (random() % (room + 1));
}

} // namespace

std::vector<Case> directed_cases(std::uint64_t buffer_bytes, const DiskRegion &region,
                                 std::mt19937_64 &random, bool quick) {
  std::vector<Case> cases;
  const auto add = [&](std::uint64_t offset, std::uint64_t length) {
    if (length == 0 || length > longest || offset + length > buffer_bytes)
      return;
    cases.push_back({offset, length, file_offset_for(length, region, random)});
  };

  // Every 512-byte step of a page, with lengths around one and two pages.
  for (std::uint64_t offset = 0; offset < page; offset += sector)
    for (const std::uint64_t length :
         {512u, 1024u, 3584u, 4096u, 4608u, 7680u, 8192u, 8704u, 12288u})
      add(16 * page + offset, length);

  // A list page holds 511 data pointers, so list pages begin at the multiples of 511 in
  // the first table; the second is staggered by 256. End exactly on, before and after.
  constexpr std::array<std::uint64_t, 24> last_pages = {
      254, 255,  256,  257,  509,  510,  511,  512,  513,  765,  766,  767,
      768, 1020, 1021, 1022, 1023, 1024, 1276, 1277, 1278, 1532, 1533, 1534};
  constexpr std::array<std::uint64_t, 11> page_counts = {1,   2,   3,   4,   5,  16,
                                                         127, 128, 129, 255, 256};
  constexpr std::array<std::uint64_t, 3> in_page = {0, 512, 3584};
  constexpr std::array<std::uint64_t, 3> in_last = {512, 2048, 4096};
  unsigned turn = 0;
  for (const std::uint64_t last : last_pages)
    for (const std::uint64_t count : page_counts) {
      if (count > last + 1)
        continue;
      for (const std::uint64_t start : in_page)
        for (const std::uint64_t end : in_last) {
          const std::uint64_t offset = (last - count + 1) * page + start;
          const std::uint64_t stop = last * page + end;
          // All of them is slow under emulation: quick takes one in seven, in turn.
          if (stop > offset && (!quick || turn++ % 7 == 0))
            add(offset, stop - offset);
        }
    }

  // Long ones, split by the kernel, at even and odd places; the whole buffer's ends.
  for (const std::uint64_t length :
       {128 * 1024ul, 128 * 1024ul + 512, 512 * 1024ul - 512, 512 * 1024ul, 512 * 1024ul + 512,
        1 * mib, 1 * mib + 4096 - 512, 2 * mib, 4 * mib + 512, 8 * mib - 512, 8 * mib})
    for (const std::uint64_t offset : {0ul, 512ul, 4096ul, 510 * page, 511 * page + 512,
                                       255 * page + 3584, 1021 * page, 1022 * page + 1024})
      add(offset, length);
  for (const std::uint64_t length : {512ul, 4096ul, 64 * 1024ul, 1 * mib, 8 * mib})
    add(buffer_bytes - length, length);
  for (std::uint64_t power = 512; power <= longest; power *= 2)
    add(sector * (1 + power / 512 % 97), power);
  return cases;
}

Case random_case(std::uint64_t buffer_bytes, const DiskRegion &region, std::uint32_t buffer_step,
                 std::mt19937_64 &random) {
  // Lengths spread over the powers of two, so that short ones are as common as long ones.
  const std::uint64_t top = std::min(longest, std::min<std::uint64_t>(buffer_bytes, region.size()));
  std::uint64_t limit = sector << (random() % 15);
  limit = std::min(limit, top);
  const std::uint64_t length = sector * (1 + random() % (limit / sector));
  const std::uint64_t offset =
      buffer_step * (random() % ((buffer_bytes - length) / buffer_step + 1));
  return {offset, length, file_offset_for(length, region, random)};
}

} // namespace vmtest
