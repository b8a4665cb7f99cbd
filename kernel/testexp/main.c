// SPDX-License-Identifier: GPL-2.0-only
/*
 * dmabuf_testexp: a test exporter of dma-bufs.
 *
 * The module, its device, sessions and the table of calls. See
 * uapi/linux/dmabuf_testexp.h for what the calls do, testexp.h for the locks.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "compat.h"
#include "testexp.h"

static unsigned int max_mib = 1024;
module_param(max_mib, uint, 0444);
MODULE_PARM_DESC(max_mib, "MiB all buffers together may take (1024)");

static const struct file_operations testexp_fops;

static struct miscdevice testexp_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "dmabuf_testexp",
	.fops = &testexp_fops,
	.mode = 0600,
};

/* One open of the device: its buffers by id, a reference to each. */
struct testexp_session {
	struct xarray buffers;
};

/* Any argument; what is copied is what the command's number says. */
union testexp_args {
	u32 id;			/* of all that name a buffer it is the first */
	struct dmabuf_testexp_query query;
	struct dmabuf_testexp_create create;
	struct dmabuf_testexp_id only_id;
	struct dmabuf_testexp_move move;
	struct dmabuf_testexp_fail fail;
	struct dmabuf_testexp_fence fence;
	struct dmabuf_testexp_signal signal;
	struct dmabuf_testexp_mover mover;
	struct dmabuf_testexp_access access;
	struct dmabuf_testexp_stats stats;
	struct dmabuf_testexp_vmap vmap;
	struct dmabuf_testexp_fences fences;
};

static struct testexp_buffer *session_find(struct testexp_session *session, u32 id)
{
	struct testexp_buffer *buffer;

	xa_lock(&session->buffers);
	buffer = xa_load(&session->buffers, id);
	if (buffer)
		kref_get(&buffer->refs);
	xa_unlock(&session->buffers);
	return buffer;
}

static int do_query(struct dmabuf_testexp_query *query)
{
	if (query->flags || query->reserved32 ||
	    memchr_inv(query->reserved, 0, sizeof(query->reserved)))
		return -EINVAL;
	memset(query, 0, sizeof(*query));
	query->abi_version = DMABUF_TESTEXP_ABI_VERSION;
	if (TESTEXP_CAN_MOVE)
		query->features |= DMABUF_TESTEXP_FEAT_MOVE;
	query->features |= DMABUF_TESTEXP_FEAT_LOSE | DMABUF_TESTEXP_FEAT_MISLEAD |
			   DMABUF_TESTEXP_FEAT_LOOSE_VMAP | DMABUF_TESTEXP_FEAT_SHADOW |
			   DMABUF_TESTEXP_FEAT_CPU_COUNTS | DMABUF_TESTEXP_FEAT_FENCES;
	if (TESTEXP_CAN_HOLD)
		query->features |= DMABUF_TESTEXP_FEAT_VMAP;
	if (testexp_carveout_there())
		query->features |= DMABUF_TESTEXP_FEAT_CARVEOUT;
	if (testexp_carveout_has_pages())
		query->features |= DMABUF_TESTEXP_FEAT_CARVEOUT_PAGES;
	query->max_buffer_bytes = testexp_max_bytes;
	query->max_segment_bytes = TESTEXP_MAX_SEGMENT;
	query->max_buffers = TESTEXP_MAX_BUFFERS;
	query->live_buffers = atomic_read(&testexp_live_buffers);
	return 0;
}

/* The file descriptor appears only when nothing can fail any more. */
static int do_create(struct testexp_session *session, struct dmabuf_testexp_create *create,
		     void __user *arg)
{
	struct testexp_buffer *buffer;
	struct dma_buf *dmabuf;
	u32 id;
	int fd, ret;

	buffer = testexp_buffer_create(create);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);
	dmabuf = buffer->dmabuf;
	create->segments = buffer->backing->nr;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		ret = fd;
		goto put;
	}
	create->fd = fd;
	ret = xa_alloc(&session->buffers, &id, buffer, XA_LIMIT(1, TESTEXP_MAX_BUFFERS),
		       GFP_KERNEL_ACCOUNT);
	if (ret) {
		ret = ret == -EBUSY ? -ENOSPC : ret;
		goto put_fd;
	}
	create->id = id;
	if (copy_to_user(arg, create, sizeof(*create))) {
		ret = -EFAULT;
		/* Another thread may have guessed the id and destroyed it. */
		if (xa_erase(&session->buffers, id) == buffer)
			goto put_fd;
		put_unused_fd(fd);
		dma_buf_put(dmabuf);
		return ret;
	}
	fd_install(fd, dmabuf->file);
	return 0;

put_fd:
	put_unused_fd(fd);
put:
	dma_buf_put(dmabuf);
	testexp_buffer_end_session(buffer);
	return ret;
}

static int do_destroy(struct testexp_session *session, const struct dmabuf_testexp_id *only_id)
{
	struct testexp_buffer *buffer;

	if (only_id->flags)
		return -EINVAL;
	buffer = xa_erase(&session->buffers, only_id->id);
	if (!buffer)
		return -ENOENT;
	testexp_buffer_end_session(buffer);
	return 0;
}

static int do_move(struct testexp_buffer *buffer, struct dmabuf_testexp_move *move, bool revoke)
{
	if (move->flags || move->reserved || move->timeout_ms > TESTEXP_MAX_DELAY_MS)
		return -EINVAL;
	return testexp_move(buffer, move->timeout_ms ?: TESTEXP_FENCE_MS, revoke,
			    &move->invalidate_ns);
}

static int do_mover_start(struct testexp_buffer *buffer, const struct dmabuf_testexp_mover *mover)
{
	if ((mover->flags & ~DMABUF_TESTEXP_MOVER_MAPPED) || mover->reserved ||
	    mover->interval_us > TESTEXP_MAX_INTERVAL_US)
		return -EINVAL;
	return testexp_mover_start(buffer, mover);
}

