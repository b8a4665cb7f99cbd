// SPDX-License-Identifier: GPL-2.0-only
// The datapaths as policies: how a request becomes a submission entry and what is left to do when
// its bytes have moved. The hot path is instantiated once for each, so none of this is a branch or
// an indirect call at run time.
#pragma once

#include "base/dma_buf.hpp"
#include "base/sizes.hpp"
#include "datapath/kinds.hpp"
#include "datapath/lane.hpp"

#include <cstring>
#include <linux/dma-buf.h>
#include <linux/dmabuf_rw.h>

namespace dmabuf {

inline void fill_fixed(const Lane &lane, io_uring_sqe &sqe, const Request &request,
                       uint64_t address, unsigned buffer_slot) {
  sqe.opcode = request.kind == Kind::write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
  sqe.flags = request.target->sqe_flags;
  sqe.fd = request.target->sqe_fd;
  sqe.off = request.file_offset;
  sqe.addr = address;
  sqe.len = request.length;
  sqe.buf_index = static_cast<uint16_t>(buffer_slot);
  sqe.ioprio = request.ioprio;
  sqe.rw_flags = lane.rw_flags;
}

/// A job whose datapath is still open, or that moves no data: a read or write cannot be issued and
/// fails with EINVAL.
struct Unresolved {
  static constexpr Datapath kPath = Datapath::automatic;
  static void fill(Lane &, io_uring_sqe &sqe, const Request &) { sqe.opcode = 0xff; }
  static void landed(Lane &, const Request &, uint32_t) {}
};

/// Commands to the module, on its session, which sits in fixed-file slot 0.
template <Datapath kDatapath> struct ModuleCommand {
  static constexpr Datapath kPath = kDatapath;
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    sqe.opcode = IORING_OP_URING_CMD;
    sqe.flags = IOSQE_FIXED_FILE;
    sqe.fd = 0;
    sqe.cmd_op = request.kind == Kind::write ? DMABUF_RW_URING_WRITE : DMABUF_RW_URING_READ;
    sqe.addr = lane.offset_in_buffer(request);
    sqe.len = request.length;
    const dmabuf_rw_uring_io io = {.file_offset = request.file_offset,
                                   .handle = request.target->handles[lane.buffer_number(request)],
                                   .flags = 0};
    std::memcpy(&sqe.addr3, &io, sizeof(io));
  }
  static void landed(Lane &, const Request &, uint32_t) {}
};

using Premapped = ModuleCommand<Datapath::premapped>;
using Bvec = ModuleCommand<Datapath::bvec>;

/// Fixed-buffer reads and writes; the ring's table holds the dma-bufs, so an address is an offset
/// into one.
struct Registered {
  static constexpr Datapath kPath = Datapath::registered;
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    fill_fixed(lane, sqe, request, lane.offset_in_buffer(request), lane.buffer_number(request));
  }
  static void landed(Lane &, const Request &, uint32_t) {}
};

/// Fixed-buffer reads and writes on dma-bufs that io_uring itself has registered, for each target.
struct Upstream {
  static constexpr Datapath kPath = Datapath::upstream;
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    fill_fixed(lane, sqe, request, lane.offset_in_buffer(request),
               request.target->buffer_slot + lane.buffer_number(request));
  }
  static void landed(Lane &, const Request &, uint32_t) {}
};

/// Fixed-buffer reads and writes on host memory; each I/O slot is a registered buffer.
struct Host {
  static constexpr Datapath kPath = Datapath::host;
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    fill_fixed(lane, sqe, request, reinterpret_cast<uintptr_t>(request.buffer), request.index);
  }
  static void landed(Lane &, const Request &, uint32_t) {}
};

/// The same for atomic=1: Linux takes an atomic write of no registered buffer.
struct HostAtomic : Host {
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    Host::fill(lane, sqe, request);
    if (request.kind != Kind::write)
      return;
    sqe.opcode = IORING_OP_WRITE;
    sqe.buf_index = 0;
    sqe.rw_flags |= kAtomic;
  }
};

/// Reads and writes of the dma-buf itself, by its rw fd; the I/O memory is ordinary.
struct Syscall {
  static constexpr Datapath kPath = Datapath::syscall;
  /// A dma-buf has nothing to make durable.
  using NothingToSync = void;
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    fill_fixed(lane, sqe, request, reinterpret_cast<uintptr_t>(request.buffer), request.index);
    if (lane.fixed_buffers)
      return;
    sqe.opcode = request.kind == Kind::write ? IORING_OP_WRITE : IORING_OP_READ;
    sqe.buf_index = 0;
  }
  static void landed(Lane &, const Request &, uint32_t) {}
};

/// Fixed-buffer reads and writes on host memory, copied from and to the dma-buf by the CPU.
struct Bounce {
  static constexpr Datapath kPath = Datapath::bounce;
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    std::byte *slot = lane.staging + request.index * lane.staging_slot;
    if (request.kind == Kind::write &&
        copy(lane, request, slot, request.buffer, request.length, DMA_BUF_SYNC_READ))
      lane.counters.copied_from_buffer += request.length;
    fill_fixed(lane, sqe, request, reinterpret_cast<uintptr_t>(slot), request.index);
  }
  static void landed(Lane &lane, const Request &request, uint32_t moved) {
    if (request.kind == Kind::read &&
        copy(lane, request, request.buffer, lane.staging + request.index * lane.staging_slot, moved,
             DMA_BUF_SYNC_WRITE))
      lane.counters.copied_to_buffer += moved;
  }

private:
  /// False where the exporter did not let the CPU: such a copy counts for nothing.
  ///
  /// Where the CPU has access already none is begun within it: to begin one for reading may drop
  /// what the CPU has just written, where devices do not look into its caches.
  static bool copy(Lane &lane, const Request &request, void *to, const void *from, uint32_t bytes,
                   uint64_t access) {
    if (lane.cpu_open) {
      std::memcpy(to, from, bytes);
      return true;
    }
    const int fd = lane.dmabuf_fds[lane.buffer_number(request)];
    int error = cpu_access_begin(fd, access);
    std::memcpy(to, from, bytes);
    const int end = cpu_access_end(fd, access);
    error = error ? error : end;
    if (error) [[unlikely]]
      lane.fatal = error;
    return !error;
  }
};

} // namespace dmabuf
