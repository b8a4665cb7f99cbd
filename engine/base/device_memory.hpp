// SPDX-License-Identifier: GPL-2.0-only
// Device memory as its exporter's own copy functions reach it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dmabuf {

/// Memory of a dma-buf that the CPU cannot map through the dma-buf itself: copies by the exporter's
/// own means (a BAR's mmap, cuMemcpy, hipMemcpy, a driver's mapping). The exporter keeps alive here
/// what the copies need and frees it in the destructor. Used by the job's own thread only.
class DeviceMemory {
public:
  virtual ~DeviceMemory() = default;

  /// Copies `to.size()` bytes from byte `offset` of the dma-buf into host memory. They lie inside
  /// the dma-buf. Waits until the bytes are there. Returns 0 or a positive errno.
  virtual int read(uint64_t offset, std::span<std::byte> to) = 0;

  /// Copies host memory to byte `offset` of the dma-buf, as read(). The bytes are visible to a
  /// device that reads the dma-buf afterwards.
  virtual int write(uint64_t offset, std::span<const std::byte> from) = 0;
};

} // namespace dmabuf
