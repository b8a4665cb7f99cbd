// SPDX-License-Identifier: GPL-2.0-only
/*
 * The premapped I/Os that are more than one command from one ring: those of
 * several commands, those that are sent from a worker, those whose caller waits,
 * and those that are sent again.
 */
#include <linux/blk-mq.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "command.h"
#include "failover.h"
#include "later_user.h"
#include "nvme_request.h"
#include "premapped_long.h"
#include "ready.h"
#include "session.h"

#define PARTS_AT_ONCE	32	/* commands of an I/O that may not wait */
#define MOST_TRIES	8	/* of an I/O that is sent again */

/* An I/O that is more than one command from one ring. */
struct premapped_long {
	struct dmabuf_rw_mapping *m;	/* reference, unless the caller waits */
	struct io_uring_cmd *cmd;	/* NULL: the caller waits */
	struct dmabuf_rw_io_args args;
	atomic_t pending;		/* commands, and one for who sends them */
	int error;			/* the first */
	u32 reason;			/* of an error that was no command's; 0: see error */
	u32 again;			/* enum dmabuf_rw_nvme_again: the most of any command */
	bool final;			/* some command's error is one in any case */
	u32 tries;			/* of who sends it */
	unsigned long give_up;		/* looking for a path, jiffies; 0: not begun */
	const struct device *failed;	/* again elsewhere than by this one; only compared */
	struct completion done;		/* the caller waits */
	struct work_struct work;	/* sends it again */
};

/* In the task that owns the ring, or io_uring's fallback worker. */
static void long_task_work(DMABUF_RW_TW_ARGS)
{
	struct io_uring_cmd *cmd = DMABUF_RW_TW_CMD;
	struct premapped_long *l = dmabuf_rw_pdu(cmd)->longer;
	s32 result = l->error ?: (s32)io_moves(l->m, &l->args);

	if (args_write(&l->args) && target_cached(l->m))
		dmabuf_rw_cache_drop(l->m, l->args.file_offset, l->args.length);
	dmabuf_rw_mapping_put(l->m);
	kfree(l);
	dmabuf_rw_cmd_done(cmd, result, DMABUF_RW_TW_FLAGS);
}

static void long_fail(struct premapped_long *l, struct dmabuf_rw_result result)
{
	if (!cmpxchg(&l->error, 0, result.error))
		l->reason = result.reason;
}

/* Is it not to be sent again? No command of it is under way. */
static bool long_over(const struct premapped_long *l)
{
	return l->again == DMABUF_RW_NVME_OVER || l->final || l->tries >= MOST_TRIES;
}

/* To be sent again, by a worker of the user's. */
static void long_queue(struct premapped_long *l)
{
	const struct dmabuf_rw_session *session = l->cmd->file->private_data;

	queue_work(session->later->wq, &l->work);
}

/* One command less; the last one decides. */
static void long_put(struct premapped_long *l)
{
	if (!atomic_dec_and_test(&l->pending))
		return;
	if (long_over(l)) {
		io_account(l->m, l->args.direction, io_moves(l->m, &l->args), l->error, l->reason);
	} else if (l->cmd) {
		long_queue(l);
		return;
	}
	if (l->cmd)
		dmabuf_rw_in_task(l->cmd, long_task_work);
	else
		complete(&l->done);
}

/* It is to be sent again, unless more was asked for already. */
static void long_ask(struct premapped_long *l, u32 again)
{
	u32 asked = READ_ONCE(l->again);

	while (again > asked && !try_cmpxchg(&l->again, &asked, again))
		;
}

static void long_note(struct premapped_long *l, struct request *rq, int error)
{
	enum dmabuf_rw_nvme_again again = dmabuf_rw_nvme_again(rq, l->m->target.head);

	command_note_status(l->m, rq);
	cmpxchg(&l->error, 0, error);
	/* An error that is one in any case ends the I/O, whatever the others say. */
	if (again == DMABUF_RW_NVME_OVER)
		WRITE_ONCE(l->final, true);
	if (again == DMABUF_RW_NVME_ELSEWHERE)
		l->failed = l->m->target.dma_dev;
	long_ask(l, again);
}

