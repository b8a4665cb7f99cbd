// SPDX-License-Identifier: GPL-2.0-only
// xe: memory of an Intel GPU, by that driver's own calls: VRAM, or system memory on a GPU that has
// none.
//
// The CPU can map this dma-buf, but its DMA_BUF_IOCTL_SYNC asks for the memory to move to system
// RAM (xe_dma_buf_begin_cpu_access). So the CPU reaches it by a mapping of the driver's own.
#include "base/sizes.hpp"
#include "base/system.hpp"
#include "exporter/gpu_exporters.hpp"
#include "exporter/xe_abi.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#if __has_include(<drm/xe_drm.h>)
#include <drm/xe_drm.h>

namespace dmabuf::xe {
static_assert(kDeviceQuery == DRM_IOCTL_XE_DEVICE_QUERY && kGemCreate == DRM_IOCTL_XE_GEM_CREATE &&
              kGemMmapOffset == DRM_IOCTL_XE_GEM_MMAP_OFFSET);
static_assert(kQueryMemRegions == DRM_XE_DEVICE_QUERY_MEM_REGIONS &&
              kSysmem == DRM_XE_MEM_REGION_CLASS_SYSMEM && kVram == DRM_XE_MEM_REGION_CLASS_VRAM &&
              kNeedsVisibleVram == DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM &&
              kCachingWb == DRM_XE_GEM_CPU_CACHING_WB && kCachingWc == DRM_XE_GEM_CPU_CACHING_WC);
static_assert(offsetof(DeviceQuery, data) == offsetof(drm_xe_device_query, data) &&
              offsetof(DeviceQuery, size) == offsetof(drm_xe_device_query, size));
static_assert(sizeof(MemRegion) == sizeof(drm_xe_mem_region) &&
              sizeof(MemRegions) == sizeof(drm_xe_query_mem_regions) &&
              offsetof(MemRegion, instance) == offsetof(drm_xe_mem_region, instance) &&
              offsetof(MemRegion, min_page_size) == offsetof(drm_xe_mem_region, min_page_size) &&
              offsetof(MemRegion, cpu_visible_size) ==
                  offsetof(drm_xe_mem_region, cpu_visible_size) &&
              offsetof(MemRegion, cpu_visible_used) ==
                  offsetof(drm_xe_mem_region, cpu_visible_used));
static_assert(offsetof(GemCreate, size) == offsetof(drm_xe_gem_create, size) &&
              offsetof(GemCreate, placement) == offsetof(drm_xe_gem_create, placement) &&
              offsetof(GemCreate, flags) == offsetof(drm_xe_gem_create, flags) &&
              offsetof(GemCreate, handle) == offsetof(drm_xe_gem_create, handle) &&
              offsetof(GemCreate, cpu_caching) == offsetof(drm_xe_gem_create, cpu_caching));
static_assert(offsetof(GemMmapOffset, handle) == offsetof(drm_xe_gem_mmap_offset, handle) &&
              offsetof(GemMmapOffset, offset) == offsetof(drm_xe_gem_mmap_offset, offset));
} // namespace dmabuf::xe
#endif

