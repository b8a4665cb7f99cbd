// SPDX-License-Identifier: GPL-2.0-only
// What linux/vfio.h of the build machine may be too old to have: the VFIO character device of a
// function, and dma-bufs of its regions.
#pragma once

#include <cstdint>
#include <linux/vfio.h>

namespace dmabuf::vfio {

/// VFIO_DEVICE_BIND_IOMMUFD; Linux 6.6.
inline constexpr unsigned long kBindIommufd = _IO(VFIO_TYPE, VFIO_BASE + 18);
struct BindIommufd {
  uint32_t argsz;
  uint32_t flags;
  int32_t iommufd;
  uint32_t out_devid;
};
static_assert(sizeof(BindIommufd) == 16);

/// VFIO_DEVICE_FEATURE_DMA_BUF; Linux 6.19. One structure: head of the feature, the buffer, and
/// its one range.
inline constexpr uint32_t kFeatureDmaBuf = 11;
struct GetDmaBuf {
  uint32_t argsz;
  uint32_t feature; ///< kFeatureDmaBuf and VFIO_DEVICE_FEATURE_GET
  uint32_t region_index;
  uint32_t open_flags; ///< of the dma-buf's descriptor, which the call returns
  uint32_t flags;
  uint32_t nr_ranges;
  uint64_t offset; ///< in the region
  uint64_t length;
};
static_assert(sizeof(GetDmaBuf) == 40 && alignof(GetDmaBuf) == 8);

#ifdef VFIO_DEVICE_BIND_IOMMUFD
static_assert(kBindIommufd == VFIO_DEVICE_BIND_IOMMUFD);
#endif
#ifdef VFIO_DEVICE_FEATURE_DMA_BUF
static_assert(kFeatureDmaBuf == VFIO_DEVICE_FEATURE_DMA_BUF);
static_assert(sizeof(GetDmaBuf) == sizeof(vfio_device_feature) +
                                       sizeof(vfio_device_feature_dma_buf) +
                                       sizeof(vfio_region_dma_range));
#endif

} // namespace dmabuf::vfio
