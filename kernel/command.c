// SPDX-License-Identifier: GPL-2.0-only
/*
 * The NVMe commands of the premapped datapath: what may be in the way of one,
 * and handing it to the drive. Their making is inline in command.h.
 */
#include <linux/blkdev.h>
#include <linux/pagemap.h>

#include "compat.h"
#include "command.h"
#include "nvme_ns.h"

/**
 * dmabuf_rw_cache_looked_at - is a page of the target's cache in the way?
 * @m: premapped
 * @write: the I/O writes
 * @file_offset: of the I/O
 * @length: of the I/O, bytes
 *
 * A dirty one is in the way of a read, any of a write.
 *
 * Context: any; m->io held.
 * Return: whether one is.
 */
bool dmabuf_rw_cache_looked_at(const struct dmabuf_rw_mapping *m, bool write, u64 file_offset,
			       u32 length)
{
	struct address_space *cache = m->target.file->f_mapping;
	u64 last = file_offset + length - 1;

	if (write)
		return filemap_range_has_page(cache, file_offset, last);
	return filemap_range_needs_writeback(cache, file_offset, last);
}

/**
 * dmabuf_rw_cache_drop - drop what a write has made stale
 * @m: premapped
 * @file_offset: of what was written
 * @length: of what was written, bytes
 *
 * Pages that somebody read in while the drive was writing are stale now, as
 * after any O_DIRECT write.
 *
 * Context: may sleep; a reference to @m held.
 */
void dmabuf_rw_cache_drop(const struct dmabuf_rw_mapping *m, u64 file_offset, u32 length)
{
	invalidate_inode_pages2_range(m->target.file->f_mapping, file_offset >> PAGE_SHIFT,
				      (file_offset + length - 1) >> PAGE_SHIFT);
}

/**
 * dmabuf_rw_cache_clear - get the target's page cache out of the way
 * @m: premapped
 * @args: the I/O
 *
 * Written back, and dropped before a write, as O_DIRECT does. A file that is held
 * gets its time set before a write.
 *
 * Context: may sleep.
 * Return: success; what target_check() says; an errno of writing back.
 */
struct dmabuf_rw_result dmabuf_rw_cache_clear(struct dmabuf_rw_mapping *m,
					      const struct dmabuf_rw_io_args *args)
{
	struct address_space *cache = m->target.file->f_mapping;
	u64 last = args->file_offset + args->length - 1;
	struct dmabuf_rw_result result = target_check(m, args);
	int ret;

	if (result.error)
		return result;
	if (m->target.use && args_write(args) && dmabuf_rw_file_due(m->target.use)) {
		ret = dmabuf_rw_file_touch(m->target.use);
		if (ret)
			return dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret));
	}
	if (!cache_in_the_way(m, args))
		return result;
	ret = filemap_write_and_wait_range(cache, args->file_offset, last);
	if (!ret && args_write(args))
		ret = invalidate_inode_pages2_range(cache, args->file_offset >> PAGE_SHIFT,
						    last >> PAGE_SHIFT);
	if (ret == -EBUSY)
		ret = -EIO;
	return ret ? dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret)) : DMABUF_RW_OK;
}

/**
 * dmabuf_rw_format_check - is the namespace still formatted as when it was mapped?
 * @m: premapped; m->io held
 * @rq: of its queue; no command in it yet
 *
 * Asked once a tick. A change of the block size shows in the queue, one of the
 * metadata nowhere.
 *
 * Context: does not sleep.
 * Return: 0; -EMEDIUMTYPE if it is not.
 */
int dmabuf_rw_format_check(struct dmabuf_rw_mapping *m, struct request *rq)
{
	const struct dmabuf_rw_nvme_format *mapped = &m->target.format;
	unsigned long now = jiffies;
	struct dmabuf_rw_nvme_format format;
	struct dmabuf_rw_result result;

	result = dmabuf_rw_nvme_format(rq, m->target.disk, &format);
	if (result.error || format.nsid != mapped->nsid || format.control != mapped->control ||
	    format.guard64 != mapped->guard64)
		return -EMEDIUMTYPE;
	WRITE_ONCE(m->target.looked, now);
	return 0;
}

/**
 * dmabuf_rw_command_fill - command_make() for an I/O of several commands
 * @rq: from the queue of @m's path
 * @m: premapped; m->io held
 * @args: the I/O
 * @done: bytes of it that other commands move
 * @length: out: bytes that this one moves
 *
 * Not worth a copy of it in each place.
 *
 * Context: does not sleep.
 * Return: 0; -EINVAL for what is not aligned; as dmabuf_rw_format_check().
 */
int dmabuf_rw_command_fill(struct request *rq, struct dmabuf_rw_mapping *m,
			   const struct dmabuf_rw_io_args *args, u32 done, u32 *length)
{
	u64 run, base = target_base(&m->target, args->file_offset + done, &run);

	*length = min_t(u64, min(args->length - done, m->target.max_command), run);
	return command_make(rq, m, args_write(args), args->file_offset + done + base,
			    args->buffer_offset + done, *length);
}

/**
 * dmabuf_rw_command_send_by_head - hand a command to the drive, if its head lets it
 * @head: queue of the multipath head
 * @rq: the command
 *
 * A head is frozen while one of its other controllers formats the namespace, or
 * while it is being removed. Freezing waits for readers of RCU.
 *
 * Context: does not sleep.
 * Return: false if the head is frozen; @rq is the caller's then.
 */
bool dmabuf_rw_command_send_by_head(struct request_queue *head, struct request *rq)
{
	struct blk_plug *plug = current->plug;
	bool sent;

	rcu_read_lock();
	sent = !percpu_ref_is_dying(&head->q_usage_counter);
	if (likely(sent)) {
		/*
		 * Not into the plug: it would be sent after this section, and
		 * with it what others put there, who may sleep.
		 */
		dmabuf_rw_plug_forget_time(plug);
		current->plug = NULL;
		blk_execute_rq_nowait(rq, false);
		current->plug = plug;
	}
	rcu_read_unlock();
	return sent;
}
