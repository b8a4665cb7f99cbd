// SPDX-License-Identifier: GPL-2.0-only
/*
 * The registered datapath: the pages of a dma-buf in an io_uring's own table
 * of registered buffers. The I/O after that is io_uring's and the file's; this
 * module is not in its way.
 *
 * The pages are found through the exporter's kernel mapping, never through the
 * page links of its scatterlist, which the dma-buf rules forbid to importers
 * and DMABUF_DEBUG takes away. The mapping is kept: it is what makes the
 * exporter keep the pages where they are.
 */
#include <linux/dma-resv.h>
#include <linux/file.h>
#include <linux/io_uring/cmd.h>
#include <linux/ktime.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/sched/user.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "dmabuf_rw.h"

/* One slot of one ring's table. Holds the session's file, and with it us. */
struct registration {
	struct dmabuf_rw_pages *pages;
	struct file *session_file;
	struct work_struct work;
};

static struct workqueue_struct *registered_wq;

/**
 * dmabuf_rw_registered_available - does this kernel let a module register?
 */
bool dmabuf_rw_registered_available(void)
{
#ifdef PROBE_REGISTER_BVEC
	return true;
#else
	return false;
#endif
}

/**
 * dmabuf_rw_pages_put - drop a reference to the pages of a dma-buf
 * @pages: unmapped and released with the last reference
 *
 * Context: may sleep; takes the dma_resv.
 */
void dmabuf_rw_pages_put(struct dmabuf_rw_pages *pages)
{
	if (!refcount_dec_and_test(&pages->refs))
		return;
	dma_buf_vunmap_unlocked(pages->dmabuf, &pages->map);
	dma_buf_put(pages->dmabuf);
	dmabuf_rw_uncharge(pages->user, pages->charged);
	free_uid(pages->user);
	kvfree(pages->bvecs);
	kfree(pages);
}

/* The page at a kernel address of the exporter's mapping, or NULL. */
static struct page *page_of(void *address)
{
	if (is_vmalloc_addr(address))
		return vmalloc_to_page(address);
	return virt_addr_valid(address) ? virt_to_page(address) : NULL;
}

/* Collect the pages, neighbours joined. */
static struct dmabuf_rw_result pages_collect(struct dmabuf_rw_pages *pages)
{
	u64 nr = pages->dmabuf->size >> PAGE_SHIFT, i;
	struct page *previous = NULL;
	struct bio_vec *last = NULL;

	for (i = 0; i < nr; i++) {
		struct page *page = page_of(pages->map.vaddr + (i << PAGE_SHIFT));

		if (!page || is_zone_device_page(page))
			return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_PAGES);
		if (last && page == previous + 1 && last->bv_len <= SZ_1G) {
			last->bv_len += PAGE_SIZE;
		} else {
			last = &pages->bvecs[pages->nr_bvecs++];
			bvec_set_page(last, page, PAGE_SIZE, 0);
		}
		previous = page;
		if (!(i & 0xfff))
			cond_resched();
	}

	pages->smallest = U64_MAX;
	for (i = 0; i < pages->nr_bvecs; i++) {
		pages->smallest = min_t(u64, pages->smallest, pages->bvecs[i].bv_len);
		pages->largest = max_t(u64, pages->largest, pages->bvecs[i].bv_len);
	}
	return DMABUF_RW_OK;
}

/* vmap, with what its errno means here. */
static struct dmabuf_rw_result pages_vmap(struct dmabuf_rw_pages *pages)
{
	int ret = dma_buf_vmap_unlocked(pages->dmabuf, &pages->map);

	if (ret == -ENOMEM)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	if (ret)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NO_CPU_VIEW);
	if (!pages->map.is_iomem)
		return DMABUF_RW_OK;
	dma_buf_vunmap_unlocked(pages->dmabuf, &pages->map);
	return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_PAGES);
}

/**
 * dmabuf_rw_registered_map - find the pages of a dma-buf
 * @m: sets @m->pages
 * @dmabuf: the memory; a reference is taken
 * @user: who is charged for keeping it
 *
 * Context: may sleep.
 * Return: success, or an errno with its reason.
 */
struct dmabuf_rw_result dmabuf_rw_registered_map(struct dmabuf_rw_mapping *m,
						 struct dma_buf *dmabuf,
						 struct user_struct *user)
{
	ktime_t start = ktime_get();
	struct dmabuf_rw_result result;
	struct dmabuf_rw_pages *pages;

	if (!dmabuf_rw_registered_available())
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);
	/* io_buffer_register_bvec() counts bytes in 32 bits. */
	if (!dmabuf->size || dmabuf->size > DMABUF_RW_MAX_REGISTERED)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SIZE_CAP);
	if (!PAGE_ALIGNED(dmabuf->size))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SEG_ALIGN);

	pages = kzalloc(sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	refcount_set(&pages->refs, 1);
	pages->dmabuf = dmabuf;
	pages->bvecs = kvmalloc_array(dmabuf->size >> PAGE_SHIFT, sizeof(*pages->bvecs),
				      GFP_KERNEL_ACCOUNT);
	if (!pages->bvecs) {
		result = dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
		goto free;
	}
	if (dmabuf_rw_charge(user, dmabuf->size, &pages->charged)) {
		result = dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_MEMLOCK);
		goto free;
	}
	result = pages_vmap(pages);
	if (result.error)
		goto uncharge;

	get_dma_buf(dmabuf);
	pages->user = get_uid(user);
	result = pages_collect(pages);
	if (result.error) {
		dmabuf_rw_pages_put(pages);
		return result;
	}
	pages->map_ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	m->pages = pages;
	return DMABUF_RW_OK;

