// SPDX-License-Identifier: GPL-2.0-only
// User space's view of a buffer: revoked, read-only, counted, and of a copy.
#include "parts.hpp"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

namespace vmtest {

namespace {

constexpr int got_sigbus = 42;

// What a child that reads the word ends with: 0 or got_sigbus.
int child_that_reads(const Word *word) {
  const pid_t child = ::fork();
  if (child < 0)
    die("fork: " + errno_name(errno));
  if (child == 0) {
    ::signal(SIGBUS, [](int) { ::_exit(got_sigbus); });
    static_cast<void>(*static_cast<const volatile Word *>(word));
    ::_exit(0);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status))
    return -1;
  return WEXITSTATUS(status);
}

void revoked(const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(plain_buffer(DMABUF_TESTEXP_DYNAMIC));
  buffer.must_write(pattern(4), 0);
  const View view(buffer);
  report().check(view.holds(pattern(4)), "an mmap shows the contents");
  report().check(child_that_reads(view.words().data()) == 0, "a child reads an mmap");
  check_result(buffer.revoke(), 0, "REVOKE of a buffer with an mmap");
  report().check(child_that_reads(view.words().data()) == got_sigbus,
                 "an mmap of a revoked buffer gets SIGBUS");
  check_result(sync_cpu(buffer, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ), -ENODEV,
               "CPU access to a revoked buffer");
  check_result(buffer.unrevoke(), 0, "UNREVOKE");
  report().check(child_that_reads(view.words().data()) == 0 && view.holds(pattern(4)),
                 "after UNREVOKE an mmap shows the contents again");
}

void read_only(const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(plain_buffer(DMABUF_TESTEXP_READ_ONLY));
  buffer.must_write(pattern(5), 0);
  report().check((::fcntl(buffer.fd(), F_GETFL) & O_ACCMODE) == O_RDONLY,
                 "READ_ONLY: the file is open for reading only");
  void *view = ::mmap(nullptr, test_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, buffer.fd(), 0);
  report().check(view == MAP_FAILED && errno == EACCES, "READ_ONLY: no mmap for writing",
                 errno_name(errno));
  view = ::mmap(nullptr, test_bytes, PROT_READ, MAP_SHARED, buffer.fd(), 0);
  if (!report().check(view != MAP_FAILED, "READ_ONLY: an mmap for reading", errno_name(errno)))
    return;
  const std::span<const Word> words(static_cast<const Word *>(view), test_bytes / 8);
  report().check(!compare_words(words, pattern(5)), "READ_ONLY: it shows the contents");
  ::munmap(view, test_bytes);
}

void counts(const Testexp &testexp) {
  report().check(testexp.has(DMABUF_TESTEXP_FEAT_CPU_COUNTS), "QUERY announces the counts");
  const TestBuffer buffer = testexp.make(plain_buffer(0));
  const auto begin = [&](std::uint64_t way) { return sync_cpu(buffer, DMA_BUF_SYNC_START | way); };
  const auto end = [&](std::uint64_t way) { return sync_cpu(buffer, DMA_BUF_SYNC_END | way); };
  int wrong = 0;
  for (int i = 0; i < 3; ++i)
    wrong |= begin(DMA_BUF_SYNC_READ);
  wrong |= end(DMA_BUF_SYNC_READ);
  for (int i = 0; i < 5; ++i)
    wrong |= begin(DMA_BUF_SYNC_WRITE);
  for (int i = 0; i < 4; ++i)
    wrong |= end(DMA_BUF_SYNC_WRITE);
  wrong |= begin(DMA_BUF_SYNC_RW);
  for (int i = 0; i < 7; ++i)
    wrong |= end(DMA_BUF_SYNC_RW);
  check_result(wrong, 0, "CPU accesses");
  buffer.fail(DMABUF_TESTEXP_OP_CPU, EIO, 0, 1);
  check_result(begin(DMA_BUF_SYNC_READ), -EIO, "CPU access that is refused");
  const auto stats = buffer.must_stats();
  const auto is = [](const __u32 *found, __u32 both, __u32 to, __u32 from) {
    return found[DMABUF_TESTEXP_DIR_BIDIRECTIONAL] == both &&
           found[DMABUF_TESTEXP_DIR_TO_DEVICE] == to &&
           found[DMABUF_TESTEXP_DIR_FROM_DEVICE] == from;
  };
  report().check(is(stats.cpu_begins, 1, 5, 3), "STATS counts begins by direction");
  report().check(is(stats.cpu_ends, 7, 4, 1), "STATS counts ends by direction");
}

} // namespace

