// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bvec datapath: a uring_cmd becomes one call of the target's read_iter or
 * write_iter with the dma-buf's pages as memory. Any regular file or block
 * device, direct or through the page cache.
 */
#include <linux/dma-buf.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "compat.h"
#include "bvec.h"
#include "cpu_view.h"
#include "pages.h"
#include "ready.h"
#include "rights.h"
#include "trace.h"

/* One I/O while it is under way. */
struct bvec_io {
	struct kiocb kiocb;
	refcount_t refs;		/* its end, and each call of the target */
	struct io_uring_cmd *cmd;	/* NULL: the caller waits */
	struct dmabuf_rw_mapping *m;
	struct dmabuf_rw_io_args args;
	u32 done;		/* bytes that a call which was not to wait has moved */
	size_t left;		/* what the last call that ended at once left of its bytes */
	const struct cred *rights;	/* a personality's, for what task work does; or NULL */
	long result;
	bool freeze_held;	/* the superblock's, for a write to a regular file */
	bool announced;		/* the exporter is told; the call returns at the I/O's end */
};

static struct kmem_cache *bvec_io_cache;

static bool bvec_writes(const struct bvec_io *io)
{
	return io->args.direction == DMABUF_RW_DIR_WRITE;
}

/* An I/O against what a file can hold. The rest is for the target to judge. */
static struct dmabuf_rw_result bvec_check(struct dmabuf_rw_mapping *m,
					  const struct dmabuf_rw_io_args *args)
{
	u64 end;

	if (check_add_overflow(args->file_offset, (u64)args->length, &end) || end > LLONG_MAX)
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE);
	if (dmabuf_rw_pin_lost(&m->pages->pin))
		return dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_REVOKED);
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

/* Of all calls: as with write(2), an error after some bytes is for the next I/O to find. */
static long bvec_total(const struct bvec_io *io, long result)
{
	if (!io->done)
		return result;
	return result < 0 ? io->done : io->done + result;
}

static void bvec_count(struct bvec_io *io)
{
	trace_dmabuf_rw_complete(io->m->session, io->m->handle, io->args.direction, io->result);
	if (io->result < 0)
		dmabuf_rw_note_error(io->m, io->result, dmabuf_rw_reason_of(io->m, io->result));
	else
		dmabuf_rw_note_done(io->m, io->args.direction, io->result);
}

/*
 * The target is done with the buffer: counts the I/O, and gives the buffer back.
 * Task work must not do this: it may wait for a task that waits for the buffer.
 */
static void bvec_account(struct bvec_io *io)
{
	bvec_count(io);
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
	u32 length = io->args.length - io->done;
	struct iov_iter iter;
	unsigned int index;
	ssize_t result;
	u64 within;

	io->kiocb.ki_pos = io->args.file_offset + io->done;
	/* Any code that calls the target itself has to ask security modules and watchers. */
	result = rw_verify_area(bvec_writes(io) ? WRITE : READ, file, &io->kiocb.ki_pos, length);
	if (result)
		return result;
	if (!bvec_begin_write(io))
		return -EAGAIN;

	index = dmabuf_rw_pages_find(pages, io->args.buffer_offset + io->done, &within);
	iov_iter_bvec(&iter, bvec_writes(io) ? ITER_SOURCE : ITER_DEST, pages->bvecs + index,
		      pages->nr_bvecs - index, length);
	iter.iov_offset = within;
	this_cpu_inc(io->m->counts->commands);

	if (bvec_writes(io))
		result = file->f_op->write_iter(&io->kiocb, &iter);
	else
		result = file->f_op->read_iter(&io->kiocb, &iter);
	/* Queued: @io may be gone. */
	if (result != -EIOCBQUEUED) {
		io->left = iov_iter_count(&iter);
		bvec_end_write(io);
	}
	return result;
}

/*
 * Does the CPU do a part of this direct I/O on a regular file whose bytes a device moves
 * otherwise? It does what is no whole block; it clears, for a read, what is past the
 * end or in a hole; it copies all where the device sums the pages, which have to stay as
 * they are; and a file so short may be kept in its inode.
 */
