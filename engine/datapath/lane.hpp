// SPDX-License-Identifier: GPL-2.0-only
// The state one job's I/O goes through: everything the hot path reads and writes, nothing else.
#pragma once

#include "base/device_memory.hpp"
#include "base/sizes.hpp"
#include "datapath/packs.hpp"
#include "datapath/ring.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace dmabuf {

/// What a unit of I/O is, with fio's numbers, so that no translation is needed. The first two index
/// Counters.
enum class Kind : unsigned {
  read = 0,
  write = 1,
  trim = 2,
  sync = 3,
  datasync = 4,
  sync_range = 5
};

/// An open target file.
struct Target {
  int fd = -1;
  int sqe_fd = -1;       ///< fd or fixed-file slot for a submission entry, as sqe_flags says
  uint8_t sqe_flags = 0; ///< 0 or IOSQE_FIXED_FILE
  const uint32_t *handles = nullptr; ///< premapped, bvec: the module's mappings of the dma-bufs
  unsigned buffer_slot = 0;          ///< upstream: of the first dma-buf in the ring's table
  std::byte *view = nullptr;         ///< mmap: the dma-buf under test
  int dmabuf_fd = -1;                ///< mmap: the same
  bool queues_trims = false;         ///< the ring takes its trims, as it takes reads and writes
};

/// Counted by the engine as requests complete.
struct Counters {
  uint64_t ops[2] = {};     ///< requests that succeeded in full, by Kind
  uint64_t bytes[2] = {};   ///< bytes they and short requests moved
  uint64_t partial[2] = {}; ///< requests that moved fewer bytes than asked, but some
  uint64_t syncs = 0;
  uint64_t trims = 0;
  uint64_t queued_trims = 0; ///< of these, by the ring; the others one at a time
  uint64_t errors = 0;
  uint64_t short_requests = 0;
  uint64_t retries = 0;
  uint64_t remaps = 0;   ///< times the dma-buf was unmapped and mapped again
  uint64_t calls = 0;    ///< read and write calls made one by one: all except dmabuf_submit=uring
  uint64_t vectors = 0;  ///< commands READV and WRITEV that ended (dmabuf_ranges)
  uint64_t vectored = 0; ///< I/Os in them
  uint64_t copied_to_buffer = 0;
  uint64_t copied_from_buffer = 0;
  uint64_t shadow_to_buffer = 0;   ///< copied for fio before writes, from its buffers
  uint64_t shadow_from_buffer = 0; ///< copied for fio after reads, to its buffers
  uint64_t first_fill = 0;         ///< of what fio filled once, before the first I/O
};

/// What fio's buffers are.
enum class BufferKind : unsigned {
  view,   ///< the dma-buf's memory itself, or the host's where there is no dma-buf
  device, ///< host memory in the place of memory that the CPU does not map; nobody looks at it
  shadow  ///< the same, copied where fio fills or checks it
};

/// Values of BufferKind.
inline constexpr size_t kBufferKinds = 3;

/// One read or write, as a datapath needs it. Bytes.
struct Request {
  Kind kind;
  unsigned index; ///< I/O slot, 0 … iodepth-1
  uint64_t file_offset;
  std::byte *buffer; ///< where fio wants the data
  uint32_t length;
  const Target *target;
  uint16_t ioprio = 0;
};

// Of linux/fs.h, which the headers of an older kernel lack: flags of reads and writes.
inline constexpr int kAtomic = 0x40;    ///< RWF_ATOMIC
inline constexpr int kDontCache = 0x80; ///< RWF_DONTCACHE

/// EAGAINs one request may meet before it fails with EAGAIN.
inline constexpr unsigned kMaxTries = 100;

struct Lane {
  Ring ring;
  std::byte *base = nullptr;       ///< CPU view of the dma-bufs, or the host memory
  const int *dmabuf_fds = nullptr; ///< the dma-bufs
  unsigned slot_mask = 0;          ///< I/O slot to dma-buf: 0, or all ones with one for each slot
  uint64_t slot_bytes = 0;         ///< of each dma-buf then
  bool cpu_open = false;           ///< the CPU has access to all of them: fio fills or checks
  Target *targets = nullptr;       ///< by file number
  Counters counters;
  int fatal = 0; ///< errno after which this job can do no more I/O

  // Memory that the CPU does not map: `base` is host memory of the same layout.
  DeviceMemory *const *memories = nullptr; ///< of the dma-bufs
  unsigned memory_mask = 0;  ///< I/O slot to memory: 0, or all ones with one for each slot
  uint64_t memory_bytes = 0; ///< of each memory then
  bool copies_up = false;    ///< what fio writes is copied to the memory before
  bool copies_down = false;  ///< what fio reads is copied from the memory after

  // bounce: one staging slot of host memory per I/O slot.
  std::byte *staging = nullptr;
  uint64_t staging_slot = 0; ///< bytes per slot
  // As the options of engine io_uring say.
  int rw_flags = 0;               ///< of reads and writes: RWF_NOWAIT, RWF_DONTCACHE
  unsigned max_tries = kMaxTries; ///< EAGAINs one request may meet before it fails with EAGAIN
  unsigned force_async = 0;       ///< every Nth request is issued by a worker
  unsigned prepared = 0;          ///< requests since the last of these
  bool fixed_buffers = false;     ///< syscall: each I/O slot is a registered buffer

  int session_fd = -1; ///< ioctl: the module's session

  std::unique_ptr<void *[]> pending; ///< units prepared since the last submission, in order
  std::unique_ptr<void *[]> ready;   ///< units the last reap handed out
  std::unique_ptr<uint16_t[]> tries; ///< EAGAINs of the unit now in each slot
  unsigned depth = 0;
  unsigned in_flight = 0;   ///< prepared and not yet handed out by a reap
  unsigned remap_every = 0; ///< I/Os between two mappings of the dma-buf, 0: it stays mapped
  unsigned since_remap = 0; ///< I/Os prepared since the last

  /// Which dma-buf a request's I/O slot is in, and where in it its buffer starts.
  unsigned buffer_number(const Request &request) const { return request.index & slot_mask; }
  uint64_t offset_in_buffer(const Request &request) const {
    return buffer_offset(base + buffer_number(request) * slot_bytes, request.buffer);
  }
  unsigned pending_count = 0;
  unsigned sync_range_flags = 0; ///< for sync_file_range()
  unsigned again = 0;            ///< prepared again during the current reap

  Packs packs; ///< dmabuf_ranges: several I/Os in one command

  /// Units that the kernel has, or has seen to the end.
  unsigned submitted() const { return in_flight - ring.unsubmitted() - unsubmitted_more(); }

  /// Units in entries that the kernel does not have, beyond one for each entry.
  unsigned unsubmitted_more() const {
    unsigned more = 0;
    for (const Pack &pack : packs.all())
      if (pack.count && ring.holds(pack.place))
        more += pack.count - 1;
    return more;
  }

  bool spins = false;      ///< sqthread_poll: looks for completions without system calls
  bool polls = false;      ///< iodepth_batch_complete_min=0: asks for them and never sleeps
  bool syncs_wait = false; ///< a polled ring takes no fsync: it is a call that is waited for
  bool syncs_last = false; ///< verify_policy=fsynced: an fsync waits for what is in flight
};

} // namespace dmabuf
