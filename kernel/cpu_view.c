// SPDX-License-Identifier: GPL-2.0-only
/*
 * The CPU's view of a dma-buf, and copies between it and a caller's memory.
 *
 * A view is the exporter's kernel mapping of the whole buffer, made with the
 * first rw fd and shared by all of the same dma-buf. As long as there is a view,
 * a pin makes the exporter keep the memory where it is.
 *
 * Copies through one view are atomic with regard to each other by the 4 KiB:
 * a read of an aligned block sees it before or after a write that covers it,
 * not a mixture. The lock for that is held for a chunk at a time and with page
 * faults off, so that no caller's memory can make other callers wait.
 */
#include <linux/dma-resv.h>
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "cpu_view.h"
#include "fence.h"
#include "pin.h"

#define VIEW_CHUNK	SZ_256K	/* copied in one go; a multiple of VIEW_CHUNK_IO */
#define VIEW_CHUNK_IO	SZ_4K	/* the same for a device's memory, and what is atomic */
#define VIEW_TRIES	8	/* for a page that is gone again whenever it was faulted in */

struct dmabuf_rw_view {
	struct hlist_node node;		/* views, views_lock */
	refcount_t refs;
	struct dma_buf *dmabuf;		/* holds a reference */
	struct mutex setup;
	bool ready;			/* setup: mapped, and looked at */
	struct dmabuf_rw_pin pin;	/* keeps the memory where it is */
	struct iosys_map map;
	struct rw_semaphore busy;	/* write: the memory is being changed */
};

static DEFINE_HASHTABLE(views, 8);
static DEFINE_MUTEX(views_lock);

/**
 * dmabuf_rw_view_page - the page at an address of an exporter's kernel mapping
 * @address: in the mapping
 *
 * Context: any; the mapping stays.
 * Return: the page, or NULL if there is none.
 */
struct page *dmabuf_rw_view_page(void *address)
{
	unsigned long pfn;

	if (!is_vmalloc_addr(address))
		return virt_addr_valid(address) ? virt_to_page(address) : NULL;
	/* By number first: a carve-out that is only mapped has none. */
	pfn = vmalloc_to_pfn(address);
	return pfn_valid(pfn) ? pfn_to_page(pfn) : NULL;
}

/**
 * dmabuf_rw_cpu_direction - what an exporter is told of an access by the CPU
 * @fills: the CPU writes the buffer
 *
 * A write of a part leaves the rest as it was, and a write of all may end early: at
 * the end of a file, or of what the caller has. An exporter may keep a cache or a
 * copy of the whole for the CPU, which it must make valid first: so a write is
 * announced as both ways.
 *
 * Context: any.
 * Return: the direction for dma_buf_begin_cpu_access() and its end.
 */
enum dma_data_direction dmabuf_rw_cpu_direction(bool fills)
{
	return fills ? DMA_BIDIRECTIONAL : DMA_FROM_DEVICE;
}

/**
 * dmabuf_rw_view_repeats - is the view plainly wrong here?
 * @previous: the page before, or NULL
 * @page: the page
 *
 * udmabuf of 6.12 shows the first page of a huge page again and again, where it
 * should show its pages in turn: by way of such a view the wrong bytes move.
 *
 * Context: any.
 * Return: whether it is.
 */
bool dmabuf_rw_view_repeats(struct page *previous, struct page *page)
{
	return previous && (page == previous || (PageHead(previous) && page != previous + 1));
}

/* The whole of a view of ordinary memory. */
static bool view_is_wrong(const struct dmabuf_rw_view *view)
{
	u64 nr = view->dmabuf->size >> PAGE_SHIFT, i;
	struct page *previous = NULL, *page;

	for (i = 0; i < nr; i++) {
		page = dmabuf_rw_view_page(view->map.vaddr + (i << PAGE_SHIFT));
		if (page && dmabuf_rw_view_repeats(previous, page))
			return true;
		previous = page;
		if (!(i & 0xfff))
			cond_resched();
	}
	return false;
}

static struct dmabuf_rw_result view_refusal(int error)
{
	return dmabuf_rw_refusal(error, DMABUF_RW_REASON_NO_CPU_VIEW);
}

/*
 * Ask the exporter for CPU access once, so that what it refuses is refused when
 * the file is opened, before vmap, whose failure is a warning of the framework.
 * Both ways, unless the buffer cannot be written: udmabuf maps its memory for the
 * CPU's sake in the direction of the first access, without a lock, and keeps that.
 * view->setup keeps two of us from being the first.
 *
 * Not when it would have to wait: the file can be opened, and polled.
 */
