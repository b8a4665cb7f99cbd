// SPDX-License-Identifier: GPL-2.0-only
/*
 * The registered datapath: the pages of a dma-buf in an io_uring's own table
 * of registered buffers. The I/O after that is io_uring's and the file's; this
 * module is not in its way.
 */
#include <linux/file.h>
#include <linux/slab.h>

#include "compat.h"
#include "mapping.h"
#include "pages.h"
#include "registered.h"
#include "session.h"
#include "sqe.h"

/* One slot of one ring's table. Holds the session's file, and with it us. */
struct registration {
	struct dmabuf_rw_pages *pages;
	struct file *session_file;
	struct work_struct work;
};

static struct workqueue_struct *registered_wq;

/* What a registered mapping does with an I/O: nothing, it does not see any. */
const struct dmabuf_rw_path_ops dmabuf_rw_registered_ops = {
	.path = DMABUF_RW_PATH_REGISTERED,
};

/**
 * dmabuf_rw_registered_available - does this kernel let a module register?
 *
 * Return: whether it does.
 */
bool dmabuf_rw_registered_available(void)
{
#ifdef PROBE_REGISTER_BVEC
	return true;
#else
	return false;
#endif
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

/* What REGISTER and UNREGISTER args for, read once from the SQE. */
struct reg_args {
	u32 handle;
	u32 index;
	u64 offset;		/* of the window, bytes; @length is not 0 */
	u32 length;		/* 0: all of the dma-buf */
};

/*
 * The pieces of a window, the first and the last one cut to fit. Freed with
 * kvfree(); io_uring makes a copy of its own.
 */
static struct bio_vec *window_bvecs(const struct dmabuf_rw_pages *pages,
				    const struct reg_args *args, unsigned int *nr)
{
	u64 last = args->offset + args->length - 1, before, within;
	unsigned int from = dmabuf_rw_pages_find(pages, args->offset, &before);
	unsigned int to = dmabuf_rw_pages_find(pages, last, &within);
	struct bio_vec *bvecs;

	*nr = to - from + 1;
	bvecs = kvmalloc_array(*nr, sizeof(*bvecs), GFP_KERNEL);
	if (!bvecs)
		return NULL;
	memcpy(bvecs, &pages->bvecs[from], array_size(*nr, sizeof(*bvecs)));
	bvecs[*nr - 1].bv_len = within + 1;
	/* Of a single piece, too: @within counts from its uncut start. */
	bvecs[0].bv_offset += before;
	bvecs[0].bv_len -= before;
	return bvecs;
}

static int pages_register(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			  const struct reg_args *args, unsigned int issue_flags)
{
	struct bio_vec *bvecs = m->pages->bvecs, *window = NULL;
	unsigned int nr = m->pages->nr_bvecs;
	struct registration *r;
	u8 direction = 0;
	int ret;

	if (dmabuf_rw_pin_lost(&m->pages->pin))
		return -ENODEV;
	if (m->directions & DMABUF_RW_DIR_READ)
		direction |= 1 << ITER_DEST;
	if (m->directions & DMABUF_RW_DIR_WRITE)
		direction |= 1 << ITER_SOURCE;

	if (args->length) {
		u64 end;

		if (check_add_overflow(args->offset, (u64)args->length, &end) || end > m->size)
			return -EINVAL;
		window = window_bvecs(m->pages, args, &nr);
		if (!window)
			return -ENOMEM;
		bvecs = window;
	}

	r = kmalloc_obj(*r, GFP_KERNEL_ACCOUNT);
	if (!r) {
		kvfree(window);
		return -ENOMEM;
	}
	INIT_WORK(&r->work, registration_end);
	r->pages = m->pages;
	refcount_inc(&r->pages->refs);
	r->session_file = get_file(cmd->file);
	atomic64_inc(&r->pages->registered);

	ret = io_buffer_register_bvec(cmd, bvecs, nr, registration_release, r, direction,
				      args->index, issue_flags);
	kvfree(window);
	if (ret) {
		atomic64_dec(&r->pages->registered);
		fput(r->session_file);
		dmabuf_rw_pages_put(r->pages);
		kfree(r);
		return ret;
	}
	atomic64_inc(&m->pages->registrations);
	return 0;
}

/* @flags: those that the command knows. */
static int reg_command(struct io_uring_cmd *cmd, unsigned int issue_flags, struct reg_args *args,
		       u32 flags)
{
	const struct io_uring_sqe *sqe = dmabuf_rw_sqe(cmd, issue_flags);
	const struct dmabuf_rw_uring_reg *in;
	u32 given;

	if (!sqe)
		return -EOPNOTSUPP;
	in = (const struct dmabuf_rw_uring_reg *)sqe->cmd;
	given = READ_ONCE(in->flags);
	args->handle = READ_ONCE(in->handle);
	args->index = READ_ONCE(in->index);
	args->offset = READ_ONCE(sqe->addr);
	args->length = READ_ONCE(sqe->len);
	if ((given & ~flags) || READ_ONCE(in->reserved))
		return -EINVAL;
	if (given & DMABUF_RW_REG_WINDOW)
		return args->length ? 0 : -EINVAL;
	return args->offset || args->length ? -EINVAL : 0;
}

/**
 * dmabuf_rw_registered_issue - DMABUF_RW_URING_REGISTER
 * @cmd: the command
 * @issue_flags: io_uring's
 *
 * Context: io_uring's issue context.
 * Return: 0, -EINVAL (arguments, no such slot), -ENOENT (handle), -EBUSY (slot
 * taken), -EOPNOTSUPP (mapping of another path), -ENODEV (revoked), -ENOMEM.
 */
int dmabuf_rw_registered_issue(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	struct dmabuf_rw_mapping *m;
	struct reg_args args;
	int ret;

	ret = reg_command(cmd, issue_flags, &args, DMABUF_RW_REG_WINDOW);
	if (ret)
		return ret;
	m = dmabuf_rw_mapping_get(cmd->file->private_data, args.handle);
	if (!m)
		return -ENOENT;
	if (m->ops == &dmabuf_rw_registered_ops)
		ret = pages_register(cmd, m, &args, issue_flags);
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
	struct reg_args args;
	int ret;

	ret = reg_command(cmd, issue_flags, &args, 0);
	if (ret)
		return ret;
	if (args.handle)
		return -EINVAL;
	return io_buffer_unregister(cmd, args.index, issue_flags);
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
