// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bvec datapath: a uring_cmd becomes one call of the target's read_iter or
 * write_iter with the dma-buf's pages as memory. Any regular file or block
 * device, direct or through the page cache.
 */
#include <linux/dma-buf.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/io_uring/cmd.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "compat.h"
#include "bvec.h"
#include "pages.h"
#include "trace.h"

/* One I/O while it is under way. */
struct bvec_io {
	struct kiocb kiocb;
	struct io_uring_cmd *cmd;	/* NULL: the caller waits */
	struct dmabuf_rw_mapping *m;
	struct dmabuf_rw_io_args args;
	long result;
	bool freeze_held;	/* the superblock's, for a write to a regular file */
};

static struct kmem_cache *bvec_io_cache;

static bool bvec_writes(const struct bvec_io *io)
{
	return io->args.direction == DMABUF_RW_DIR_WRITE;
}

/**
 * dmabuf_rw_bvec_check - an I/O against what a file can hold
 * @m: the mapping
 * @args: inside the dma-buf, in a direction that is mapped
 *
 * The rest is for the target itself to judge.
 *
 * Context: any.
 * Return: success, or -EINVAL with RANGE.
 */
struct dmabuf_rw_result dmabuf_rw_bvec_check(const struct dmabuf_rw_mapping *m,
					     const struct dmabuf_rw_io_args *args)
{
	u64 end;

	if (check_add_overflow(args->file_offset, (u64)args->length, &end) || end > LLONG_MAX)
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE);
	return DMABUF_RW_OK;
}

/* What the target said, as somebody outside the kernel may see it. */
static long bvec_result(ssize_t result)
{
	switch (result) {
	case -EAGAIN:
		/* Would make io_uring args again, for ever. */
		return -EBUSY;
	case -ERESTARTSYS:
	case -ERESTARTNOINTR:
	case -ERESTARTNOHAND:
	case -ERESTART_RESTARTBLOCK:
		return -EINTR;
	default:
		return result;
	}
}

/*
 * The target is done with the buffer: count, and let go of it. Not left to task
 * work, which may wait for a task that itself waits for the buffer.
 */
static void bvec_account(struct bvec_io *io)
{
	trace_dmabuf_rw_complete(io->m->session, io->m->handle, io->args.direction, io->result);
	if (io->result < 0)
		dmabuf_rw_note_error(io->m, io->result, dmabuf_rw_reason_of(io->m, io->result));
	else
		dmabuf_rw_note_done(io->m, io->args.direction, io->result);
	percpu_ref_put(&io->m->io);
}

static void bvec_end_write(struct bvec_io *io)
{
	if (io->freeze_held)
		kiocb_end_write(&io->kiocb);
	io->freeze_held = false;
}

/* Protection against a freezing filesystem, as any write needs. */
static bool bvec_begin_write(struct bvec_io *io)
{
	struct inode *inode = file_inode(io->kiocb.ki_filp);

	if (!bvec_writes(io) || !S_ISREG(inode->i_mode))
		return true;
	if (io->kiocb.ki_flags & IOCB_NOWAIT) {
		if (!sb_start_write_trylock(inode->i_sb))
			return false;
		__sb_writers_release(inode->i_sb, SB_FREEZE_WRITE);
	} else {
		kiocb_start_write(&io->kiocb);
	}
	io->freeze_held = true;
	return true;
}

/*
 * One call of the target. -EIOCBQUEUED: bvec_complete() will be called, or has
 * been. Anything else is the result.
 */
static ssize_t bvec_call(struct bvec_io *io)
{
	const struct dmabuf_rw_pages *pages = io->m->pages;
	struct file *file = io->kiocb.ki_filp;
	struct iov_iter iter;
	unsigned int index;
	ssize_t result;
	u64 within;

	io->kiocb.ki_pos = io->args.file_offset;
	if (!bvec_begin_write(io))
		return -EAGAIN;

	index = dmabuf_rw_pages_find(pages, io->args.buffer_offset, &within);
	iov_iter_bvec(&iter, bvec_writes(io) ? ITER_SOURCE : ITER_DEST, pages->bvecs + index,
		      pages->nr_bvecs - index, within + io->args.length);
	iov_iter_advance(&iter, within);
	this_cpu_inc(io->m->counts->commands);

	if (bvec_writes(io))
		result = file->f_op->write_iter(&io->kiocb, &iter);
	else
		result = file->f_op->read_iter(&io->kiocb, &iter);
	if (result != -EIOCBQUEUED)
		bvec_end_write(io);
	return result;
}

/* Through the page cache the CPU copies: the exporter is told before and after. */
static ssize_t bvec_call_buffered(struct bvec_io *io)
{
	enum dma_data_direction dir = bvec_writes(io) ? DMA_FROM_DEVICE : DMA_TO_DEVICE;
	struct dma_buf *dmabuf = io->m->dmabuf;
	ssize_t result;

	result = dma_buf_begin_cpu_access(dmabuf, dir);
	if (result)
		return result;
	result = bvec_call(io);
	dma_buf_end_cpu_access(dmabuf, dir);
	return result;
}

static ssize_t bvec_call_any(struct bvec_io *io)
{
	if (io->kiocb.ki_flags & IOCB_DIRECT)
		return bvec_call(io);
	return bvec_call_buffered(io);
}

/* Tell those who watch the file. */
static void bvec_notify(const struct bvec_io *io)
{
	if (io->result <= 0)
		return;
	if (bvec_writes(io))
		fsnotify_modify(io->kiocb.ki_filp);
	else
		fsnotify_access(io->kiocb.ki_filp);
}

