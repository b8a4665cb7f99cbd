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

bool dmabuf_rw_cache_looked_at(const struct dmabuf_rw_mapping *m, bool write, u64 file_offset,
			       u32 length);
void dmabuf_rw_cache_drop(const struct dmabuf_rw_mapping *m, u64 file_offset, u32 length);
struct dmabuf_rw_result dmabuf_rw_cache_clear(struct dmabuf_rw_mapping *m,
					      const struct dmabuf_rw_io_args *args);
int dmabuf_rw_format_check(struct dmabuf_rw_mapping *m, struct request *rq);
int dmabuf_rw_command_fill(struct request *rq, struct dmabuf_rw_mapping *m,
			   const struct dmabuf_rw_io_args *args, u32 done, u32 *length);
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
	return unlikely(target_cached(m)) &&
	       dmabuf_rw_cache_looked_at(m, args_write(args), args->file_offset, args->length);
}

/* May a file that is held be written now? */
static __always_inline struct dmabuf_rw_result
file_check_write(const struct dmabuf_rw_mapping *m, const struct inode *inode)
{
	if (unlikely(sb_rdonly(inode->i_sb) || bdev_read_only(m->target.bdev)))
		return dmabuf_rw_fail(-EPERM, DMABUF_RW_REASON_READ_ONLY);
	if (unlikely(IS_IMMUTABLE(inode) || IS_APPEND(inode)))
		return dmabuf_rw_fail(-EPERM, DMABUF_RW_REASON_FILE_KIND);
	/* IMA learns of a change only from who closes the file after writing it. */
	if (unlikely(IS_IMA(inode)))
		return dmabuf_rw_fail(-EPERM, DMABUF_RW_REASON_FILE_KIND);
	/* Not while another denies writing, too: it is executed, or being sealed. */
	if (unlikely(atomic_read(&inode->i_writecount) != -1))
		return dmabuf_rw_fail(-ETXTBSY, DMABUF_RW_REASON_FILE_BUSY);
	return DMABUF_RW_OK;
}

/*
 * The same for a file that is held: its size and its blocks stay. The last block
 * can be read whole, and what is past the end does not count. The device can get
 * smaller, and go away.
 */
static __always_inline struct dmabuf_rw_result
file_check(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
{
	const struct dmabuf_rw_file_use *use = m->target.use;
	const struct inode *inode = file_inode(use->file);
	u64 end, limit = use->extents->bytes;

	if (!args_write(args))
		limit = round_up(limit, (u64)bdev_logical_block_size(m->target.bdev));
	if (unlikely(check_add_overflow(args->file_offset, (u64)args->length, &end) ||
		     end > limit || args->file_offset >= use->extents->bytes))
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE);
	if (unlikely(use->extents->sectors > bdev_nr_sectors(m->target.bdev)))
		return bdev_nr_sectors(m->target.bdev) ?
			dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE) :
			dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	/* Its bytes count only when they have been checked, which no command does. */
	if (unlikely(IS_VERITY(inode)))
		return dmabuf_rw_fail(-EPERM, DMABUF_RW_REASON_FILE_KIND);
	return args_write(args) ? file_check_write(m, inode) : DMABUF_RW_OK;
}

/*
 * Is this I/O one of those that file_check() has nothing against, all of which is before
 * the end of the file, and before which no time has to be set? All of that in a
 * few words. If not, file_check() says why, or that it is something else.
 */
static __always_inline bool file_usual(const struct dmabuf_rw_mapping *m,
				       const struct dmabuf_rw_io_args *args)
{
	const struct dmabuf_rw_file_use *use = m->target.use;
	const struct inode *inode = file_inode(m->target.file);
	unsigned int flags;
	u64 left;

	/* There is no I/O of no bytes, at the end. */
	if (check_sub_overflow(use->extents->bytes, args->file_offset, &left) ||
	    args->length > left || use->extents->sectors > bdev_nr_sectors(m->target.bdev))
		return false;
	if (!args_write(args))
		return !IS_VERITY(inode);
	/* S_NOSEC is what dmabuf_rw_file_due() asks for besides the time. */
	flags = READ_ONCE(inode->i_flags) &
		(S_VERITY | S_IMMUTABLE | S_APPEND | S_IMA | S_NOSEC);
	return flags == S_NOSEC && !sb_rdonly(inode->i_sb) && !bdev_read_only(m->target.bdev) &&
	       atomic_read(&inode->i_writecount) == -1 && !dmabuf_rw_file_touch_due(use);
}

/*
 * An I/O, inside the dma-buf and in a direction that is mapped, against its
 * target as it is now. Whether it is aligned is seen with the command, in which
 * the size of the block cannot change any more.
 */
