// SPDX-License-Identifier: GPL-2.0-only
// Allocation of dma-bufs from the exporters this engine knows.
#pragma once

#include "base/device_memory.hpp"
#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "job/config.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace dmabuf {

/// A dma-buf with its CPU view, or with the exporter's own copies where the CPU cannot map it.
/// The descriptor alone keeps the memory, and `memory` what copies it.
struct DmaBuf {
  std::unique_ptr<DeviceMemory> memory; ///< copies; set by exporters of device memory; freed last
  UniqueFd fd;
  MappedRange view;   ///< the whole dma-buf, readable and writable; none where `memory` is set
  uint64_t bytes = 0; ///< size of the dma-buf, at least what was asked for
  std::string device; ///< the device it came from
  std::string note;   ///< what the user should know of the choice; mostly nothing
  UniqueFd keeper;    ///< testexp: what goes on while it is open; else closed already
};

/// What makes a job's I/O memory smaller, and what a file under test; for messages.
inline constexpr const char *kShrinkIo = "lower iodepth or bs";
inline constexpr const char *kShrinkFile = "lower size";

/// What to allocate.
struct BufferRequest {
  ExporterKind kind = ExporterKind::udmabuf;
  std::string device = {}; ///< the exporter's device; empty: the first there is, of vfio none
  uint64_t bytes = 0;      ///< at least
  bool hugepages = false;
  const char *shrink = kShrinkIo; ///< what makes the buffer smaller, for messages
};

/// What an exporter can do.
struct ExporterTraits {
  const char *what;   ///< for the list of options
  bool cpu_map;       ///< the CPU maps its dma-bufs: they have a `view`, unless they give `memory`
  bool device_memory; ///< its memory is, or may be, a device's, which the machine's does not count
  bool dynamic;       ///< its memory may move while a drive has it mapped
};

/// The traits of an exporter. ExporterKind::none has none.
ExporterTraits exporter_traits(ExporterKind kind);

/// Allocates a dma-buf and maps it for the CPU, where its exporter does that. Nothing is left
/// behind on failure.
Result<DmaBuf> allocate_dmabuf(const BufferRequest &request);

/// Waits for the buffer's fences and makes it coherent for CPU access until cpu_access_end().
/// `flags`: DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE or both. Returns 0 or a positive errno.
int cpu_access_begin(int dmabuf_fd, uint64_t flags);

/// Hands the buffer back to devices. Same flags and result as cpu_access_begin().
int cpu_access_end(int dmabuf_fd, uint64_t flags);

// One function per exporter; the part of allocate_dmabuf() before the CPU view.
Result<DmaBuf> allocate_udmabuf(const BufferRequest &request);
Result<DmaBuf> allocate_heap(const BufferRequest &request);
Result<DmaBuf> allocate_drm(const BufferRequest &request);
Result<DmaBuf> allocate_vfio(const BufferRequest &request);
Result<DmaBuf> allocate_cuda(const BufferRequest &request);
Result<DmaBuf> allocate_hip(const BufferRequest &request);
Result<DmaBuf> allocate_amdgpu(const BufferRequest &request);
Result<DmaBuf> allocate_xe(const BufferRequest &request);
Result<DmaBuf> allocate_i915(const BufferRequest &request);
Result<DmaBuf> allocate_testexp(const BufferRequest &request);

/// What a testexp buffer does by itself.
struct TestexpPlan {
  uint32_t move_us = 0; ///< its memory moves every so many microseconds while it is mapped; 0: not
  uint32_t lose = 0;    ///< DMABUF_TESTEXP_LOSE_WRITES and STALE_READS
  bool no_cpu = false;  ///< no CPU view and no pages, as device memory
  bool shift = false;   ///< DMABUF_TESTEXP_SHIFT_SEGMENTS
  uint32_t exchange_after = 0; ///< CPU accesses before DMABUF_TESTEXP_EXCHANGE; 0: without it
  bool refuse_attach = false;
  bool refuse_map = false;
};

/// The plan in dmabuf_device for exporter testexp: words joined by '+', or nothing.
Result<TestexpPlan> testexp_plan(std::string_view words);

/// Why udmabuf cannot hold `bytes` bytes when its size_limit_mb is `limit_mb`: the sentence for the
/// user; nothing if it can.
std::optional<std::string> udmabuf_over_limit(uint64_t bytes, uint64_t limit_mb,
                                              const char *shrink = kShrinkIo);

/// Why a machine with `available_kib` KiB of memory to spare cannot hold `bytes` bytes: the
/// sentence for the user; nothing if it can.
std::optional<std::string> over_memory(uint64_t bytes, uint64_t available_kib,
                                       const char *shrink = kShrinkIo);

/// Refuses a buffer of `bytes` bytes that is larger than the memory to spare (MemAvailable). Allows
/// it where that is not known.
Result<void> check_memory(uint64_t bytes, const char *shrink = kShrinkIo);

/// Width and height, in 32-bit pixels, of a dumb buffer of at least `bytes` bytes; nothing if no
/// dumb buffer can be that large.
struct DumbShape {
  uint32_t width;
  uint32_t height;
};
std::optional<DumbShape> dumb_shape(uint64_t bytes);

/// Path of a DMA heap: a name such as "system" lies below /dev/dma_heap, an absolute path is
/// itself.
std::string heap_path(const std::string &device);

/// Path of a DRM device: "0" is /dev/dri/card0, "card0" lies below /dev/dri, an absolute path is
/// itself.
std::string drm_path(const std::string &device);

/// An unsigned number read from a small file such as a module parameter; nothing if that fails.
std::optional<uint64_t> read_number(const char *path);

/// System page size in bytes.
uint64_t page_bytes();

} // namespace dmabuf