/* Accounted for already. Frees @io and tells io_uring. */
static void bvec_finish(struct bvec_io *io, unsigned int issue_flags)
{
	struct io_uring_cmd *cmd = io->cmd;
	long result = io->result;

	bvec_notify(io);
	dmabuf_rw_mapping_put(io->m);
	kmem_cache_free(bvec_io_cache, io);
	dmabuf_rw_cmd_done(cmd, result, issue_flags);
}

/* The call's result, where the call was made. */
static void bvec_finish_here(struct bvec_io *io, ssize_t result, unsigned int issue_flags)
{
	io->result = bvec_result(result);
	bvec_account(io);
	bvec_finish(io, issue_flags);
}

/* In the task that owns the ring, or io_uring's fallback worker. */
static void bvec_task_work(DMABUF_RW_TW_ARGS)
{
	struct io_uring_cmd *cmd = DMABUF_RW_TW_CMD;
	struct bvec_io *io = dmabuf_rw_pdu(cmd)->bvec;
	ssize_t result;

	if (io->result != -EAGAIN) {
		bvec_finish(io, DMABUF_RW_TW_FLAGS);
		return;
	}
	/*
	 * The target took the I/O without waiting and then found that it would
	 * have to. We are where waiting is allowed: again, without the wish.
	 */
	this_cpu_inc(io->m->counts->deferred);
	if (!percpu_ref_tryget_live(&io->m->io)) {
		io->result = -ENOENT;
		bvec_finish(io, DMABUF_RW_TW_FLAGS);
		return;
	}
	io->kiocb.ki_flags &= ~IOCB_NOWAIT;
	result = bvec_call_any(io);
	if (result != -EIOCBQUEUED)
		bvec_finish_here(io, result, DMABUF_RW_TW_FLAGS);
}

/* The target has ended an I/O that it took with -EIOCBQUEUED. */
static void bvec_complete(struct kiocb *kiocb, long result)
{
	struct bvec_io *io = container_of(kiocb, struct bvec_io, kiocb);

	bvec_end_write(io);
	if (result != -EAGAIN || !(kiocb->ki_flags & IOCB_NOWAIT))
		result = bvec_result(result);
	io->result = result;
	if (result == -EAGAIN)
		percpu_ref_put(&io->m->io);
	else
		bvec_account(io);
	io_uring_cmd_do_in_task_lazy(io->cmd, bvec_task_work);
}

/**
 * dmabuf_rw_bvec_submit - call the target with the dma-buf's pages
 * @cmd: completed when the I/O has ended
 * @m: the mapping; its percpu_ref is held, and handed over unless this fails
 * @args: checked
 * @issue_flags: io_uring's
 *
 * Context: io_uring's issue context; sleeps only without IO_URING_F_NONBLOCK.
 * Return: -EIOCBQUEUED; otherwise nothing was done: -EAGAIN with
 * IO_URING_F_NONBLOCK, -ENOMEM.
 */
int dmabuf_rw_bvec_submit(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			  const struct dmabuf_rw_io_args *args, unsigned int issue_flags)
{
	bool nowait = issue_flags & IO_URING_F_NONBLOCK;
	struct file *file = m->target.file;
	struct bvec_io *io;
	ssize_t result;

	if (nowait && (!(file->f_flags & O_DIRECT) || !(file->f_mode & FMODE_NOWAIT)))
		return -EAGAIN;

	io = kmem_cache_alloc(bvec_io_cache, GFP_KERNEL);
	if (!io)
		return -ENOMEM;
	*io = (struct bvec_io){ .cmd = cmd, .m = m, .args = *args };
	dmabuf_rw_pdu(cmd)->bvec = io;
	init_sync_kiocb(&io->kiocb, file);
	io->kiocb.ki_complete = bvec_complete;
	if (args->direction == DMABUF_RW_DIR_WRITE)
		io->kiocb.ki_flags |= IOCB_WRITE;
	if (nowait)
		io->kiocb.ki_flags |= IOCB_NOWAIT;
	/* Keeps the file for what comes after the buffer was let go of. */
	refcount_inc(&m->refs);

	result = bvec_call_any(io);
	if (result == -EIOCBQUEUED)
		return -EIOCBQUEUED;
	if (result == -EAGAIN && nowait) {
		kmem_cache_free(bvec_io_cache, io);
		dmabuf_rw_mapping_put(m);
		return -EAGAIN;
	}
	bvec_finish_here(io, result, issue_flags);
	return -EIOCBQUEUED;
}

/**
 * dmabuf_rw_bvec_wait - call the target and wait for it
 * @m: the mapping; its percpu_ref is held, and let go of here
 * @args: checked
 *
 * Context: may sleep; the caller holds m->refs.
 * Return: bytes moved, or a negative errno. Counted either way.
 */
long dmabuf_rw_bvec_wait(struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
{
	struct bvec_io io = { .m = m, .args = *args };

	/* Without ki_complete() the call returns when the I/O has ended. */
	init_sync_kiocb(&io.kiocb, m->target.file);
	if (bvec_writes(&io))
		io.kiocb.ki_flags |= IOCB_WRITE;
	io.result = bvec_result(bvec_call_any(&io));
	bvec_account(&io);
	bvec_notify(&io);
	return io.result;
}

/**
 * dmabuf_rw_bvec_init - make what bvec I/O needs
 *
 * Return: 0 or -ENOMEM.
 */
int dmabuf_rw_bvec_init(void)
{
	bvec_io_cache = KMEM_CACHE(bvec_io, SLAB_HWCACHE_ALIGN);
	return bvec_io_cache ? 0 : -ENOMEM;
}

/**
 * dmabuf_rw_bvec_exit - undo dmabuf_rw_bvec_init()
 *
 * Context: module exit, no I/O is under way.
 */
void dmabuf_rw_bvec_exit(void)
{
	kmem_cache_destroy(bvec_io_cache);
}
