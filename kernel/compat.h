/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place that knows kernels differ. Each difference is probed for when
 * the module is built (probes/): a probe is a small file that compiles only on
 * kernels that have the feature, and PROBE_<NAME> is defined if it did. No
 * version number is compared anywhere, but by probe.mk, which refuses kernels
 * before 6.1. Versions in comments are mainline's; stable kernels of an older
 * version have some of it.
 */
#ifndef DMABUF_RW_COMPAT_H
#define DMABUF_RW_COMPAT_H

#include <linux/blk-integrity.h>
#include <linux/blk-mq.h>
#include <linux/dma-buf.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/nvme.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/splice.h>

#include "dmabuf_rw_probes.h"

/* 6.8 gave the commands of io_uring a header of their own. */
#ifdef PROBE_CMD_HEADER
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
#include <linux/io_uring_types.h>
#endif

/* 6.13 made the namespace of MODULE_IMPORT_NS() a string. */
#ifdef PROBE_IMPORT_NS_TOKEN
#define DMABUF_RW_IMPORT_NS(ns) MODULE_IMPORT_NS(ns)
#else
#define DMABUF_RW_IMPORT_NS(ns) MODULE_IMPORT_NS(#ns)
#endif

/* 7.1: importers were told by move_notify() before it became invalidate_mappings(). */
#ifdef PROBE_INVALIDATE_MAPPINGS
#define DMABUF_RW_INVALIDATE_OP(fn) .invalidate_mappings = (fn)
#else
#define DMABUF_RW_INVALIDATE_OP(fn) .move_notify = (fn)
#endif

/* 7.0: a request's end_io came to be told the batch it completes in. */
#ifdef PROBE_END_IO_BATCH
#define DMABUF_RW_END_IO_ARGS \
	struct request *rq, blk_status_t status, const struct io_comp_batch *iob
#define DMABUF_RW_END_IO_CALL(function, ...) function(rq, status, iob, __VA_ARGS__)
#else
#define DMABUF_RW_END_IO_ARGS struct request *rq, blk_status_t status
#define DMABUF_RW_END_IO_CALL(function, ...) function(rq, status, __VA_ARGS__)
#endif

/*
 * 7.0. Polled requests: may the command be completed in place? Yes where we know
 * that it is the command's own ring that polls. Needs PROBE_POLL_CTX; without
 * it completions go through task work, which is always right.
 */
#ifdef PROBE_POLL_CTX
#define DMABUF_RW_POLLED_BY_OWN_RING(cmd) \
	(iob && iob->poll_ctx == io_uring_cmd_ctx_handle(cmd))
#else
#define DMABUF_RW_POLLED_BY_OWN_RING(cmd) ((void)(cmd), false)
#endif

/*
 * Task work of a uring_cmd: what it is given, how it completes, and is its task
 * gone? 6.19 hands it a token; from 6.14 on a flag says that the task is dead,
 * before that only what runs it does.
 */
#ifdef PROBE_TW_REQ
#define DMABUF_RW_TW_ARGS struct io_tw_req tw_req, io_tw_token_t tw
#define DMABUF_RW_TW_CMD io_uring_cmd_from_tw(tw_req)
#define DMABUF_RW_TW_FLAGS IO_URING_CMD_TASK_WORK_ISSUE_FLAGS
#define DMABUF_RW_TW_DEAD (tw.cancel)
#else
#define DMABUF_RW_TW_ARGS struct io_uring_cmd *tw_cmd, unsigned int tw_flags
#define DMABUF_RW_TW_CMD tw_cmd
#define DMABUF_RW_TW_FLAGS tw_flags
#ifdef PROBE_TASK_DEAD
#define DMABUF_RW_TW_DEAD (tw_flags & IO_URING_F_TASK_DEAD)
#else
#define DMABUF_RW_TW_DEAD ((void)tw_flags, false)
#endif
#endif

/* 6.4 can leave task work until the task waits; before that it is done at once. */
#ifdef PROBE_IN_TASK_LAZY
#define dmabuf_rw_in_task(cmd, fn) io_uring_cmd_do_in_task_lazy(cmd, fn)
#else
#define dmabuf_rw_in_task(cmd, fn) io_uring_cmd_complete_in_task(cmd, fn)
#endif

/* The flags of a uring_cmd; all its bits, where the kernel does not look at them. */
#ifdef IORING_URING_CMD_MASK
#define DMABUF_RW_CMD_FLAGS IORING_URING_CMD_MASK
#else
#define DMABUF_RW_CMD_FLAGS (~0U)
#endif

/* A command's private bytes, by the type that is kept there. */
#ifndef io_uring_cmd_to_pdu
#define io_uring_cmd_to_pdu(cmd, type) ({ \
	BUILD_BUG_ON(sizeof(type) > sizeof((cmd)->pdu)); \
	(type *)&(cmd)->pdu; \
})
#endif

/*
 * 6.5 keeps the whole SQE for a command that is issued again, but not always where
 * it says that it is, see sqe.c. Kernels that complete with one result (6.18) are
 * surely past that.
 */
