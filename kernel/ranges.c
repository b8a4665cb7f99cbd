// SPDX-License-Identifier: GPL-2.0-only
/*
 * READV and WRITEV: several ranges of one mapping in one command, each with a
 * result of its own, one completion for all.
 *
 * The array and its copy are in ranges_array.c. Each range is an I/O like any other: it
 * is checked, counted and traced by itself, and one that fails has no part in what
 * becomes of the others.
 *
 * Those of a premapped mapping that can go at once do, one NVMe command each, by
 * one plug. They hold the mapping's percpu_ref together, until the last has
 * ended. What holds for the furthest end and for the longest of them holds for all,
 * and is looked at once; only if it does not, each is looked at by itself. If any
 * would have to wait before anything is sent, io_uring calls again from a worker, as
 * for a single I/O, and the worker takes one after the other; so it does for other
 * datapaths. What a drive does not do at the first attempt is left to a worker of our
 * own.
 */
#include <linux/blk-mq.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "command.h"
#include "io_ref.h"
#include "later_user.h"
#include "limits.h"
#include "premapped.h"
#include "ranges.h"
#include "ranges_array.h"
#include "ready.h"
#include "session.h"
#include "sqe.h"

static struct dmabuf_rw_io_args range_args(const struct range_io *range, u32 direction)
{
	return (struct dmabuf_rw_io_args){
		.buffer_offset = range->buffer_offset,
		.file_offset = range->file_offset,
		.length = range->length,
		.direction = direction,
	};
}

static __always_inline void range_end(struct range_io *range, u32 moved,
				      struct dmabuf_rw_result result)
{
	range->moved = moved;
	range->error = -result.error;
	range->reason = result.reason;
}

static void range_refuse(struct dmabuf_rw_mapping *m, struct range_io *range,
			 struct dmabuf_rw_result result)
{
	dmabuf_rw_note_error(m, result.error, result.reason);
	range_end(range, 0, result);
}

/* One range, from where waiting is allowed. */
static struct dmabuf_rw_result range_run(struct dmabuf_rw_mapping *m,
					 struct range_io *range, u32 direction)
{
	struct dmabuf_rw_io_args args = range_args(range, direction);
	struct dmabuf_rw_result result = dmabuf_rw_io_check(m, &args);
	u64 moved = 0;

	if (result.error) {
		range_refuse(m, range, result);
		return DMABUF_RW_OK;
	}
	result = m->ops->run(m, &args, &moved);
	range_end(range, moved, result);
	return result;
}

/*
 * From where waiting is allowed, one after the other: all, or those that are to be
 * sent again. What ends the waiting of one, ends that of all that follow.
 */
static void ranges_run(struct ranges *all, bool again)
{
	struct dmabuf_rw_result result = DMABUF_RW_OK;
	u32 i;

	for (i = 0; i < all->nr; i++) {
		struct range_io *range = &all->range[i];

		if (again && range->reason != RANGE_AGAIN)
			continue;
		if (result.error == -EINTR || result.reason == DMABUF_RW_REASON_FENCE_TIMEOUT)
			range_refuse(all->m, range, result);
		else
			result = range_run(all->m, range, all->direction);
	}
}

/* What the target's page cache has of what was written is stale. */
static void ranges_drop(const struct ranges *all)
{
	u32 i;

	for (i = 0; i < all->nr; i++)
		if (all->range[i].moved)
			dmabuf_rw_cache_drop(all->m, all->range[i].file_offset,
					     all->range[i].moved);
}

