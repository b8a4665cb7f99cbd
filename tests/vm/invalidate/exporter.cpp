// SPDX-License-Identifier: GPL-2.0-only
// The test exporter by itself: a test that uses it is worth as much as it is.
#include "invalidate.hpp"

#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <vector>

namespace vmtest {

namespace {

constexpr std::size_t bytes = 1u << 20;

void contents(const InvalidateOptions &options, const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
  std::vector<Word> zero(bytes / 8), words(bytes / 8), expected(bytes / 8);
  buffer.must_read(words, 0);
  report().check(!compare_words(words, zero), "a new buffer holds zeroes");
  fill_pattern(expected, 5, 0);
  buffer.must_write(expected, 0);
  bool same = true, cut_differently = false;
  const auto segments = buffer.must_stats().segments;
  for (int i = 0; i < 20; ++i) {
    const int moved = buffer.move();
    report().check(moved == 0, "MOVE without importers", errno_name(moved));
    buffer.must_read(words, 0);
    same &= !compare_words(words, expected);
    cut_differently |= buffer.must_stats().segments != segments;
  }
  report().check(same, "moves keep the contents");
  report().check(cut_differently, "a move cuts the memory differently");
  const auto stats = buffer.must_stats();
  report().check(stats.moves == 20 && stats.stray_words == 0, "STATS after 20 moves",
                 std::format("{} moves, {} stray words", static_cast<std::uint64_t>(stats.moves),
                             static_cast<std::uint64_t>(stats.stray_words)));
  // Where pages are larger than the exporter's 4096 bytes, a segment leaves a part of one.
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const auto counted = [page](std::uint64_t pages, std::uint64_t buffers) {
    return pages >= buffers * bytes / page && pages <= buffers * bytes / 4096;
  };
  report().check(counted(stats.pages, 1) && stats.quarantined == 4 &&
                     counted(stats.quarantined_pages, 4),
                 "STATS counts pages",
                 std::format("{}, and {} in quarantine", static_cast<std::uint64_t>(stats.pages),
                             static_cast<std::uint64_t>(stats.quarantined_pages)));
}

// The poison must be able to tell: three words are written where nobody may.
void poison(const InvalidateOptions &options, const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
  const Word words[3] = {1, 2, 3};
  int result = buffer.write(words, 4096, DMABUF_TESTEXP_WRITE_STRAY);
  report().check(result == -ENODATA, "a stray write and nothing in quarantine", errno_name(result));
  buffer.move();
  result = buffer.write(words, 8192, DMABUF_TESTEXP_WRITE_STRAY);
  report().check(result == 0, "a stray write", errno_name(result));
  for (int i = 0; i < 4; ++i)
    buffer.move();
  const auto stray = buffer.must_stats().stray_words;
  report().check(stray == 3, "stray writes are counted", std::format("{} words", stray));
}

void cpu_views(const InvalidateOptions &options, const Testexp &testexp) {
  const TestBuffer none = testexp.make(gpu_buffer(bytes, options.seed));
  void *view = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, none.fd(), 0);
  report().check(view == MAP_FAILED, "NO_CPU: mmap fails");

  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed, DMABUF_TESTEXP_DYNAMIC));
  view = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, buffer.fd(), 0);
  if (!report().check(view != MAP_FAILED, "mmap", errno_name(errno)))
    return;
  const std::span<Word> words(static_cast<Word *>(view), bytes / 8);
  std::vector<Word> expected(bytes / 8), found(bytes / 8);
  bool same = true;
  for (std::uint32_t i = 0; i < 5; ++i) {
    fill_pattern(words, 10 + i, 0);
    fill_pattern(expected, 10 + i, 0);
    const int moved = buffer.move();
    report().check(moved == 0, "MOVE with an mmap", errno_name(moved));
    same &= !compare_words(words, expected);
    buffer.must_read(found, 0);
    same &= !compare_words(found, expected);
  }
  report().check(same, "an mmap follows the memory");
  ::munmap(view, bytes);
}