static enum rq_end_io_ret long_end(DMABUF_RW_END_IO_ARGS)
{
	struct premapped_long *l = rq->end_io_data;
	int error = dmabuf_rw_nvme_result(rq, status);
	struct dmabuf_rw_mapping *m = l->m;

	command_end(m, &l->args);
	if (unlikely(error))
		long_note(l, rq, error);
	/* @l keeps @m until the last part has ended, which this may be. */
	percpu_ref_put(&m->io);
	long_put(l);
	return RQ_END_IO_FREE;
}

/* A request, without waiting for anything. m->io is held if there is one. */
static struct request *command_try(struct dmabuf_rw_mapping *m,
				   const struct dmabuf_rw_io_args *args)
{
	struct request *rq;

	if (!dmabuf_rw_io_enter(m))
		return ERR_PTR(-EAGAIN);
	if (target_check(m, args).error || cache_in_the_way(m, args) ||
	    dmabuf_rw_io_fenced(m, args))
		rq = ERR_PTR(-EAGAIN);
	else
		rq = blk_mq_alloc_request(m->target.disk->queue, command_op(args),
					  BLK_MQ_REQ_NOWAIT);
	if (IS_ERR(rq))
		percpu_ref_put(&m->io);
	return rq;
}

/*
 * Wait until the path's queue has a request to spare, holding nothing: it may be
 * frozen for as long as a format takes. A killed process does not wait for that.
 */
static int command_wait(struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
{
	struct gendisk *disk;
	struct request *rq;

	if (!dmabuf_rw_io_enter(m))
		return 0;
	disk = m->target.disk;
	get_device(disk_to_dev(disk));
	percpu_ref_put(&m->io);
	if (percpu_ref_is_dying(&disk->queue->q_usage_counter) && !blk_queue_dying(disk->queue)) {
		schedule_timeout_killable(1);
		rq = NULL;
	} else {
		rq = blk_mq_alloc_request(disk->queue, command_op(args), 0);
		if (!IS_ERR(rq))
			blk_mq_free_request(rq);
	}
	put_device(disk_to_dev(disk));
	return PTR_ERR_OR_ZERO(rq);
}

/* A request from where waiting is allowed. m->io is held if there is one. */
static struct request *command_get(struct premapped_long *l, const struct dmabuf_rw_io_args *part)
{
	struct dmabuf_rw_mapping *m = l->m;
	struct dmabuf_rw_result result;
	const struct device *dev;
	struct request *rq;
	int ret;

	for (;;) {
		dev = READ_ONCE(m->target.dma_dev);
		rq = command_try(m, part);
		if (!IS_ERR(rq))
			return rq;
		if (PTR_ERR(rq) == -EAGAIN) {
			result = dmabuf_rw_io_prepare(m, part, dmabuf_rw_cache_clear);
			if (!result.error) {
				percpu_ref_put(&m->io);
				ret = command_wait(m, part);
				result = ret ? dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret)) :
					DMABUF_RW_OK;
			}
		} else {
			result = dmabuf_rw_fail(PTR_ERR(rq), dmabuf_rw_reason_of(m, PTR_ERR(rq)));
		}
		/* A queue that is dying: its controller is being removed. */
		if (result.reason == DMABUF_RW_REASON_DEVICE_GONE && m->target.head &&
		    l->tries++ < MOST_TRIES)
			result = dmabuf_rw_failover(m, dev);
		if (result.error && result.error != -EAGAIN) {
			long_fail(l, result);
			return NULL;
		}
		if (fatal_signal_pending(current)) {
			long_fail(l, dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED));
			return NULL;
		}
		if (result.error)
			schedule_timeout_killable(msecs_to_jiffies(20) + 1);
	}
}