#ifdef PROBE_CMD_DONE_NO_RES2
#define DMABUF_RW_SQE_STABLE
#endif
#ifdef PROBE_CMD_SQE
#define DMABUF_RW_SQE_KEPT true
#else
#define DMABUF_RW_SQE_KEPT false
#endif

/**
 * dmabuf_rw_cmd_task_gone - is the task gone that issued a command?
 * @cmd: the command, for which -EIOCBQUEUED was returned, and not yet ended
 *
 * Context: any.
 * Return: whether it is; asked only where we wait in io_uring's place.
 */
static inline bool dmabuf_rw_cmd_task_gone(struct io_uring_cmd *cmd)
{
#ifdef PROBE_CMD_SQE
	return false;
#else
	const struct io_kiocb *req = cmd_to_io_kiocb(cmd);

	return READ_ONCE(req->task->flags) & PF_EXITING;
#endif
}

/**
 * dmabuf_rw_cmd_done - complete a uring_cmd
 * @cmd: the command, for which -EIOCBQUEUED was returned
 * @result: bytes or negative errno
 * @issue_flags: as handed to the caller by io_uring
 */
static inline void dmabuf_rw_cmd_done(struct io_uring_cmd *cmd, s32 result,
				      unsigned int issue_flags)
{
#ifdef PROBE_CMD_DONE_NO_RES2
	io_uring_cmd_done(cmd, result, issue_flags);
#else
	io_uring_cmd_done(cmd, result, 0, issue_flags);
#endif
}

/*
 * 6.18. Direct I/O: was every piece of memory, not just the whole, to be a multiple of
 * the logical block? iov_iter_is_aligned() asked for that, and went away with
 * the rule. A run of pages that begins inside a page ends in an odd piece.
 */
#ifdef PROBE_ITER_ALIGNED
#define DMABUF_RW_PIECES_ARE_BLOCKS true
#else
#define DMABUF_RW_PIECES_ARE_BLOCKS false
#endif

/*
 * 6.2 has the exporter's vmap called with the dma_resv held. Before that some
 * exporters take it themselves.
 */
#ifdef PROBE_VMAP_UNLOCKED
#define dmabuf_rw_vmap(dmabuf, map) dma_buf_vmap_unlocked(dmabuf, map)
#define dmabuf_rw_vunmap(dmabuf, map) dma_buf_vunmap_unlocked(dmabuf, map)
#define dmabuf_rw_vmap_lock(dmabuf) dmabuf_rw_resv_lock(dmabuf)
#define dmabuf_rw_vmap_unlock(dmabuf) dma_resv_unlock((dmabuf)->resv)
#else
#define dmabuf_rw_vmap(dmabuf, map) dma_buf_vmap(dmabuf, map)
#define dmabuf_rw_vunmap(dmabuf, map) dma_buf_vunmap(dmabuf, map)
#define dmabuf_rw_vmap_lock(dmabuf) ((void)(dmabuf), 0)
#define dmabuf_rw_vmap_unlock(dmabuf) ((void)(dmabuf))
#endif

/* 6.11 tells by a function whether the DMA layer maps for a device behind an IOMMU. */
#ifdef PROBE_USE_DMA_IOMMU
#include <linux/iommu-dma.h>
#endif

/**
 * dmabuf_rw_dma_iommu - does the DMA layer map for a device behind an IOMMU?
 * @dev: the device
 *
 * Context: any; @dev stays bound to its driver.
 * Return: whether it does; not for a device that is passed through.
 */
static inline bool dmabuf_rw_dma_iommu(struct device *dev)
{
#ifdef PROBE_USE_DMA_IOMMU
	return use_dma_iommu(dev);
#else
	const struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	return get_dma_ops(dev) && domain && (domain->type & __IOMMU_DOMAIN_DMA_API);
#endif
}

/* 6.11 says by a number how blocks are protected; before, the name of a profile does. */
enum dmabuf_rw_pi {
	DMABUF_RW_PI_NONE,
	DMABUF_RW_PI_CRC,	/* tuples of 8 bytes */
	DMABUF_RW_PI_CRC64,	/* of 16 */
};

/**
 * dmabuf_rw_pi - what protects the blocks of a disk
 * @bi: the disk's
 * @ref_tag: out: do the tuples have a reference tag?
 *
 * Return: how.
 */
static inline enum dmabuf_rw_pi dmabuf_rw_pi(const struct blk_integrity *bi, bool *ref_tag)
{
#ifdef PROBE_PI_CSUM_TYPE
	*ref_tag = bi->flags & BLK_INTEGRITY_REF_TAG;
	if (bi->csum_type == BLK_INTEGRITY_CSUM_CRC)
		return DMABUF_RW_PI_CRC;
	return bi->csum_type == BLK_INTEGRITY_CSUM_CRC64 ? DMABUF_RW_PI_CRC64 : DMABUF_RW_PI_NONE;
#else
	const char *name = bi->profile->name;

	*ref_tag = strstr(name, "-TYPE1-");
	if (str_has_prefix(name, "T10-DIF-TYPE") && strstr(name, "-CRC"))
		return DMABUF_RW_PI_CRC;
	return str_has_prefix(name, "EXT-DIF-TYPE") ? DMABUF_RW_PI_CRC64 : DMABUF_RW_PI_NONE;
#endif
}

