// SPDX-License-Identifier: GPL-2.0-only
// Fences that have signalled, and fences that another follows.
#include "parts.hpp"

#include <atomic>
#include <thread>

namespace vmtest {

namespace {

void signalled(const TestexpOptions &options, const Testexp &testexp) {
  constexpr std::uint32_t many = 1000;
  const TestBuffer buffer = testexp.make(plain_buffer(gpu_like));
  check_result(buffer.add_signalled(DMABUF_TESTEXP_USAGE_WRITE, 0), -EINVAL, "no signalled fence");
  check_result(buffer.add_signalled(DMABUF_TESTEXP_USAGE_WRITE, 65537), -EINVAL,
               "too many signalled fences");
  check_result(buffer.add_signalled(4, 1), -EINVAL, "signalled fences of an unknown usage");
  for (const std::uint32_t usage : {DMABUF_TESTEXP_USAGE_KERNEL, DMABUF_TESTEXP_USAGE_READ}) {
    check_result(buffer.add_signalled(usage, many), 0, "signalled fences");
    report().check(listed_fences() == many, "signalled fences stay on the buffer",
                   std::format("{} listed", listed_fences()));
    report().check(buffer.must_stats().fences == 0 && idle(buffer),
                   "nobody waits for signalled fences");
    check_transfers(options, buffer, "1000 signalled fences");
  }
  check_result(buffer.move(), 0, "MOVE with signalled fences");
}

void followed(const TestexpOptions &options, const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(plain_buffer(gpu_like));
  check_result(buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 5, DMABUF_TESTEXP_FENCE_FOLLOWED),
               -EINVAL, "a fence of the clock that is followed");
  const UniqueFd target = open_target(options.nvme);
  Session session;
  Ring ring(8, 0);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  check_result(mover.error(), 0, "a fence that is followed: MAP");
  std::uint32_t first = 0;
  check_result(buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0,
                                DMABUF_TESTEXP_FENCE_NEVER | DMABUF_TESTEXP_FENCE_FOLLOWED, &first),
               0, "a fence that is followed");
  report().check(!idle(buffer), "a fence that is followed is waited for");
  std::atomic<bool> done = false;
  int result = 0;
  std::thread reader([&] {
    result = mover.transfer(Direction::Read, 0, 4096, test_disk_base);
    done = true;
  });
  check_result(buffer.signal(first), 0, "FENCE_SIGNAL of the first");
  report().check(!idle(buffer) && buffer.must_stats().fences == 1,
                 "the fence that follows is there when the first has signalled");
  // Long enough for a read that waits for the first only.
  ::usleep(300000);
  report().check(!done, "an importer that waited for the first waits for the other");
  check_result(buffer.signal(first), -ENOENT, "FENCE_SIGNAL of the first again");
  check_result(buffer.signal(0), 0, "FENCE_SIGNAL of all");
  reader.join();
  check_result(result, 4096, "the read succeeds in the end");
  report().check(idle(buffer) && buffer.must_stats().fences == 0, "the other is followed by none");
}

} // namespace

void test_fences(const TestexpOptions &options, const Testexp &testexp) {
  report().check(testexp.has(DMABUF_TESTEXP_FEAT_FENCES), "QUERY announces the fences");
  signalled(options, testexp);
  followed(options, testexp);
}

} // namespace vmtest
