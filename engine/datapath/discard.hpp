// SPDX-License-Identifier: GPL-2.0-only
// Trims by io_uring: discards of a block device that the ring takes as it takes reads and writes,
// from Linux 6.12 on.
#pragma once

#include "base/error.hpp"
#include "datapath/lane.hpp"

#include <cstdint>
#include <liburing.h>
#include <sys/ioctl.h>

namespace dmabuf {

/// BLOCK_URING_CMD_DISCARD of linux/blkdev.h, which the headers of an older kernel lack.
inline constexpr uint32_t kDiscard = _IO(0x12, 0);

/// Makes `sqe` the discard of `length` bytes of `target`, from `offset` on.
inline void fill_discard(io_uring_sqe &sqe, const Target &target, uint64_t offset,
                         uint64_t length) {
  sqe.opcode = IORING_OP_URING_CMD;
  sqe.flags = target.sqe_flags;
  sqe.fd = target.sqe_fd;
  sqe.cmd_op = kDiscard;
  sqe.addr = offset;
  sqe.addr3 = length;
}

/// Whether an io_uring can discard parts of the file that is open as `fd`; if not, the error says
/// why. Asks the kernel by a discard of nothing on a ring of its own, so that it may be called
/// while I/O is in flight.
Result<void> check_discard(int fd);

} // namespace dmabuf
