// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/discard.hpp"

#include "datapath/ring.hpp"

#include <cerrno>
#include <sys/stat.h>

namespace dmabuf {
namespace {

/// Whether this kernel's io_uring has commands at all (Linux 5.19); a request that it does not know
/// is EINVAL, too.
bool has_commands() {
  io_uring_probe *const probe = io_uring_get_probe();
  const bool known = probe && io_uring_opcode_supported(probe, IORING_OP_URING_CMD);
  io_uring_free_probe(probe);
  return known;
}

} // namespace

Result<void> check_discard(int fd) {
  struct stat status = {};
  if (fstat(fd, &status) < 0)
    return fail(errno, errno_text("it cannot be looked at", errno));
  if (!S_ISBLK(status.st_mode))
    return fail(EOPNOTSUPP, "io_uring discards parts of block devices, and this is none");
  Ring ring;
  if (auto ok = ring.open({.depth = 1}); !ok)
    return ok;
  io_uring_sqe *sqe = ring.sqe();
  if (!sqe)
    return fail(EIO, "a new ring has no room");
  fill_discard(*sqe, {.fd = fd, .sqe_fd = fd}, 0, 0);
  // Nothing to discard is EINVAL where there is a way to discard something, and does nothing.
  switch (const int code = -ring.run_one(); code) {
  case EINVAL:
    if (has_commands())
      return {};
    [[fallthrough]];
  case EOPNOTSUPP:
    return fail(code, "either this kernel's io_uring has no discards (Linux 6.12 has them), or the "
                      "device takes none");
  default:
    return fail(code, errno_text("io_uring does not discard parts of it", code));
  }
}

} // namespace dmabuf