/* In the task that owns the ring, or io_uring's fallback worker. */
static void ranges_task_work(DMABUF_RW_TW_ARGS)
{
	struct io_uring_cmd *cmd = DMABUF_RW_TW_CMD;
	struct ranges *all = dmabuf_rw_pdu(cmd)->ranges;
	/* The array is where the task that asked has it: a kernel thread has nothing there. */
	bool gone = DMABUF_RW_TW_DEAD || (current->flags & PF_KTHREAD) || !current->mm;
	s32 result;

	if (unlikely(all->held)) {
		if (all->direction == DMABUF_RW_DIR_WRITE)
			ranges_drop(all);
		dmabuf_rw_mapping_put(all->m);
	}
	result = unlikely(gone) ? -ECANCELED : dmabuf_rw_ranges_report(all);
	dmabuf_rw_ranges_free(all);
	dmabuf_rw_cmd_done(cmd, result, DMABUF_RW_TW_FLAGS);
}

static void ranges_work(struct work_struct *work)
{
	struct ranges *all = container_of(work, struct ranges, work);

	ranges_run(all, true);
	dmabuf_rw_in_task(all->cmd, ranges_task_work);
}

/* The last range has ended, and the mapping is let go of. */
static noinline void ranges_end(struct ranges *all)
{
	struct dmabuf_rw_mapping *m = all->m;
	struct io_uring_cmd *cmd = all->cmd;
	const struct dmabuf_rw_session *session = cmd->file->private_data;

	if (unlikely(all->again || (all->direction == DMABUF_RW_DIR_WRITE && target_cached(m)))) {
		refcount_inc(&m->refs);
		all->held = true;
	}
	dmabuf_rw_io_put(&m->io);
	if (unlikely(all->again))
		queue_work(session->later->wq, &all->work);
	else
		dmabuf_rw_in_task(cmd, ranges_task_work);
}

/* So many less. */
static __always_inline void ranges_put(struct ranges *all, int nr)
{
	if (atomic_sub_and_test(nr, &all->pending))
		ranges_end(all);
}

static void range_again(struct ranges *all, struct range_io *range)
{
	range->reason = RANGE_AGAIN;
	WRITE_ONCE(all->again, true);
}

/* The command of a range failed: the range is sent again, or has failed. */
static void range_failed(struct range_io *range, struct request *rq, int error)
{
	struct ranges *all = range->all;
	struct dmabuf_rw_mapping *m = all->m;
	u32 reason = dmabuf_rw_reason_of(m, error);

	command_note_status(m, rq);
	if (dmabuf_rw_nvme_again(rq, m->target.head) != DMABUF_RW_NVME_OVER) {
		range_again(all, range);
		return;
	}
	io_account(m, all->direction, range->length, error, reason);
	range_end(range, 0, dmabuf_rw_fail(error, reason));
}

/* A range whose command failed, or that somebody traces. */
static noinline enum rq_end_io_ret range_ends_otherwise(struct request *rq, blk_status_t status)
{
	struct range_io *range = rq->end_io_data;
	int error = dmabuf_rw_nvme_result(rq, status);
	struct ranges *all = range->all;

	if (error) {
		range_failed(range, rq, error);
	} else {
		io_account(all->m, all->direction, range->length, 0, DMABUF_RW_REASON_NONE);
		range_end(range, range->length, DMABUF_RW_OK);
	}
	ranges_put(all, 1);
	return RQ_END_IO_FREE;
}

static __always_inline enum rq_end_io_ret
range_ends(DMABUF_RW_END_IO_ARGS, u32 direction)
{
	struct range_io *range = rq->end_io_data;
	struct ranges *all = range->all;
	u32 length = range->length;

	if (unlikely(!dmabuf_rw_nvme_ended_well(rq, status) || trace_dmabuf_rw_complete_enabled()))
		return range_ends_otherwise(rq, status);
	dmabuf_rw_note_done(all->m, direction, length);
	range_end(range, length, DMABUF_RW_OK);
	ranges_put(all, 1);
	return RQ_END_IO_FREE;
}

static enum rq_end_io_ret range_read_end(DMABUF_RW_END_IO_ARGS)
{
	return DMABUF_RW_END_IO_CALL(range_ends, DMABUF_RW_DIR_READ);
}

