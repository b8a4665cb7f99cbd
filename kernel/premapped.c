// SPDX-License-Identifier: GPL-2.0-only
/*
 * The premapped datapath: a uring_cmd becomes NVMe commands whose PRP words
 * point into the lists made at map time. No bio, no page, no mapping, no
 * allocation and no lock per I/O.
 *
 * While it is under way an I/O holds its mapping's percpu_ref, taken before the
 * first request is built and dropped when the last one has ended. io.c has seen
 * to everything that may have to be waited for.
 */
#include <linux/blk-mq.h>
#include <linux/io_uring/cmd.h>
#include <linux/nvme.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "attach.h"
#include "nvme_request.h"
#include "premapped.h"
#include "trace.h"

/* dmabuf_rw_pdu.flags */
#define IO_WRITE	BIT(0)
#define IO_POLLED	BIT(1)
#define IO_SPLIT	BIT(2)	/* several parts: @pending counts */
#define IO_HELD		BIT(3)	/* task work drops a reference to @m */
#define IO_AWAITED	BIT(4)	/* part of a struct io_wait, not of a command */
#define IO_QUEUE_SHIFT	16	/* IO_POLLED: number of the hardware queue above here */

/* An I/O whose caller waits for it, and keeps @m. On the caller's stack. */
struct io_wait {
	struct dmabuf_rw_pdu io;
	struct completion done;
};

/* The command @io lives in, unless IO_AWAITED. */
static struct io_uring_cmd *io_cmd(struct dmabuf_rw_pdu *io)
{
	return container_of((void *)io, struct io_uring_cmd, pdu);
}

/* Has the target any page in the page cache? */
static bool io_target_cached(const struct dmabuf_rw_mapping *m)
{
	return READ_ONCE(m->target.file->f_mapping->nrpages);
}

/**
 * dmabuf_rw_premapped_cached - is a page of the target's cache in the way?
 * @m: the mapping
 * @args: checked
 *
 * A dirty page is in the way of a read, any page in the way of a write.
 *
 * Context: any.
 * Return: whether one is.
 */
bool dmabuf_rw_premapped_cached(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
{
	struct address_space *cache = m->target.file->f_mapping;
	u64 last = args->file_offset + args->length - 1;

	if (likely(!io_target_cached(m)))
		return false;
	if (args->direction == DMABUF_RW_DIR_WRITE)
		return filemap_range_has_page(cache, args->file_offset, last);
	return filemap_range_needs_writeback(cache, args->file_offset, last);
}

/* In the task that owns the ring, or io_uring's fallback worker. */
static void io_task_work(DMABUF_RW_TW_ARGS)
{
	struct io_uring_cmd *cmd = DMABUF_RW_TW_CMD;
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);

	if (unlikely(io->flags & IO_HELD)) {
		struct address_space *cache = io->m->target.file->f_mapping;
		pgoff_t first = 0, last = -1;

		/*
		 * Pages that somebody read in while the drive was writing are
		 * stale now, as after any O_DIRECT write.
		 */
		if (!(io->flags & IO_POLLED)) {
			first = io->file_offset >> PAGE_SHIFT;
			last = (io->file_offset + io->length - 1) >> PAGE_SHIFT;
		}
		invalidate_inode_pages2_range(cache, first, last);
		dmabuf_rw_mapping_put(io->m);
	}
	dmabuf_rw_cmd_done(cmd, io->error ?: (s32)io->length, DMABUF_RW_TW_FLAGS);
}

/* All parts have ended: count, and let go of the mapping. */
static void io_account(struct dmabuf_rw_pdu *io)
{
	u32 direction = io->flags & IO_WRITE ? DMABUF_RW_DIR_WRITE : DMABUF_RW_DIR_READ;
	struct dmabuf_rw_mapping *m = io->m;

	trace_dmabuf_rw_complete(m->session, m->handle, direction,
				 io->error ?: (long)io->length);
	if (unlikely(io->error))
		dmabuf_rw_note_error(m, io->error, dmabuf_rw_reason_of(m, io->error));
	else
		dmabuf_rw_note_done(m, direction, io->length);
	if (unlikely((io->flags & (IO_WRITE | IO_AWAITED)) == IO_WRITE && io_target_cached(m))) {
		refcount_inc(&m->refs);
		io->flags |= IO_HELD;
	}
	if (io->flags & IO_POLLED)
		WRITE_ONCE(io->polled, NULL);
	percpu_ref_put(&m->io);
}

