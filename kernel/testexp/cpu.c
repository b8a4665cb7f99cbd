// SPDX-License-Identifier: GPL-2.0-only
/*
 * The CPU's ways to the memory: mmap and vmap for buffers that have them, READ
 * and WRITE for all.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "testexp.h"

#define ACCESS_CHUNK (64U << 10)

static vm_fault_t cpu_fault(struct vm_fault *vmf)
{
	struct testexp_buffer *buffer = vmf->vma->vm_private_data;
	u64 offset = (u64)vmf->pgoff << PAGE_SHIFT;
	vm_fault_t ret = VM_FAULT_SIGBUS;
	size_t run;
	void *at;

	if (offset >= buffer->layout.bytes)
		return VM_FAULT_SIGBUS;
	if (dma_resv_lock_interruptible(&buffer->resv, NULL))
		return VM_FAULT_NOPAGE;
	if (!buffer->revoked) {
		at = testexp_backing_at(buffer->backing, offset, &run);
		ret = vmf_insert_pfn(vmf->vma, vmf->address,
				     PHYS_PFN(testexp_backing_phys(buffer->backing, at)));
	}
	dma_resv_unlock(&buffer->resv);
	return ret;
}

static const struct vm_operations_struct cpu_vm_ops = { .fault = cpu_fault };

/**
 * testexp_mmap - &dma_buf_ops.mmap
 * @dmabuf: the buffer's
 * @vma: where
 *
 * Context: may sleep; mmap_lock held, dma_resv not.
 * Return: 0, or -EINVAL for a private mapping.
 */
int testexp_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & (VM_SHARED | VM_MAYSHARE)))
		return -EINVAL;
	vma->vm_ops = &cpu_vm_ops;
	vma->vm_private_data = dmabuf->priv;
	testexp_vm_flags_set(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	return 0;
}

/* The kernel's mapping of memory that has pages. dma_resv held. */
static void *map_pages(const struct testexp_backing *backing, u64 nr)
{
	struct page **pages;
	void *address;
	size_t run;
	u64 i;

	pages = kvmalloc_array(nr, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return NULL;
	for (i = 0; i < nr; i++)
		pages[i] = virt_to_page(testexp_backing_at(backing, i << PAGE_SHIFT, &run));
	address = vmap(pages, nr, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	return address;
}

/* dma_resv held. */
static int vmap_locked(struct testexp_buffer *buffer, struct iosys_map *map)
{
	struct testexp_backing *backing = buffer->backing;
	void *address;
	int ret;

	dma_resv_assert_held(&buffer->resv);
	ret = testexp_refuse(buffer, DMABUF_TESTEXP_OP_VMAP);
	if (ret)
		return ret;
	if (buffer->revoked)
		return testexp_refused(buffer, DMABUF_TESTEXP_OP_VMAP, -ENODEV);
	address = backing->carved ?: map_pages(backing, buffer->layout.bytes >> PAGE_SHIFT);
	if (!address)
		return testexp_refused(buffer, DMABUF_TESTEXP_OP_VMAP, -ENOMEM);
	if (buffer->layout.flags & DMABUF_TESTEXP_IO_VIEW)
		iosys_map_set_vaddr_iomem(map, (void __iomem *)address);
	else
		iosys_map_set_vaddr(map, address);
	backing->vmaps++;
	buffer->vmapped = backing;
	buffer->vmaps++;
	return 0;
}

/**
 * testexp_vmap - &dma_buf_ops.vmap
 * @dmabuf: the buffer's
 * @map: out: the address
 *
 * Memory that has a kernel mapping does not move, but with LOOSE_VMAP.
 *
 * Context: may sleep; dma_resv held (TESTEXP_CAN_HOLD), or not.
 * Return: 0, what FAIL asked for, -ENODEV when revoked, -ENOMEM.
 */
int testexp_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct testexp_buffer *buffer = dmabuf->priv;
	int ret;

	if (TESTEXP_CAN_HOLD)
		return vmap_locked(buffer, map);
	dma_resv_lock(&buffer->resv, NULL);
	ret = vmap_locked(buffer, map);
	dma_resv_unlock(&buffer->resv);
	return ret;
}

/* dma_resv held. */
static void vunmap_locked(struct testexp_buffer *buffer, struct iosys_map *map)
{
	dma_resv_assert_held(&buffer->resv);
	if (!buffer->vmapped->carved)
		vunmap(map->is_iomem ? (__force void *)map->vaddr_iomem : map->vaddr);
	/* The framework has one kernel mapping at a time, however often it was asked for. */
	buffer->vmapped->vmaps--;
	buffer->vmapped = NULL;
	buffer->vmaps--;
	testexp_quarantine_trim(buffer, buffer->max_quarantine);
}

/**
 * testexp_vunmap - &dma_buf_ops.vunmap
 * @dmabuf: the buffer's
 * @map: from testexp_vmap()
 *
 * Context: may sleep; dma_resv held (TESTEXP_CAN_HOLD), or not.
 */
void testexp_vunmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct testexp_buffer *buffer = dmabuf->priv;

	if (TESTEXP_CAN_HOLD) {
		vunmap_locked(buffer, map);
		return;
	}
	dma_resv_lock(&buffer->resv, NULL);
	vunmap_locked(buffer, map);
	dma_resv_unlock(&buffer->resv);
}

