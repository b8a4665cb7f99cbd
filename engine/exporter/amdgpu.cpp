// SPDX-License-Identifier: GPL-2.0-only
// amdgpu: VRAM of an AMD GPU, by libdrm_amdgpu.
//
// The CPU can map this dma-buf, but its DMA_BUF_IOCTL_SYNC moves the memory to system RAM
// (amdgpu_dma_buf_begin_cpu_access), where the drive would then go. So the CPU reaches it by a
// mapping of the driver's own instead.
#include "base/sizes.hpp"
#include "base/system.hpp"
#include "exporter/amdgpu_api.hpp"
#include "exporter/shared_library.hpp"

#include <algorithm>
#include <amdgpu_drm.h>
#include <cerrno>

namespace dmabuf {
namespace {

/// One buffer object in VRAM and the driver's handles that it needs.
class AmdgpuMemory final : public DeviceMemory {
public:
  explicit AmdgpuMemory(const AmdgpuApi &api) : api_(api) {}
  ~AmdgpuMemory() override;
  AmdgpuMemory(const AmdgpuMemory &) = delete;
  AmdgpuMemory &operator=(const AmdgpuMemory &) = delete;

  /// Takes the memory, maps it for the CPU and makes a dma-buf of it.
  Result<UniqueFd> make(const GpuNode &gpu, uint64_t bytes, const char *shrink);

  int read(uint64_t offset, std::span<std::byte> to) override {
    read_mapped(map_, offset, to);
    return 0;
  }
  int write(uint64_t offset, std::span<const std::byte> from) override {
    write_mapped(map_, offset, from);
    return 0;
  }

private:
  Result<void> allocate(const GpuNode &gpu, uint64_t bytes, const char *shrink);

  const AmdgpuApi api_;
  amdgpu_device_handle device_ = nullptr;
  amdgpu_bo_handle object_ = nullptr;
  std::byte *map_ = nullptr;
};

AmdgpuMemory::~AmdgpuMemory() {
  if (map_)
    (void)api_.unmap(object_);
  if (object_)
    (void)api_.free(object_);
  if (device_)
    (void)api_.deinitialize(device_);
}

/// What the functions of libdrm_amdgpu return is a negative errno.
std::unexpected<Error> refuse(int rc, const std::string &what) {
  return fail(-rc, errno_text(what, -rc));
}

Result<void> AmdgpuMemory::allocate(const GpuNode &gpu, uint64_t bytes, const char *shrink) {
  const char *path = gpu.path.c_str();
  const auto need = static_cast<unsigned long long>(mib_up(bytes));
  // What a peer reaches is what the CPU reaches, too: the part of the VRAM that is on the bus.
  amdgpu_heap_info visible = {};
  if (const int rc = api_.heap_info(device_, AMDGPU_GEM_DOMAIN_VRAM,
                                    AMDGPU_GEM_CREATE_CPU_ACCESS_REQUIRED, &visible))
    return refuse(rc, strf("%s does not say how much VRAM it has; update libdrm-amdgpu1", path));
  if (bytes > visible.heap_size)
    return fail(ENOMEM,
                strf("the job's buffer needs %llu MiB and %llu MiB of the VRAM of %s are on "
                     "the PCI bus; %s, or turn on Resizable BAR in the firmware's setup",
                     need, static_cast<unsigned long long>(visible.heap_size / kMiB), path,
                     shrink));
  amdgpu_bo_alloc_request wanted = {};
  wanted.alloc_size = bytes;
  wanted.phys_alignment = kPage;
  wanted.preferred_heap = AMDGPU_GEM_DOMAIN_VRAM;
  wanted.flags = AMDGPU_GEM_CREATE_CPU_ACCESS_REQUIRED;
  amdgpu_bo_handle object = nullptr;
  if (const int rc = api_.allocate(device_, &wanted, &object)) {
    const uint64_t used = std::min(visible.heap_usage, visible.heap_size);
    return refuse(rc, strf("%s did not give %llu MiB of VRAM, of which %llu MiB of %llu MiB are "
                           "free; %s, or use another dmabuf_device",
                           path, need,
                           static_cast<unsigned long long>((visible.heap_size - used) / kMiB),
                           static_cast<unsigned long long>(visible.heap_size / kMiB), shrink));
  }
  object_ = object;
  return {};
}

Result<UniqueFd> AmdgpuMemory::make(const GpuNode &gpu, uint64_t bytes, const char *shrink) {
  uint32_t major = 0, minor = 0;
  amdgpu_device_handle device = nullptr;
  if (const int rc = api_.initialize(gpu.fd.get(), &major, &minor, &device))
    return refuse(rc, strf("libdrm_amdgpu does not take %s; see the kernel's log, or use another "
                           "dmabuf_device",
                           gpu.path.c_str()));
  device_ = device;
  if (auto ok = allocate(gpu, bytes, shrink); !ok)
    return std::unexpected(std::move(ok.error()));
  void *map = nullptr;
  if (const int rc = api_.map(object_, &map))
    return refuse(rc, strf("%s does not let the CPU map its VRAM; turn on Resizable BAR in the "
                           "firmware's setup, or use another dmabuf_device",
                           gpu.path.c_str()));
  map_ = static_cast<std::byte *>(map);
  uint32_t fd = 0;
  if (const int rc = api_.export_object(object_, amdgpu_bo_handle_type_dma_buf_fd, &fd))
    return refuse(rc, strf("%s did not export its memory as a dma-buf; use another dmabuf_device",
                           gpu.path.c_str()));
  return UniqueFd(static_cast<int>(fd));
}

} // namespace

Result<AmdgpuApi> load_amdgpu() {
  AmdgpuApi api = {};
  auto ok = load_library({"libdrm_amdgpu.so.1"},
                         {{"amdgpu_device_initialize", symbol_address(api.initialize)},
                          {"amdgpu_device_deinitialize", symbol_address(api.deinitialize)},
                          {"amdgpu_query_heap_info", symbol_address(api.heap_info)},
                          {"amdgpu_bo_alloc", symbol_address(api.allocate)},
                          {"amdgpu_bo_free", symbol_address(api.free)},
                          {"amdgpu_bo_export", symbol_address(api.export_object)},
                          {"amdgpu_bo_cpu_map", symbol_address(api.map)},
                          {"amdgpu_bo_cpu_unmap", symbol_address(api.unmap)}},
                         "install Debian's package libdrm-amdgpu1, or use another dmabuf_exporter",
                         "update Debian's package libdrm-amdgpu1");
  if (!ok)
    return std::unexpected(std::move(ok.error()));
  return api;
}

Result<DmaBuf> allocate_amdgpu(const AmdgpuApi &api, const DrmCalls &calls,
                               const BufferRequest &request) {
  auto gpu = open_gpu(calls, request.device, "amdgpu");
  if (!gpu)
    return std::unexpected(std::move(gpu.error()));
  const auto size = round_up(request.bytes, page_bytes());
  if (!size)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", request.shrink));
  auto memory = std::make_unique<AmdgpuMemory>(api);
  auto fd = memory->make(*gpu, *size, request.shrink);
  if (!fd)
    return std::unexpected(std::move(fd.error()));
  DmaBuf buffer;
  buffer.device = gpu->path;
  buffer.fd = std::move(*fd);
  buffer.memory = std::move(memory);
  return buffer;
}

Result<DmaBuf> allocate_amdgpu(const BufferRequest &request) {
  const auto api = load_amdgpu();
  if (!api)
    return std::unexpected(api.error());
  return allocate_amdgpu(*api, kDrmCalls, request);
}

} // namespace dmabuf
