// SPDX-License-Identifier: GPL-2.0-only
#include "exporter/pci_bars.hpp"

#include <cinttypes>
#include <cstdio>

namespace dmabuf {

std::array<BarSize, 6> pci_bars(const std::string &path) {
  constexpr uint64_t kMemory = 0x200, kPrefetch = 0x2000; // IORESOURCE_MEM, IORESOURCE_PREFETCH
  std::array<BarSize, 6> found;
  std::FILE *file = std::fopen(path.c_str(), "re");
  uint64_t first, last, flags;
  for (BarSize &bar : found)
    if (file && std::fscanf(file, "%" SCNx64 " %" SCNx64 " %" SCNx64, &first, &last, &flags) == 3 &&
        (flags & kMemory) && last > first)
      bar = {.bytes = last - first + 1, .prefetchable = (flags & kPrefetch) != 0};
  if (file)
    std::fclose(file);
  return found;
}

} // namespace dmabuf
