// SPDX-License-Identifier: GPL-2.0-only
// Kernel mappings of a buffer: refused, held, and moved away under.
#include "parts.hpp"

#include <algorithm>

namespace vmtest {

namespace {

constexpr std::uint32_t through = DMABUF_TESTEXP_ACCESS_VMAP;

void arguments(const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(plain_buffer(0)), other = testexp.make(plain_buffer(0));
  Word word = 0;
  check_result(buffer.read({&word, 1}, 0, through), -ENODATA, "READ through no kernel mapping");
  check_result(buffer.write({&word, 1}, 0, through), -ENODATA, "WRITE through no kernel mapping");
  check_result(buffer.write({&word, 1}, 0, through | DMABUF_TESTEXP_WRITE_STRAY), -EINVAL,
               "WRITE that is stray and through the kernel mapping");
  check_result(buffer.vunmap(), -ENODATA, "VUNMAP of nothing");
  check_result(buffer.vmap_of(-1), -EBADF, "VMAP of no file");
  check_result(buffer.vmap_of(other.fd()), -EINVAL, "VMAP of another dma-buf");
  dmabuf_testexp_vmap padded{
      .id = buffer.id(), .flags = 0, .fd = static_cast<__u32>(buffer.fd()), .reserved = 1};
  check_result(testexp.raw(DMABUF_TESTEXP_IOC_VMAP, &padded), -EINVAL, "VMAP with padding");
  check_result(buffer.vmap(2), -EINVAL, "VMAP with an unknown flag");
  const TestBuffer none = testexp.make(plain_buffer(DMABUF_TESTEXP_NO_CPU));
  check_result(none.vmap(), -EINVAL, "VMAP of a buffer without a CPU view");

  const auto bad_create = [&](const char *name, std::uint32_t flags) {
    auto create = plain_buffer(flags);
    check_result(testexp.create(create), -EINVAL, std::format("CREATE with {}", name));
  };
  bad_create("LOOSE_VMAP of memory that does not move", DMABUF_TESTEXP_LOOSE_VMAP);
  bad_create("LOOSE_VMAP without a CPU view",
             DMABUF_TESTEXP_LOOSE_VMAP | DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_NO_CPU);
  bad_create("SHADOW without a CPU view", DMABUF_TESTEXP_SHADOW | DMABUF_TESTEXP_NO_CPU);
  bad_create("SHADOW of memory that moves", DMABUF_TESTEXP_SHADOW | DMABUF_TESTEXP_DYNAMIC);
  bad_create("SHADOW that loses writes", DMABUF_TESTEXP_SHADOW | DMABUF_TESTEXP_LOSE_WRITES);
  bad_create("CARVEOUT with pages", DMABUF_TESTEXP_CARVEOUT);
}

void held(const Testexp &testexp) {
  for (const std::uint32_t flags : {0u, DMABUF_TESTEXP_IO_VIEW}) {
    const std::string name = flags ? "a kernel mapping of I/O memory" : "a kernel mapping";
    const TestBuffer buffer = testexp.make(plain_buffer(DMABUF_TESTEXP_DYNAMIC | flags));
    buffer.must_write(pattern(1), 0);
    check_result(buffer.vmap(), 0, name + ": VMAP");
    check_result(buffer.vmap(), -EBUSY, name + ": VMAP again");
    report().check(buffer.must_stats().vmaps == 1, name + ": STATS.vmaps");
    report().check(holds(buffer, pattern(1), through), name + ": it shows the contents");
    check_result(buffer.write(pattern(2), 0, through), 0, name + ": WRITE through it");
    report().check(holds(buffer, pattern(2)), name + ": what is written through it arrives");
    check_result(buffer.move(), -EBUSY, name + ": it keeps the memory in place");
    check_result(buffer.vunmap(), 0, name + ": VUNMAP");
    report().check(buffer.must_stats().vmaps == 0, name + ": none is left");
    check_result(buffer.move(), 0, name + ": without it the memory moves");
  }
  // One that is held when the buffer ends; main() looks whether the buffer is gone.
  const TestBuffer buffer = testexp.make(plain_buffer(0));
  check_result(buffer.vmap(), 0, "VMAP that DESTROY ends");
}

// What an importer does that knows the rules: it pins, and the memory stays.
void pinned(const Testexp &testexp) {
  const std::uint32_t flags = DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_LOOSE_VMAP;
  const TestBuffer buffer = testexp.make(plain_buffer(flags));
  buffer.must_write(pattern(14), 0);
  check_result(buffer.fail(DMABUF_TESTEXP_OP_PIN, EPERM, 0, 1), 0, "FAIL of pin");
  check_result(buffer.vmap(DMABUF_TESTEXP_VMAP_PIN), -EPERM, "a pin that is refused");
  auto stats = buffer.must_stats();
  report().check(stats.refused[DMABUF_TESTEXP_OP_PIN] == 1 && stats.pins == 0 && stats.vmaps == 0 &&
                     stats.attachments == 0,
                 "a pin that is refused is counted, and nothing is left");
  check_result(buffer.vmap(DMABUF_TESTEXP_VMAP_PIN), 0, "VMAP that pins");
  stats = buffer.must_stats();
  report().check(stats.pins == 1 && stats.vmaps == 1 && stats.attachments == 1,
                 "STATS counts the pin");
  check_result(buffer.move(), -EBUSY, "a pinned buffer does not move, with LOOSE_VMAP either");
  report().check(holds(buffer, pattern(14), through), "the pinned mapping shows the contents");
  check_result(buffer.vunmap(), 0, "VUNMAP that unpins");
  stats = buffer.must_stats();
  report().check(stats.pins == 0 && stats.vmaps == 0 && stats.attachments == 0,
                 "STATS after the pin");
  check_result(buffer.move(), 0, "without the pin it moves");
  // One that is pinned when the buffer ends.
  const TestBuffer left = testexp.make(plain_buffer(flags));
  check_result(left.vmap(DMABUF_TESTEXP_VMAP_PIN), 0, "VMAP that pins, ended by DESTROY");
}

// Moved memory under a kernel mapping: poison is read there, and writes are stray.
void loose(const Testexp &testexp) {
  const std::uint32_t flags = DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_LOOSE_VMAP;
  report().check(testexp.has(DMABUF_TESTEXP_FEAT_LOOSE_VMAP | DMABUF_TESTEXP_FEAT_VMAP),
                 "QUERY announces LOOSE_VMAP and VMAP");
  const TestBuffer buffer = testexp.make(plain_buffer(flags, 0));
  buffer.must_write(pattern(3), 0);
  check_result(buffer.vmap(), 0, "LOOSE_VMAP: VMAP");
  report().check(holds(buffer, pattern(3), through), "LOOSE_VMAP: the mapping shows the contents");
  check_result(buffer.move(), 0, "LOOSE_VMAP: MOVE under the mapping");
  report().check(holds(buffer, pattern(3)), "LOOSE_VMAP: the contents moved");
  std::vector<Word> seen(test_bytes / 8);
  check_result(buffer.read(seen, 0, through), 0, "LOOSE_VMAP: READ through the old mapping");
  report().check(std::ranges::all_of(seen, [&](Word word) { return word == seen[0]; }) &&
                     seen[0] != 0 && seen[0] != pattern(3)[0],
                 "LOOSE_VMAP: the old mapping shows poison", describe_word(seen[0]));
  check_result(buffer.move(), 0, "LOOSE_VMAP: a second MOVE");
  report().check(buffer.must_stats().quarantined == 1,
                 "LOOSE_VMAP: what the mapping shows is kept, and no more");
  const Word stray[3] = {1, 2, 3};
  check_result(buffer.write(stray, 8192, through), 0, "LOOSE_VMAP: WRITE through the old mapping");
  report().check(holds(buffer, pattern(3)), "LOOSE_VMAP: such a write does not arrive");
  report().check(buffer.must_stats().stray_words == 0, "LOOSE_VMAP: not counted yet");
  check_result(buffer.vunmap(), 0, "LOOSE_VMAP: VUNMAP");
  const auto stats = buffer.must_stats();
  report().check(stats.quarantined == 0 && stats.vmaps == 0,
                 "LOOSE_VMAP: without the mapping nothing is kept");
  report().check(stats.stray_words == 3, "LOOSE_VMAP: such a write is counted as stray",
                 std::format("{} words", static_cast<std::uint64_t>(stats.stray_words)));
  check_result(buffer.vmap(), 0, "LOOSE_VMAP: a new VMAP");
  report().check(holds(buffer, pattern(3), through), "LOOSE_VMAP: a new one shows the contents");
}

} // namespace

void test_vmap(const TestexpOptions &, const Testexp &testexp) {
  arguments(testexp);
  held(testexp);
  pinned(testexp);
  loose(testexp);
}

void test_vmap_refused(const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(plain_buffer(0));
  check_result(buffer.fail(DMABUF_TESTEXP_OP_VMAP, EIO, 1, 1), 0, "FAIL of vmap");
  check_result(buffer.vmap(), 0, "FAIL of the second vmap: the first");
  buffer.vunmap();
  check_result(buffer.vmap(), -EIO, "FAIL of the second vmap: the second");
  check_result(buffer.vmap(), 0, "FAIL of the second vmap: the third");
  buffer.vunmap();
  report().check(buffer.must_stats().refused[DMABUF_TESTEXP_OP_VMAP] == 1,
                 "STATS counts the vmap that was refused");
  check_result(buffer.revoke(), 0, "REVOKE");
  check_result(buffer.vmap(), -ENODEV, "vmap of a revoked buffer");
}

} // namespace vmtest