void mover(const InvalidateOptions &options, const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
  report().check(buffer.start_mover(1000, 50) == 0, "MOVER_START");
  report().check(buffer.start_mover(1000, 50) == -EBUSY, "a second mover is refused");
  for (int tries = 0; tries < 1000 && (buffer.must_stats().state & DMABUF_TESTEXP_STATE_MOVER);
       ++tries)
    ::usleep(10000);
  report().check(buffer.must_stats().moves == 50, "the mover makes as many moves as asked for",
                 std::to_string(static_cast<std::uint64_t>(buffer.must_stats().moves)));
  report().check(buffer.start_mover(100) == 0, "MOVER_START without an end");
  for (int tries = 0; tries < 1000 && buffer.must_stats().moves <= 150; ++tries)
    ::usleep(10000);
  report().check(buffer.must_stats().state & DMABUF_TESTEXP_STATE_MOVER,
                 "it goes on until it is stopped");
  report().check(buffer.stop_mover() == 0, "MOVER_STOP");
  const auto moves = buffer.must_stats().moves;
  ::usleep(50000);
  report().check(moves > 150 && buffer.must_stats().moves == moves, "MOVER_STOP stops the mover");
  report().check(buffer.start_mover(100) == 0, "a mover that is left running");
  // Buffer and session end with the mover running.
}

void refused_arguments(const InvalidateOptions &options, const Testexp &testexp) {
  const auto bad_create = [&](const char *name, auto change) {
    auto create = gpu_buffer(bytes, options.seed);
    change(create);
    const int result = testexp.create(create);
    report().check(result == -EINVAL, std::format("CREATE with {}", name), errno_name(result));
  };
  using Create = dmabuf_testexp_create;
  bad_create("no bytes", [](Create &c) { c.bytes = 0; });
  bad_create("odd bytes", [](Create &c) { c.bytes += 512; });
  bad_create("unknown flag", [](Create &c) { c.flags |= 1u << 31; });
  bad_create("padding", [](Create &c) { c.reserved = 1; });
  bad_create("other padding", [](Create &c) { c.reserved32 = 1; });
  bad_create("odd segment", [](Create &c) { c.segment_min = 4097; });
  bad_create("segment_max too small", [](Create &c) { c.segment_min = 2 * c.segment_max; });
  bad_create("segment_max too large", [](Create &c) { c.segment_max = 4u << 20; });
  bad_create("misalign without its flag", [](Create &c) { c.misalign = 8; });
  bad_create("misalign of a page", [](Create &c) {
    c.flags |= DMABUF_TESTEXP_MISALIGN_START;
    c.misalign = 4096;
  });
  bad_create("misalign flag alone", [](Create &c) { c.flags |= DMABUF_TESTEXP_MISALIGN_START; });
  bad_create("untrue segments and a CPU view",
             [](Create &c) { c.flags = DMABUF_TESTEXP_SUM_SHORT; });
  bad_create("a decoy of memory that moves",
             [](Create &c) { c.flags |= DMABUF_TESTEXP_LOSE_WRITES; });
  bad_create("shifted segments of a page",
             [](Create &c) { c.flags |= DMABUF_TESTEXP_SHIFT_SEGMENTS; });
  bad_create("shifted segments, and only one", [](Create &c) {
    c.flags |= DMABUF_TESTEXP_SHIFT_SEGMENTS;
    c.segment_min = c.segment_max = bytes;
  });
  bad_create("shifted segments that lie, too", [](Create &c) {
    c.flags |= DMABUF_TESTEXP_SHIFT_SEGMENTS | DMABUF_TESTEXP_SUM_SHORT;
    c.segment_min = 8192;
  });
  bad_create("an exchange that never comes", [](Create &c) { c.flags |= DMABUF_TESTEXP_EXCHANGE; });
  bad_create("exchange_after without its flag", [](Create &c) { c.exchange_after = 1; });
  bad_create("an exchange in memory that does not move", [](Create &c) {
    c.flags = DMABUF_TESTEXP_EXCHANGE;
    c.exchange_after = 1;
  });
  bad_create("quarantine too large", [](Create &c) { c.quarantine = 65; });
  auto create = gpu_buffer(1ull << 50, options.seed);
  int result = testexp.create(create);
  report().check(result == -ENOMEM, "CREATE of too much", errno_name(result));

  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
  dmabuf_testexp_move move{};
  move.id = buffer.id();
  move.reserved = 1;
  result = testexp.raw(DMABUF_TESTEXP_IOC_MOVE, &move);
  report().check(result == -EINVAL, "MOVE with padding", errno_name(result));
  move = {};
  move.id = 99;
  result = testexp.raw(DMABUF_TESTEXP_IOC_MOVE, &move);
  report().check(result == -ENOENT, "MOVE of an unknown buffer", errno_name(result));
  report().check(buffer.fail(DMABUF_TESTEXP_NR_OPS, EIO) == -EINVAL,
                 "FAIL of an unknown operation");
  report().check(buffer.fail(DMABUF_TESTEXP_OP_MAP, 4096) == -EINVAL, "FAIL with no errno");
  report().check(buffer.add_fence(4, 10) == -EINVAL, "FENCE_ADD of an unknown usage");
  report().check(buffer.add_fence(0, 10, DMABUF_TESTEXP_FENCE_NEVER) == -EINVAL,
                 "FENCE_ADD of never, after 10 ms");
  report().check(buffer.signal(7) == -ENOENT, "FENCE_SIGNAL of an unknown fence");
  Word word = 0;
  report().check(buffer.read({&word, 1}, bytes - 4) == -EINVAL, "READ over the end");
  report().check(buffer.read({&word, 1}, ~std::uint64_t{0} - 3) == -EINVAL,
                 "READ of a range that wraps");
  report().check(buffer.read({&word, 1}, 0, DMABUF_TESTEXP_WRITE_STRAY) == -EINVAL,
                 "READ with a flag of WRITE");
  std::uint32_t nothing = 0;
  report().check(testexp.raw(_IO(DMABUF_TESTEXP_MAGIC, 0x3f), &nothing) == -ENOTTY,
                 "an unknown command");
}

