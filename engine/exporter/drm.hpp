// SPDX-License-Identifier: GPL-2.0-only
// The inside of exporter drm, for its tests.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace dmabuf {

/// Width and height, in 32-bit pixels, of a dumb buffer of at least `bytes` bytes; nothing if no
/// dumb buffer can be that large.
struct DumbShape {
  uint32_t width;
  uint32_t height;
};
std::optional<DumbShape> dumb_shape(uint64_t bytes);

/// Path of a DRM device: "0" is /dev/dri/card0, "card0" lies below /dev/dri, an absolute path is
/// itself.
std::string drm_path(const std::string &device);

} // namespace dmabuf
