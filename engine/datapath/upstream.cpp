// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/upstream.hpp"

#include <cerrno>
#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace dmabuf {
namespace {

// As in the proposed headers, unchanged since its third revision.
constexpr uint32_t kExtended = 1U << 1; // io_uring_rsrc_update2.resv, there called flags

enum class Type : uint32_t { empty = 0, dmabuf = 2 };

struct Descriptor {
  Type type = Type::empty;
  uint32_t flags = 0;
  uint64_t size = 0;
  uint64_t uaddr = 0;
  int32_t dmabuf_fd = -1;
  int32_t target_fd = -1;
  uint64_t reserved[6] = {};
};
static_assert(sizeof(Descriptor) == 80);

/// Returns 0 or a positive errno.
int update(int ring_fd, unsigned slot, const Descriptor &descriptor) {
  io_uring_rsrc_update2 update = {};
  update.offset = slot;
  update.resv = kExtended;
  update.data = reinterpret_cast<uintptr_t>(&descriptor);
  update.nr = 1;
  // Not by liburing, which has no call for it.
  const long rc = ::syscall(__NR_io_uring_register, ring_fd, IORING_REGISTER_BUFFERS_UPDATE,
                            &update, sizeof(update));
  return rc < 0 ? errno : 0;
}

} // namespace

Result<void> check_upstream(int ring_fd) {
  const int code = update(ring_fd, 0, {});
  if (code == EINVAL)
    return fail(EOPNOTSUPP,
                "this kernel does not have io_uring's own registration of dma-bufs, which "
                "no released Linux has as of 7.3; use dmabuf_datapath=premapped or "
                "registered, or a kernel with those patches");
  if (code)
    return fail(code, errno_text("cannot ask for io_uring's own registration of dma-bufs", code));
  return {};
}

Result<void> register_upstream(int ring_fd, unsigned slot, int dmabuf_fd, int target_fd,
                               const std::string &target) {
  const int code =
      update(ring_fd, slot, {.type = Type::dmabuf, .dmabuf_fd = dmabuf_fd, .target_fd = target_fd});
  if (code)
    return fail(code, errno_text(strf("io_uring did not register the dma-buf for %s; give an NVMe "
                                      "namespace as filename, or use dmabuf_datapath=registered",
                                      target.c_str()),
                                 code));
  return {};
}

void unregister_upstream(int ring_fd, unsigned slot) { (void)update(ring_fd, slot, {}); }

} // namespace dmabuf