static int do_mover_stop(struct testexp_buffer *buffer, const struct dmabuf_testexp_id *only_id)
{
	if (only_id->flags)
		return -EINVAL;
	testexp_mover_stop(buffer);
	return 0;
}

static int do_signal(struct testexp_buffer *buffer, struct dmabuf_testexp_signal *signal)
{
	if (signal->flags)
		return -EINVAL;
	return testexp_fence_signal(buffer, signal->fence, &signal->signalled);
}

/* The commands that name a buffer. */
static int buffer_command(struct testexp_buffer *buffer, unsigned int cmd,
			  union testexp_args *args)
{
	switch (cmd) {
	case DMABUF_TESTEXP_IOC_MOVE:
		return do_move(buffer, &args->move, false);
	case DMABUF_TESTEXP_IOC_REVOKE:
		return do_move(buffer, &args->move, true);
	case DMABUF_TESTEXP_IOC_UNREVOKE:
		return args->only_id.flags ? -EINVAL : testexp_unrevoke(buffer);
	case DMABUF_TESTEXP_IOC_FAIL:
		return testexp_buffer_fail(buffer, &args->fail);
	case DMABUF_TESTEXP_IOC_FENCE_ADD:
		return testexp_fence_add(buffer, &args->fence);
	case DMABUF_TESTEXP_IOC_FENCE_SIGNAL:
		return do_signal(buffer, &args->signal);
	case DMABUF_TESTEXP_IOC_MOVER_START:
		return do_mover_start(buffer, &args->mover);
	case DMABUF_TESTEXP_IOC_MOVER_STOP:
		return do_mover_stop(buffer, &args->only_id);
	case DMABUF_TESTEXP_IOC_STATS:
		return testexp_buffer_stats(buffer, &args->stats);
	case DMABUF_TESTEXP_IOC_READ:
		return testexp_access(buffer, &args->access, false);
	case DMABUF_TESTEXP_IOC_WRITE:
		return testexp_access(buffer, &args->access, true);
	case DMABUF_TESTEXP_IOC_VMAP:
		return testexp_hold(buffer, &args->vmap, testexp_device.this_device);
	case DMABUF_TESTEXP_IOC_VUNMAP:
		return args->only_id.flags ? -EINVAL : testexp_let_go(buffer);
	case DMABUF_TESTEXP_IOC_FENCES_SIGNALLED:
		return testexp_fences_signalled(buffer, &args->fences);
	default:
		return -ENOTTY;
	}
}

static long testexp_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct testexp_session *session = file->private_data;
	void __user *argp = (void __user *)arg;
	union testexp_args args = {};
	struct testexp_buffer *buffer;
	int ret;

	if (_IOC_TYPE(cmd) != DMABUF_TESTEXP_MAGIC || _IOC_SIZE(cmd) > sizeof(args) ||
	    _IOC_NR(cmd) > _IOC_NR(DMABUF_TESTEXP_IOC_FENCES_SIGNALLED))
		return -ENOTTY;
	if (copy_from_user(&args, argp, _IOC_SIZE(cmd)))
		return -EFAULT;

	switch (cmd) {
	case DMABUF_TESTEXP_IOC_CREATE:
		return do_create(session, &args.create, argp);
	case DMABUF_TESTEXP_IOC_DESTROY:
		return do_destroy(session, &args.only_id);
	case DMABUF_TESTEXP_IOC_QUERY:
		ret = do_query(&args.query);
		break;
	default:
		buffer = session_find(session, args.id);
		if (!buffer)
			return -ENOENT;
		ret = buffer_command(buffer, cmd, &args);
		testexp_buffer_put(buffer);
		break;
	}
	if (!ret && (_IOC_DIR(cmd) & _IOC_READ) && copy_to_user(argp, &args, _IOC_SIZE(cmd)))
		ret = -EFAULT;
	/* All of them may be begun again; io_uring's task work interrupts, too. */
	return ret == -EINTR ? -ERESTARTSYS : ret;
}

static int testexp_open(struct inode *inode, struct file *file)
{
	struct testexp_session *session = kzalloc_obj(*session, GFP_KERNEL_ACCOUNT);

	if (!session)
		return -ENOMEM;
	xa_init_flags(&session->buffers, XA_FLAGS_ALLOC1);
	file->private_data = session;
	return 0;
}

static int testexp_close(struct inode *inode, struct file *file)
{
	struct testexp_session *session = file->private_data;
	struct testexp_buffer *buffer;
	unsigned long id;

	xa_for_each(&session->buffers, id, buffer)
		testexp_buffer_end_session(buffer);
	xa_destroy(&session->buffers);
	kfree(session);
	return 0;
}

static const struct file_operations testexp_fops = {
	.owner = THIS_MODULE,
	.open = testexp_open,
	.release = testexp_close,
	.unlocked_ioctl = testexp_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static int __init testexp_init(void)
{
	int ret;

	testexp_max_bytes = (u64)max_mib << 20;
	ret = testexp_carveout_init();
	if (ret)
		return ret;
	ret = misc_register(&testexp_device);
	if (ret)
		testexp_carveout_exit();
	return ret;
}

static void __exit testexp_exit(void)
{
	misc_deregister(&testexp_device);
	/* Fences are freed by way of RCU, in our code. */
	rcu_barrier();
	WARN_ON(atomic_read(&testexp_live_buffers));
	testexp_carveout_exit();
}

module_init(testexp_init);
module_exit(testexp_exit);

MODULE_DESCRIPTION("Test exporter of dma-bufs");
MODULE_AUTHOR("The libdmabuf developers");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