/* One command of an I/O, from where waiting is allowed; false: it ends here. */
static bool long_send_part(struct premapped_long *l, u32 done, u32 *length)
{
	struct dmabuf_rw_mapping *m = l->m;
	struct dmabuf_rw_io_args part = l->args;
	struct request *rq;
	bool frozen;
	int ret;

	part.file_offset += done;
	part.buffer_offset += done;
	part.length -= done;
	for (;;) {
		rq = command_get(l, &part);
		if (!rq)
			return false;
		ret = dmabuf_rw_command_fill(rq, m, &l->args, done, length);
		if (ret) {
			blk_mq_free_request(rq);
			percpu_ref_put(&m->io);
			long_fail(l, dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret)));
			return false;
		}
		rq->end_io = long_end;
		rq->end_io_data = l;
		atomic_inc(&l->pending);
		frozen = !command_begin(m, &l->args);
		if (!frozen) {
			if (likely(command_send(m, rq)))
				return true;
			command_end(m, &l->args);
		}
		atomic_dec(&l->pending);
		this_cpu_dec(m->counts->commands);
		blk_mq_free_request(rq);
		percpu_ref_put(&m->io);
		if (frozen)
			dmabuf_rw_file_thaw_wait(m->target.use);
		else
			schedule_timeout_killable(1);
		if (fatal_signal_pending(current)) {
			long_fail(l, dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED));
			return false;
		}
	}
}

/* Go on by way of another controller; false: there is none, and it ends here. */
static bool long_repath(struct premapped_long *l)
{
	struct dmabuf_rw_result result;

	if (!l->give_up)
		l->give_up = jiffies + msecs_to_jiffies(dmabuf_rw_wait_ms(l->m));
	for (;;) {
		result = dmabuf_rw_failover(l->m, l->failed);
		/*
		 * Not at once by the one that just failed: it takes a moment until
		 * the driver knows what the drive has said of its paths.
		 */
		if (!result.error && l->m->target.dma_dev == l->failed)
			schedule_timeout_killable(msecs_to_jiffies(50) + 1);
		if (result.error != -EAGAIN)
			break;
		if (time_after(jiffies, l->give_up)) {
			result = dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
			break;
		}
		schedule_timeout_killable(msecs_to_jiffies(20) + 1);
		if (fatal_signal_pending(current)) {
			result = dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
			break;
		}
	}
	if (!result.error)
		return true;
	/* What made us look for another one says more than that there is none. */
	if (result.error != -ENODEV) {
		l->error = 0;
		long_fail(l, result);
	}
	return false;
}

/* The time of a file that is due, once for each I/O; false: it cannot be written any more. */
static bool long_touch(struct premapped_long *l)
{
	struct dmabuf_rw_file_use *use = l->m->target.use;
	int ret;

	if (!use || !args_write(&l->args) || !dmabuf_rw_file_due(use) ||
	    target_check(l->m, &l->args).error)
		return true;
	ret = dmabuf_rw_file_touch(use);
	if (ret)
		long_fail(l, dmabuf_rw_fail(ret, dmabuf_rw_reason_of(l->m, ret)));
	return !ret;
}

/* All commands of an I/O, from where waiting is allowed; also once more. */
static void long_send_all(struct premapped_long *l)
{
	u32 again = l->again, done = 0, length;
	struct blk_plug plug;

	atomic_set(&l->pending, 1);
	l->again = DMABUF_RW_NVME_OVER;
	if (again == DMABUF_RW_NVME_ELSEWHERE && !long_repath(l)) {
		long_put(l);
		return;
	}
	l->error = 0;
	l->reason = 0;
	l->final = false;
	if (!long_touch(l)) {
		WRITE_ONCE(l->final, true);
		long_put(l);
		return;
	}
	/* Whoever sleeps meanwhile sends what is in the plug first. */
	blk_start_plug(&plug);
	while (done < l->args.length) {
		if (done && !l->cmd && fatal_signal_pending(current)) {
			long_fail(l, dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED));
			WRITE_ONCE(l->final, true);
			break;
		}
		if (!long_send_part(l, done, &length)) {
			WRITE_ONCE(l->final, true);
			break;
		}
		done += length;
	}
	blk_finish_plug(&plug);
	long_put(l);
}