/* Accounted for: tell whoever waits. @io may be gone afterwards. */
static void io_finish(struct dmabuf_rw_pdu *io)
{
	if (unlikely(io->flags & IO_AWAITED))
		complete(&container_of(io, struct io_wait, io)->done);
	else
		io_uring_cmd_do_in_task_lazy(io_cmd(io), io_task_work);
}

static enum rq_end_io_ret io_end(DMABUF_RW_END_IO_ARGS)
{
	struct dmabuf_rw_pdu *io = rq->end_io_data;
	int error = dmabuf_rw_nvme_result(rq, status);

	if (unlikely(error))
		cmpxchg(&io->error, 0, error);
	if ((io->flags & IO_SPLIT) && !atomic_dec_and_test(&io->pending))
		return RQ_END_IO_FREE;

	io_account(io);
	/* Who waits without a ring does not poll. */
	if (DMABUF_RW_POLLED_BY_OWN_RING(rq, io_cmd(io)) && !(io->flags & IO_HELD))
		dmabuf_rw_cmd_done(io_cmd(io), io->error ?: (s32)io->length, 0);
	else
		io_finish(io);
	return RQ_END_IO_FREE;
}

/* One command for @length bytes of the I/O, @done bytes into it. */
static struct request *io_request(struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args,
				  u32 done, u32 length, blk_opf_t opf,
				  blk_mq_req_flags_t flags)
{
	struct request_queue *q = m->target.disk->queue;
	struct nvme_command command = {};
	unsigned int shift;
	struct request *rq;
	u64 position;

	opf |= args->direction == DMABUF_RW_DIR_WRITE ? REQ_OP_DRV_OUT : REQ_OP_DRV_IN;
	rq = blk_mq_alloc_request(q, opf, flags);
	if (IS_ERR(rq))
		return rq;

	/*
	 * A format that changes the block size freezes the queue first. We are
	 * in it now, so what we see here holds until the request has ended.
	 */
	shift = ilog2(queue_logical_block_size(q));
	position = args->file_offset + done + ((u64)m->target.bdev->bd_start_sect << SECTOR_SHIFT);
	if (unlikely((position | length) & ((1U << shift) - 1) || !(length >> shift) ||
		     (length >> shift) > 65536)) {
		blk_mq_free_request(rq);
		return ERR_PTR(-EINVAL);
	}

	command.rw.opcode = args->direction == DMABUF_RW_DIR_WRITE ? nvme_cmd_write : nvme_cmd_read;
	command.rw.nsid = cpu_to_le32(m->target.nsid);
	command.rw.slba = cpu_to_le64(position >> shift);
	command.rw.length = cpu_to_le16((length >> shift) - 1);
	dmabuf_rw_prp_get(&m->attach->prp, args->buffer_offset + done, length,
			  &command.rw.dptr.prp1, &command.rw.dptr.prp2);
	dmabuf_rw_target_init_request(rq, &command);
	/* Ordinary I/O, not an administrator's passthrough: resets are survived. */
	rq->cmd_flags &= ~REQ_FAILFAST_DRIVER;
	rq->timeout = m->timeout;
	rq->end_io = io_end;
	this_cpu_inc(m->counts->commands);
	return rq;
}

