// SPDX-License-Identifier: GPL-2.0-only
// i915: memory of an Intel GPU, by that driver's own calls: local memory, or system memory on a GPU
// that has none.
//
// Local memory is asked for alone. Were system memory allowed beside it, the driver would move the
// buffer there for every other device (i915_gem_dmabuf_attach), and the drive's I/O would be to
// memory that nobody asked for. As it is, Linux refuses to attach
// the drive.
#include "base/sizes.hpp"
#include "base/system.hpp"
#include "exporter/gpu_exporters.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <i915_drm.h>

namespace dmabuf {
namespace {

/// The driver's answer about its memory, in its own layout.
Result<std::vector<std::byte>> query_regions(const DrmCalls &calls, const GpuNode &gpu) {
  const auto refuse = [&](int code) {
    return fail(code, errno_text(strf("%s does not say what memory it has; use a newer kernel",
                                      gpu.path.c_str()),
                                 code));
  };
  drm_i915_query_item item = {};
  item.query_id = DRM_I915_QUERY_MEMORY_REGIONS;
  drm_i915_query query = {};
  query.num_items = 1;
  query.items_ptr = reinterpret_cast<uintptr_t>(&item);
  if (calls.ioctl(gpu.fd.get(), DRM_IOCTL_I915_QUERY, &query))
    return refuse(errno);
  if (item.length <= 0) // a negative errno
    return refuse(item.length ? -item.length : ENODEV);
  std::vector<std::byte> answer(static_cast<size_t>(item.length));
  item.data_ptr = reinterpret_cast<uintptr_t>(answer.data());
  if (calls.ioctl(gpu.fd.get(), DRM_IOCTL_I915_QUERY, &query))
    return refuse(errno);
  if (item.length <= 0)
    return refuse(item.length ? -item.length : ENODEV);
  return answer;
}

/// The GPU's first region of local memory, or else its system memory.
Result<drm_i915_memory_region_info> find_region(const DrmCalls &calls, const GpuNode &gpu) {
  const auto answer = query_regions(calls, gpu);
  if (!answer)
    return std::unexpected(answer.error());
  drm_i915_query_memory_regions head = {};
  std::memcpy(&head, answer->data(), std::min(sizeof(head), answer->size()));
  drm_i915_memory_region_info found = {};
  bool any = false;
  for (size_t i = 0, at = sizeof(head);
       i < head.num_regions && at + sizeof(found) <= answer->size(); i++, at += sizeof(found)) {
    drm_i915_memory_region_info region = {};
    std::memcpy(&region, answer->data() + at, sizeof(region));
    if (!any || (region.region.memory_class == I915_MEMORY_CLASS_DEVICE &&
                 found.region.memory_class != I915_MEMORY_CLASS_DEVICE))
      found = region;
    any = true;
  }
  if (!any)
    return fail(ENODEV, strf("%s lists no memory; use another dmabuf_device", gpu.path.c_str()));
  return found;
}

/// Creates a buffer object in one region; what it became is in the result.
Result<drm_i915_gem_create_ext> create_object(const DrmCalls &calls, const GpuNode &gpu,
                                              const drm_i915_memory_region_info &region,
                                              uint64_t bytes, const std::string &want,
                                              const char *shrink) {
  drm_i915_gem_memory_class_instance place = region.region;
  drm_i915_gem_create_ext_memory_regions places = {};
  places.base.name = I915_GEM_CREATE_EXT_MEMORY_REGIONS;
  places.num_regions = 1;
  places.regions = reinterpret_cast<uintptr_t>(&place);
  drm_i915_gem_create_ext create = {};
  create.size = bytes;
  create.extensions = reinterpret_cast<uintptr_t>(&places);
  if (calls.ioctl(gpu.fd.get(), DRM_IOCTL_I915_GEM_CREATE_EXT, &create)) {
    const int code = errno;
    return fail(
        code, errno_text(strf("%s did not give %s, of which %llu MiB of %llu MiB are free; %s, or "
                              "use another dmabuf_device",
                              gpu.path.c_str(), want.c_str(),
                              static_cast<unsigned long long>(region.unallocated_size / kMiB),
                              static_cast<unsigned long long>(region.probed_size / kMiB), shrink),
                         code));
  }
  return create;
}

} // namespace

Result<DmaBuf> allocate_i915(const DrmCalls &calls, const BufferRequest &request) {
  auto gpu = open_gpu(calls, request.device, "i915");
  if (!gpu)
    return std::unexpected(std::move(gpu.error()));
  const auto region = find_region(calls, *gpu);
  if (!region)
    return std::unexpected(region.error());
  const bool local = region->region.memory_class == I915_MEMORY_CLASS_DEVICE;
  const auto size = round_up(request.bytes, page_bytes());
  if (!size)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", request.shrink));
  const std::string want = strf("%llu MiB of %s", static_cast<unsigned long long>(mib_up(*size)),
                                local ? "local memory" : "system memory");
  // 0: a kernel that does not know GPUs of which a part only is on the bus.
  const uint64_t visible =
      region->probed_cpu_visible_size ? region->probed_cpu_visible_size : region->probed_size;
  if (local && *size > visible)
    return fail(ENOMEM, strf("the job's buffer needs %s and %llu MiB of that of %s are on the PCI "
                             "bus; %s, or turn on Resizable BAR in the firmware's setup",
                             want.c_str(), static_cast<unsigned long long>(visible / kMiB),
                             gpu->path.c_str(), request.shrink));
  const auto created = create_object(calls, *gpu, *region, *size, want, request.shrink);
  if (!created)
    return std::unexpected(created.error());
  const GemHandle object(calls, gpu->fd.get(), created->handle);
  drm_i915_gem_mmap_offset place = {};
  place.handle = object.get();
  place.flags = local ? I915_MMAP_OFFSET_FIXED : I915_MMAP_OFFSET_WB;
  if (calls.ioctl(gpu->fd.get(), DRM_IOCTL_I915_GEM_MMAP_OFFSET, &place)) {
    const int code = errno;
    return fail(code, errno_text(strf("%s does not let the CPU map %s; use another dmabuf_device",
                                      gpu->path.c_str(), want.c_str()),
                                 code));
  }
  // The driver rounds up.
  return share_gem(
      calls, *gpu, object,
      {.bytes = created->size, .offset = place.offset, .want = want, .shrink = request.shrink});
}

Result<DmaBuf> allocate_i915(const BufferRequest &request) {
  return allocate_i915(kDrmCalls, request);
}

} // namespace dmabuf
