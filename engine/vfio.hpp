// SPDX-License-Identifier: GPL-2.0-only
// PCI functions driven by vfio-pci, and their memory BARs.
#pragma once

#include "error.hpp"
#include "unique_fd.hpp"

#include <cstdint>
#include <fcntl.h>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <vector>

namespace dmabuf {

/// The calls that reach VFIO, in one place so that a test can answer them. As open(2) and ioctl(2).
struct VfioCalls {
  virtual ~VfioCalls() = default;
  virtual int open(const std::string &path) {
    return ::open((root + path).c_str(), O_RDWR | O_CLOEXEC);
  }
  virtual int ioctl(int fd, unsigned long request, void *argument) {
    return ::ioctl(fd, request, argument);
  }

  std::string root; ///< in front of /sys and /dev; empty but in tests
};

/// A function's address and one of its BARs.
struct PciBar {
  static constexpr unsigned kLargest = UINT32_MAX;
  std::string address; ///< in full: 0000:01:00.0
  unsigned bar = kLargest;
};

/// What dmabuf_device says to exporter vfio: an address, with or without domain, perhaps with "/N".
Result<PciBar> pci_bar(std::string_view device);

/// Address of the first function that vfio-pci drives and that has a memory BAR.
Result<std::string> first_vfio_device(const VfioCalls &calls);

/// A function that this process has opened. VFIO lets one process open it, once; so whoever in
/// this process wants some of its memory shares this.
class VfioDevice {
public:
  /// Opens it, by its character device and iommufd where the kernel has them, else by group and
  /// container, and lets its memory be reached.
  static Result<std::shared_ptr<VfioDevice>> open(VfioCalls &calls, const std::string &address);

  /// Bytes of a BAR, 0 for one that cannot be mapped.
  uint64_t bar_bytes(unsigned bar) const { return bars_[bar].bytes; }

  /// The BAR with the most bytes; nothing if there is none that can be mapped.
  std::optional<unsigned> largest_bar() const;

  /// Takes `bytes` bytes of a BAR that nobody else in this process has. Whole pages. Their offset
  /// in the BAR; nothing if there are not as many in a row.
  std::optional<uint64_t> take(unsigned bar, uint64_t bytes);
  void give_back(unsigned bar, uint64_t offset) { bars_[bar].taken.erase(offset); }

  /// A part of a BAR as a dma-buf. It is revoked when this is closed.
  Result<UniqueFd> export_part(unsigned bar, uint64_t offset, uint64_t bytes) const;

  /// A part of a BAR for the CPU.
  Result<MappedRange> map_part(unsigned bar, uint64_t offset, uint64_t bytes) const;

private:
  static constexpr unsigned kBars = 6;
  struct Bar {
    uint64_t bytes = 0;
    uint64_t place = 0;                 ///< in the device's descriptor
    std::map<uint64_t, uint64_t> taken; ///< by offset, bytes
  };

  VfioDevice(VfioCalls &calls, std::string address) : calls_(calls), address_(std::move(address)) {}

  Result<void> open_by_cdev(const std::string &name);
  Result<void> open_by_group(const std::string &group);
  Result<void> learn_bars();
  Result<void> enable_memory();

  VfioCalls &calls_;
  std::string address_;
  UniqueFd container_; ///< or the iommufd
  UniqueFd group_;
  UniqueFd device_;
  uint64_t config_ = 0; ///< where the configuration space is in the device's descriptor
  Bar bars_[kBars];
};

} // namespace dmabuf