/* One more try. As long as another path may still be found, it does not count. */
static void long_count(struct premapped_long *l)
{
	if (l->again != DMABUF_RW_NVME_ELSEWHERE || time_after(jiffies, l->give_up))
		l->tries++;
}

static void long_work(struct work_struct *work)
{
	struct premapped_long *l = container_of(work, struct premapped_long, work);

	long_count(l);
	long_send_all(l);
}

static void long_set(struct premapped_long *l, struct io_uring_cmd *cmd,
		     struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
{
	*l = (struct premapped_long){ .m = m, .cmd = cmd, .args = *args };
	if (!cmd)
		return;
	refcount_inc(&m->refs);
	INIT_WORK(&l->work, long_work);
	dmabuf_rw_pdu(cmd)->flags = 0;
	dmabuf_rw_pdu(cmd)->longer = l;
}

static struct premapped_long *long_new(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
				       const struct dmabuf_rw_io_args *args, gfp_t gfp)
{
	struct premapped_long *l = kmalloc_obj(*l, gfp);

	if (l)
		long_set(l, cmd, m, args);
	return l;
}

/**
 * dmabuf_rw_long_issue - begin an I/O of several commands without waiting
 * @cmd: of the I/O
 * @m: premapped; m->io held, and let go of here
 * @args: the I/O, checked against the target
 *
 * All its commands are had at once, or it is left to a worker.
 *
 * Context: does not sleep.
 * Return: -EIOCBQUEUED; -EAGAIN where it has to be sent from where waiting is
 * allowed; an errno, noted with its reason.
 */
int dmabuf_rw_long_issue(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			 const struct dmabuf_rw_io_args *args)
{
	struct request *rqs[PARTS_AT_ONCE];
	u32 nr = 0, done = 0, length, i;
	struct premapped_long *l;
	int ret = -EAGAIN;

	while (done < args->length) {
		if (nr == PARTS_AT_ONCE)
			goto free;
		rqs[nr] = blk_mq_alloc_request(m->target.disk->queue,
					       command_op(args) | REQ_NOWAIT, BLK_MQ_REQ_NOWAIT);
		if (IS_ERR(rqs[nr]))
			goto free;
		ret = dmabuf_rw_command_fill(rqs[nr], m, args, done, &length);
		if (ret) {
			blk_mq_free_request(rqs[nr]);
			goto free;
		}
		ret = -EAGAIN;
		nr++;
		done += length;
	}
	l = long_new(cmd, m, args, GFP_NOWAIT | __GFP_NOWARN);
	if (!l)
		goto free;

	trace_dmabuf_rw_submit(m->session, m->handle, args->direction, args->file_offset,
			       args->buffer_offset, args->length);
	atomic_set(&l->pending, 1);
	for (i = 0; i < nr; i++) {
		percpu_ref_get(&m->io);
		atomic_inc(&l->pending);
		rqs[i]->end_io = long_end;
		rqs[i]->end_io_data = l;
		if (likely(command_begin(m, args))) {
			if (likely(command_send(m, rqs[i])))
				continue;
			command_end(m, args);
		}
		/* Frozen, and nothing sent yet: whoever called waits for it. */
		if (!i) {
			percpu_ref_put(&m->io);
			refcount_dec(&m->refs);
			kfree(l);
			goto free;
		}
		/* Frozen in the middle: all of it once more, from a worker. */
		long_ask(l, DMABUF_RW_NVME_AGAIN);
		this_cpu_sub(m->counts->commands, nr - i);
		cmpxchg(&l->error, 0, -EIO);
		for (; i < nr; i++)
			blk_mq_free_request(rqs[i]);
		percpu_ref_put(&m->io);
		atomic_dec(&l->pending);
	}
	percpu_ref_put(&m->io);
	long_put(l);
	return -EIOCBQUEUED;

free:
	this_cpu_sub(m->counts->commands, nr);
	while (nr--)
		blk_mq_free_request(rqs[nr]);
	if (ret == -EAGAIN)
		return dmabuf_rw_io_defer(m);
	return dmabuf_rw_io_refuse(m, dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret)));
}

