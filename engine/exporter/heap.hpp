// SPDX-License-Identifier: GPL-2.0-only
// The inside of exporter heap, for its tests.
#pragma once

#include <string>

namespace dmabuf {

/// Path of a DMA heap: a name such as "system" lies below /dev/dma_heap, an absolute path is
/// itself.
std::string heap_path(const std::string &device);

/// Why there is no heap at all, and what helps. `heaps` is where Linux shows that it was built with
/// DMA heaps, whether one is loaded or not.
std::string no_heap(const char *heaps);

} // namespace dmabuf
