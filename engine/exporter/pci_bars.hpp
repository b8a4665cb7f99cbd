// SPDX-License-Identifier: GPL-2.0-only
// The BARs of a PCI function, by sysfs.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace dmabuf {

/// A BAR as the kernel has it.
struct BarSize {
  uint64_t bytes = 0; ///< 0 where there is no memory
  bool prefetchable = false;
};

/// The BARs of a function by the file that lists its resources; none where it cannot be read.
std::array<BarSize, 6> pci_bars(const std::string &path);

} // namespace dmabuf