static enum rq_end_io_ret range_write_end(DMABUF_RW_END_IO_ARGS)
{
	return DMABUF_RW_END_IO_CALL(range_ends, DMABUF_RW_DIR_WRITE);
}

static struct request *ranges_request(struct request_queue *q, blk_opf_t opf)
{
	return blk_mq_alloc_request(q, opf | REQ_NOWAIT, BLK_MQ_REQ_NOWAIT);
}

/*
 * Send one range, which does not have to wait for anything but a request, and has
 * not been looked at. False: no command of it is under way.
 */
static noinline bool range_send(struct ranges *all, struct range_io *range)
{
	const struct dmabuf_rw_io_args args = range_args(range, all->direction);
	struct dmabuf_rw_mapping *m = all->m;
	struct dmabuf_rw_result result = dmabuf_rw_io_check(m, &args);
	struct request *rq;
	int ret;

	if (likely(!result.error))
		result = device_check(m, &args);
	if (unlikely(result.error)) {
		range_refuse(m, range, result);
		return false;
	}
	rq = ranges_request(m->target.disk->queue, command_op(&args));
	if (IS_ERR(rq)) {
		range_again(all, range);
		return false;
	}
	ret = command_make(rq, m, args_write(&args), args.file_offset + device_base(&m->target),
			   args.buffer_offset, args.length);
	if (unlikely(ret)) {
		blk_mq_free_request(rq);
		range_refuse(m, range, dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret)));
		return false;
	}
	rq->end_io = args_write(&args) ? range_write_end : range_read_end;
	rq->end_io_data = range;
	trace_dmabuf_rw_submit(m->session, m->handle, args.direction, args.file_offset,
			       args.buffer_offset, args.length);
	if (likely(command_send(m, rq)))
		return true;
	/* The multipath head is frozen. */
	this_cpu_dec(m->counts->commands);
	blk_mq_free_request(rq);
	range_again(all, range);
	return false;
}

/*
 * Are all ranges inside the buffer and the target, and allowed? By one that ends where
 * the furthest do, and is no shorter than the longest. A range whose end is past what 64
 * bits hold has bit 63 set in its offset, as its length has 32 bits.
 */
static bool ranges_inside(const struct ranges *all)
{
	const struct dmabuf_rw_mapping *m = all->m;
	const u32 length = all->span + 1;	/* 0 if a range has none: refused */
	const struct dmabuf_rw_io_args args = {
		.buffer_offset = all->buffer_end - length,
		.file_offset = all->file_end - length,
		.length = length,
		.direction = all->direction,
	};

	if (unlikely((all->memory | all->places) >> 63))
		return false;
	return !dmabuf_rw_io_check(m, &args).error && !device_check(m, &args).error;
}

/* What all commands of a mapping, and of a direction, have. */
struct range_words {
	__le64 first;
	u64 base;
	u16 control;
};

/* Send one range of those that are ranges_inside(). */
static __always_inline void range_send_checked(struct dmabuf_rw_mapping *m, struct request *rq,
					       struct range_io *range,
					       const struct range_words *words,
					       unsigned int shift, u32 direction)
{
	command_write(rq, m, words->first, words->control, shift,
		      range->file_offset + words->base, range->buffer_offset, range->length);
	rq->end_io = direction == DMABUF_RW_DIR_WRITE ? range_write_end : range_read_end;
	rq->end_io_data = range;
	trace_dmabuf_rw_submit(m->session, m->handle, direction, range->file_offset,
			       range->buffer_offset, range->length);
	blk_execute_rq_nowait(rq, false);
}

/*
 * Send ranges that are ranges_inside(), until there is no request. A request is had
 * before the one before it is sent: while one is held, what command_check() has seen
 * of the namespace holds. How many were sent, from the first on; none by way of a
 * multipath head, which has to be asked for each.
 */
