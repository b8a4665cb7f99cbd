// SPDX-License-Identifier: GPL-2.0-only
// PCI functions driven by vfio-pci, and their memory BARs.
#pragma once

#include "base/error.hpp"
#include "base/unique_fd.hpp"

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
  static constexpr unsigned kNone = UINT32_MAX;
  std::string address; ///< in full: 0000:01:00.0
  unsigned bar = kNone;
};

/// A size for messages: "64 KiB", "3 MiB".
std::string size_text(uint64_t bytes);

/// What dmabuf_device says to exporter vfio: an address, with or without domain, perhaps with "/N".
Result<PciBar> pci_bar(std::string_view device);

/// Why exporter vfio does not work without a device: the functions there are to name, each with its
/// memory BARs. The job takes none without being told: a device that waits for a virtual machine
/// is bound to vfio-pci, too.
Error no_vfio_device_named(const VfioCalls &calls);

/// A function that this process has opened. VFIO lets one process open it, once; so all
/// buffers of this process that are in its memory share this.
class VfioDevice {
public:
  /// Opens it, by its character device and iommufd where the kernel has them, else by group and
  /// container, and lets its memory be reached.
  static Result<std::shared_ptr<VfioDevice>> open(VfioCalls &calls, const std::string &address);

  /// Bytes of a BAR, 0 for one that cannot be mapped.
  uint64_t bar_bytes(unsigned bar) const { return bars_[bar].bytes; }

  /// Why no user may let a drive write to a BAR; "" if a user may.
  const char *forbidden(unsigned bar) const;

  /// Whether the device says that reads of a BAR change nothing in it: it may be memory. Registers
  /// are mostly not prefetchable.
  bool prefetchable(unsigned bar) const { return bars_[bar].prefetchable; }

  /// Takes `bytes` bytes of a BAR that nobody else in this process has. Whole pages. Their offset
  /// in the BAR; nothing if there are not as many in a row.
  std::optional<uint64_t> take(unsigned bar, uint64_t bytes);
  void give_back(unsigned bar, uint64_t offset) { bars_[bar].taken.erase(offset); }

  /// A part of a BAR as a dma-buf. It is revoked when this is closed.
  Result<UniqueFd> export_part(unsigned bar, uint64_t offset, uint64_t bytes) const;

  /// A part of a BAR for the CPU.
  Result<MappedRange> map_part(unsigned bar, uint64_t offset, uint64_t bytes) const;

  static constexpr unsigned kBars = 6;

private:
  struct Bar {
    uint64_t bytes = 0;
    bool prefetchable = false;
    bool msix_table = false, msix_pending = false; ///< what it holds
    uint64_t place = 0;                            ///< in the device's descriptor
    std::map<uint64_t, uint64_t> taken;            ///< by offset, bytes
  };

  VfioDevice(VfioCalls &calls, std::string address) : calls_(calls), address_(std::move(address)) {}

  Result<void> open_by_cdev(const std::string &name);
  Result<void> open_by_group(const std::string &group);
  Result<void> learn_bars();
  Result<void> learn_msix();
  template <class T> bool config(unsigned place, T &value) const;
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
