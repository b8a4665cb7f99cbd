// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory: what a user may pin, and where a mapped buffer's bytes are.
 */
#include <linux/capability.h>
#include <linux/iommu.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>

#include "memory.h"
#include "uapi/linux/dmabuf_rw.h"

/**
 * dmabuf_rw_charge - count memory that stays pinned against RLIMIT_MEMLOCK
 * @user: who is charged, the user who opened the session
 * @bytes: how much
 * @charged: out: pages, for dmabuf_rw_uncharge(); 0 for CAP_IPC_LOCK
 *
 * The same account as io_uring's, so that the two together keep the limit.
 *
 * Context: process.
 * Return: 0 or -ENOMEM over the limit.
 */
int dmabuf_rw_charge(struct user_struct *user, u64 bytes, unsigned long *charged)
{
	unsigned long pages = DIV_ROUND_UP_ULL(bytes, PAGE_SIZE);
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	long old;

	*charged = 0;
	if (capable(CAP_IPC_LOCK))
		return 0;
	old = atomic_long_read(&user->locked_vm);
	do {
		unsigned long sum;

		if (check_add_overflow((unsigned long)old, pages, &sum) || sum > limit)
			return -ENOMEM;
	} while (!atomic_long_try_cmpxchg(&user->locked_vm, &old, old + pages));
	*charged = pages;
	return 0;
}

/**
 * dmabuf_rw_uncharge - undo dmabuf_rw_charge()
 * @user: as given there
 * @charged: as received there
 */
void dmabuf_rw_uncharge(struct user_struct *user, unsigned long charged)
{
	if (charged)
		atomic_long_sub(charged, &user->locked_vm);
}

/* Is there ordinary memory at this address? */
static bool memory_is_ram(phys_addr_t phys)
{
	unsigned long pfn = PHYS_PFN(phys);

	if (!pfn_valid(pfn) || is_zone_device_page(pfn_to_page(pfn)))
		return false;
	/* Holes inside a populated section have pages too, reserved ones. */
	return !PageReserved(pfn_to_page(pfn)) || page_is_ram(pfn);
}

/* The function whose BAR holds @phys, with a reference, or NULL. */
static struct pci_dev *memory_peer(phys_addr_t phys)
{
	struct pci_dev *pdev = NULL;
	struct resource *res;
	unsigned int i;

	for_each_pci_dev(pdev) {
		pci_dev_for_each_resource(pdev, res, i) {
			if ((res->flags & IORESOURCE_MEM) && phys >= res->start &&
			    phys <= res->end && !pci_is_bridge(pdev))
				return pdev;
		}
	}
	return NULL;
}

/* Do the two meet below a PCIe switch, or only at the host bridge? */
static u32 memory_route(struct pci_dev *peer, struct device *dev)
{
	struct pci_dev *drive, *up, *down;

	if (!dev_is_pci(dev))
		return DMABUF_RW_ROUTE_UNKNOWN;
	drive = to_pci_dev(dev);
	for (up = pci_upstream_bridge(peer); up; up = pci_upstream_bridge(up))
		for (down = pci_upstream_bridge(drive); down; down = pci_upstream_bridge(down))
			if (up == down)
				return DMABUF_RW_ROUTE_SWITCH;
	return DMABUF_RW_ROUTE_HOST_BRIDGE;
}

/**
 * dmabuf_rw_classify - find out where a mapped buffer's memory is
 * @dev: the device it is mapped for
 * @sgt: the mapping
 * @most: segments to look at, evenly spread
 *
 * Judges by the addresses alone, not by the exporter's name: it notices a GPU
 * driver that moved its buffer to system memory.
 *
 * Context: may sleep; the mapping stays. Neither allocates nor waits.
 * Return: where it is.
 */
struct dmabuf_rw_place dmabuf_rw_classify(struct device *dev, struct sg_table *sgt,
					  unsigned int most)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);
	bool in_ram = false, in_peer = false, unknown = false;
	unsigned int stride = max(sgt->nents / most, 1U);
	struct dmabuf_rw_place place;
	struct pci_dev *peer = NULL;
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		dma_addr_t dma = sg_dma_address(sg);
		phys_addr_t phys;

		if (i % 1024 == 1023)
			cond_resched();
		if (i % stride)
			continue;
		phys = domain ? iommu_iova_to_phys(domain, dma) : dma;
		/* Not translated: a bus address below a common switch. */
		if (!phys)
			phys = dma;
		if (memory_is_ram(phys)) {
			in_ram = true;
			continue;
		}
		if (!peer)
			peer = memory_peer(phys);
		if (peer)
			in_peer = true;
		else
			unknown = true;
	}

	if (unknown)
		place.memory = DMABUF_RW_MEM_UNKNOWN;
	else if (in_ram && in_peer)
		place.memory = DMABUF_RW_MEM_MIXED;
	else
		place.memory = in_peer ? DMABUF_RW_MEM_PEER : DMABUF_RW_MEM_SYSTEM;

	if (in_peer)
		place.route = memory_route(peer, dev);
	else
		place.route = unknown ? DMABUF_RW_ROUTE_UNKNOWN : DMABUF_RW_ROUTE_MEMORY;
	pci_dev_put(peer);
	return place;
}