static __always_inline u32 ranges_send_checked(struct ranges *all, u32 direction)
{
	const bool write = direction == DMABUF_RW_DIR_WRITE;
	const blk_opf_t opf = write ? REQ_OP_DRV_OUT : REQ_OP_DRV_IN;
	struct dmabuf_rw_mapping *m = all->m;
	struct request_queue *q = m->target.disk->queue;
	const struct range_words words = {
		.first = command_first_word(m, write),
		.base = device_base(&m->target),
		.control = command_control(m, write),
	};
	struct range_io *range = all->range, *last = range + all->nr - 1;
	struct request *rq, *next;
	unsigned int shift;
	u32 sent;

	if (m->target.head || !ranges_inside(all))
		return 0;
	rq = ranges_request(q, opf);
	if (IS_ERR(rq))
		return 0;
	if (unlikely(command_check(rq, m, all->places | words.base, all->memory,
				   all->span + 1))) {
		blk_mq_free_request(rq);
		return 0;
	}
	shift = command_shift(rq);
	for (; range != last; range++, rq = next) {
		next = ranges_request(q, opf);
		if (IS_ERR(next))
			break;
		range_send_checked(m, rq, range, &words, shift, direction);
	}
	range_send_checked(m, rq, range, &words, shift, direction);
	sent = range + 1 - all->range;
	this_cpu_add(m->counts->commands, sent);
	return sent;
}

/* Apart, so that nothing else is kept in registers. */
static noinline u32 ranges_read_checked(struct ranges *all)
{
	return ranges_send_checked(all, DMABUF_RW_DIR_READ);
}

static noinline u32 ranges_write_checked(struct ranges *all)
{
	return ranges_send_checked(all, DMABUF_RW_DIR_WRITE);
}

/* The longest range, where all->span is not enough to say whether it is too long. */
static noinline u32 ranges_longest(const struct ranges *all)
{
	u32 i, longest = 0;

	for (i = 0; i < all->nr; i++)
		longest = max(longest, all->range[i].length);
	return longest;
}

/* Would any of them have to wait, or be several commands? m->io held. */
static bool ranges_wait(const struct ranges *all)
{
	const struct dmabuf_rw_mapping *m = all->m;
	u32 i;

	if (dmabuf_rw_fenced(m->dmabuf, all->direction == DMABUF_RW_DIR_READ))
		return true;
	if (unlikely(all->span >= m->target.max_command) &&
	    ranges_longest(all) > m->target.max_command)
		return true;
	if (likely(!target_cached(m)))
		return false;
	for (i = 0; i < all->nr; i++) {
		const struct dmabuf_rw_io_args args = range_args(&all->range[i], all->direction);

		if (!dmabuf_rw_io_check(m, &args).error && !device_check(m, &args).error &&
		    cache_in_the_way(m, &args))
			return true;
	}
	return false;
}

/* Premapped, without waiting. m->io is held, and goes with the last command. */
static int ranges_send(struct ranges *all)
{
	struct blk_plug plug;
	u32 i, unsent = 0;

	atomic_set(&all->pending, all->nr + 1);
	INIT_WORK(&all->work, ranges_work);
	dmabuf_rw_pdu(all->cmd)->ranges = all;
	blk_start_plug(&plug);
	dmabuf_rw_plug_expect(current->plug, all->nr);
	if (all->direction == DMABUF_RW_DIR_READ)
		i = ranges_read_checked(all);
	else
		i = ranges_write_checked(all);
	for (; i < all->nr; i++)
		unsent += !range_send(all, &all->range[i]);
	blk_finish_plug(&plug);
	ranges_put(all, unsent + 1);
	return -EIOCBQUEUED;
}

/* A premapped mapping whose addresses and path may be used now, with m->io held, or NULL. */
static struct dmabuf_rw_mapping *ranges_enter(const struct dmabuf_rw_session *session, u32 handle)
{
	struct dmabuf_rw_mapping *m;