static int view_try_access(struct dma_buf *dmabuf)
{
	enum dma_data_direction dir = DMA_BIDIRECTIONAL;
	int ret;

	if (!(dmabuf->file->f_mode & FMODE_WRITE))
		dir = DMA_FROM_DEVICE;
	if (dmabuf_rw_fenced(dmabuf, true))
		return 0;
	ret = dma_buf_begin_cpu_access(dmabuf, dir);
	if (!ret)
		dma_buf_end_cpu_access(dmabuf, dir);
	return ret;
}

static struct dmabuf_rw_result view_map(struct dmabuf_rw_view *view)
{
	struct dma_buf *dmabuf = view->dmabuf;
	int ret = dmabuf_rw_vmap_lock(dmabuf);

	if (ret)
		return view_refusal(ret);
	ret = dma_buf_vmap(dmabuf, &view->map);
	dmabuf_rw_vmap_unlock(dmabuf);
	if (ret)
		return view_refusal(ret);
	if (view->map.is_iomem || !view_is_wrong(view))
		return DMABUF_RW_OK;
	dmabuf_rw_vunmap(dmabuf, &view->map);
	return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NO_CPU_VIEW);
}

/* view->setup held. */
static struct dmabuf_rw_result view_setup(struct dmabuf_rw_view *view)
{
	struct dma_buf *dmabuf = view->dmabuf;
	struct dmabuf_rw_result result;
	int ret;

	ret = view_try_access(dmabuf);
	if (ret)
		return view_refusal(ret);
	if (view->ready)
		return DMABUF_RW_OK;

	result = dmabuf_rw_pin_get(&view->pin, dmabuf);
	if (result.error)
		return result;
	result = view_map(view);
	if (result.error) {
		dmabuf_rw_pin_put(&view->pin);
		return result;
	}
	view->ready = true;
	return DMABUF_RW_OK;
}

/* The view of this dma-buf, with a reference, perhaps not yet set up. */
static struct dmabuf_rw_view *view_find(struct dma_buf *dmabuf)
{
	struct dmabuf_rw_view *view;

	guard(mutex)(&views_lock);
	hash_for_each_possible(views, view, node, (unsigned long)dmabuf) {
		if (view->dmabuf == dmabuf) {
			refcount_inc(&view->refs);
			return view;
		}
	}
	view = kzalloc_obj(*view, GFP_KERNEL_ACCOUNT);
	if (!view)
		return NULL;
	refcount_set(&view->refs, 1);
	get_dma_buf(dmabuf);
	view->dmabuf = dmabuf;
	mutex_init(&view->setup);
	init_rwsem(&view->busy);
	hash_add(views, &view->node, (unsigned long)dmabuf);
	return view;
}

/**
 * dmabuf_rw_view_get - the CPU's view of a dma-buf
 * @dmabuf: the memory
 * @out: out: the view, for dmabuf_rw_view_put()
 *
 * Context: may sleep; no lock of this module held.
 * Return: success; -EOPNOTSUPP with NO_CPU_VIEW, -ENODEV with REVOKED, -ENOMEM,
 * -EINTR.
 */
struct dmabuf_rw_result dmabuf_rw_view_get(struct dma_buf *dmabuf, struct dmabuf_rw_view **out)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_view *view;

	if (!dmabuf->ops->vmap)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NO_CPU_VIEW);
	view = view_find(dmabuf);
	if (!view)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	if (mutex_lock_killable(&view->setup)) {
		result = dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	} else {
		result = view_setup(view);
		mutex_unlock(&view->setup);
	}
	if (result.error)
		dmabuf_rw_view_put(view);
	else
		*out = view;
	return result;
}

/**
 * dmabuf_rw_view_put - drop a reference to a view
 * @view: unmapped and released with the last reference
 *
 * Context: may sleep; takes the dma_resv.
 */
void dmabuf_rw_view_put(struct dmabuf_rw_view *view)
{
	if (!refcount_dec_and_mutex_lock(&view->refs, &views_lock))
		return;
	hash_del(&view->node);
	mutex_unlock(&views_lock);
	if (view->ready) {
		dmabuf_rw_vunmap(view->dmabuf, &view->map);
		dmabuf_rw_pin_put(&view->pin);
	}
	dma_buf_put(view->dmabuf);
	mutex_destroy(&view->setup);
	kfree(view);
}

/**
 * dmabuf_rw_view_dmabuf - whose view it is
 * @view: the view
 *
 * Return: the dma-buf; @view holds the reference.
 */
struct dma_buf *dmabuf_rw_view_dmabuf(const struct dmabuf_rw_view *view)
{
	return view->dmabuf;
}

/**
 * dmabuf_rw_view_is_io - is it a device's memory?
 * @view: the view
 *
 * Return: whether the CPU has to access it as I/O memory.
 */
