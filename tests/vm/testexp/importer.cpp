// SPDX-License-Identifier: GPL-2.0-only
// A DRM driver imports a buffer: an importer that needs pages.
#include "parts.hpp"

#include <xf86drm.h>

namespace vmtest {

void test_importer(const Testexp &testexp) {
  const UniqueFd card = open_drm_driver("vgem");
  if (!card)
    die("no vgem device");
  std::uint32_t handle = 0;
  const TestBuffer without = testexp.make(plain_buffer(DMABUF_TESTEXP_NO_PAGES));
  const int refused = ::drmPrimeFDToHandle(card.get(), without.fd(), &handle) == 0 ? 0 : -errno;
  check_result(refused, -EOPNOTSUPP, "NO_PAGES: an importer without allow_peer2peer is refused");
  auto stats = without.must_stats();
  report().check(stats.refused[DMABUF_TESTEXP_OP_ATTACH] == 1 && stats.attachments == 0,
                 "NO_PAGES: the refusal is counted");
  const TestBuffer with = testexp.make(plain_buffer(0));
  const int taken = ::drmPrimeFDToHandle(card.get(), with.fd(), &handle) == 0 ? 0 : -errno;
  check_result(taken, 0, "a buffer with pages is imported by the same driver");
  stats = with.must_stats();
  report().check(stats.refused[DMABUF_TESTEXP_OP_ATTACH] == 0 && stats.attachments == 1,
                 "a buffer with pages: attached");
  ::drmCloseBufferHandle(card.get(), handle);
}

} // namespace vmtest