/* An I/O longer than one command. The caller holds m->io. */
static int io_submit_split(struct dmabuf_rw_pdu *io, const struct dmabuf_rw_io_args *args, bool nonblock)
{
	struct dmabuf_rw_mapping *m = io->m;
	u32 done = 0;

	io->flags |= IO_SPLIT;
	atomic_set(&io->pending, 1);
	while (done < args->length) {
		u32 length = min(args->length - done, m->target.max_command);
		struct request *rq;

		if (done && (io->flags & IO_AWAITED) && fatal_signal_pending(current)) {
			cmpxchg(&io->error, 0, -EINTR);
			break;
		}
		/*
		 * Only the first part can be given back to io_uring. For later
		 * ones wait for a free request: those come back by themselves,
		 * by interrupt, and sleeping flushes the plug.
		 */
		rq = io_request(m, args, done, length, done ? 0 : nonblock ? REQ_NOWAIT : 0,
				nonblock && !done ? BLK_MQ_REQ_NOWAIT : 0);
		if (IS_ERR(rq)) {
			if (!done)
				return PTR_ERR(rq);
			cmpxchg(&io->error, 0, (int)PTR_ERR(rq));
			break;
		}
		rq->end_io_data = io;
		atomic_inc(&io->pending);
		blk_execute_rq_nowait(rq, false);
		done += length;
	}
	if (atomic_dec_and_test(&io->pending)) {
		io_account(io);
		io_finish(io);
	}
	return -EIOCBQUEUED;
}

static void io_begin(struct dmabuf_rw_pdu *io, struct dmabuf_rw_mapping *m,
		     const struct dmabuf_rw_io_args *args, u32 flags)
{
	io->m = m;
	io->file_offset = args->file_offset;
	io->length = args->length;
	io->error = 0;
	io->flags = flags | (args->direction == DMABUF_RW_DIR_WRITE ? IO_WRITE : 0);
}

/**
 * dmabuf_rw_premapped_submit - build the commands of an I/O and send them
 * @cmd: completed when they have ended
 * @m: the mapping; its percpu_ref is held, and handed over unless this fails
 * @args: checked
 * @issue_flags: io_uring's
 *
 * Context: io_uring's issue context; sleeps only without IO_URING_F_NONBLOCK.
 * Return: -EIOCBQUEUED; otherwise nothing was sent: -EAGAIN with
 * IO_URING_F_NONBLOCK, -EINVAL (the block size changed), -ENODEV.
 */
int dmabuf_rw_premapped_submit(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			       const struct dmabuf_rw_io_args *args, unsigned int issue_flags)
{
	bool nonblock = issue_flags & IO_URING_F_NONBLOCK;
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);
	blk_opf_t opf = 0;
	struct request *rq;

	io_begin(io, m, args, 0);
	/* Parts are not polled for: a command has room for one request. */
	if (unlikely(args->length > m->target.max_command))
		return io_submit_split(io, args, nonblock);

	if (nonblock)
		opf |= REQ_NOWAIT;
	if (issue_flags & IO_URING_F_IOPOLL)
		opf |= REQ_POLLED;
	rq = io_request(m, args, 0, args->length, opf, nonblock ? BLK_MQ_REQ_NOWAIT : 0);
	if (IS_ERR(rq))
		return PTR_ERR(rq);
	rq->end_io_data = io;
	if ((issue_flags & IO_URING_F_IOPOLL) && blk_rq_is_poll(rq)) {
		io->polled = m;
		io->flags |= IO_POLLED | rq->mq_hctx->queue_num << IO_QUEUE_SHIFT;
	}
	blk_execute_rq_nowait(rq, false);
	return -EIOCBQUEUED;
}

/**
 * dmabuf_rw_premapped_wait - send the commands of an I/O and wait for them
 * @m: the mapping; its percpu_ref is held, and let go of if @sent
 * @args: checked
 * @sent: out: whether anything was; if so the I/O has been counted
 *
 * What the drive was given is waited for even by a process that is killed: it
 * is at most as long as the driver's time-out. Of an I/O in several parts no
 * further one is sent then.
 *
 * Context: may sleep; the caller holds m->refs.
 * Return: 0 or a negative errno.
 */
int dmabuf_rw_premapped_wait(struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args,
			     bool *sent)
{
	struct io_wait wait;
	int ret;

	init_completion(&wait.done);
	io_begin(&wait.io, m, args, IO_AWAITED);
	if (args->length > m->target.max_command) {
		ret = io_submit_split(&wait.io, args, false);
	} else {
		struct request *rq = io_request(m, args, 0, args->length, 0, 0);

		ret = -EIOCBQUEUED;
		if (IS_ERR(rq)) {
			ret = PTR_ERR(rq);
		} else {
			rq->end_io_data = &wait.io;
			blk_execute_rq_nowait(rq, false);
		}
	}
	*sent = ret == -EIOCBQUEUED;
	if (!*sent)
		return ret;

	/* In pieces, so that a slow drive is not taken for a hung task. */
	while (!wait_for_completion_io_timeout(&wait.done, 10 * HZ))
		;
	/* As after any O_DIRECT write; see io_task_work(). */
	if (args->direction == DMABUF_RW_DIR_WRITE && io_target_cached(m))
		invalidate_inode_pages2_range(m->target.file->f_mapping,
					      args->file_offset >> PAGE_SHIFT,
					      (args->file_offset + args->length - 1) >> PAGE_SHIFT);
	return wait.io.error;
}

