// SPDX-License-Identifier: GPL-2.0-only
// The inside of exporter udmabuf, for its tests.
#pragma once

#include "base/system.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace dmabuf {

/// Why udmabuf cannot hold `bytes` bytes when its size_limit_mb is `limit_mb`: the sentence for the
/// user; nothing if it can.
std::optional<std::string> udmabuf_over_limit(uint64_t bytes, uint64_t limit_mb,
                                              const char *shrink = kShrinkIo);

} // namespace dmabuf
