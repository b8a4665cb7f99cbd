// SPDX-License-Identifier: GPL-2.0-only
// A DRM driver imports the buffers: an importer that pins, and that needs pages.
#include "parts.hpp"

#include <xf86drm.h>

namespace vmtest {

namespace {

// A DRM device and the one buffer that it has imported, if any.
class DrmImporter {
public:
  explicit DrmImporter(UniqueFd card) : card_(std::move(card)) {}
  DrmImporter(const DrmImporter &) = delete;
  DrmImporter &operator=(const DrmImporter &) = delete;
  ~DrmImporter() { drop(); }
  // 0 or a negative errno.
  int import(const TestBuffer &buffer) {
    drop();
    return ::drmPrimeFDToHandle(card_.get(), buffer.fd(), &handle_) == 0 ? 0 : -errno;
  }
  void drop() {
    if (handle_)
      ::drmCloseBufferHandle(card_.get(), std::exchange(handle_, 0));
  }

private:
  UniqueFd card_;
  std::uint32_t handle_ = 0;
};

void needs_pages(DrmImporter &importer, const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(plain_buffer(DMABUF_TESTEXP_NO_PAGES));
  check_result(importer.import(buffer), -EOPNOTSUPP,
               "NO_PAGES: an importer without allow_peer2peer is refused");
  const auto stats = buffer.must_stats();
  report().check(stats.refused[DMABUF_TESTEXP_OP_ATTACH] == 1 && stats.attachments == 0,
                 "NO_PAGES: the refusal is counted");
}

void pins(DrmImporter &importer, const Testexp &testexp) {
  const TestBuffer buffer =
      testexp.make(plain_buffer(DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_LOOSE_VMAP));
  buffer.must_write(pattern(14), 0);
  check_result(buffer.vmap(), 0, "an importer that pins: VMAP");
  check_result(importer.import(buffer), 0, "an importer that pins: import");
  if (buffer.must_stats().pins == 0) {
    report().fail("an importer that pins", "it does not pin: another driver is needed here");
    return;
  }
  report().check(buffer.must_stats().pins == 1, "an importer that pins: STATS.pins");
  check_result(buffer.move(), -EBUSY, "an importer that pins: MOVE, with LOOSE_VMAP too");
  report().check(holds(buffer, pattern(14), DMABUF_TESTEXP_ACCESS_VMAP),
                 "an importer that pins: the kernel mapping is right");
  importer.drop();
  report().check(buffer.must_stats().pins == 0, "an importer that pins: unpinned");
  check_result(buffer.move(), 0, "an importer that pins: MOVE afterwards");
  report().check(!holds(buffer, pattern(14), DMABUF_TESTEXP_ACCESS_VMAP),
                 "an importer that pins: the kernel mapping is stale then");

  check_result(buffer.fail(DMABUF_TESTEXP_OP_PIN, EPERM, 0, 1), 0, "FAIL of pin");
  check_result(importer.import(buffer), -EPERM, "an importer that pins: pin refused");
  report().check(buffer.must_stats().refused[DMABUF_TESTEXP_OP_PIN] == 1 &&
                     buffer.must_stats().pins == 0,
                 "an importer that pins: the refusal is counted");
  check_result(importer.import(buffer), 0, "an importer that pins: import after the refusal");
}

} // namespace

void test_importer(const TestexpOptions &, const Testexp &testexp) {
  UniqueFd card = open_drm_driver("vgem");
  if (!card)
    die("no vgem device");
  DrmImporter importer(std::move(card));
  needs_pages(importer, testexp);
  pins(importer, testexp);
}

} // namespace vmtest