static __always_inline struct dmabuf_rw_result
device_check(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
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

static inline struct dmabuf_rw_result target_check(const struct dmabuf_rw_mapping *m,
						   const struct dmabuf_rw_io_args *args)
{
	return m->target.use ? file_check(m, args) : device_check(m, args);
}

/* What an I/O moves that ends well: of a file nothing past its end. */
static inline u32 io_moves(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
{
	if (!m->target.use)
		return args->length;
	return min_t(u64, args->length, m->target.use->extents->bytes - args->file_offset);
}

/* Added to an offset in the target: the offset on the disk. */
static inline u64 device_base(const struct dmabuf_rw_target *target)
{
	return (u64)target->bdev->bd_start_sect << SECTOR_SHIFT;
}

/* The same of any target, and how many bytes from there on follow each other. */
static inline u64 target_base(const struct dmabuf_rw_target *target, u64 offset, u64 *run)
{
	if (target->use)
		return dmabuf_rw_extents_find(target->use->extents, offset, run);
	*run = U64_MAX;
	return device_base(target);
}

/* A command that writes a file begins, and ends; false: the file system is frozen. */
static inline bool command_begin(const struct dmabuf_rw_mapping *m,
				 const struct dmabuf_rw_io_args *args)
{
	return !m->target.use || !args_write(args) || dmabuf_rw_file_write_begin(m->target.use);
}

static inline void command_end(const struct dmabuf_rw_mapping *m,
			       const struct dmabuf_rw_io_args *args)
{
	if (m->target.use && args_write(args))
		dmabuf_rw_file_write_end(m->target.use);
}

/* The bits of every command of a mapping, besides its words. */
static __always_inline u16 command_control(const struct dmabuf_rw_mapping *m, bool write)
{
	return m->target.format.control | m->fua[write];
}

/*
 * Turns bytes into blocks of the queue of @rq. Of less than 32 bits, as all that is
 * shifted by it has to be told.
 */
static __always_inline unsigned int command_shift(const struct request *rq)
{
	return __ffs(queue_logical_block_size(rq->q)) & 31;
}

/*
 * May @rq, of a queue of @m's path, become a command? @places: offset on the disk
 * and length, of one command or of many, or'ed; @memory: the same of the offset in
 * the buffer; @longest: bytes, of a command. m->io is held: the path is the one that
 * @rq came from. As long as any request of its queue is held that has not been sent,
 * what is seen of the namespace holds: a format by this controller freezes the queue
 * first, one by another controller the head's, see command_send().
 */
static __always_inline int command_check(struct request *rq, struct dmabuf_rw_mapping *m,
					 u64 places, u64 memory, u32 longest)
{
	const struct dmabuf_rw_target *target = &m->target;
	u32 block = queue_logical_block_size(rq->q);

	if (unlikely((target->head && bdev_logical_block_size(target->bdev) != block) ||
		     (places & (block - 1)) || (longest >> command_shift(rq)) > 65536 ||
		     (memory & queue_dma_alignment(rq->q))))
		return -EINVAL;
	if (unlikely(time_after(jiffies, READ_ONCE(target->looked))))
		return dmabuf_rw_format_check(m, rq);
	return 0;
}

/* The first word of every command of a mapping. */
static __always_inline __le64 command_first_word(const struct dmabuf_rw_mapping *m, bool write)
{
	return dmabuf_rw_nvme_first_word(write ? nvme_cmd_write : nvme_cmd_read,
					 m->target.format.nsid);
}

/*
 * Write the command that command_check() has allowed: @length bytes from @place on
 * the disk, and @offset in the buffer. @first and @control are those of the mapping,
 * @shift that of the queue.
 */
static __always_inline void command_write(struct request *rq, const struct dmabuf_rw_mapping *m,
					  __le64 first, u16 control, unsigned int shift, u64 place,
					  u64 offset, u32 length)
{
	const struct dmabuf_rw_nvme_format *format = &m->target.format;
	u64 lba = place >> shift;
	struct nvme_rw_command *command;

	command = dmabuf_rw_nvme_command(rq, first, lba, (length >> shift) - 1);
	if (unlikely(control)) {
		command->control = cpu_to_le16(control);
		command->reftag = cpu_to_le32(lower_32_bits(lba));
		if (format->guard64)
			command->cdw3 = cpu_to_le32(upper_32_bits(lba) & 0xffff);
	}
	dmabuf_rw_prp_get(&m->attach->prp, offset, length, &command->dptr.prp1,
			  &command->dptr.prp2);
	dmabuf_rw_nvme_init_placed(rq);
	/* The queue's own, as any I/O has: no user sets it. */
	rq->timeout = 0;
}

/* Make @rq the command for @length bytes from @place on the disk. m->io is held. */
static __always_inline int command_make(struct request *rq, struct dmabuf_rw_mapping *m,
					bool write, u64 place, u64 offset, u32 length)
{
	int ret = command_check(rq, m, place | length, offset, length);

	if (unlikely(ret))
		return ret;
	command_write(rq, m, command_first_word(m, write), command_control(m, write),
		      command_shift(rq), place, offset, length);
	this_cpu_inc(m->counts->commands);
	return 0;
}

/* Remember how the drive ended a command that failed, before it is sent again. */
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

/* The end of an I/O, of one command or of several. */
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
