// SPDX-License-Identifier: GPL-2.0-only
/*
 * The premapped datapath: a uring_cmd becomes NVMe commands whose PRP words
 * point into the lists made at map time. No bio, no page, no mapping, no
 * allocation and no lock per I/O.
 *
 * While it is under way an I/O holds its mapping's percpu_ref, taken before the
 * first request is built and dropped when the last one has ended. Whatever may
 * have to wait (for a mapping to come back, for the page cache, for a fence) is
 * done before, without that reference, in a context that may sleep: a
 * nonblocking issue that finds it must wait returns -EAGAIN, and io_uring calls
 * again from a worker. User space does not see that -EAGAIN.
 */
#include <linux/blk-mq.h>
#include <linux/dma-resv.h>
#include <linux/io_uring/cmd.h>
#include <linux/nvme.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "dmabuf_rw.h"

/* What user space asked for, read once from the SQE. */
struct io_ask {
	u64 offset;		/* in the dma-buf, bytes */
	u64 position;		/* in the target, bytes */
	u32 length;
	u32 direction;
};

/* Lives in the io_uring command while it is under way. */
struct io_state {
	struct dmabuf_rw_mapping *m;
	union {
		struct request *polled;	/* IO_POLLED: the one request */
		u64 position;		/* otherwise */
	};
	u32 length;
	int error;			/* first error of any part */
	atomic_t pending;		/* parts, and one for the submitter */
	u32 flags;
};

#define IO_WRITE	(1U << 0)
#define IO_POLLED	(1U << 1)
#define IO_SPLIT	(1U << 2)	/* several parts: @pending counts */
#define IO_HELD		(1U << 3)	/* task work drops a reference to @m */

static struct io_state *io_state(struct io_uring_cmd *cmd)
{
	return io_uring_cmd_to_pdu(cmd, struct io_state);
}

static void io_note_error(struct dmabuf_rw_mapping *m, int error, u32 reason)
{
	WRITE_ONCE(m->last_error, -error);
	WRITE_ONCE(m->last_reason, reason);
	this_cpu_inc(m->counts->errors);
}

static u32 io_reason_of(int error)
{
	return error == -ENODEV ? DMABUF_RW_REASON_DEVICE_GONE : DMABUF_RW_REASON_DRIVE;
}

/* Has the target any page in the page cache? */
static bool io_target_cached(const struct dmabuf_rw_mapping *m)
{
	return READ_ONCE(m->target.file->f_mapping->nrpages);
}

/* Is one in the I/O's way: a dirty one to a read, any to a write? */
static bool io_cache_in_way(const struct dmabuf_rw_mapping *m, const struct io_ask *ask)
{
	struct address_space *cache = m->target.file->f_mapping;
	u64 last = ask->position + ask->length - 1;

	if (likely(!io_target_cached(m)))
		return false;
	if (ask->direction == DMABUF_RW_DIR_WRITE)
		return filemap_range_has_page(cache, ask->position, last);
	return filemap_range_needs_writeback(cache, ask->position, last);
}

/* In the task that owns the ring, or io_uring's fallback worker. */
static void io_task_work(DMABUF_RW_TW_ARGS)
{
	struct io_uring_cmd *cmd = DMABUF_RW_TW_CMD;
	struct io_state *io = io_state(cmd);

	if (unlikely(io->flags & IO_HELD)) {
		struct address_space *cache = io->m->target.file->f_mapping;
		pgoff_t first = 0, last = -1;

		/*
		 * Pages that somebody read in while the drive was writing are
		 * stale now, as after any O_DIRECT write.
		 */
		if (!(io->flags & IO_POLLED)) {
			first = io->position >> PAGE_SHIFT;
			last = (io->position + io->length - 1) >> PAGE_SHIFT;
		}
		invalidate_inode_pages2_range(cache, first, last);
		dmabuf_rw_mapping_put(io->m);
	}
	dmabuf_rw_cmd_done(cmd, io->error ?: (s32)io->length, DMABUF_RW_TW_FLAGS);
}

/* All parts have ended: count, and let go of the mapping. */
static void io_account(struct io_state *io)
{
	struct dmabuf_rw_mapping *m = io->m;

	if (unlikely(io->error)) {
		io_note_error(m, io->error, io_reason_of(io->error));
	} else if (io->flags & IO_WRITE) {
		this_cpu_inc(m->counts->writes);
		this_cpu_add(m->counts->write_bytes, io->length);
	} else {
		this_cpu_inc(m->counts->reads);
		this_cpu_add(m->counts->read_bytes, io->length);
	}
	if (unlikely((io->flags & IO_WRITE) && io_target_cached(m))) {
		refcount_inc(&m->refs);
		io->flags |= IO_HELD;
	}
	percpu_ref_put(&m->io);
}

