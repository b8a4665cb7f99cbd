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
 * An I/O of one command, the usual case, lives in the io_uring command. All
 * others are a struct premapped_long: those of several commands, those that are
 * sent from a worker, those whose caller waits, and those that are sent again.
 */
#include <linux/blk-mq.h>
#include <linux/io_uring/cmd.h>
#include <linux/nvme.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "attach.h"
#include "failover.h"
#include "nvme_driver.h"
#include "nvme_request.h"
#include "premapped.h"
#include "ready.h"
#include "trace.h"

/* dmabuf_rw_pdu.flags */
#define IO_WRITE	BIT(0)
#define IO_POLLED	BIT(1)	/* under way, and ends only when polled for */
#define IO_HELD		BIT(2)	/* task work drops a reference to the mapping */
#define IO_QUEUE_SHIFT	16	/* IO_POLLED: number of the hardware queue above here */

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

static struct workqueue_struct *premapped_wq;

static bool args_write(const struct dmabuf_rw_io_args *args)
{
	return args->direction == DMABUF_RW_DIR_WRITE;
}

/* Has the target any page in the page cache? */
static bool target_cached(const struct dmabuf_rw_mapping *m)
{
	return READ_ONCE(m->target.file->f_mapping->nrpages);
}

/*
 * Is a page of the target's cache in the way? A dirty one is in the way of a
 * read, any of a write.
 */
static noinline bool cache_looked_at(const struct dmabuf_rw_mapping *m,
				     const struct dmabuf_rw_io_args *args)
{
	struct address_space *cache = m->target.file->f_mapping;
	u64 last = args->file_offset + args->length - 1;

	if (args_write(args))
		return filemap_range_has_page(cache, args->file_offset, last);
	return filemap_range_needs_writeback(cache, args->file_offset, last);
}

static __always_inline bool cache_in_the_way(const struct dmabuf_rw_mapping *m,
					     const struct dmabuf_rw_io_args *args)
{
	return unlikely(target_cached(m)) && cache_looked_at(m, args);
}

/*
 * Pages that somebody read in while the drive was writing are stale now, as
 * after any O_DIRECT write.
 */
static void cache_drop(const struct dmabuf_rw_mapping *m, u64 file_offset, u32 length)
{
	invalidate_inode_pages2_range(m->target.file->f_mapping, file_offset >> PAGE_SHIFT,
				      (file_offset + length - 1) >> PAGE_SHIFT);
}

/*
 * An I/O, inside the dma-buf and in a direction that is mapped, against its
 * target as it is now. Whether it is aligned is seen with the command, in which
 * the size of the block cannot change any more.
 */
static __always_inline struct dmabuf_rw_result
target_check(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
{
	struct block_device *bdev = m->target.bdev;
	u64 end;

	if (unlikely(check_add_overflow(args->file_offset, (u64)args->length, &end) ||
		     end > bdev_nr_bytes(bdev))) {
		/* A disk that went away has no size left. */
		return bdev_nr_sectors(bdev) ?
			dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE) :
			dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	}
	if (args_write(args)) {
		if (unlikely(bdev_read_only(bdev)))
			return dmabuf_rw_fail(-EPERM, DMABUF_RW_REASON_READ_ONLY);
		if (unlikely(IS_SWAPFILE(m->target.file->f_mapping->host)))
			return dmabuf_rw_fail(-ETXTBSY, DMABUF_RW_REASON_SWAP);
	}
	return DMABUF_RW_OK;
}

/*
 * Get the target's page cache out of the way: written back, and dropped before
 * a write, as O_DIRECT does.
 */
static struct dmabuf_rw_result target_clear(struct dmabuf_rw_mapping *m,
					    const struct dmabuf_rw_io_args *args)
{
	struct address_space *cache = m->target.file->f_mapping;
	u64 last = args->file_offset + args->length - 1;
	struct dmabuf_rw_result result = target_check(m, args);
	int ret;

	if (result.error || !cache_in_the_way(m, args))
		return result;
	ret = filemap_write_and_wait_range(cache, args->file_offset, last);
	if (!ret && args_write(args))
		ret = invalidate_inode_pages2_range(cache, args->file_offset >> PAGE_SHIFT,
						    last >> PAGE_SHIFT);
	if (ret == -EBUSY)
		ret = -EIO;
	return ret ? dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret)) : DMABUF_RW_OK;
}

