// SPDX-License-Identifier: GPL-2.0-only
// The part of the Linux xe driver's interface that exporter xe uses, for machines whose headers do
// not have it yet. Layouts and values are those of include/uapi/drm/xe_drm.h (Linux 6.8 and later),
// which xe.cpp compares where it is there.
#pragma once

#include <cstdint>
#include <drm.h>

namespace dmabuf::xe {

struct DeviceQuery { // drm_xe_device_query
  uint64_t extensions;
  uint32_t query;
  uint32_t size; ///< of `data` in bytes; 0 asks for it
  uint64_t data;
  uint64_t reserved[2];
};
static_assert(sizeof(DeviceQuery) == 40);

inline constexpr uint32_t kQueryMemRegions = 1; // DRM_XE_DEVICE_QUERY_MEM_REGIONS

inline constexpr uint16_t kSysmem = 0; // DRM_XE_MEM_REGION_CLASS_SYSMEM
inline constexpr uint16_t kVram = 1;   // DRM_XE_MEM_REGION_CLASS_VRAM

struct MemRegion { // drm_xe_mem_region
  uint16_t mem_class;
  uint16_t instance; ///< its bit in GemCreate::placement
  uint32_t min_page_size;
  uint64_t total_size;
  uint64_t used;
  uint64_t cpu_visible_size;
  uint64_t cpu_visible_used;
  uint64_t reserved[6];
};
static_assert(sizeof(MemRegion) == 88);

struct MemRegions { // drm_xe_query_mem_regions, before its regions
  uint32_t num_mem_regions;
  uint32_t pad;
};
static_assert(sizeof(MemRegions) == 8);

struct GemCreate { // drm_xe_gem_create
  uint64_t extensions;
  uint64_t size;
  uint32_t placement;
  uint32_t flags;
  uint32_t vm_id;
  uint32_t handle;
  uint16_t cpu_caching;
  uint16_t pad[3];
  uint64_t reserved[2];
};
static_assert(sizeof(GemCreate) == 56);

inline constexpr uint32_t kNeedsVisibleVram = 1 << 2; // DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM
inline constexpr uint16_t kCachingWb = 1;             // DRM_XE_GEM_CPU_CACHING_WB
inline constexpr uint16_t kCachingWc = 2;             // DRM_XE_GEM_CPU_CACHING_WC

struct GemMmapOffset { // drm_xe_gem_mmap_offset
  uint64_t extensions;
  uint32_t handle;
  uint32_t flags;
  uint64_t offset;
  uint64_t reserved[2];
};
static_assert(sizeof(GemMmapOffset) == 40);

// DRM_IOCTL_XE_DEVICE_QUERY, DRM_IOCTL_XE_GEM_CREATE, DRM_IOCTL_XE_GEM_MMAP_OFFSET
inline constexpr unsigned long kDeviceQuery = DRM_IOWR(DRM_COMMAND_BASE + 0x00, DeviceQuery);
inline constexpr unsigned long kGemCreate = DRM_IOWR(DRM_COMMAND_BASE + 0x01, GemCreate);
inline constexpr unsigned long kGemMmapOffset = DRM_IOWR(DRM_COMMAND_BASE + 0x02, GemMmapOffset);

} // namespace dmabuf::xe
