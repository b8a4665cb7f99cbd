// SPDX-License-Identifier: GPL-2.0-only
// Adapters of the hot path to fio's unit of I/O.
#pragma once

#include "fio/api.hpp"

#include "datapath/discard.hpp"
#include "datapath/lane.hpp"

namespace dmabuf {

static_assert(static_cast<int>(Kind::read) == DDIR_READ &&
              static_cast<int>(Kind::write) == DDIR_WRITE &&
              static_cast<int>(Kind::trim) == DDIR_TRIM &&
              static_cast<int>(Kind::sync) == DDIR_SYNC &&
              static_cast<int>(Kind::datasync) == DDIR_DATASYNC &&
              static_cast<int>(Kind::sync_range) == DDIR_SYNC_FILE_RANGE);

/// Adapter of the hot path to fio's unit of I/O.
struct FioIo {
  using Unit = io_u;
  static Kind kind(const io_u &unit) { return static_cast<Kind>(unit.ddir); }
  static unsigned index(const io_u &unit) { return unit.index; }
  static uint64_t length(const io_u &unit) { return unit.xfer_buflen; }
  static Request request(const Lane &lane, io_u &unit) {
    return {.kind = kind(unit),
            .index = unit.index,
            .file_offset = unit.offset,
            .buffer = static_cast<std::byte *>(unit.xfer_buf),
            .length = static_cast<uint32_t>(unit.xfer_buflen),
            .target = &lane.targets[unit.file->fileno],
            .ioprio = unit.ioprio};
  }
  [[gnu::noinline]] static void fill_sync(const Lane &lane, io_uring_sqe &sqe, io_u &unit) {
    const fio_file &file = *unit.file;
    const Target &target = lane.targets[file.fileno];
    if (unit.ddir == DDIR_TRIM)
      return fill_discard(sqe, target, unit.offset, unit.xfer_buflen);
    // In no order with what is in flight, as with engine io_uring: it makes durable what has
    // completed. (Drained, it would stall the queue, and a wait for several completions at once
    // may then sleep for ever on kernel 7.3.4: a wake-up gets lost.)
    sqe.flags = target.sqe_flags;
    sqe.fd = target.sqe_fd;
    sqe.opcode = IORING_OP_FSYNC;
    if (unit.ddir == DDIR_DATASYNC)
      sqe.fsync_flags = IORING_FSYNC_DATASYNC;
    if (unit.ddir == DDIR_SYNC_FILE_RANGE) {
      sqe.opcode = IORING_OP_SYNC_FILE_RANGE;
      sqe.off = file.first_write;
      // Of a longer range the entry has no room for the length: 0 is up to the file's end.
      const uint64_t length = file.last_write - file.first_write;
      sqe.len = length > UINT32_MAX ? 0 : static_cast<uint32_t>(length);
      sqe.sync_range_flags = static_cast<uint32_t>(lane.sync_range_flags);
    }
  }
  static void done(io_u &unit, int error, uint64_t missing) {
    unit.error = static_cast<unsigned>(error);
    unit.resid = missing;
  }
};

/// The same for what is in flight when fio is done with its files: it frees them before the memory.
/// Such a unit is not issued again.
struct LateIo : FioIo {
  static Request request(const Lane &, io_u &unit) {
    return {.kind = kind(unit),
            .index = unit.index,
            .file_offset = unit.offset,
            .buffer = static_cast<std::byte *>(unit.xfer_buf),
            .length = static_cast<uint32_t>(unit.xfer_buflen),
            .target = nullptr,
            .ioprio = unit.ioprio};
  }
  static void fill_sync(const Lane &, io_uring_sqe &, io_u &) {}
};

} // namespace dmabuf