/**
 * dmabuf_rw_premapped_check - an I/O against its target as it is now
 * @m: the mapping
 * @args: inside the dma-buf, in a direction that is mapped
 *
 * Context: any.
 * Return: success; -EINVAL with RANGE, or with LBA_SIZE if the block has another
 * size since the mapping was made; -EPERM with READ_ONLY; -ENODEV with
 * DEVICE_GONE.
 */
struct dmabuf_rw_result dmabuf_rw_premapped_check(const struct dmabuf_rw_mapping *m,
						  const struct dmabuf_rw_io_args *args)
{
	struct block_device *bdev = m->target.bdev;
	u32 align = bdev_logical_block_size(bdev) - 1;
	u64 end;

	if (unlikely(check_add_overflow(args->file_offset, (u64)args->length, &end) ||
		     end > bdev_nr_bytes(bdev))) {
		/* A disk that went away has no size left. */
		return bdev_nr_sectors(bdev) ?
			dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE) :
			dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	}
	if (unlikely((args->length | args->file_offset) & align))
		return dmabuf_rw_fail(-EINVAL, dmabuf_rw_reason_of(m, -EINVAL));
	if (unlikely(args->buffer_offset & queue_dma_alignment(m->target.disk->queue)))
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE);
	if (unlikely(args->direction == DMABUF_RW_DIR_WRITE && bdev_read_only(bdev)))
		return dmabuf_rw_fail(-EPERM, DMABUF_RW_REASON_READ_ONLY);
	return DMABUF_RW_OK;
}

/**
 * dmabuf_rw_premapped_flush - get the target's page cache out of the way
 * @m: the mapping
 * @args: checked
 *
 * Writes back, and drops before a write, as O_DIRECT does.
 *
 * Context: may sleep.
 * Return: 0 or what writing back reported.
 */
int dmabuf_rw_premapped_flush(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
{
	struct address_space *cache = m->target.file->f_mapping;
	u64 last = args->file_offset + args->length - 1;
	int ret;

	if (!dmabuf_rw_premapped_cached(m, args))
		return 0;
	ret = filemap_write_and_wait_range(cache, args->file_offset, last);
	if (!ret && args->direction == DMABUF_RW_DIR_WRITE)
		ret = invalidate_inode_pages2_range(cache, args->file_offset >> PAGE_SHIFT,
						    last >> PAGE_SHIFT);
	return ret == -EBUSY ? -EIO : ret;
}

/**
 * dmabuf_rw_premapped_iopoll - look for completions of a polled ring
 * @cmd: a command that was issued with IO_URING_F_IOPOLL
 * @iob: gathers what has ended
 *
 * Does not go by the request, which may have ended and be gone with its queue
 * while the command waits for its task work; goes by the mapping, as long as
 * the I/O holds it.
 *
 * Context: io_uring's poll loop.
 * Return: how many requests ended; 0 for a command that ends by interrupt.
 */
int dmabuf_rw_premapped_iopoll(struct io_uring_cmd *cmd, struct io_comp_batch *iob)
{
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);
	struct dmabuf_rw_mapping *m;
	bool live;
	int found;

	if (!(io->flags & IO_POLLED))
		return 0;
	rcu_read_lock();
	m = READ_ONCE(io->polled);
	live = m && percpu_ref_tryget_live(&m->io);
	rcu_read_unlock();
	if (!live)
		return 0;
	found = dmabuf_rw_target_poll(&m->target, iob, io->flags >> IO_QUEUE_SHIFT);
	percpu_ref_put(&m->io);
	return found;
}