/*
 * Once a tick: is the namespace still formatted as when it was mapped? A change
 * of the block size shows in the queue, one of the metadata nowhere.
 */
static noinline int format_check(struct dmabuf_rw_mapping *m)
{
	const struct dmabuf_rw_nvme_format *mapped = &m->target.format;
	unsigned long now = jiffies;
	struct dmabuf_rw_nvme_format format;
	struct dmabuf_rw_result result;

	result = dmabuf_rw_nvme_format(m->target.disk, &format, GFP_ATOMIC | __GFP_NOWARN);
	if (result.error == -ENOMEM)
		return -ENOMEM;
	if (result.error || format.nsid != mapped->nsid || format.control != mapped->control ||
	    format.guard64 != mapped->guard64)
		return -EMEDIUMTYPE;
	WRITE_ONCE(m->target.looked, now);
	return 0;
}

/*
 * Make @rq the command for @length bytes of an I/O, @done bytes into it. m->io
 * is held: the path is the one that @rq came from. Being in its queue, what is
 * seen of the namespace holds until @rq has ended: a format by this controller
 * freezes the queue first, one by another controller the head's, see
 * command_send().
 */
static __always_inline int command_make(struct request *rq, struct dmabuf_rw_mapping *m,
					const struct dmabuf_rw_io_args *args, u32 done,
					u32 length)
{
	const struct dmabuf_rw_target *target = &m->target;
	u32 block = queue_logical_block_size(rq->q);
	struct nvme_command command = {};
	unsigned int shift = ilog2(block);
	bool write = args_write(args);
	u16 control;
	u64 lba;

	lba = args->file_offset + done + ((u64)target->bdev->bd_start_sect << SECTOR_SHIFT);
	if (unlikely((target->head && bdev_logical_block_size(target->bdev) != block) ||
		     ((lba | length) & (block - 1)) || (length >> shift) > 65536 ||
		     ((args->buffer_offset + done) & queue_dma_alignment(rq->q))))
		return -EINVAL;
	if (unlikely(time_after(jiffies, READ_ONCE(target->looked)))) {
		int ret = format_check(m);

		if (ret)
			return ret;
	}
	lba >>= shift;

	control = target->format.control;
	if (write && (target->file->f_iocb_flags & IOCB_DSYNC))
		control |= NVME_RW_FUA;
	command.rw.opcode = write ? nvme_cmd_write : nvme_cmd_read;
	command.rw.nsid = cpu_to_le32(target->format.nsid);
	command.rw.slba = cpu_to_le64(lba);
	command.rw.length = cpu_to_le16((length >> shift) - 1);
	if (unlikely(control)) {
		command.rw.control = cpu_to_le16(control);
		command.rw.reftag = cpu_to_le32(lower_32_bits(lba));
		if (target->format.guard64)
			command.rw.cdw3 = cpu_to_le32(upper_32_bits(lba) & 0xffff);
	}
	dmabuf_rw_prp_get(&m->attach->prp, args->buffer_offset + done, length,
			  &command.rw.dptr.prp1, &command.rw.dptr.prp2);
	dmabuf_rw_nvme_init_request(rq, &command);
	/* Ordinary I/O, not an administrator's passthrough: resets are survived. */
	rq->cmd_flags &= ~REQ_FAILFAST_DRIVER;
	/* The queue's own, as any I/O has: no user sets it. */
	rq->timeout = 0;
	this_cpu_inc(m->counts->commands);
	return 0;
}

/* The same where there are several: not worth a copy of it each. */
static noinline int command_fill(struct request *rq, struct dmabuf_rw_mapping *m,
				 const struct dmabuf_rw_io_args *args, u32 done, u32 length)
{
	return command_make(rq, m, args, done, length);
}

/*
 * Hand a command to the drive, unless the multipath head is frozen: then one of
 * its other controllers is formatting the namespace, or it is being removed.
 * Freezing waits for readers of RCU.
 */
