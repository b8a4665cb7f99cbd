// SPDX-License-Identifier: GPL-2.0-only
/*
 * The premapped datapath: a uring_cmd becomes NVMe commands whose PRP words
 * point into the lists made at map time. No bio, no page, no mapping, no
 * allocation and no lock per I/O.
 *
 * Each command holds its mapping's percpu_ref from the moment at which its
 * request is there until it has ended. Whoever has to wait, for a request as
 * for anything else, waits without.
 *
 * An I/O of one command, the usual case, lives in the io_uring command, and is
 * here; all others are in premapped_long.c.
 */
#include <linux/blk-mq.h>

#include "compat.h"
#include "command.h"
#include "io.h"
#include "later.h"
#include "nvme_request.h"
#include "premapped.h"
#include "premapped_long.h"

/* dmabuf_rw_pdu.flags */
#define IO_WRITE	BIT(0)
#define IO_POLLED	BIT(1)	/* under way, and ends only when polled for */
#define IO_HELD		BIT(2)	/* task work drops a reference to the mapping */
#define IO_ORDER_SHIFT	4	/* IO_POLLED: the order in which this CPU issued them */
#define IO_ORDER_MASK	0xfffU
#define IO_QUEUE_SHIFT	16	/* IO_POLLED: number of the hardware queue above here */

/*
 * io_uring polls for the commands of a ring one after the other, in the order in
 * which they were issued, until one has ended. One look at a hardware queue serves
 * all that follow in the same pass: this remembers whose that was.
 */
struct poll_pass {
	const struct io_comp_batch *iob;
	const struct task_struct *task;
	const struct dmabuf_rw_mapping *m;
	u32 flags;		/* of the last command that was asked for */
	u32 skipped;		/* since the look */
};

#define PASS_MOST	64	/* commands that one look serves, whatever their order */

static DEFINE_PER_CPU(struct poll_pass, poll_pass);
static DEFINE_PER_CPU(u32, poll_order);

/* In the task that owns the ring, or io_uring's fallback worker. */
static void single_task_work(DMABUF_RW_TW_ARGS)
{
	struct io_uring_cmd *cmd = DMABUF_RW_TW_CMD;
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);

	if (unlikely(io->flags & IO_HELD)) {
		dmabuf_rw_cache_drop(io->m, io->file_offset, io->length);
		dmabuf_rw_mapping_put(io->m);
	}
	dmabuf_rw_cmd_done(cmd, io->result, DMABUF_RW_TW_FLAGS);
}

/* Is the I/O to be sent again? Then it goes on as one that a worker sends. */
static noinline bool single_again(struct io_uring_cmd *cmd, struct request *rq, int error)
{
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);
	struct dmabuf_rw_mapping *m = io->m;
	struct dmabuf_rw_io_args args = {
		.buffer_offset = io->buffer_offset,
		.file_offset = io->file_offset,
		.length = io->length,
		.direction = io->flags & IO_WRITE ? DMABUF_RW_DIR_WRITE : DMABUF_RW_DIR_READ,
	};

	command_note_status(m, rq);
	return dmabuf_rw_long_again(cmd, m, &args, rq, error);
}

/* The mapping was let go of: complete the command, @here if that is allowed. */
static __always_inline enum rq_end_io_ret single_complete(struct io_uring_cmd *cmd, bool here)
{
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);

	if (here && !(io->flags & IO_HELD))
		dmabuf_rw_cmd_done(cmd, io->result, 0);
	else
		dmabuf_rw_in_task(cmd, single_task_work);
	return RQ_END_IO_FREE;
}

/*
 * Of a mapping whose last I/O somebody waits for. Apart: so the usual case has
 * nothing to keep over a call.
 */
static noinline enum rq_end_io_ret
single_ended_waited_for(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m, bool here)
{
	percpu_ref_put(&m->io);
	return single_complete(cmd, here);
}

/* The I/O has its result: let go of the mapping, and complete the command. */
static __always_inline enum rq_end_io_ret
single_ended(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m, u32 direction, bool polled,
	     bool here)
{
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);

	if (direction == DMABUF_RW_DIR_WRITE && unlikely(target_cached(m))) {
		refcount_inc(&m->refs);
		io->flags |= IO_HELD;
	}
	/* Before @m may go: polling looks at it as long as this is set. */
	if (polled)
		WRITE_ONCE(io->flags, io->flags & ~IO_POLLED);
	if (unlikely(!dmabuf_rw_io_put_counted(&m->io)))
		return single_ended_waited_for(cmd, m, here);
	return single_complete(cmd, here);
}