static enum rq_end_io_ret io_end(DMABUF_RW_END_IO_ARGS(rq, status))
{
	struct io_uring_cmd *cmd = rq->end_io_data;
	struct io_state *io = io_state(cmd);

	if (unlikely(status))
		cmpxchg(&io->error, 0, blk_status_to_errno(status));
	if ((io->flags & IO_SPLIT) && !atomic_dec_and_test(&io->pending))
		return RQ_END_IO_FREE;

	io_account(io);
	if (dmabuf_rw_polled_by_own_ring(rq, cmd) && !(io->flags & IO_HELD))
		dmabuf_rw_cmd_done(cmd, io->error ?: (s32)io->length, 0);
	else
		io_uring_cmd_do_in_task_lazy(cmd, io_task_work);
	return RQ_END_IO_FREE;
}

/* One command for @length bytes of the I/O, @done bytes into it. */
static struct request *io_request(struct dmabuf_rw_mapping *m, const struct io_ask *ask,
				  u32 done, u32 length, blk_opf_t opf,
				  blk_mq_req_flags_t flags)
{
	struct request_queue *q = m->target.disk->queue;
	struct nvme_command command = {};
	unsigned int shift;
	struct request *rq;
	u64 position;

	opf |= ask->direction == DMABUF_RW_DIR_WRITE ? REQ_OP_DRV_OUT : REQ_OP_DRV_IN;
	rq = blk_mq_alloc_request(q, opf, flags);
	if (IS_ERR(rq))
		return rq;

	/*
	 * A format that changes the block size freezes the queue first. We are
	 * in it now, so what we see here holds until the request has ended.
	 */
	shift = ilog2(queue_logical_block_size(q));
	position = ask->position + done + ((u64)m->target.bdev->bd_start_sect << SECTOR_SHIFT);
	if (unlikely((position | length) & ((1U << shift) - 1) || !(length >> shift) ||
		     (length >> shift) > 65536)) {
		blk_mq_free_request(rq);
		return ERR_PTR(-EINVAL);
	}

	command.rw.opcode = ask->direction == DMABUF_RW_DIR_WRITE ? nvme_cmd_write : nvme_cmd_read;
	command.rw.nsid = cpu_to_le32(m->target.nsid);
	command.rw.slba = cpu_to_le64(position >> shift);
	command.rw.length = cpu_to_le16((length >> shift) - 1);
	dmabuf_rw_prp_get(&m->attach->prp, ask->offset + done, length,
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
static int io_submit_split(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			   const struct io_ask *ask, bool nonblock)
{
	struct io_state *io = io_state(cmd);
	u32 done = 0;

	io->flags |= IO_SPLIT;
	atomic_set(&io->pending, 1);
	while (done < ask->length) {
		u32 length = min(ask->length - done, m->target.max_command);
		struct request *rq;

		/*
		 * Only the first part can be given back to io_uring. For later
		 * ones wait for a free request: those come back by themselves,
		 * by interrupt, and sleeping flushes the plug.
		 */
		rq = io_request(m, ask, done, length, done ? 0 : nonblock ? REQ_NOWAIT : 0,
				nonblock && !done ? BLK_MQ_REQ_NOWAIT : 0);
		if (IS_ERR(rq)) {
			if (!done)
				return PTR_ERR(rq);
			cmpxchg(&io->error, 0, (int)PTR_ERR(rq));
			break;
		}
		rq->end_io_data = cmd;
		atomic_inc(&io->pending);
		blk_execute_rq_nowait(rq, false);
		done += length;
	}
	if (atomic_dec_and_test(&io->pending)) {
		io_account(io);
		io_uring_cmd_do_in_task_lazy(cmd, io_task_work);
	}
	return -EIOCBQUEUED;
}

/* Build and send. The caller holds m->io, which is passed on on success. */
static int io_submit(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
		     const struct io_ask *ask, unsigned int issue_flags)
{
	bool nonblock = issue_flags & IO_URING_F_NONBLOCK;
	struct io_state *io = io_state(cmd);
	blk_opf_t opf = 0;
	struct request *rq;

	io->m = m;
	io->position = ask->position;
	io->length = ask->length;
	io->error = 0;
	io->flags = ask->direction == DMABUF_RW_DIR_WRITE ? IO_WRITE : 0;

	/* Parts are not polled for: a command has room for one request. */
	if (unlikely(ask->length > m->target.max_command))
		return io_submit_split(cmd, m, ask, nonblock);

	if (nonblock)
		opf |= REQ_NOWAIT;
	if (issue_flags & IO_URING_F_IOPOLL)
		opf |= REQ_POLLED;
	rq = io_request(m, ask, 0, ask->length, opf, nonblock ? BLK_MQ_REQ_NOWAIT : 0);
	if (IS_ERR(rq))
		return PTR_ERR(rq);
	rq->end_io_data = cmd;
	if ((issue_flags & IO_URING_F_IOPOLL) && blk_rq_is_poll(rq)) {
		io->polled = rq;
		io->flags |= IO_POLLED;
	}
	blk_execute_rq_nowait(rq, false);
	return -EIOCBQUEUED;
}

/* Arguments against mapping and target as they are now. */
static int io_check(const struct dmabuf_rw_mapping *m, const struct io_ask *ask)
{
	struct block_device *bdev = m->target.bdev;
	u32 align = bdev_logical_block_size(bdev) - 1;
	u64 end;

	if (unlikely(!(m->directions & ask->direction)))
		return -EACCES;
	if (unlikely(!ask->length || ask->length > DMABUF_RW_MAX_IO))
		return -EINVAL;
	if (unlikely(check_add_overflow(ask->offset, (u64)ask->length, &end) || end > m->size))
		return -EINVAL;
	if (unlikely(check_add_overflow(ask->position, (u64)ask->length, &end) ||
		     end > bdev_nr_bytes(bdev)))
		return -EINVAL;
	if (unlikely((ask->length | ask->position) & align))
		return -EINVAL;
	if (unlikely(ask->offset & bdev_dma_alignment(bdev)))
		return -EINVAL;
	if (unlikely(ask->direction == DMABUF_RW_DIR_WRITE && bdev_read_only(bdev)))
		return -EPERM;
	return 0;
}

/*
 * Fences the I/O must wait for: a read overwrites the buffer, so everybody's; a
 * write only looks at it, so the writers'. Reading the pointer is enough when
 * the buffer never had a fence, the usual case for storage.
 */
static bool io_fenced(const struct dmabuf_rw_mapping *m, u32 direction)
{
	struct dma_resv *resv = m->dmabuf->resv;

	if (likely(!rcu_access_pointer(resv->fences)))
		return false;
	return !dma_resv_test_signaled(resv, dma_resv_usage_rw(direction == DMABUF_RW_DIR_READ));
}

static struct dmabuf_rw_result io_wait_fences(const struct dmabuf_rw_mapping *m, u32 direction)
{
	long left;

	if (!io_fenced(m, direction))
		return DMABUF_RW_OK;
	left = dma_resv_wait_timeout(m->dmabuf->resv,
				     dma_resv_usage_rw(direction == DMABUF_RW_DIR_READ),
				     true, msecs_to_jiffies(m->fence_ms));
	if (left > 0)
		return DMABUF_RW_OK;
	if (left == 0)
		return dmabuf_rw_fail(-ETIMEDOUT, DMABUF_RW_REASON_FENCE_TIMEOUT);
	return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
}

/* The target's page cache, as O_DIRECT does before it goes to the drive. */
static int io_flush_cache(const struct dmabuf_rw_mapping *m, const struct io_ask *ask)
{
	struct address_space *cache = m->target.file->f_mapping;
	u64 last = ask->position + ask->length - 1;
	int ret;

	if (!io_cache_in_way(m, ask))
		return 0;
	ret = filemap_write_and_wait_range(cache, ask->position, last);
	if (!ret && ask->direction == DMABUF_RW_DIR_WRITE)
		ret = invalidate_inode_pages2_range(cache, ask->position >> PAGE_SHIFT,
						    last >> PAGE_SHIFT);
	return ret == -EBUSY ? -EIO : ret;
}

/* May the I/O go to the drive without waiting for anything first? */
static bool io_ready(const struct dmabuf_rw_mapping *m, const struct io_ask *ask)
{
	return !io_cache_in_way(m, ask) && !io_fenced(m, ask->direction);
}

/*
 * The way through everything that may have to be waited for. The caller holds
 * m->refs, not m->io. On success the I/O is on its way.
 */
static int io_issue_sleeping(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			     const struct io_ask *ask, unsigned int issue_flags)
{
	unsigned long give_up = jiffies + msecs_to_jiffies(m->fence_ms);
	struct dmabuf_rw_result result;
	int ret;

	for (;;) {
		result = dmabuf_rw_attach_revive(m);
		if (result.error)
			break;
		result = io_wait_fences(m, ask->direction);
		if (result.error)
			break;
		ret = io_check(m, ask) ?: io_flush_cache(m, ask);
		if (ret) {
			result = dmabuf_rw_fail(ret, DMABUF_RW_REASON_RANGE);
			break;
		}
		if (percpu_ref_tryget_live(&m->io)) {
			/* A move in between may have brought a fence. */
			if (!io_fenced(m, ask->direction)) {
				ret = io_submit(cmd, m, ask, issue_flags);
				if (ret != -EIOCBQUEUED) {
					percpu_ref_put(&m->io);
					io_note_error(m, ret, io_reason_of(ret));
				}
				return ret;
			}
			percpu_ref_put(&m->io);
		}
		if (fatal_signal_pending(current)) {
			result = dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
			break;
		}
		if (time_after(jiffies, give_up)) {
			result = dmabuf_rw_fail(-ETIMEDOUT, DMABUF_RW_REASON_FENCE_TIMEOUT);
			break;
		}
		cond_resched();
	}
	io_note_error(m, result.error, result.reason);
	return result.error;
}

static int io_read_sqe(struct io_uring_cmd *cmd, u32 direction, struct io_ask *ask, u32 *handle)
{
	const struct dmabuf_rw_uring_io *in = dmabuf_rw_sqe_cmd(cmd, struct dmabuf_rw_uring_io);

	ask->offset = READ_ONCE(cmd->sqe->addr);
	ask->length = READ_ONCE(cmd->sqe->len);
	ask->position = READ_ONCE(in->file_offset);
	ask->direction = direction;
	*handle = READ_ONCE(in->handle);
	return READ_ONCE(in->flags) ? -EINVAL : 0;
}

/**
 * dmabuf_rw_premapped_issue - DMABUF_RW_URING_READ and _WRITE
 * @cmd: the command
 * @issue_flags: io_uring's
 * @direction: DMABUF_RW_DIR_READ or DMABUF_RW_DIR_WRITE
 *
 * Context: io_uring's issue context; sleeps only without IO_URING_F_NONBLOCK.
 * Return: -EIOCBQUEUED: on its way; -EAGAIN, with IO_URING_F_NONBLOCK only: call
 * again where sleeping is allowed; otherwise why nothing was sent: -EINVAL
 * (range, alignment), -ENOENT (handle), -EOPNOTSUPP (mapping of another path),
 * -EACCES (direction not mapped), -EPERM (target read-only), -ENODEV (revoked,
 * drive gone), -ETIMEDOUT (fence), -EINTR, -ENOMEM.
 */
int dmabuf_rw_premapped_issue(struct io_uring_cmd *cmd, unsigned int issue_flags,
			      u32 direction)
{
	const struct dmabuf_rw_session *session = cmd->file->private_data;
	struct dmabuf_rw_mapping *m;
	struct io_ask ask;
	bool live, held;
	u32 handle;
	int ret;

	ret = io_read_sqe(cmd, direction, &ask, &handle);
	if (unlikely(ret))
		return ret;

	rcu_read_lock();
	m = dmabuf_rw_find_rcu(session, handle);
	if (unlikely(!m || m->path != DMABUF_RW_PATH_PREMAPPED)) {
		rcu_read_unlock();
		return m ? -EOPNOTSUPP : -ENOENT;
	}
	live = percpu_ref_tryget_live(&m->io);
	held = !live && refcount_inc_not_zero(&m->refs);
	rcu_read_unlock();
	if (unlikely(!live && !held))
		return -ENOENT;

	if (likely(live)) {
		ret = io_check(m, &ask);
		if (unlikely(ret)) {
			io_note_error(m, ret, DMABUF_RW_REASON_RANGE);
			percpu_ref_put(&m->io);
			return ret;
		}
		if (likely(io_ready(m, &ask))) {
			ret = io_submit(cmd, m, &ask, issue_flags);
			if (likely(ret == -EIOCBQUEUED))
				return ret;
			if (ret == -EAGAIN)
				this_cpu_inc(m->counts->deferred);
			else
				io_note_error(m, ret, io_reason_of(ret));
			percpu_ref_put(&m->io);
			return ret;
		}
		refcount_inc(&m->refs);
		percpu_ref_put(&m->io);
	}

	if (issue_flags & IO_URING_F_NONBLOCK) {
		this_cpu_inc(m->counts->deferred);
		ret = -EAGAIN;
	} else {
		ret = io_issue_sleeping(cmd, m, &ask, issue_flags);
	}
	dmabuf_rw_mapping_put(m);
	return ret;
}

/**
 * dmabuf_rw_premapped_iopoll - look for completions of a polled ring
 * @cmd: a command that was issued with IO_URING_F_IOPOLL
 * @iob: gathers what has ended
 * @poll_flags: BLK_POLL_*
 *
 * Context: io_uring's poll loop.
 * Return: as blk_rq_poll(); 0 for a command that ends by interrupt.
 */
int dmabuf_rw_premapped_iopoll(struct io_uring_cmd *cmd, struct io_comp_batch *iob,
			       unsigned int poll_flags)
{
	struct io_state *io = io_state(cmd);

	if (!(io->flags & IO_POLLED))
		return 0;
	return blk_rq_poll(io->polled, iob, poll_flags);
}