static noinline bool command_send_by_head(struct request_queue *head, struct request *rq)
{
	struct blk_plug *plug = current->plug;
	bool sent;

	rcu_read_lock();
	sent = !percpu_ref_is_dying(&head->q_usage_counter);
	if (likely(sent)) {
		/*
		 * Not into the plug: it would be sent after this section, and
		 * with it what others put there, who may sleep. A task that has
		 * noted the time in its plug has one whenever it is preempted.
		 */
		if (plug)
			plug->cur_ktime = 0;
		current->flags &= ~PF_BLOCK_TS;
		current->plug = NULL;
		blk_execute_rq_nowait(rq, false);
		current->plug = plug;
	}
	rcu_read_unlock();
	return sent;
}

static __always_inline bool command_send(struct dmabuf_rw_mapping *m, struct request *rq)
{
	if (m->target.head)
		return command_send_by_head(m->target.head, rq);
	blk_execute_rq_nowait(rq, false);
	return true;
}

static blk_opf_t command_op(const struct dmabuf_rw_io_args *args)
{
	return args_write(args) ? REQ_OP_DRV_OUT : REQ_OP_DRV_IN;
}

/* The end of an I/O, whatever it was made of. */
static __always_inline void io_account(struct dmabuf_rw_mapping *m, u32 direction, u32 length,
				       int error, u32 reason)
{
	trace_dmabuf_rw_complete(m->session, m->handle, direction, error ?: (long)length);
	if (unlikely(error))
		dmabuf_rw_note_error(m, error, reason ?: dmabuf_rw_reason_of(m, error));
	else
		dmabuf_rw_note_done(m, direction, length);
}

/* An I/O of several commands, from a worker, awaited, or sent again. */

/* In the task that owns the ring, or io_uring's fallback worker. */
static void long_task_work(DMABUF_RW_TW_ARGS)
{
	struct io_uring_cmd *cmd = DMABUF_RW_TW_CMD;
	struct premapped_long *l = dmabuf_rw_pdu(cmd)->longer;
	s32 result = l->error ?: (s32)l->args.length;

	if (args_write(&l->args) && target_cached(l->m))
		cache_drop(l->m, l->args.file_offset, l->args.length);
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

/* One command less; the last one decides. */
static void long_put(struct premapped_long *l)
{
	if (!atomic_dec_and_test(&l->pending))
		return;
	if (long_over(l)) {
		io_account(l->m, l->args.direction, l->args.length, l->error, l->reason);
	} else if (l->cmd) {
		queue_work(premapped_wq, &l->work);
		return;
	}
	if (l->cmd)
		io_uring_cmd_do_in_task_lazy(l->cmd, long_task_work);
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
			result = dmabuf_rw_io_prepare(m, part, target_clear);
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
		if (result.error == -ENODEV && m->target.head && l->tries++ < MOST_TRIES)
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
	int ret;

	part.file_offset += done;
	part.buffer_offset += done;
	part.length -= done;
	for (;;) {
		rq = command_get(l, &part);
		if (!rq)
			return false;
		*length = min(part.length, m->target.max_command);
		ret = command_fill(rq, m, &l->args, done, *length);
		if (ret) {
			blk_mq_free_request(rq);
			percpu_ref_put(&m->io);
			long_fail(l, dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret)));
			return false;
		}
		rq->end_io = long_end;
		rq->end_io_data = l;
		atomic_inc(&l->pending);
		if (likely(command_send(m, rq)))
			return true;
		atomic_dec(&l->pending);
		this_cpu_dec(m->counts->commands);
		blk_mq_free_request(rq);
		percpu_ref_put(&m->io);
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

/* All commands of an I/O, from where waiting is allowed; also once more. */
static void long_send(struct premapped_long *l)
{
	u32 again = l->again, done = 0, length;

	atomic_set(&l->pending, 1);
	l->again = DMABUF_RW_NVME_OVER;
	if (again == DMABUF_RW_NVME_ELSEWHERE && !long_repath(l)) {
		long_put(l);
		return;
	}
	l->error = 0;
	l->reason = 0;
	l->final = false;
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
	long_send(l);
}

static void long_init(struct premapped_long *l, struct io_uring_cmd *cmd,
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
		long_init(l, cmd, m, args);
	return l;
}

/*
 * An I/O of several commands from where nothing may be waited for: all of them
 * are had at once, or it is left to a worker. m->io is held and let go of.
 */
static noinline int long_issue(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			       const struct dmabuf_rw_io_args *args)
{
	u32 most = m->target.max_command, nr = DIV_ROUND_UP(args->length, most), i;
	struct request *rqs[PARTS_AT_ONCE];
	struct premapped_long *l;
	int ret = -EAGAIN;

	if (nr > PARTS_AT_ONCE)
		return dmabuf_rw_io_defer(m);
	for (i = 0; i < nr; i++) {
		rqs[i] = blk_mq_alloc_request(m->target.disk->queue, command_op(args) | REQ_NOWAIT,
					      BLK_MQ_REQ_NOWAIT);
		if (IS_ERR(rqs[i]))
			goto free;
		ret = command_fill(rqs[i], m, args, i * most, min(args->length - i * most, most));
		if (ret) {
			i++;
			goto free;
		}
		ret = -EAGAIN;
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
		if (likely(command_send(m, rqs[i])))
			continue;
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
	this_cpu_sub(m->counts->commands, ret == -EAGAIN ? i : i - 1);
	while (i--)
		blk_mq_free_request(rqs[i]);
	if (ret == -EAGAIN)
		return dmabuf_rw_io_defer(m);
	return dmabuf_rw_io_refuse(m, dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret)));
}

