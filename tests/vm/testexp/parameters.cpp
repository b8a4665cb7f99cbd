// SPDX-License-Identifier: GPL-2.0-only
// The module's parameters: how much memory, and a carve-out.
#include "parts.hpp"

namespace vmtest {

namespace {

void check_carveout(const TestexpOptions &options, const std::string &range, bool pages) {
  const std::string name = std::format("carve-out {}", range);
  check_result(Testexp::reload("carveout=" + range), 0, name + ": the module is loaded");
  const Testexp testexp;
  if (!report().check(testexp.has(DMABUF_TESTEXP_FEAT_CARVEOUT), name + ": QUERY announces it"))
    return;
  report().check(testexp.has(DMABUF_TESTEXP_FEAT_CARVEOUT_PAGES) == pages,
                 name + (pages ? ": Linux has pages for it" : ": Linux has no pages for it"));
  constexpr std::uint32_t flags =
      DMABUF_TESTEXP_CARVEOUT | DMABUF_TESTEXP_NO_PAGES | DMABUF_TESTEXP_DYNAMIC;
  const TestBuffer buffer = testexp.make(plain_buffer(flags));
  report().check(holds(buffer, std::vector<Word>(test_bytes / 8)), name + ": zeroed");
  buffer.must_write(pattern(20), 0);
  {
    const View view(buffer);
    report().check(view.holds(pattern(20)), name + ": an mmap shows the contents");
    check_result(buffer.vmap(), 0, name + ": VMAP");
    report().check(holds(buffer, pattern(20), DMABUF_TESTEXP_ACCESS_VMAP),
                   name + ": a kernel mapping shows the contents");
    fill_pattern(view.words(), 21, 0);
    report().check(holds(buffer, pattern(21), DMABUF_TESTEXP_ACCESS_VMAP) &&
                       holds(buffer, pattern(21)),
                   name + ": all views are of the same memory");
    check_result(buffer.move(), -EBUSY, name + ": a kernel mapping keeps it in place");
    check_result(buffer.vunmap(), 0, name + ": VUNMAP");
    for (int i = 0; i < 4; ++i)
      check_result(buffer.move(), 0, name + ": MOVE");
    report().check(view.holds(pattern(21)) && holds(buffer, pattern(21)),
                   name + ": moves keep the contents");
  }
  check_transfers(options, buffer, name);
  for (int i = 0; i < 4; ++i)
    check_result(buffer.move(), 0, name + ": MOVE after I/O");
  const auto stats = buffer.must_stats();
  report().check(stats.stray_words == 0, name + ": nobody wrote to memory that was left");
  report().check(stats.attachments == 0 && stats.mappings == 0 && stats.maps == stats.unmaps &&
                     stats.maps > 0,
                 name + ": no mapping is left");
  auto much = plain_buffer(flags);
  much.bytes = 1ull << 29;
  much.quarantine = 0;
  // Within max_mib, but more than the carve-out has.
  check_result(testexp.create(much), -ENOMEM, name + ": more than there is");
}

} // namespace

void test_max_mib() {
  check_result(Testexp::reload("max_mib=8"), 0, "max_mib=8: the module is loaded");
  const Testexp testexp;
  dmabuf_testexp_query query{};
  check_result(testexp.query(query), 0, "max_mib=8: QUERY");
  report().check(query.max_buffer_bytes == 8u << 20, "max_mib=8: QUERY says so");
  auto create = plain_buffer(0, 0);
  create.bytes = 16u << 20;
  check_result(testexp.create(create), -ENOMEM, "max_mib=8: a buffer of 16 MiB");
  // A buffer counts twice: it may have to move.
  create.bytes = 4u << 20;
  {
    const TestBuffer buffer = testexp.make(create);
    auto small = plain_buffer(0, 0);
    small.bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    check_result(testexp.create(small), -ENOMEM, "max_mib=8: a page beside a buffer of 4 MiB");
  }
  const TestBuffer again = testexp.make(create);
  report().check(again.size() == create.bytes, "max_mib=8: what was given back is there again");
  auto carved = plain_buffer(DMABUF_TESTEXP_CARVEOUT | DMABUF_TESTEXP_NO_PAGES, 0);
  report().check(!testexp.has(DMABUF_TESTEXP_FEAT_CARVEOUT), "no carve-out: QUERY says so");
  check_result(testexp.create(carved), -EOPNOTSUPP, "no carve-out: CREATE");
}

void test_carveouts(const TestexpOptions &options) {
  for (const auto &range : options.with_pages)
    check_carveout(options, range, true);
  for (const auto &range : options.without_pages)
    check_carveout(options, range, false);
  for (const char *range : {"1G", "1G,", "1G,0", "1G,100", "0x10000800,16M", "1G,16Mx"})
    check_result(Testexp::reload(std::format("carveout={}", range)), -EINVAL,
                 std::format("carve-out {}: no range", range));
  // The first MiB above 16 MiB is Linux's own.
  check_result(Testexp::reload("carveout=16M,1M"), -EBUSY, "a carve-out that Linux uses");
  check_result(Testexp::reload(""), 0, "the module is loaded without a carve-out");
}

} // namespace vmtest