/* The index of a direction in STATS. */
static unsigned int index_of(enum dma_data_direction dir)
{
	switch (dir) {
	case DMA_TO_DEVICE:
		return DMABUF_TESTEXP_DIR_TO_DEVICE;
	case DMA_FROM_DEVICE:
		return DMABUF_TESTEXP_DIR_FROM_DEVICE;
	default:
		return DMABUF_TESTEXP_DIR_BIDIRECTIONAL;
	}
}

/**
 * testexp_begin_cpu - &dma_buf_ops.begin_cpu_access
 * @dmabuf: the buffer's
 * @dir: of the access
 *
 * Context: may sleep; dma_resv not held.
 * Return: 0, what FAIL asked for, -ENODEV when revoked, -ETIMEDOUT when a fence
 * does not signal where EXCHANGE has to wait for it, or -EINTR.
 */
int testexp_begin_cpu(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	struct testexp_buffer *buffer = dmabuf->priv;
	int ret;

	ret = testexp_refuse(buffer, DMABUF_TESTEXP_OP_CPU);
	if (ret)
		return ret;
	ret = dma_resv_lock_interruptible(&buffer->resv, NULL);
	if (ret)
		return ret;
	if (buffer->revoked)
		ret = testexp_refused(buffer, DMABUF_TESTEXP_OP_CPU, -ENODEV);
	else
		ret = testexp_exchange(buffer);
	if (!ret) {
		testexp_sync_for_cpu(buffer, dir);
		buffer->cpu_begins[index_of(dir)]++;
	}
	dma_resv_unlock(&buffer->resv);
	return ret;
}

/**
 * testexp_end_cpu - &dma_buf_ops.end_cpu_access
 * @dmabuf: the buffer's
 * @dir: of the access
 *
 * Context: may sleep; dma_resv not held.
 * Return: 0, or -EINTR.
 */
int testexp_end_cpu(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	struct testexp_buffer *buffer = dmabuf->priv;
	int ret = dma_resv_lock_interruptible(&buffer->resv, NULL);

	if (ret)
		return ret;
	testexp_sync_for_device(buffer, dir);
	buffer->cpu_ends[index_of(dir)]++;
	dma_resv_unlock(&buffer->resv);
	return 0;
}

/* Between @chunk and the memory. dma_resv held. */
static void access_copy(struct testexp_backing *backing, u64 offset, void *chunk, size_t bytes,
			bool write)
{
	while (bytes) {
		size_t run;
		void *at = testexp_backing_at(backing, offset, &run);

		run = min(run, bytes);
		if (write)
			memcpy(at, chunk, run);
		else
			memcpy(chunk, at, run);
		offset += run;
		chunk += run;
		bytes -= run;
	}
}

/* One chunk, in one piece as far as moves are concerned. */
static int access_chunk(struct testexp_buffer *buffer, u64 offset, void *chunk, size_t bytes,
			bool write, u32 flags)
{
	struct testexp_backing *backing;
	int ret;

	ret = dma_resv_lock_interruptible(&buffer->resv, NULL);
	if (ret)
		return ret;
	backing = testexp_contents(buffer);
	if ((flags & DMABUF_TESTEXP_WRITE_STRAY) && backing) {
		if (list_empty(&buffer->quarantine))
			ret = -ENODATA;
		else
			backing = list_last_entry(&buffer->quarantine,
						  struct testexp_backing, node);
	} else if (!backing) {
		ret = -ENXIO;
	}
	if (!ret && (flags & DMABUF_TESTEXP_ACCESS_VMAP)) {
		ret = testexp_held_copy(buffer, offset, chunk, bytes, write);
	} else if (!ret) {
		testexp_sync_for_cpu(buffer, DMA_NONE);
		access_copy(backing, offset, chunk, bytes, write);
		if (write)
			testexp_sync_for_device(buffer, DMA_NONE);
	}
	dma_resv_unlock(&buffer->resv);
	return ret;
}

/**
 * testexp_access - READ and WRITE
 * @buffer: the memory
 * @access: what, checked here
 * @write: which way
 *
 * Context: may sleep; dma_resv not held.
 * Return: 0, -EINVAL, -EFAULT, -EINTR, -ENOMEM, -ENXIO when the dma-buf is
 * gone, -ENODATA for STRAY without anything in quarantine, and for VMAP when the
 * session holds no kernel mapping.
 */
int testexp_access(struct testexp_buffer *buffer, const struct dmabuf_testexp_access *access,
		   bool write)
{
	void __user *user = u64_to_user_ptr(access->address);
	u64 offset = access->offset, left = access->length;
	void *chunk;
	int ret = 0;

	if (access->flags && access->flags != DMABUF_TESTEXP_ACCESS_VMAP &&
	    !(write && access->flags == DMABUF_TESTEXP_WRITE_STRAY))
		return -EINVAL;
	if (offset > buffer->layout.bytes || left > buffer->layout.bytes - offset)
		return -EINVAL;
	chunk = kvmalloc(ACCESS_CHUNK, GFP_KERNEL);
	if (!chunk)
		return -ENOMEM;
	while (left && !ret) {
		size_t bytes = min_t(u64, left, ACCESS_CHUNK);

		if (write && copy_from_user(chunk, user, bytes))
			ret = -EFAULT;
		if (!ret)
			ret = access_chunk(buffer, offset, chunk, bytes, write, access->flags);
		if (!ret && !write && copy_to_user(user, chunk, bytes))
			ret = -EFAULT;
		offset += bytes;
		user += bytes;
		left -= bytes;
	}
	kvfree(chunk);
	return ret;
}