/* An I/O that failed, or that somebody traces. */
static noinline enum rq_end_io_ret
single_ends_otherwise(DMABUF_RW_END_IO_ARGS, u32 direction, bool polled)
{
	struct io_uring_cmd *cmd = rq->end_io_data;
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);
	int error = dmabuf_rw_nvme_result(rq, status);

	if (unlikely(error) && single_again(cmd, rq, error))
		return RQ_END_IO_FREE;
	io_account(io->m, direction, io->length, error, 0);
	io->result = error ?: (s64)io->length;
	return single_ended(cmd, io->m, direction, polled,
			    polled && DMABUF_RW_POLLED_BY_OWN_RING(cmd));
}

/*
 * What kind of I/O ends is known to each of the functions that are made of this. The
 * usual case has nothing to keep over a call, and saves no register.
 */
static __always_inline enum rq_end_io_ret
single_ends(DMABUF_RW_END_IO_ARGS, u32 direction, bool polled, bool file)
{
	struct io_uring_cmd *cmd = rq->end_io_data;
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);
	struct dmabuf_rw_mapping *m = io->m;
	u32 length = io->length;

	if (file && direction == DMABUF_RW_DIR_WRITE)
		dmabuf_rw_file_write_end(m->target.use);
	if (unlikely(!dmabuf_rw_nvme_ended_well(rq, status) || trace_dmabuf_rw_complete_enabled()))
		return DMABUF_RW_END_IO_CALL(single_ends_otherwise, direction, polled);
	dmabuf_rw_note_done(m, direction, length);
	io->result = length;
	return single_ended(cmd, m, direction, polled,
			    polled && DMABUF_RW_POLLED_BY_OWN_RING(cmd));
}

static enum rq_end_io_ret single_read_end(DMABUF_RW_END_IO_ARGS)
{
	return DMABUF_RW_END_IO_CALL(single_ends, DMABUF_RW_DIR_READ, false, false);
}

static enum rq_end_io_ret single_write_end(DMABUF_RW_END_IO_ARGS)
{
	return DMABUF_RW_END_IO_CALL(single_ends, DMABUF_RW_DIR_WRITE, false, false);
}

static enum rq_end_io_ret single_polled_read_end(DMABUF_RW_END_IO_ARGS)
{
	return DMABUF_RW_END_IO_CALL(single_ends, DMABUF_RW_DIR_READ, true, false);
}

static enum rq_end_io_ret single_polled_write_end(DMABUF_RW_END_IO_ARGS)
{
	return DMABUF_RW_END_IO_CALL(single_ends, DMABUF_RW_DIR_WRITE, true, false);
}

static enum rq_end_io_ret single_file_write_end(DMABUF_RW_END_IO_ARGS)
{
	return DMABUF_RW_END_IO_CALL(single_ends, DMABUF_RW_DIR_WRITE, false, true);
}

static enum rq_end_io_ret single_polled_file_write_end(DMABUF_RW_END_IO_ARGS)
{
	return DMABUF_RW_END_IO_CALL(single_ends, DMABUF_RW_DIR_WRITE, true, true);
}

/* What ends an I/O of this kind. A read of a file ends as that of a device. */
static __always_inline rq_end_io_fn *single_end(u32 direction, bool polled, bool file)
{
	if (direction == DMABUF_RW_DIR_READ)
		return polled ? single_polled_read_end : single_read_end;
	if (file)
		return polled ? single_polled_file_write_end : single_file_write_end;
	return polled ? single_polled_write_end : single_write_end;
}

/*
 * Send a command where io_uring has no plug, for one or two entries: by one of our
 * own it goes straight to the driver, and not by way of the dispatch list.
 */
static noinline bool single_send(struct dmabuf_rw_mapping *m, struct request *rq)
{
	struct blk_plug plug;
	bool sent;

	blk_start_plug(&plug);
	sent = command_send(m, rq);
	blk_finish_plug(&plug);
	return sent;
}

/* An I/O of several commands: their tags are had, and their doorbell is rung, together. */
static noinline int several_issue(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
				  const struct dmabuf_rw_io_args args)
{
	struct blk_plug plug;
	int ret;

	blk_start_plug(&plug);
	dmabuf_rw_plug_expect(current->plug, DIV_ROUND_UP(args.length, m->target.max_command));
	ret = dmabuf_rw_long_issue(cmd, m, &args);
	blk_finish_plug(&plug);
	return ret;
}

/* An I/O on a file that is not one of the usual: refused, to be sent by a worker, or in parts. */
static noinline int file_issue_otherwise(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
					 const struct dmabuf_rw_io_args args)
{
	struct dmabuf_rw_result result = file_check(m, &args);

	if (result.error)
		return dmabuf_rw_io_refuse(m, result);
	if (cache_in_the_way(m, &args) || dmabuf_rw_io_fenced(m, &args))
		return dmabuf_rw_io_defer(m);
	if (args_write(&args) && dmabuf_rw_file_due(m->target.use))
		return dmabuf_rw_io_defer(m);
	return several_issue(cmd, m, args);
}