	/* A section of RCU, too. */
	guard(preempt)();
	m = dmabuf_rw_find_rcu(session, handle);
	if (!m || m->ops != &dmabuf_rw_premapped_ops || m->target.use ||
	    !dmabuf_rw_io_tryget(&m->io))
		return NULL;
	/* As dmabuf_rw_io_enter(), without its own section of RCU. */
	smp_rmb();
	return m;
}

/* From where waiting is allowed, or for who has to be called from there. */
static int ranges_slowly(struct ranges *all, u32 handle, bool wait)
{
	struct dmabuf_rw_mapping *m;
	int ret = -EAGAIN;

	m = dmabuf_rw_mapping_get(all->cmd->file->private_data, handle);
	if (!m)
		return -ENOENT;
	if (!m->ops->issue) {
		ret = -EOPNOTSUPP;
	} else if (wait) {
		all->m = m;
		ranges_run(all, false);
		ret = dmabuf_rw_ranges_report(all);
	} else {
		this_cpu_inc(m->counts->deferred);
	}
	dmabuf_rw_mapping_put(m);
	return ret;
}

/* The copy is there. -EAGAIN: a worker has to do it. @all is gone. */
static int ranges_begin(struct ranges *all, u32 handle, unsigned int issue_flags)
{
	bool wait = !(issue_flags & IO_URING_F_NONBLOCK);
	struct dmabuf_rw_mapping *m = NULL;
	int ret;

	if (!wait)
		m = ranges_enter(all->cmd->file->private_data, handle);
	if (likely(m)) {
		all->m = m;
		if (likely(!ranges_wait(all)))
			return ranges_send(all);
		ret = dmabuf_rw_io_defer(m);
	} else {
		ret = ranges_slowly(all, handle, wait);
	}
	dmabuf_rw_ranges_free(all);
	return ret;
}

/**
 * dmabuf_rw_ranges_issue - DMABUF_RW_URING_READV and _WRITEV
 * @cmd: the command
 * @issue_flags: io_uring's
 * @direction: DMABUF_RW_DIR_READ or DMABUF_RW_DIR_WRITE
 *
 * Context: io_uring's issue context. Sleeps for memory and page faults, for
 * anything else only without IO_URING_F_NONBLOCK.
 * Return: -EIOCBQUEUED: on its way; -EAGAIN, with IO_URING_F_NONBLOCK only: call
 * again where sleeping is allowed; how many ranges ended well; or why none was
 * looked at: -EINVAL, -ENOENT (handle), -EOPNOTSUPP (mapping of another path, or
 * the kernel has not kept the SQE), -EFAULT, -ENOMEM. -EFAULT of a worker: the
 * results could not be told.
 */
int dmabuf_rw_ranges_issue(struct io_uring_cmd *cmd, unsigned int issue_flags, u32 direction)
{
	const struct io_uring_sqe *sqe = dmabuf_rw_sqe(cmd, issue_flags);
	const struct dmabuf_rw_uring_io *in;
	struct ranges *all;
	u32 nr, handle;
	u64 user;
	int ret;

	if (!sqe)
		return -EOPNOTSUPP;
	in = (const struct dmabuf_rw_uring_io *)sqe->cmd;
	user = READ_ONCE(sqe->addr);
	nr = READ_ONCE(sqe->len);
	handle = READ_ONCE(in->handle);
	if (READ_ONCE(in->flags) || READ_ONCE(in->file_offset) || !nr ||
	    nr > DMABUF_RW_MAX_RANGES)
		return -EINVAL;
	/* Not polled for: a command has room for one request. */
	dmabuf_rw_pdu(cmd)->flags = 0;
	all = dmabuf_rw_ranges_new(u64_to_user_ptr(user), nr);
	if (IS_ERR(all))
		return PTR_ERR(all);
	all->cmd = cmd;
	all->direction = direction;
	ret = ranges_begin(all, handle, issue_flags);
	if (ret == -EAGAIN)
		dmabuf_rw_sqe_keep(cmd);
	return ret;
}
