// SPDX-License-Identifier: GPL-2.0-only
// The inside of exporter vfio, for its tests.
#pragma once

#include "exporter/exporter.hpp"
#include "exporter/vfio_device.hpp"

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

namespace dmabuf {

/// The functions that this process has open, so that its jobs (threads) and their dma-bufs share
/// them.
class OpenVfioDevices {
public:
  explicit OpenVfioDevices(VfioCalls &calls) : calls_(calls) {}

  /// A dma-buf of a BAR, with its copies. The device stays open as long as one of them is there.
  Result<DmaBuf> allocate(const BufferRequest &request);

  /// Gives a part of a BAR back, and closes the device after the last.
  void drop(std::shared_ptr<VfioDevice> device, unsigned bar, uint64_t offset);

private:
  Result<std::shared_ptr<VfioDevice>> get(const std::string &address);
  Result<DmaBuf> allocate_from(PciBar wanted, uint64_t bytes, const char *shrink);

  VfioCalls &calls_;
  // What fails in allocate_from() drops what it has.
  std::recursive_mutex lock_;
  std::map<std::string, std::weak_ptr<VfioDevice>> devices_;
};

/// Copies from a device's memory: aligned words, as a device may take nothing else.
void copy_from_bar(std::span<std::byte> to, const volatile std::byte *from);

/// The same to a device's memory; returns when the bytes have arrived there.
void copy_to_bar(volatile std::byte *to, std::span<const std::byte> from);

/// Why a BAR of `has` bytes has not `bytes` bytes for a job: the sentence for the user.
std::string small_bar(const PciBar &bar, uint64_t bytes, uint64_t has, const char *shrink);

} // namespace dmabuf