bool dmabuf_rw_view_is_io(const struct dmabuf_rw_view *view)
{
	return view->map.is_iomem;
}

/*
 * How much may be copied from here in one go. Checked copies to user memory do
 * not cross from one compound page of the linear map to the next.
 */
static size_t view_run(void *at, size_t bytes)
{
	struct page *page;

	if (is_vmalloc_addr(at) || !virt_addr_valid(at))
		return bytes;
	page = virt_to_page(at);
	if (!PageCompound(page))
		return bytes;
	page = compound_head(page);
	return min_t(size_t, bytes, page_address(page) + page_size(page) - at);
}

/* One attempt. Less than @bytes: the caller's memory is not all there. */
static size_t view_try(struct dmabuf_rw_view *view, void *at, size_t bytes,
		       struct iov_iter *iter, bool write)
{
	size_t done;

	if (write) {
		down_write(&view->busy);
		pagefault_disable();
		done = copy_from_iter(at, bytes, iter);
		pagefault_enable();
		up_write(&view->busy);
	} else {
		down_read(&view->busy);
		pagefault_disable();
		done = copy_to_iter(at, bytes, iter);
		pagefault_enable();
		up_read(&view->busy);
	}
	return done;
}

static size_t view_fault_in(const struct iov_iter *iter, size_t bytes, bool write)
{
	return write ? fault_in_iov_iter_readable(iter, bytes) :
		fault_in_iov_iter_writeable(iter, bytes);
}

/* A chunk of ordinary memory. Bytes moved, at least one, or a negative errno. */
static ssize_t view_move_memory(struct dmabuf_rw_view *view, void *at, size_t bytes,
				struct iov_iter *iter, bool write)
{
	unsigned int tries;
	size_t done;

	bytes = view_run(at, bytes);
	/* A write shows what it did at once: so what can be had is had first. */
	if (write) {
		bytes -= view_fault_in(iter, bytes, write);
		if (!bytes)
			return -EFAULT;
	}
	for (tries = 0; tries < VIEW_TRIES; tries++) {
		done = view_try(view, at, bytes, iter, write);
		if (done == bytes || (done && tries == VIEW_TRIES - 1))
			return done;
		/* Once more from the start, so that the chunk is of one piece. */
		iov_iter_revert(iter, done);
		bytes -= view_fault_in(iter, bytes, write);
		if (!bytes)
			return -EFAULT;
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return -EFAULT;
}

/* The same of a device's memory, which is touched with nobody's page missing. */
static ssize_t view_move_io(struct dmabuf_rw_view *view, u64 position, size_t bytes,
			    struct iov_iter *iter, bool write, void *bounce)
{
	if (write) {
		bytes = copy_from_iter(bounce, bytes, iter);
		down_write(&view->busy);
		iosys_map_memcpy_to(&view->map, position, bounce, bytes);
		up_write(&view->busy);
	} else {
		down_read(&view->busy);
		iosys_map_memcpy_from(bounce, &view->map, position, bytes);
		up_read(&view->busy);
		bytes = copy_to_iter(bounce, bytes, iter);
	}
	return bytes ?: -EFAULT;
}

/**
 * dmabuf_rw_view_move - copy between a view and a caller's memory
 * @view: the view
 * @position: bytes, where to begin
 * @iter: the caller's memory; all of it fits between @position and the end
 * @write: into the dma-buf
 *
 * The exporter has been told that the CPU accesses the memory.
 *
 * Context: may sleep; gives way to a fatal signal.
 * Return: bytes moved, less than asked for if memory of the caller cannot be
 * accessed or he is killed; -EFAULT, -EINTR or -ENOMEM if none were.
 */
ssize_t dmabuf_rw_view_move(struct dmabuf_rw_view *view, u64 position, struct iov_iter *iter,
			    bool write)
{
	bool io = view->map.is_iomem;
	size_t chunk = io ? VIEW_CHUNK_IO : VIEW_CHUNK;
	void *bounce = NULL;
	ssize_t ret = 0;
	size_t done = 0;

	if (io) {
		bounce = kmalloc(VIEW_CHUNK_IO, GFP_KERNEL_ACCOUNT);
		if (!bounce)
			return -ENOMEM;
	}
	while (iov_iter_count(iter)) {
		size_t bytes = min(iov_iter_count(iter), chunk - (position & (chunk - 1)));

		if (io)
			ret = view_move_io(view, position, bytes, iter, write, bounce);
		else
			ret = view_move_memory(view, view->map.vaddr + position, bytes, iter,
					       write);
		if (ret < 0)
			break;
		position += ret;
		done += ret;
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		cond_resched();
	}
	kfree(bounce);
	return done ?: ret;
}