static bool bvec_cpu_has_part(const struct dmabuf_rw_target *target, const struct inode *inode,
			      const struct dmabuf_rw_io_args *args)
{
	/* xfs does not count here. */
	u64 held = (u64)READ_ONCE(inode->i_blocks) << SECTOR_SHIFT;
	u64 size = i_size_read(inode), block = i_blocksize(inode);

	if (((args->file_offset | args->length) & (block - 1)) || size < block ||
	    bdev_stable_writes(inode->i_sb->s_bdev))
		return true;
	return args->direction == DMABUF_RW_DIR_READ &&
		(target->holes || (held && held < size) ||
		 args->file_offset + args->length > size);
}

/*
 * May the CPU copy in the course of this direct I/O? File systems do so with what
 * they compress or sum, keep in the journal, or cannot take without a whole block;
 * and they begin to, for a file whose data is to go through the journal, or that gets
 * fs-verity, after it was mapped. Where a device moves the bytes all the same, to tell
 * the exporter does no harm.
 */
static bool bvec_cpu_may_copy(const struct dmabuf_rw_mapping *m,
			      const struct dmabuf_rw_io_args *args)
{
	const struct address_space *mapping = m->target.file->f_mapping;
	const struct dma_buf_ops *ops = m->dmabuf->ops;
	const struct inode *inode = mapping->host;

	if (!ops->begin_cpu_access && !ops->end_cpu_access)
		return false;
	if (READ_ONCE(mapping->a_ops) != m->target.direct_aops || IS_VERITY(inode))
		return true;
	return S_ISREG(inode->i_mode) && bvec_cpu_has_part(&m->target, inode, args);
}

/* The CPU copies, or may: the exporter is told before and after. */
static ssize_t bvec_call_announced(struct bvec_io *io)
{
	/* A read of the target writes the buffer. */
	bool fills = !bvec_writes(io);
	enum dma_data_direction dir = dmabuf_rw_cpu_direction(fills);
	struct dma_buf *dmabuf = io->m->dmabuf;
	ssize_t result;
	int ret;

	result = dma_buf_begin_cpu_access(dmabuf, dir);
	if (result)
		return result;
	result = bvec_call(io);
	ret = dma_buf_end_cpu_access(dmabuf, dir);
	/* Devices may not see what the CPU wrote: it has to be read again. */
	return ret && fills && result > 0 ? ret : result;
}

static ssize_t bvec_call_any(struct bvec_io *io)
{
	return io->announced ? bvec_call_announced(io) : bvec_call(io);
}

static void bvec_put(struct bvec_io *io)
{
	if (!refcount_dec_and_test(&io->refs))
		return;
	dmabuf_rw_mapping_put(io->m);
	put_cred(io->rights);
	kmem_cache_free(bvec_io_cache, io);
}

/*
 * The same for an I/O that may end in another task while the call still runs: the
 * target still looks at the kiocb and at the file on its way back. -EIOCBQUEUED:
 * @io may be gone.
 */