/*
 * What the end of the I/O looks at: before there is a request, so that nobody has to
 * keep it until then.
 */
static __always_inline void single_note(struct dmabuf_rw_pdu *io, struct dmabuf_rw_mapping *m,
					const struct dmabuf_rw_io_args *args)
{
	io->m = m;
	io->file_offset = args->file_offset;
	io->buffer_offset = args->buffer_offset;
	io->length = args->length;
	if (args_write(args))
		io->flags = IO_WRITE;
}

/* An I/O on a device, or on a file that is held. A part of issue_one() below. */
static __always_inline int
premapped_issue(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
		const struct dmabuf_rw_io_args *args, unsigned int issue_flags)
{
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);
	blk_opf_t opf = command_op(args) | REQ_NOWAIT;
	u32 most = m->target.max_command;
	struct dmabuf_rw_result result;
	struct request *rq;
	u64 place;
	int ret;

	if (m->target.use) {
		const struct dmabuf_rw_extents *extents = m->target.use->extents;
		u64 run;

		if (unlikely(!file_usual(m, args)))
			return file_issue_otherwise(cmd, m, *args);
		if (likely(extents->nr == 1)) {
			place = args->file_offset + extents->base;
		} else {
			place = args->file_offset +
				dmabuf_rw_extents_find(extents, args->file_offset, &run);
			most = min_t(u64, most, run);
		}
	} else {
		result = device_check(m, args);
		if (unlikely(result.error))
			return dmabuf_rw_io_refuse(m, result);
		place = args->file_offset + device_base(&m->target);
	}
	if (unlikely(cache_in_the_way(m, args) || dmabuf_rw_io_fenced(m, args)))
		return dmabuf_rw_io_defer(m);
	/* Parts are not polled for: a command has room for one request. */
	if (unlikely(args->length > most))
		return several_issue(cmd, m, *args);

	single_note(io, m, args);
	if (unlikely(issue_flags & IO_URING_F_IOPOLL))
		opf |= REQ_POLLED;
	rq = blk_mq_alloc_request(m->target.disk->queue, opf, BLK_MQ_REQ_NOWAIT);
	/* A queue that is dying may be that of one controller of several. */
	if (IS_ERR(rq))
		return dmabuf_rw_io_defer(m);
	ret = command_make(rq, m, args_write(args), place, args->buffer_offset, args->length);
	if (unlikely(ret)) {
		blk_mq_free_request(rq);
		return dmabuf_rw_io_refuse(m, dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret)));
	}
	if (unlikely(!command_begin(m, args))) {
		this_cpu_dec(m->counts->commands);
		blk_mq_free_request(rq);
		return dmabuf_rw_io_defer(m);
	}
	rq->end_io = single_end(args->direction, false, m->target.use);
	rq->end_io_data = cmd;
	/* As blk_rq_is_poll() says. */
	if (unlikely(issue_flags & IO_URING_F_IOPOLL) && rq->mq_hctx->type == HCTX_TYPE_POLL) {
		rq->end_io = single_end(args->direction, true, m->target.use);
		io->flags |= IO_POLLED | rq->mq_hctx->queue_num << IO_QUEUE_SHIFT |
			     (this_cpu_inc_return(poll_order) & IO_ORDER_MASK) << IO_ORDER_SHIFT;
	}
	trace_dmabuf_rw_submit(m->session, m->handle, args->direction, io->file_offset,
			       args->buffer_offset, args->length);
	if (likely(current->plug && !m->target.head)) {
		blk_execute_rq_nowait(rq, false);
		return -EIOCBQUEUED;
	}
	/* The queue is looked at until the call returns; the I/O may end before that. */
	percpu_ref_get(&m->io);
	if (unlikely(!single_send(m, rq))) {
		io->flags = 0;
		command_end(m, args);
		this_cpu_dec(m->counts->commands);
		blk_mq_free_request(rq);
		percpu_ref_put(&m->io);
		return dmabuf_rw_io_defer(m);
	}
	percpu_ref_put(&m->io);
	return -EIOCBQUEUED;
}

/* What a premapped mapping does with an I/O. */
const struct dmabuf_rw_path_ops dmabuf_rw_premapped_ops = {
	.path = DMABUF_RW_PATH_PREMAPPED,
	.issue = premapped_issue,
	.send = dmabuf_rw_long_send,
	.run = dmabuf_rw_long_run,
};

/*
 * Was the queue of a polled command looked at in this pass already? A new pass
 * begins with a command that is not later than the last one.
 */
