// SPDX-License-Identifier: GPL-2.0-only
// A GPU's render node: finding the one of a driver, and its buffer objects in general.
#pragma once

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "exporter/exporter.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dmabuf {

/// The calls that reach a DRM device: the system's, or a test's.
struct DrmCalls {
  std::vector<std::string> (*nodes)();                     ///< paths of the render nodes
  int (*open)(const char *path);                           ///< a descriptor, or -1 and errno
  int (*ioctl)(int fd, unsigned long request, void *data); ///< 0, or -1 and errno
  void *(*map)(size_t bytes, int fd, uint64_t offset);     ///< shared, or MAP_FAILED and errno
};

/// The system's.
extern const DrmCalls kDrmCalls;

struct GpuNode {
  UniqueFd fd;
  std::string path;
};

/// Path of a render node: "0" is /dev/dri/renderD128, "renderD128" and "card0" lie below /dev/dri,
/// a PCI address is the one below /dev/dri/by-path, an absolute path is itself.
std::string render_path(const std::string &device);

/// Opens `device`, or the first render node if that is empty, which must be one of `driver`'s.
Result<GpuNode> open_gpu(const DrmCalls &calls, const std::string &device, const char *driver);

/// A buffer object's handle; closed at the end of its life, which a dma-buf and a mapping of it
/// survive.
class GemHandle {
public:
  GemHandle(const DrmCalls &calls, int fd, uint32_t handle)
      : calls_(calls), fd_(fd), handle_(handle) {}
  ~GemHandle();
  GemHandle(const GemHandle &) = delete;
  GemHandle &operator=(const GemHandle &) = delete;

  uint32_t get() const { return handle_; }

private:
  const DrmCalls &calls_;
  int fd_;
  uint32_t handle_;
};

/// What there is to know of a buffer object.
struct GemPlace {
  uint64_t bytes;
  uint64_t offset;    ///< where the node maps it
  std::string want;   ///< what it was to be, for messages
  const char *shrink; ///< what makes it smaller, for messages
};

/// A dma-buf of a buffer object, by PRIME, and copies by a mapping of the driver's own.
Result<DmaBuf> share_gem(const DrmCalls &calls, const GpuNode &gpu, const GemHandle &object,
                         const GemPlace &place);

/// Copies from memory of a device that the CPU has mapped.
void read_mapped(const std::byte *map, uint64_t offset, std::span<std::byte> to);

/// Copies to it. The device has the bytes when this returns.
void write_mapped(std::byte *map, uint64_t offset, std::span<const std::byte> from);

} // namespace dmabuf