/* An I/O of one command. */

/* In the task that owns the ring, or io_uring's fallback worker. */
static void single_task_work(DMABUF_RW_TW_ARGS)
{
	struct io_uring_cmd *cmd = DMABUF_RW_TW_CMD;
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);

	if (unlikely(io->flags & IO_HELD)) {
		cache_drop(io->m, io->file_offset, io->length);
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
	struct premapped_long *l;

	if (dmabuf_rw_nvme_again(rq, m->target.head) == DMABUF_RW_NVME_OVER)
		return false;
	/* For want of memory it is the error that it was. */
	l = long_new(cmd, m, &args, GFP_ATOMIC | __GFP_NOWARN);
	if (!l)
		return false;
	long_note(l, rq, error);
	percpu_ref_put(&m->io);
	queue_work(premapped_wq, &l->work);
	return true;
}

static enum rq_end_io_ret single_end(DMABUF_RW_END_IO_ARGS)
{
	struct io_uring_cmd *cmd = rq->end_io_data;
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);
	u32 direction = io->flags & IO_WRITE ? DMABUF_RW_DIR_WRITE : DMABUF_RW_DIR_READ;
	int error = dmabuf_rw_nvme_result(rq, status);
	struct dmabuf_rw_mapping *m = io->m;

	if (unlikely(error) && single_again(cmd, rq, error))
		return RQ_END_IO_FREE;
	io_account(m, direction, io->length, error, 0);
	io->result = error ?: (s64)io->length;
	if (unlikely(direction == DMABUF_RW_DIR_WRITE && target_cached(m))) {
		refcount_inc(&m->refs);
		io->flags |= IO_HELD;
	}
	/* Before @m may go: polling looks at it as long as this is set. */
	if (io->flags & IO_POLLED)
		WRITE_ONCE(io->flags, io->flags & ~IO_POLLED);
	percpu_ref_put(&m->io);
	if (DMABUF_RW_POLLED_BY_OWN_RING(rq, cmd) && !(io->flags & IO_HELD))
		dmabuf_rw_cmd_done(cmd, io->result, 0);
	else
		io_uring_cmd_do_in_task_lazy(cmd, single_task_work);
	return RQ_END_IO_FREE;
}

