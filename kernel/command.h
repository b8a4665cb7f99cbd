/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The NVMe commands of the premapped datapath; see command.c. What every I/O
 * runs through is inline here.
 */
#ifndef DMABUF_RW_COMMAND_H
#define DMABUF_RW_COMMAND_H

#include <linux/blk-mq.h>
#include <linux/jiffies.h>
#include <linux/nvme.h>
#include <linux/pagemap.h>

#include "attach.h"
#include "compat.h"
#include "io_args.h"
#include "mapping.h"
#include "nvme_driver.h"
#include "nvme_request.h"
#include "trace.h"

bool dmabuf_rw_cache_looked_at(const struct dmabuf_rw_mapping *m,
			       const struct dmabuf_rw_io_args *args);
void dmabuf_rw_cache_drop(const struct dmabuf_rw_mapping *m, u64 file_offset, u32 length);
struct dmabuf_rw_result dmabuf_rw_cache_clear(struct dmabuf_rw_mapping *m,
					      const struct dmabuf_rw_io_args *args);
int dmabuf_rw_format_check(struct dmabuf_rw_mapping *m, struct request *rq);
int dmabuf_rw_command_fill(struct request *rq, struct dmabuf_rw_mapping *m,
			   const struct dmabuf_rw_io_args *args, u32 done, u32 length);
bool dmabuf_rw_command_send_by_head(struct request_queue *head, struct request *rq);

static inline bool args_write(const struct dmabuf_rw_io_args *args)
{
	return args->direction == DMABUF_RW_DIR_WRITE;
}

/* Has the target any page in the page cache? */
static inline bool target_cached(const struct dmabuf_rw_mapping *m)
{
	return READ_ONCE(m->target.file->f_mapping->nrpages);
}

/* Is a page of the target's cache in the way? Usually there is none. */
static __always_inline bool cache_in_the_way(const struct dmabuf_rw_mapping *m,
					     const struct dmabuf_rw_io_args *args)
{
	return unlikely(target_cached(m)) && dmabuf_rw_cache_looked_at(m, args);
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
	struct nvme_command *command;
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
		int ret = dmabuf_rw_format_check(m, rq);

		if (ret)
			return ret;
	}
	lba >>= shift;

	control = target->format.control | m->fua[write];
	command = dmabuf_rw_nvme_command(rq);
	command->rw.opcode = write ? nvme_cmd_write : nvme_cmd_read;
	command->rw.nsid = cpu_to_le32(target->format.nsid);
	command->rw.slba = cpu_to_le64(lba);
	command->rw.length = cpu_to_le16((length >> shift) - 1);
	if (unlikely(control)) {
		command->rw.control = cpu_to_le16(control);
		command->rw.reftag = cpu_to_le32(lower_32_bits(lba));
		if (target->format.guard64)
			command->rw.cdw3 = cpu_to_le32(upper_32_bits(lba) & 0xffff);
	}
	dmabuf_rw_prp_get(&m->attach->prp, args->buffer_offset + done, length,
			  &command->rw.dptr.prp1, &command->rw.dptr.prp2);
	dmabuf_rw_nvme_init_placed(rq);
	/* The queue's own, as any I/O has: no user sets it. */
	rq->timeout = 0;
	this_cpu_inc(m->counts->commands);
	return 0;
}

/* Remember how the drive ended a command that failed, before whoever sends it again. */
static inline void command_note_status(struct dmabuf_rw_mapping *m, struct request *rq)
{
	const struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(rq);

	if (nr->status)
		WRITE_ONCE(m->last_status, nr->status & NVME_SCT_SC_MASK);
}

static __always_inline bool command_send(struct dmabuf_rw_mapping *m, struct request *rq)
{
	if (m->target.head)
		return dmabuf_rw_command_send_by_head(m->target.head, rq);
	blk_execute_rq_nowait(rq, false);
	return true;
}

static inline blk_opf_t command_op(const struct dmabuf_rw_io_args *args)
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

#endif /* DMABUF_RW_COMMAND_H */