static ssize_t bvec_call_held(struct bvec_io *io)
{
	ssize_t result;

	refcount_inc(&io->refs);
	result = bvec_call_any(io);
	bvec_put(io);
	return result;
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

/* Accounted for already. Lets go of @io and tells io_uring. */
static void bvec_finish(struct bvec_io *io, unsigned int issue_flags)
{
	struct io_uring_cmd *cmd = io->cmd;
	long result = io->result;

	bvec_notify(io);
	bvec_put(io);
	dmabuf_rw_cmd_done(cmd, result, issue_flags);
}

/* The call's result, where the call was made. */
static void bvec_finish_here(struct bvec_io *io, ssize_t result, unsigned int issue_flags)
{
	io->result = bvec_total(io, bvec_result(result));
	bvec_account(io);
	bvec_finish(io, issue_flags);
}

static void bvec_complete(struct kiocb *kiocb, long result);

/*
 * Anew for each call of the target, which may have changed it. Without ki_complete()
 * the call returns when the I/O has ended.
 */
static void bvec_kiocb_make(struct bvec_io *io)
{
	init_sync_kiocb(&io->kiocb, io->m->target.file);
	io->announced = !(io->kiocb.ki_flags & IOCB_DIRECT) || bvec_cpu_may_copy(io->m, &io->args);
	if (bvec_writes(io))
		io->kiocb.ki_flags |= IOCB_WRITE;
}

/*
 * The same for an I/O that may end in another task. Not where the exporter is told
 * when the CPU has copied: some network file systems would come back before that.
 */
static void bvec_kiocb_make_async(struct bvec_io *io, bool nowait)
{
	bvec_kiocb_make(io);
	if (!io->announced)
		io->kiocb.ki_complete = bvec_complete;
	if (nowait)
		io->kiocb.ki_flags |= IOCB_NOWAIT;
}

/* In the task that owns the ring, or io_uring's fallback worker. */
static void bvec_task_work(DMABUF_RW_TW_ARGS)
{
	struct io_uring_cmd *cmd = DMABUF_RW_TW_CMD;
	struct bvec_io *io = dmabuf_rw_pdu(cmd)->bvec;
	const struct cred *own;
	ssize_t result;
	bool dead;

	if (io->result != -EAGAIN) {
		bvec_finish(io, DMABUF_RW_TW_FLAGS);
		return;
	}
	/*
	 * The target took the I/O without waiting and then found that it would
	 * have to wait, for all of it or for the rest. Here waiting is allowed: the
	 * target is called again, and may wait. Not for a task that is gone: a kernel
	 * thread would write in its place, with the thread's rights.
	 */
	dead = DMABUF_RW_TW_DEAD || (current->flags & (PF_EXITING | PF_KTHREAD));
	if (dead || !dmabuf_rw_io_enter(io->m)) {
		io->result = bvec_total(io, dead ? -ECANCELED : -ENOENT);
		bvec_count(io);
		bvec_finish(io, DMABUF_RW_TW_FLAGS);
		return;
	}
	/* Looked at before the first call, and again: the task may be long in coming. */
	if (dmabuf_rw_pin_lost(&io->m->pages->pin)) {
		bvec_finish_here(io, -ENODEV, DMABUF_RW_TW_FLAGS);
		return;
	}
	/* The rest is for the next I/O, which can wait for the fence. */
	if (io->done && dmabuf_rw_io_fenced(io->m, &io->args)) {
		bvec_finish_here(io, -EINTR, DMABUF_RW_TW_FLAGS);
		return;
	}
	this_cpu_inc(io->m->counts->deferred);
	bvec_kiocb_make_async(io, false);
	/* As bvec_call_held(); and the rights are @io's, and in use until we are back. */
	refcount_inc(&io->refs);
	own = dmabuf_rw_rights_use(io->rights);
	result = bvec_call_any(io);
	dmabuf_rw_rights_back(own);
	bvec_put(io);
	if (result != -EIOCBQUEUED)
		bvec_finish_here(io, result, DMABUF_RW_TW_FLAGS);
}

/*
 * Is this the answer to the wish not to wait? f2fs has EOPNOTSUPP for what it
 * cannot write so; a disk that never goes without waiting, as dm-crypt's, has it
 * for all, and the file systems on it hand it on.
 */
static bool bvec_refuses_nowait(long result)
{
	return result == -EAGAIN || result == -EOPNOTSUPP;
}

/* The target has ended an I/O that it took with -EIOCBQUEUED. */
static void bvec_complete(struct kiocb *kiocb, long result)
{
	struct bvec_io *io = container_of(kiocb, struct bvec_io, kiocb);

	bvec_end_write(io);
	if ((kiocb->ki_flags & IOCB_NOWAIT) && bvec_refuses_nowait(result))
		result = -EAGAIN;
	else
		result = bvec_total(io, bvec_result(result));
	io->result = result;
	if (result == -EAGAIN)
		percpu_ref_put(&io->m->io);
	else
		bvec_account(io);
	dmabuf_rw_in_task(io->cmd, bvec_task_work);
}

static void bvec_trace(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
{
	trace_dmabuf_rw_submit(m->session, m->handle, args->direction, args->file_offset,
			       args->buffer_offset, args->length);
}

/*
 * Did the target stop where it would have had to wait? btrfs and f2fs take a
 * direct I/O that is not aligned to their blocks through the page cache, and
 * move what is there. The end of the file is no such place; nor is a limit
 * (RLIMIT_FSIZE), for which the file system takes what is too much off a write
 * before it begins: to call again there would send the signal SIGXFSZ.
 */
static bool bvec_stopped(const struct bvec_io *io, ssize_t result)
{
	const struct inode *inode = io->kiocb.ki_filp->f_mapping->host;

	if (result < 0 || result >= io->args.length)
		return false;
	if (bvec_writes(io))
		return io->left;
	return io->args.file_offset + result < i_size_read(inode);
}

/* Call the target with the dma-buf's pages. m->io is held and goes with the I/O. */
static int bvec_start(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
		      const struct dmabuf_rw_io_args *args, unsigned int issue_flags)
{
	bool nowait = issue_flags & IO_URING_F_NONBLOCK;
	struct bvec_io *io;
	ssize_t result;

	io = kmem_cache_alloc(bvec_io_cache, GFP_KERNEL);
	if (!io)
		return dmabuf_rw_io_refuse(m, dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY));
	bvec_trace(m, args);
	*io = (struct bvec_io){ .cmd = cmd, .m = m, .args = *args, .refs = REFCOUNT_INIT(1) };
	if (nowait)
		io->rights = dmabuf_rw_rights_lent();
	dmabuf_rw_pdu(cmd)->bvec = io;
	bvec_kiocb_make_async(io, nowait);
	/* @io's: keeps the file for what comes after the buffer was given back. */
	refcount_inc(&m->refs);

	/* An exporter that is told may take its time. */
	result = nowait && io->announced ? -EAGAIN : bvec_call_held(io);
	if (result == -EIOCBQUEUED)
		return -EIOCBQUEUED;
	if (nowait && bvec_refuses_nowait(result)) {
		dmabuf_rw_io_defer(m);
		bvec_put(io);
		return -EAGAIN;
	}
	if (nowait && bvec_stopped(io, result)) {
		io->done = result;
		io->result = -EAGAIN;
		percpu_ref_put(&m->io);
		dmabuf_rw_in_task(cmd, bvec_task_work);
		return -EIOCBQUEUED;
	}
	bvec_finish_here(io, result, issue_flags);
	return -EIOCBQUEUED;
}

static int bvec_issue(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
		      const struct dmabuf_rw_io_args *args, unsigned int issue_flags)
{
	struct dmabuf_rw_result result = bvec_check(m, args);
	struct file *file = m->target.file;

	if (result.error)
		return dmabuf_rw_io_refuse(m, result);
	if (dmabuf_rw_io_fenced(m, args) || !(file->f_flags & O_DIRECT) ||
	    !(file->f_mode & FMODE_NOWAIT) || bvec_cpu_may_copy(m, args))
		return dmabuf_rw_io_defer(m);
	return bvec_start(cmd, m, args, issue_flags);
}

static int bvec_send(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
		     const struct dmabuf_rw_io_args *args, unsigned int issue_flags)
{
	struct dmabuf_rw_result result = dmabuf_rw_io_prepare(m, args, bvec_check);

	if (result.error) {
		dmabuf_rw_note_error(m, result.error, result.reason);
		return result.error;
	}
	return bvec_start(cmd, m, args, issue_flags);
}

static struct dmabuf_rw_result bvec_run(struct dmabuf_rw_mapping *m,
					const struct dmabuf_rw_io_args *args, u64 *moved)
{
	struct bvec_io io = { .m = m, .args = *args };
	struct dmabuf_rw_result result;

	result = dmabuf_rw_io_prepare(m, args, bvec_check);
	if (result.error) {
		dmabuf_rw_note_error(m, result.error, result.reason);
		return result;
	}
	bvec_trace(m, args);
	bvec_kiocb_make(&io);
	io.result = bvec_result(bvec_call_any(&io));
	bvec_account(&io);
	bvec_notify(&io);
	if (io.result < 0)
		return dmabuf_rw_fail(io.result, dmabuf_rw_reason_of(m, io.result));
	*moved = io.result;
	return DMABUF_RW_OK;
}

/* What a bvec mapping does with an I/O. */
const struct dmabuf_rw_path_ops dmabuf_rw_bvec_ops = {
	.path = DMABUF_RW_PATH_BVEC,
	.issue = bvec_issue,
	.send = bvec_send,
	.clear = bvec_check,
	.run = bvec_run,
};

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
