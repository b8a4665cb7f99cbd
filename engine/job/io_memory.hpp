// SPDX-License-Identifier: GPL-2.0-only
// The I/O memory of one job: the dma-bufs or host memory that hold fio's buffers; the host memory
// that fio fills and checks where the CPU does not map the dma-buf; and the CPU's access to them.
#pragma once

#include "base/dma_buf.hpp"
#include "base/error.hpp"
#include "datapath/lane.hpp"
#include "job/config.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dmabuf {

/// Tells the lane where the memory is. `config` and `lane` outlive it.
class IoMemory {
public:
  IoMemory(const JobConfig &config, Lane &lane) : config_(config), lane_(lane) {}

  /// Allocates at least `bytes` bytes, page aligned, for I/O slots that are `slot_bytes` bytes
  /// apart, and gives what fio takes for its buffers: the dma-buf's CPU view, or host memory for a
  /// datapath without dma-bufs as I/O memory, or host memory of the dma-buf's layout where the CPU
  /// does not map that. It is open for CPU access until the first submission. After free() it may
  /// be called again.
  Result<void *> allocate(uint64_t bytes, uint64_t slot_bytes);

  /// Refuses I/O slots that are elsewhere than where allocate() has made room for them.
  Result<void> check_slots(std::span<void *const> buffers) const;

  /// Bytes from one I/O slot to the next.
  uint64_t slot_bytes() const { return slot_bytes_; }

  /// bounce: allocates the staging slots.
  Result<std::byte *> allocate_staging(uint64_t bytes);

  /// Copies what fio has filled to memory that the CPU does not map, if nothing else does later.
  Result<void> first_fill();

  /// Ends the CPU's access, if it is open.
  void close_cpu();

  /// Frees all. What device(), exported(), bytes() and count() say stays.
  void free();

  /// What fio's buffers are; after allocate().
  BufferKind buffer_kind() const;

  /// The dma-bufs: one for all I/O slots, or one for each; none before allocate() and after free().
  std::span<const DmaBuf> dmabufs() const { return dmabufs_; }

  const std::string &device() const { return device_; }
  const std::string &exported() const { return exported_; } ///< DmaBuf::exported
  uint64_t bytes() const { return bytes_; } ///< of the dma-bufs, or of the host memory
  unsigned count() const { return count_; } ///< of the dma-bufs

  /// Brackets the CPU's access to the dma-bufs around a submission and after completions; nothing
  /// where there is no dma-buf or fio leaves the buffers alone. Return 0 or a positive errno.
  int before_submit() { return lane_.cpu_open ? end_cpu() : 0; }
  int after_submit() { return sync_fill_ ? begin_cpu() : 0; }
  int after_reap() { return sync_check_ ? restart_cpu() : 0; }

private:
  Result<std::byte *> allocate_host(uint64_t bytes);
  Result<void> allocate_job(uint64_t bytes);
  Result<void> allocate_slots(uint64_t bytes);
  void use_memories();
  int begin_cpu();
  int end_cpu();
  int restart_cpu();

  const JobConfig &config_;
  Lane &lane_;
  std::vector<DmaBuf> dmabufs_;
  std::vector<int> fds_;                 ///< theirs, for the lane
  MappedRange slots_;                    ///< one for each: where they are mapped side by side
  std::vector<DeviceMemory *> memories_; ///< theirs, for the lane, where the CPU does not map them
  MappedRange shadow_;                   ///< one for all of such memory: what fio has for it
  MappedRange host_; ///< without dma-bufs: the I/O memory; bounce: the staging slots
  std::string device_;
  std::string exported_;
  uint64_t bytes_ = 0;
  uint64_t slot_bytes_ = 0;
  uint64_t room_ = 0; ///< bytes from what allocate() gave on
  unsigned count_ = 0;
  bool sync_fill_ = false;
  bool sync_check_ = false;
};

} // namespace dmabuf