/**
 * dmabuf_rw_long_again - go on with an I/O of one command that a worker sends again
 * @cmd: of the I/O
 * @m: premapped; m->io held, and let go of where it goes on
 * @args: the I/O
 * @rq: the command, which has ended
 * @error: its error
 *
 * Context: any, interrupts among them.
 * Return: false if the error is one in any case, or there is no memory to go on.
 */
bool dmabuf_rw_long_again(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			  const struct dmabuf_rw_io_args *args, struct request *rq, int error)
{
	struct premapped_long *l;

	if (dmabuf_rw_nvme_again(rq, m->target.head) == DMABUF_RW_NVME_OVER)
		return false;
	/* For want of memory it is the error that it was. */
	l = long_new(cmd, m, args, GFP_ATOMIC | __GFP_NOWARN);
	if (!l)
		return false;
	long_note(l, rq, error);
	percpu_ref_put(&m->io);
	long_queue(l);
	return true;
}

/**
 * dmabuf_rw_long_send - send an I/O from where waiting is allowed
 * @cmd: of the I/O
 * @m: premapped
 * @args: the I/O
 * @issue_flags: io_uring's
 *
 * Context: may sleep.
 * Return: -EIOCBQUEUED or -ENOMEM.
 */
int dmabuf_rw_long_send(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			const struct dmabuf_rw_io_args *args, unsigned int issue_flags)
{
	struct premapped_long *l = long_new(cmd, m, args, GFP_KERNEL);

	if (!l) {
		dmabuf_rw_note_error(m, -ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
		return -ENOMEM;
	}
	trace_dmabuf_rw_submit(m->session, m->handle, args->direction, args->file_offset,
			       args->buffer_offset, args->length);
	long_send_all(l);
	return -EIOCBQUEUED;
}

/**
 * dmabuf_rw_long_run - do an I/O and wait for its end
 * @m: premapped
 * @args: the I/O
 * @moved: out: bytes, on success
 *
 * Even a killed process waits for commands that the drive already has; the
 * driver's time-out bounds that. It sends no further parts of a split I/O.
 *
 * Context: may sleep, as long as the drive takes.
 * Return: success, or an errno with its reason.
 */
struct dmabuf_rw_result dmabuf_rw_long_run(struct dmabuf_rw_mapping *m,
					   const struct dmabuf_rw_io_args *args, u64 *moved)
{
	struct premapped_long l;

	trace_dmabuf_rw_submit(m->session, m->handle, args->direction, args->file_offset,
			       args->buffer_offset, args->length);
	long_set(&l, NULL, m, args);
	init_completion(&l.done);
	for (;;) {
		long_send_all(&l);
		/* In pieces, so that a slow drive is not taken for a hung task. */
		while (!wait_for_completion_io_timeout(&l.done, 10 * HZ))
			;
		if (long_over(&l))
			break;
		long_count(&l);
		reinit_completion(&l.done);
	}
	if (args_write(args) && target_cached(m))
		dmabuf_rw_cache_drop(m, args->file_offset, args->length);
	if (l.error)
		return dmabuf_rw_fail(l.error, l.reason ?: dmabuf_rw_reason_of(m, l.error));
	*moved = io_moves(m, args);
	return DMABUF_RW_OK;
}
