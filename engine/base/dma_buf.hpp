// SPDX-License-Identifier: GPL-2.0-only
// A dma-buf, and the CPU's access to its memory.
#pragma once

#include "base/device_memory.hpp"
#include "base/memory_owner.hpp"
#include "base/unique_fd.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace dmabuf {

/// A dma-buf with its CPU view, or with the exporter's own copies where the CPU cannot map it.
/// The descriptor alone keeps the memory, and `memory` what copies it.
struct DmaBuf {
  std::unique_ptr<MemoryOwner> owner;   ///< whom the memory goes back to; mostly nobody; freed last
  std::unique_ptr<DeviceMemory> memory; ///< copies; set by exporters of device memory
  UniqueFd fd;
  MappedRange view;   ///< the whole dma-buf, readable and writable; none where `memory` is set
  uint64_t bytes = 0; ///< size of the dma-buf, at least what was asked for
  std::string device; ///< the device it came from
  std::string note;   ///< what the user should know of the choice; mostly nothing
  std::string maker;  ///< of exporters that are the user's: what they say of themselves
  UniqueFd keeper;    ///< testexp, fd: what goes on while it is open; else closed already

  /// How it was allocated and exported, where the exporter has several ways: "vmm+pcie".
  std::string exported;
  /// Why a drive finds no room to map it, where the exporter knows: "<what> (<NAME>, ENOMEM);
  /// <remedy>".
  std::string no_room;
  /// What to do where the CPU cannot map it, of exporters whose memory is not theirs.
  std::string no_view;
};

/// Waits for the buffer's fences and makes it coherent for CPU access until cpu_access_end().
/// `flags`: DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE or both. Returns 0 or a positive errno.
int cpu_access_begin(int dmabuf_fd, uint64_t flags);

/// Hands the buffer back to devices. Same flags and result as cpu_access_begin().
int cpu_access_end(int dmabuf_fd, uint64_t flags);

} // namespace dmabuf
