// SPDX-License-Identifier: GPL-2.0-only
#include "names.hpp"

#include "base/sizes.hpp"

#include <algorithm>
#include <initializer_list>

namespace integrity {

using dmabuf::kPage;
using dmabuf::strf;
using ull = unsigned long long;

namespace {

constexpr const char *kForeign = "FOREIGN_DATA_UNDER_LOAD";
constexpr const char *kMultiSegment = "MULTI_SEGMENT_MISADDRESSED";

bool is_one_of(const Finding &finding, std::initializer_list<const char *> names) {
  return std::ranges::any_of(names, [&](const char *name) { return finding.name == name; });
}

} // namespace

void judge(const Wrong &wrong, Way way, bool under_load, const std::string &where,
           Outcome &outcome) {
  const bool read = way == Way::read;
  if (wrong.untouched)
    outcome.find(read ? "READ_NOT_LANDED" : "WRITE_NOT_LANDED",
                 (read ? "completed with success, and the memory was not touched: "
                       : "completed with success, and the drive still holds what it held: ") +
                     where,
                 wrong.untouched);
  if (wrong.memory)
    outcome.find(read ? "DATA_CORRUPTED" : "WRITE_NOT_FETCHED",
                 (read ? "zeros or poison of the drive: "
                       : "the drive wrote what was in other memory, or earlier in this: ") +
                     where,
                 wrong.memory);
  if (wrong.elsewhere)
    outcome.find(under_load         ? kForeign
                 : wrong.first != 0 ? kMultiSegment
                                    : "MISADDRESSED",
                 "data of another place: " + where, wrong.elsewhere);
  if (wrong.older)
    outcome.find(under_load ? kForeign : "STALE_DATA", "data of an earlier generation: " + where,
                 wrong.older);
  if (wrong.damaged)
    outcome.find("DATA_CORRUPTED", "bits that nobody wrote: " + where, wrong.damaged);
}

Pages::Pages(uint64_t buffer_bytes) : pages_(buffer_bytes / kPage, Seen::nothing) {}

void Pages::look(std::span<const Word> found, std::span<const Word> expected, uint64_t offset,
                 const Wrong &wrong) {
  misplaced_ += wrong.elsewhere + strange_poison(found, offset);
  for (size_t i = 0; i < expected.size(); i++) {
    Seen &page = pages_[(offset + 8 * i) / kPage];
    if (found[i] != expected[i])
      page = Seen::wrong;
    else if (page == Seen::nothing)
      page = Seen::right;
  }
}

void Pages::stray(uint64_t offset) {
  misplaced_++;
  pages_[offset / kPage] = Seen::wrong;
}

void Pages::name(uint32_t segments, Outcome &outcome) const {
  const auto first = std::ranges::find(pages_, Seen::wrong);
  const auto seen = [&](auto from, auto to, Seen what) { return std::count(from, to, what); };
  const auto right_before = seen(pages_.begin(), first, Seen::right);
  const auto wrong_after = seen(first, pages_.end(), Seen::wrong);
  const auto right_after = seen(first, pages_.end(), Seen::right);
  // Data that is lost without being anywhere else has other names.
  if (segments < 2 || !misplaced_ || !right_before || wrong_after < right_after)
    return;
  const auto folded = [](const Finding &finding) {
    return is_one_of(finding, {"READ_NOT_LANDED", "WRITE_NOT_FETCHED", "MISADDRESSED",
                               "STRAY_WRITE", kMultiSegment});
  };
  std::vector<Finding> left;
  uint64_t count = 0;
  std::string text;
  for (Finding &finding : outcome.findings) {
    if (!folded(finding)) {
      left.push_back(std::move(finding));
      continue;
    }
    count += finding.count;
    if (text.empty())
      text = finding.text;
  }
  outcome.findings = std::move(left);
  if (count)
    outcome.find(kMultiSegment,
                 strf("right in the first %llu KiB of a buffer in %u pieces, and wrong after: %s",
                      static_cast<ull>((first - pages_.begin()) * (kPage >> 10)), segments,
                      text.c_str()),
                 count);
}

void name_load(Outcome &outcome) {
  const auto foreign = std::ranges::find(outcome.findings, kForeign, &Finding::name);
  if (foreign == outcome.findings.end())
    return;
  uint64_t missing = 0;
  for (const Finding &finding : outcome.findings)
    if (is_one_of(finding, {"READ_NOT_LANDED", "WRITE_NOT_FETCHED"}))
      missing += finding.count;
  if (!missing)
    return;
  foreign->count += missing;
  foreign->text +=
      strf("; %llu more words did not reach their own place", static_cast<ull>(missing));
  std::erase_if(outcome.findings, [](const Finding &finding) {
    return is_one_of(finding, {"READ_NOT_LANDED", "WRITE_NOT_FETCHED"});
  });
}

} // namespace integrity