uncharge:
	dmabuf_rw_uncharge(user, pages->charged);
free:
	kvfree(pages->bvecs);
	kfree(pages);
	return result;
}

#ifdef PROBE_REGISTER_BVEC
static void registration_end(struct work_struct *work)
{
	struct registration *r = container_of(work, struct registration, work);

	atomic64_dec(&r->pages->registered);
	dmabuf_rw_pages_put(r->pages);
	fput(r->session_file);
	kfree(r);
}

/*
 * io_uring lets go of the buffer: taken out and its last I/O done, or the ring
 * is gone. Called with the ring's lock held, under which we take no dma_resv.
 */
static void registration_release(void *priv)
{
	struct registration *r = priv;

	queue_work(registered_wq, &r->work);
}

static int pages_register(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			  u32 index, unsigned int issue_flags)
{
	struct registration *r;
	u8 direction = 0;
	int ret;

	if (m->directions & DMABUF_RW_DIR_READ)
		direction |= 1 << ITER_DEST;
	if (m->directions & DMABUF_RW_DIR_WRITE)
		direction |= 1 << ITER_SOURCE;

	r = kmalloc(sizeof(*r), GFP_KERNEL_ACCOUNT);
	if (!r)
		return -ENOMEM;
	INIT_WORK(&r->work, registration_end);
	r->pages = m->pages;
	refcount_inc(&r->pages->refs);
	r->session_file = get_file(cmd->file);
	atomic64_inc(&r->pages->registered);

	ret = io_buffer_register_bvec(cmd, r->pages->bvecs, r->pages->nr_bvecs,
				      registration_release, r, direction, index, issue_flags);
	if (ret) {
		atomic64_dec(&r->pages->registered);
		fput(r->session_file);
		dmabuf_rw_pages_put(r->pages);
		kfree(r);
		return ret;
	}
	atomic64_inc(&r->pages->registrations);
	return 0;
}

static int reg_command(struct io_uring_cmd *cmd, struct dmabuf_rw_uring_reg *reg)
{
	const struct dmabuf_rw_uring_reg *in = dmabuf_rw_sqe_cmd(cmd, struct dmabuf_rw_uring_reg);

	reg->handle = READ_ONCE(in->handle);
	reg->index = READ_ONCE(in->index);
	if (READ_ONCE(in->flags) || READ_ONCE(in->reserved))
		return -EINVAL;
	if (READ_ONCE(cmd->sqe->addr) || READ_ONCE(cmd->sqe->len))
		return -EINVAL;
	return 0;
}

/**
 * dmabuf_rw_registered_issue - DMABUF_RW_URING_REGISTER
 * @cmd: the command
 * @issue_flags: io_uring's
 *
 * Context: io_uring's issue context.
 * Return: 0, -EINVAL (arguments, no such slot), -ENOENT (handle), -EBUSY (slot
 * taken), -EOPNOTSUPP (mapping of another path), -ENOMEM.
 */
int dmabuf_rw_registered_issue(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	struct dmabuf_rw_uring_reg reg;
	struct dmabuf_rw_mapping *m;
	int ret;

	ret = reg_command(cmd, &reg);
	if (ret)
		return ret;
	m = dmabuf_rw_mapping_get(cmd->file->private_data, reg.handle);
	if (!m)
		return -ENOENT;
	if (m->path == DMABUF_RW_PATH_REGISTERED)
		ret = pages_register(cmd, m, reg.index, issue_flags);
	else
		ret = -EOPNOTSUPP;
	dmabuf_rw_mapping_put(m);
	return ret;
}

/**
 * dmabuf_rw_unregister_issue - DMABUF_RW_URING_UNREGISTER
 * @cmd: the command
 * @issue_flags: io_uring's
 *
 * Context: io_uring's issue context.
 * Return: 0, -EINVAL (arguments, empty slot), -EBUSY (holds ordinary memory).
 */
int dmabuf_rw_unregister_issue(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	struct dmabuf_rw_uring_reg reg;
	int ret;

	ret = reg_command(cmd, &reg);
	if (ret)
		return ret;
	if (reg.handle)
		return -EINVAL;
	return io_buffer_unregister(cmd, reg.index, issue_flags);
}
#else
int dmabuf_rw_registered_issue(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	return -EOPNOTSUPP;
}

int dmabuf_rw_unregister_issue(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	return -EOPNOTSUPP;
}
#endif

/**
 * dmabuf_rw_registered_init - make what ending registrations needs
 *
 * Return: 0 or -ENOMEM.
 */
int dmabuf_rw_registered_init(void)
{
	registered_wq = alloc_workqueue("dmabuf_rw", WQ_UNBOUND, 0);
	return registered_wq ? 0 : -ENOMEM;
}

/**
 * dmabuf_rw_registered_exit - undo dmabuf_rw_registered_init()
 *
 * Context: module exit. Waits for work that has let go of its session's file,
 * and so of the module, but not yet returned.
 */
void dmabuf_rw_registered_exit(void)
{
	destroy_workqueue(registered_wq);
}
