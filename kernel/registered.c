// SPDX-License-Identifier: GPL-2.0-only
/*
 * The registered datapath: the pages of a dma-buf in an io_uring's own table
 * of registered buffers. The I/O after that is io_uring's and the file's; this
 * module is not in its way.
 */
#include <linux/file.h>
#include <linux/io_uring/cmd.h>
#include <linux/slab.h>

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

	r = kmalloc_obj(*r, GFP_KERNEL_ACCOUNT);
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