/* 6.9 notes the time in a task's plug, and in the task that there is one. */
static inline void dmabuf_rw_plug_forget_time(struct blk_plug *plug)
{
#ifdef PF_BLOCK_TS
	/* A task that has noted it has one whenever it is preempted. */
	if (plug)
		plug->cur_ktime = 0;
	current->flags &= ~PF_BLOCK_TS;
#endif
}

/**
 * dmabuf_rw_hctx - a hardware queue by its number
 * @q: the queue; its q_usage_counter is held
 * @number: as blk_mq_hw_ctx.queue_num
 *
 * 7.0 has an array of them, earlier kernels an xarray.
 *
 * Context: any.
 * Return: the hardware queue, or NULL.
 */
static inline struct blk_mq_hw_ctx *dmabuf_rw_hctx(struct request_queue *q, u32 number)
{
#ifdef PROBE_QUEUE_HCTX
	return number < q->nr_hw_queues ? queue_hctx(q, number) : NULL;
#else
	return xa_load(&q->hctx_table, number);
#endif
}

/**
 * dmabuf_rw_plug_expect - say how many requests are to come
 * @plug: the task's
 * @nr: so many
 *
 * Their tags are had together, as many as the block layer itself asks for at once.
 * Only a hint.
 */
static inline void dmabuf_rw_plug_expect(struct blk_plug *plug, unsigned int nr)
{
	plug->nr_ios = max_t(unsigned int, plug->nr_ios, min(nr, 32U));
}

/* A write may be tried without waiting: 6.10 has a flag of the kind of file for it. */
#ifdef FOP_BUFFER_WASYNC
#define DMABUF_RW_FOP_FLAGS .fop_flags = FOP_BUFFER_WASYNC,
#define DMABUF_RW_FMODE 0
#else
#define DMABUF_RW_FOP_FLAGS
#define DMABUF_RW_FMODE FMODE_BUF_WASYNC
#endif

/* 6.5 has a splice_read() that reads into pages of its own. */
#ifdef PROBE_COPY_SPLICE_READ
#define DMABUF_RW_SPLICE_READ copy_splice_read
#else
#define DMABUF_RW_SPLICE_READ generic_file_splice_read
#endif

/* 6.3 has setattr() told the idmap of the mount. */
#ifdef PROBE_SETATTR_IDMAP
#define DMABUF_RW_IDMAP_ARG struct mnt_idmap *idmap
#else
#define DMABUF_RW_IDMAP_ARG struct user_namespace *idmap
#endif

/* 6.11 has names for the fields of an NVMe status; 6.1 got some of them later, one by one. */
#ifndef PROBE_NVME_STATUS_DNR
#define NVME_STATUS_DNR NVME_SC_DNR
#endif
#ifndef PROBE_NVME_SCT_SC_MASK
#define NVME_SCT_SC_MASK 0x7ff
#endif

/* 6.4 renamed it. */
#ifndef BLK_STS_RESV_CONFLICT
#define BLK_STS_RESV_CONFLICT BLK_STS_NEXUS
#endif

/* New in 6.10. */
#ifndef lockdep_assert_in_rcu_read_lock
#define lockdep_assert_in_rcu_read_lock() \
	RCU_LOCKDEP_WARN(!rcu_read_lock_held(), "not in a read-side section of RCU")
#endif

/*
 * 6.7 lets a module keep a mount writable without keeping it from being frozen. No
 * file is held where it cannot.
 */
#ifdef PROBE_MNT_WRITE_ACCESS
#define DMABUF_RW_HOLDS_FILES	true
#else
#define DMABUF_RW_HOLDS_FILES	false
static inline int mnt_get_write_access(struct vfsmount *mount)
{
	return -EOPNOTSUPP;
}

static inline void mnt_put_write_access(struct vfsmount *mount)
{
}
#endif

/* 6.3 has a type of its own for how a mount maps owners. */
#ifdef PROBE_SETATTR_IDMAP
#define dmabuf_rw_file_idmap(file) file_mnt_idmap(file)
#else
#define dmabuf_rw_file_idmap(file) file_mnt_user_ns(file)
#endif

/* Allocators by type, new in 7.0. */
#ifndef kzalloc_obj
#define kzalloc_obj(object, gfp) kzalloc(sizeof(object), gfp)
#define kmalloc_obj(object, gfp) kmalloc(sizeof(object), gfp)
#endif

struct nvme_command;
struct nvme_ns;

/* nvme-core exports them; their prototypes are in a header of its own. */
void nvme_init_request(struct request *rq, struct nvme_command *command);
blk_status_t nvme_setup_cmd(struct nvme_ns *ns, struct request *rq);

#endif /* DMABUF_RW_COMPAT_H */