void test_views(const TestexpOptions &, const Testexp &testexp) {
  revoked(testexp);
  read_only(testexp);
  counts(testexp);
}

void test_shadow(const TestexpOptions &options, const Testexp &testexp) {
  report().check(testexp.has(DMABUF_TESTEXP_FEAT_SHADOW), "QUERY announces SHADOW");
  const TestBuffer buffer = testexp.make(plain_buffer(DMABUF_TESTEXP_SHADOW));
  const View view(buffer);
  constexpr std::size_t page = 4096 / 8;
  const auto begin = [&](std::uint64_t way) {
    check_result(sync_cpu(buffer, DMA_BUF_SYNC_START | way), 0, "SHADOW: begin of CPU access");
  };
  const auto end = [&](std::uint64_t way) {
    check_result(sync_cpu(buffer, DMA_BUF_SYNC_END | way), 0, "SHADOW: end of CPU access");
  };
  const auto change_page = [&](std::uint32_t generation) {
    const auto words = pattern(generation);
    std::copy_n(words.begin(), page, view.words().begin());
  };
  const auto mixed = [&](std::uint32_t first, std::uint32_t rest) {
    auto words = pattern(rest);
    const auto head = pattern(first);
    std::copy_n(head.begin(), page, words.begin());
    return words;
  };

  buffer.must_write(pattern(6), 0);
  report().check(view.holds(std::vector<Word>(test_bytes / 8)),
                 "SHADOW: nothing comes unannounced");
  begin(DMA_BUF_SYNC_READ);
  report().check(view.holds(pattern(6)), "SHADOW: begin of a read fetches");
  change_page(7);
  end(DMA_BUF_SYNC_READ);
  report().check(holds(buffer, pattern(6)), "SHADOW: end of a read brings nothing back");

  begin(DMA_BUF_SYNC_RW);
  change_page(8);
  report().check(holds(buffer, pattern(6)), "SHADOW: nothing goes before the end");
  end(DMA_BUF_SYNC_RW);
  report().check(holds(buffer, mixed(8, 6)),
                 "SHADOW: a partial write announced both ways is right");

  // The buffer changes; a write that says it reads nothing has the old rest in its copy.
  buffer.must_write(pattern(9), 0);
  begin(DMA_BUF_SYNC_WRITE);
  change_page(10);
  end(DMA_BUF_SYNC_WRITE);
  report().check(holds(buffer, mixed(10, 6)),
                 "SHADOW: a partial write announced one way loses what was beside it");

  // A kernel mapping is of the copy, too.
  check_result(buffer.vmap(), 0, "SHADOW: VMAP");
  buffer.must_write(pattern(11), 0);
  report().check(holds(buffer, mixed(10, 6), DMABUF_TESTEXP_ACCESS_VMAP),
                 "SHADOW: a kernel mapping shows the copy");
  check_result(buffer.write(pattern(12), 0, DMABUF_TESTEXP_ACCESS_VMAP), 0,
               "SHADOW: WRITE through the kernel mapping");
  report().check(holds(buffer, pattern(11)) && view.holds(pattern(12)),
                 "SHADOW: a write through it goes to the copy");
  end(DMA_BUF_SYNC_WRITE);
  report().check(holds(buffer, pattern(12)), "SHADOW: and from there to the buffer");
  buffer.vunmap();

  // A device is led to the buffer; the copy follows when it is told.
  check_transfers(options, buffer, "SHADOW");
  report().check(view.holds(pattern(12)), "SHADOW: the copy does not see the device");
  begin(DMA_BUF_SYNC_READ);
  report().check(view.holds(pattern(41)), "SHADOW: until the next begin");
  end(DMA_BUF_SYNC_READ);

  change_page(13);
  check_result(buffer.move(), 0, "SHADOW: MOVE");
  report().check(view.holds(mixed(13, 41)) && holds(buffer, pattern(41)),
                 "SHADOW: a move keeps the copy and the buffer apart");
}

} // namespace vmtest
