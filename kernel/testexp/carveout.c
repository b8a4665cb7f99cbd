// SPDX-License-Identifier: GPL-2.0-only
/*
 * A carve-out: physical memory that Linux does not use, and for which it may have no
 * struct pages. The kernel maps it once, as ordinary memory.
 */
#include <linux/genalloc.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>

#include "testexp.h"

static char *carveout;
module_param(carveout, charp, 0444);
MODULE_PARM_DESC(carveout, "ADDRESS,SIZE of memory that was kept from Linux (memmap=SIZE$ADDRESS)");

static struct gen_pool *pool;	/* NULL: no carve-out */
static void *mapped;
static phys_addr_t mapped_start;
static size_t mapped_bytes;
static bool has_pages;		/* struct pages, for all of it */

static int carveout_parse(void)
{
	char *end;

	mapped_start = memparse(carveout, &end);
	if (*end != ',')
		return -EINVAL;
	mapped_bytes = memparse(end + 1, &end);
	if (*end || !mapped_bytes || !PAGE_ALIGNED(mapped_start) || !PAGE_ALIGNED(mapped_bytes) ||
	    mapped_start + mapped_bytes < mapped_start)
		return -EINVAL;
	/* Never what Linux itself uses. */
	if (region_intersects(mapped_start, mapped_bytes, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT)
		return -EBUSY;
	return 0;
}

static bool pages_everywhere(void)
{
	unsigned long pfn;

	for (pfn = PHYS_PFN(mapped_start); pfn < PHYS_PFN(mapped_start + mapped_bytes); pfn++)
		if (!pfn_valid(pfn))
			return false;
	return true;
}

/**
 * testexp_carveout_init - map the carve-out, if the module's parameter names one
 *
 * Context: may sleep; when the module is loaded.
 * Return: 0, -EINVAL for a parameter that is none, -EBUSY if Linux uses the memory,
 * -ENOMEM.
 */
int testexp_carveout_init(void)
{
	int ret;

	if (!carveout)
		return 0;
	ret = carveout_parse();
	if (ret)
		return ret;
	mapped = memremap(mapped_start, mapped_bytes, MEMREMAP_WB);
	if (!mapped)
		return -ENOMEM;
	has_pages = pages_everywhere();
	pool = gen_pool_create(PAGE_SHIFT, NUMA_NO_NODE);
	if (!pool || gen_pool_add(pool, (unsigned long)mapped, mapped_bytes, NUMA_NO_NODE)) {
		testexp_carveout_exit();
		return -ENOMEM;
	}
	return 0;
}

/**
 * testexp_carveout_exit - undo testexp_carveout_init()
 *
 * Context: may sleep; no buffer is left.
 */
void testexp_carveout_exit(void)
{
	if (pool)
		gen_pool_destroy(pool);
	if (mapped)
		memunmap(mapped);
	pool = NULL;
	mapped = NULL;
}

/**
 * testexp_carveout_there - is there a carve-out?
 *
 * Context: any.
 * Return: whether.
 */
bool testexp_carveout_there(void)
{
	return pool;
}

/**
 * testexp_carveout_has_pages - does Linux have struct pages for it?
 *
 * Context: any.
 * Return: whether, for all of it.
 */
bool testexp_carveout_has_pages(void)
{
	return has_pages;
}

/**
 * testexp_carveout_alloc - take memory from the carve-out
 * @bytes: how much, a multiple of the page size
 *
 * Context: any.
 * Return: its address in the kernel's mapping, zeroed; NULL when there is not enough.
 */
void *testexp_carveout_alloc(size_t bytes)
{
	void *address = pool ? (void *)gen_pool_alloc(pool, bytes) : NULL;

	if (address)
		memset(address, 0, bytes);
	return address;
}

/**
 * testexp_carveout_free - give memory back to the carve-out
 * @address: from testexp_carveout_alloc()
 * @bytes: as given there
 *
 * Context: any.
 */
void testexp_carveout_free(void *address, size_t bytes)
{
	gen_pool_free(pool, (unsigned long)address, bytes);
}

/**
 * testexp_carveout_phys - tell the physical address of a part of the carve-out
 * @address: in the kernel's mapping
 *
 * Context: any.
 * Return: the physical address.
 */
phys_addr_t testexp_carveout_phys(const void *address)
{
	return mapped_start + (address - mapped);
}