static __always_inline bool
poll_looked(const struct dmabuf_rw_mapping *m, u32 flags, const struct io_comp_batch *iob)
{
	struct poll_pass *pass;
	u32 later;

	guard(preempt)();
	pass = this_cpu_ptr(&poll_pass);
	later = ((flags - pass->flags) >> IO_ORDER_SHIFT) & IO_ORDER_MASK;
	if (likely(pass->iob == iob && pass->task == current && pass->m == m &&
		   pass->flags >> IO_QUEUE_SHIFT == flags >> IO_QUEUE_SHIFT &&
		   later && later <= IO_ORDER_MASK / 2 && pass->skipped < PASS_MOST)) {
		pass->flags = flags;
		pass->skipped++;
		return true;
	}
	*pass = (struct poll_pass){ iob, current, m, flags, 0 };
	return false;
}

/* The first of a pass looks. Apart from those that follow, which save no register. */
static noinline int poll_look(const struct dmabuf_rw_pdu *io, struct io_comp_batch *iob)
{
	struct dmabuf_rw_mapping *m = NULL;
	u32 flags;
	int found;

	rcu_read_lock();
	flags = READ_ONCE(io->flags);
	if ((flags & IO_POLLED) && percpu_ref_tryget(&io->m->io))
		m = io->m;
	rcu_read_unlock();
	if (!m)
		return 0;
	found = dmabuf_rw_target_poll(&m->target, iob, flags >> IO_QUEUE_SHIFT);
	percpu_ref_put(&m->io);
	return found;
}

/**
 * dmabuf_rw_premapped_iopoll - look for completions of a polled ring
 * @cmd: a command that was issued with IO_URING_F_IOPOLL
 * @iob: gathers what has ended
 *
 * Does not go by the request, which may have ended and be gone with its queue
 * while the command waits for its task work; goes by the mapping, as long as
 * the I/O holds it. A mapping that was stopped is polled for, too: whoever
 * stopped it waits for the I/O.
 *
 * Context: io_uring's poll loop.
 * Return: how many requests ended; 0 for a command that ends by interrupt, and where
 * the same pass of the loop has looked already.
 */
int dmabuf_rw_premapped_iopoll(struct io_uring_cmd *cmd, struct io_comp_batch *iob)
{
	const struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);
	u32 flags = READ_ONCE(io->flags);

	if (!(flags & IO_POLLED) || poll_looked(io->m, flags, iob))
		return 0;
	return poll_look(io, iob);
}

static noinline int issue_later(struct io_uring_cmd *cmd, u32 handle,
				const struct dmabuf_rw_io_args args)
{
	return dmabuf_rw_later(cmd, handle, &args);
}

static __always_inline int issue_one(struct io_uring_cmd *cmd, unsigned int issue_flags,
				     u32 direction)
{
	struct dmabuf_rw_io_args args;
	u32 handle;
	int ret;

	ret = io_read_sqe(cmd, issue_flags, direction, &args, &handle);
	if (unlikely(ret))
		return ret;
	ret = io_issue(cmd, issue_flags, &args, handle, &dmabuf_rw_premapped_ops,
		       premapped_issue);
	if (likely(ret != -EAGAIN))
		return ret;
	if (!DMABUF_RW_SQE_KEPT)
		return issue_later(cmd, handle, args);
	dmabuf_rw_sqe_keep(cmd);
	return -EAGAIN;
}

/**
 * dmabuf_rw_issue_read - DMABUF_RW_URING_READ
 * @cmd: the command
 * @issue_flags: io_uring's
 *
 * Context: io_uring's issue context; sleeps only without IO_URING_F_NONBLOCK.
 * Return: -EIOCBQUEUED: on its way; -EAGAIN, with IO_URING_F_NONBLOCK only: call
 * again where sleeping is allowed; otherwise why nothing was sent: -EINVAL
 * (range, alignment), -ENOENT (handle), -EOPNOTSUPP (mapping of another path; not
 * issued by the task that submits, on a kernel without DMABUF_RW_FEAT_ASYNC),
 * -EACCES (direction not mapped), -EPERM (target read-only), -ETXTBSY (target in
 * use as swap), -EMEDIUMTYPE (formatted with other metadata since it was mapped),
 * -ENODEV (revoked, drive gone), -ETIMEDOUT (fence), -EINTR, -ENOMEM.
 */
int dmabuf_rw_issue_read(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	return issue_one(cmd, issue_flags, DMABUF_RW_DIR_READ);
}

/**
 * dmabuf_rw_issue_write - DMABUF_RW_URING_WRITE
 * @cmd: the command
 * @issue_flags: io_uring's
 *
 * Context: as dmabuf_rw_issue_read().
 * Return: as dmabuf_rw_issue_read().
 */
int dmabuf_rw_issue_write(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	return issue_one(cmd, issue_flags, DMABUF_RW_DIR_WRITE);
}