static int premapped_issue(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			   const struct dmabuf_rw_io_args *args, unsigned int issue_flags)
{
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);
	blk_opf_t opf = command_op(args) | REQ_NOWAIT;
	struct dmabuf_rw_result result;
	struct request *rq;
	int ret;

	result = target_check(m, args);
	if (unlikely(result.error))
		return dmabuf_rw_io_refuse(m, result);
	if (unlikely(cache_in_the_way(m, args) || dmabuf_rw_io_fenced(m, args)))
		return dmabuf_rw_io_defer(m);
	/* Parts are not polled for: a command has room for one request. */
	if (unlikely(args->length > m->target.max_command))
		return long_issue(cmd, m, args);

	if (issue_flags & IO_URING_F_IOPOLL)
		opf |= REQ_POLLED;
	rq = blk_mq_alloc_request(m->target.disk->queue, opf, BLK_MQ_REQ_NOWAIT);
	/* A queue that is dying may be that of one controller of several. */
	if (IS_ERR(rq))
		return dmabuf_rw_io_defer(m);
	ret = command_make(rq, m, args, 0, args->length);
	if (unlikely(ret)) {
		blk_mq_free_request(rq);
		return dmabuf_rw_io_refuse(m, dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret)));
	}
	rq->end_io = single_end;
	rq->end_io_data = cmd;
	io->m = m;
	io->file_offset = args->file_offset;
	io->buffer_offset = args->buffer_offset;
	io->length = args->length;
	io->flags = args_write(args) ? IO_WRITE : 0;
	if ((issue_flags & IO_URING_F_IOPOLL) && blk_rq_is_poll(rq))
		io->flags |= IO_POLLED | rq->mq_hctx->queue_num << IO_QUEUE_SHIFT;
	trace_dmabuf_rw_submit(m->session, m->handle, args->direction, args->file_offset,
			       args->buffer_offset, args->length);
	if (likely(current->plug && !m->target.head)) {
		blk_execute_rq_nowait(rq, false);
		return -EIOCBQUEUED;
	}
	/* The queue is looked at until the call returns; the I/O may end before that. */
	percpu_ref_get(&m->io);
	if (unlikely(!command_send(m, rq))) {
		io->flags = 0;
		this_cpu_dec(m->counts->commands);
		blk_mq_free_request(rq);
		percpu_ref_put(&m->io);
		return dmabuf_rw_io_defer(m);
	}
	percpu_ref_put(&m->io);
	return -EIOCBQUEUED;
}

static int premapped_send(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			  const struct dmabuf_rw_io_args *args, unsigned int issue_flags)
{
	struct premapped_long *l = long_new(cmd, m, args, GFP_KERNEL);

	if (!l) {
		dmabuf_rw_note_error(m, -ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
		return -ENOMEM;
	}
	trace_dmabuf_rw_submit(m->session, m->handle, args->direction, args->file_offset,
			       args->buffer_offset, args->length);
	long_send(l);
	return -EIOCBQUEUED;
}

/*
 * Even a killed process waits for commands that the drive already has; the
 * driver's time-out bounds that. It sends no further parts of a split I/O.
 */
static struct dmabuf_rw_result premapped_run(struct dmabuf_rw_mapping *m,
					     const struct dmabuf_rw_io_args *args, u64 *moved)
{
	struct premapped_long l;

	trace_dmabuf_rw_submit(m->session, m->handle, args->direction, args->file_offset,
			       args->buffer_offset, args->length);
	long_init(&l, NULL, m, args);
	init_completion(&l.done);
	for (;;) {
		long_send(&l);
		/* In pieces, so that a slow drive is not taken for a hung task. */
		while (!wait_for_completion_io_timeout(&l.done, 10 * HZ))
			;
		if (long_over(&l))
			break;
		long_count(&l);
		reinit_completion(&l.done);
	}
	if (args_write(args) && target_cached(m))
		cache_drop(m, args->file_offset, args->length);
	if (l.error)
		return dmabuf_rw_fail(l.error, l.reason ?: dmabuf_rw_reason_of(m, l.error));
	*moved = args->length;
	return DMABUF_RW_OK;
}

/* What a premapped mapping does with an I/O. */
const struct dmabuf_rw_path_ops dmabuf_rw_premapped_ops = {
	.path = DMABUF_RW_PATH_PREMAPPED,
	.issue = premapped_issue,
	.send = premapped_send,
	.run = premapped_run,
};

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
 * Return: how many requests ended; 0 for a command that ends by interrupt.
 */
int dmabuf_rw_premapped_iopoll(struct io_uring_cmd *cmd, struct io_comp_batch *iob)
{
	struct dmabuf_rw_pdu *io = dmabuf_rw_pdu(cmd);
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
 * dmabuf_rw_premapped_init - make what sending again needs
 *
 * Return: 0 or -ENOMEM.
 */
int dmabuf_rw_premapped_init(void)
{
	premapped_wq = alloc_workqueue("dmabuf_rw_again", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	return premapped_wq ? 0 : -ENOMEM;
}

/**
 * dmabuf_rw_premapped_exit - undo dmabuf_rw_premapped_init()
 *
 * Context: module exit, no I/O is under way.
 */
void dmabuf_rw_premapped_exit(void)
{
	destroy_workqueue(premapped_wq);
}
