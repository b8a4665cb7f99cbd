// SPDX-License-Identifier: GPL-2.0-only
// The hot path of dmabuf_submit=sync, ioctl and mmap: one call moves one unit and is waited for.
// Knows units by the same adapter as hot_path.hpp.
#pragma once

#include "base/dma_buf.hpp"
#include "base/sizes.hpp"
#include "datapath/hot_path.hpp"
#include "datapath/lane.hpp"

#include <cerrno>
#include <cstring>
#include <linux/dma-buf.h>
#include <linux/dmabuf_rw.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace dmabuf {

/// datapath syscall: pread() and pwrite() on the dma-buf's rw fd.
struct RwFdCall {
  static int move(Lane &, const Request &request) {
    const auto offset = static_cast<off_t>(request.file_offset);
    const ssize_t moved = request.kind == Kind::write
                              ? pwrite(request.target->fd, request.buffer, request.length, offset)
                              : pread(request.target->fd, request.buffer, request.length, offset);
    return moved < 0 ? -errno : static_cast<int>(moved);
  }
};

/// Control of the above: the CPU copies between the I/O memory and the dma-buf's mmap.
struct MmapCopy {
  static int move(Lane &lane, const Request &request) {
    const bool write = request.kind == Kind::write;
    const uint64_t access = write ? DMA_BUF_SYNC_WRITE : DMA_BUF_SYNC_READ;
    const int fd = request.target->dmabuf_fd;
    std::byte *view = request.target->view + request.file_offset;
    if (const int error = cpu_access_begin(fd, access))
      return -error;
    std::memcpy(write ? view : request.buffer, write ? request.buffer : view, request.length);
    (write ? lane.counters.copied_to_buffer : lane.counters.copied_from_buffer) += request.length;
    if (const int error = cpu_access_end(fd, access))
      return -error;
    return static_cast<int>(request.length);
  }
};

/// datapaths premapped and bvec: the module's ioctl IO.
struct ModuleCall {
  static int move(Lane &lane, const Request &request) {
    dmabuf_rw_io call = {};
    call.handle = request.target->handles[lane.buffer_number(request)];
    call.direction = request.kind == Kind::write ? DMABUF_RW_DIR_WRITE : DMABUF_RW_DIR_READ;
    call.buffer_offset = lane.offset_in_buffer(request);
    call.file_offset = request.file_offset;
    call.length = request.length;
    return ioctl(lane.session_fd, DMABUF_RW_IOC_IO, &call) < 0 ? -errno
                                                               : static_cast<int>(call.moved);
  }
};

template <class Call, class Io> struct SyncPath {
  /// Moves one unit, a read or a write, and says how it ended.
  static void run(Lane &lane, typename Io::Unit &unit) {
    const Request request = Io::request(lane, unit);
    const auto kind = static_cast<unsigned>(request.kind);
    int result = move(lane, request);
    uint16_t tries = 0;
    Verdict verdict = judge(result, request.length, tries, lane.max_tries);
    while (verdict == Verdict::retry) [[unlikely]] {
      tries++;
      lane.counters.retries++;
      usleep(kPauseUs);
      result = move(lane, request);
      verdict = judge(result, request.length, tries, lane.max_tries);
    }
    if (verdict == Verdict::error) [[unlikely]] {
      lane.counters.errors++;
      Io::done(unit, error_of(result), 0);
      return;
    }
    const auto moved = static_cast<unsigned>(result);
    lane.counters.bytes[kind] += moved;
    if (verdict == Verdict::success) [[likely]] {
      lane.counters.ops[kind]++;
    } else {
      lane.counters.partial[kind]++;
      lane.counters.short_requests++;
    }
    Io::done(unit, 0, request.length - moved);
  }

private:
  static constexpr useconds_t kPauseUs = 100;

  /// A signal before the first byte is no result; fio looks at its signals between I/Os.
  static int move(Lane &lane, const Request &request) {
    int result;
    do {
      lane.counters.calls++;
      result = Call::move(lane, request);
    } while (result == -EINTR);
    return result;
  }
};

} // namespace dmabuf
