// SPDX-License-Identifier: GPL-2.0-only
/* 6.11: a function tells whether the DMA layer maps for a device behind an IOMMU. */
#include <linux/dma-map-ops.h>
#ifdef COUNTER_PROBE
#include <linux/iommu.h>
const unsigned int probe = __IOMMU_DOMAIN_DMA_API;
#else
#include <linux/iommu-dma.h>
bool probe(struct device *dev);
bool probe(struct device *dev)
{
	return use_dma_iommu(dev);
}
#endif