// A buffer outlives its session, and holds the module.
void lifetime(const InvalidateOptions &options, const Testexp &testexp) {
  TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
  const UniqueFd kept(::fcntl(buffer.fd(), F_DUPFD_CLOEXEC, 0));
  report().check(buffer.destroy() == 0, "DESTROY");
  dmabuf_testexp_query query{};
  testexp.query(query);
  report().check(query.live_buffers >= 1, "a buffer whose id is gone lives on");
  const int unloaded = unload_module("dmabuf_testexp", 0);
  report().check(unloaded == -EAGAIN || unloaded == -EBUSY, "the module stays while in use",
                 errno_name(unloaded));

  TestBuffer closed = testexp.make(gpu_buffer(bytes, options.seed));
  closed.close_fd();
  dmabuf_testexp_stats stats{};
  for (int tries = 0; tries < 100 && !(stats.state & DMABUF_TESTEXP_STATE_RELEASED); ++tries) {
    stats = closed.must_stats();
    ::usleep(5000);
  }
  report().check((stats.state & DMABUF_TESTEXP_STATE_RELEASED) && stats.pages == 0,
                 "STATS of a buffer that was released");
  report().check(closed.move() == -ENXIO, "MOVE of a buffer that was released");
  Word word = 0;
  report().check(closed.read({&word, 1}, 0) == -ENXIO, "READ of a buffer that was released");
}

} // namespace

void test_exporter(const InvalidateOptions &options, const Testexp &testexp) {
  contents(options, testexp);
  poison(options, testexp);
  cpu_views(options, testexp);
  mover(options, testexp);
  refused_arguments(options, testexp);
  lifetime(options, testexp);
}

} // namespace vmtest
