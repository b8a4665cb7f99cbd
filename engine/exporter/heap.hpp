// SPDX-License-Identifier: GPL-2.0-only
// The inside of exporter heap, for its tests.
#pragma once

#include <string>

namespace dmabuf {

/// Path of a DMA heap: a name such as "system" lies below /dev/dma_heap, an absolute path is
/// itself.
std::string heap_path(const std::string &device);

} // namespace dmabuf