namespace dmabuf {
namespace {

/// The GPU's first VRAM region, or else its system memory.
Result<xe::MemRegion> find_region(const DrmCalls &calls, const GpuNode &gpu) {
  const auto refuse = [&](int code) {
    return fail(code, errno_text(strf("%s does not say what memory it has; use a newer kernel",
                                      gpu.path.c_str()),
                                 code));
  };
  xe::DeviceQuery query = {};
  query.query = xe::kQueryMemRegions;
  if (calls.ioctl(gpu.fd.get(), xe::kDeviceQuery, &query))
    return refuse(errno);
  std::vector<std::byte> answer(std::max<size_t>(query.size, sizeof(xe::MemRegions)));
  query.data = reinterpret_cast<uintptr_t>(answer.data());
  if (calls.ioctl(gpu.fd.get(), xe::kDeviceQuery, &query))
    return refuse(errno);
  xe::MemRegions head = {};
  std::memcpy(&head, answer.data(), sizeof(head));
  xe::MemRegion found = {};
  bool any = false;
  for (size_t i = 0, at = sizeof(head);
       i < head.num_mem_regions && at + sizeof(xe::MemRegion) <= answer.size();
       i++, at += sizeof(xe::MemRegion)) {
    xe::MemRegion region = {};
    std::memcpy(&region, answer.data() + at, sizeof(region));
    if (!any || (region.mem_class == xe::kVram && found.mem_class != xe::kVram))
      found = region;
    any = true;
  }
  return any ? Result<xe::MemRegion>(found) : refuse(ENODEV);
}

std::unexpected<Error> refuse_memory(int code, const GpuNode &gpu, const xe::MemRegion &region,
                                     const std::string &want, const char *shrink) {
  if (region.mem_class != xe::kVram)
    return fail(
        code,
        errno_text(strf("%s did not give %s; %s", gpu.path.c_str(), want.c_str(), shrink), code));
  const uint64_t used = std::min(region.cpu_visible_used, region.cpu_visible_size);
  return fail(
      code,
      errno_text(strf("%s did not give %s, of which %llu MiB of %llu MiB are free; %s, or use "
                      "another dmabuf_device",
                      gpu.path.c_str(), want.c_str(),
                      static_cast<unsigned long long>((region.cpu_visible_size - used) / kMiB),
                      static_cast<unsigned long long>(region.cpu_visible_size / kMiB), shrink),
                 code));
}

} // namespace

Result<DmaBuf> allocate_xe(const DrmCalls &calls, const BufferRequest &request) {
  auto gpu = open_gpu(calls, request.device, "xe");
  if (!gpu)
    return std::unexpected(std::move(gpu.error()));
  const auto region = find_region(calls, *gpu);
  if (!region)
    return std::unexpected(region.error());
  const bool vram = region->mem_class == xe::kVram;
  const auto size =
      round_up(request.bytes, std::max<uint64_t>(region->min_page_size, page_bytes()));
  if (!size)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", request.shrink));
  const std::string want = strf("%llu MiB of %s", static_cast<unsigned long long>(mib_up(*size)),
                                vram ? "VRAM" : "system memory");
  // What a peer reaches is what the CPU reaches, too: the part of the VRAM that is on the bus.
  if (vram && *size > region->cpu_visible_size)
    return fail(ENOMEM,
                strf("the job's buffer needs %s and %llu MiB of that of %s are on the PCI "
                     "bus; %s, or turn on Resizable BAR in the firmware's setup",
                     want.c_str(), static_cast<unsigned long long>(region->cpu_visible_size / kMiB),
                     gpu->path.c_str(), request.shrink));
  xe::GemCreate create = {};
  create.size = *size;
  create.placement = uint32_t{1} << region->instance;
  create.flags = vram ? xe::kNeedsVisibleVram : 0;
  create.cpu_caching = vram ? xe::kCachingWc : xe::kCachingWb;
  if (calls.ioctl(gpu->fd.get(), xe::kGemCreate, &create))
    return refuse_memory(errno, *gpu, *region, want, request.shrink);
  const GemHandle object(calls, gpu->fd.get(), create.handle);
  xe::GemMmapOffset place = {};
  place.handle = object.get();
  if (calls.ioctl(gpu->fd.get(), xe::kGemMmapOffset, &place)) {
    const int code = errno;
    return fail(code, errno_text(strf("%s does not let the CPU map %s; use another dmabuf_device",
                                      gpu->path.c_str(), want.c_str()),
                                 code));
  }
  return share_gem(
      calls, *gpu, object,
      {.bytes = *size, .offset = place.offset, .want = want, .shrink = request.shrink});
}

Result<DmaBuf> allocate_xe(const BufferRequest &request) { return allocate_xe(kDrmCalls, request); }

} // namespace dmabuf
