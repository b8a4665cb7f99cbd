/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place that knows kernels differ. Each difference is probed for when
 * the module is built (probes/): a probe is a small file that compiles only on
 * kernels that have the feature, and PROBE_<NAME> is defined if it did. No
 * version number is compared anywhere.
 */
#ifndef DMABUF_RW_COMPAT_H
#define DMABUF_RW_COMPAT_H

#include <linux/blk-mq.h>
#include <linux/dma-buf.h>
#include <linux/io_uring/cmd.h>
#include <linux/slab.h>

#include "dmabuf_rw_probes.h"

/* 6.13 made the namespace of MODULE_IMPORT_NS() a string. */
#ifdef PROBE_IMPORT_NS_TOKEN
#define DMABUF_RW_IMPORT_NS(ns) MODULE_IMPORT_NS(ns)
#else
#define DMABUF_RW_IMPORT_NS(ns) MODULE_IMPORT_NS(#ns)
#endif

/* Importers were told by move_notify() before it became invalidate_mappings(). */
#ifdef PROBE_INVALIDATE_MAPPINGS
#define DMABUF_RW_INVALIDATE_OP(fn) .invalidate_mappings = (fn)
#else
#define DMABUF_RW_INVALIDATE_OP(fn) .move_notify = (fn)
#endif

/* A request's end_io came to be told the batch it completes in. */
#ifdef PROBE_END_IO_BATCH
#define DMABUF_RW_END_IO_ARGS \
	struct request *rq, blk_status_t status, const struct io_comp_batch *iob
#define DMABUF_RW_END_IO_PASS rq, status, iob
#else
#define DMABUF_RW_END_IO_ARGS struct request *rq, blk_status_t status
#define DMABUF_RW_END_IO_PASS rq, status
#endif

/*
 * Polled requests: may the command be completed in place? Yes where we know
 * that it is the command's own ring that polls. Needs PROBE_POLL_CTX; without
 * it completions go through task work, which is always right.
 */
#ifdef PROBE_POLL_CTX
#define DMABUF_RW_POLLED_BY_OWN_RING(rq, cmd) \
	(blk_rq_is_poll(rq) && iob && iob->poll_ctx == io_uring_cmd_ctx_handle(cmd))
#else
#define DMABUF_RW_POLLED_BY_OWN_RING(rq, cmd) ((void)(rq), (void)(cmd), false)
#endif

/* Task work of a uring_cmd: what it is given, how it completes, and is its task gone? */
#ifdef PROBE_TW_REQ
#define DMABUF_RW_TW_ARGS struct io_tw_req tw_req, io_tw_token_t tw
#define DMABUF_RW_TW_CMD io_uring_cmd_from_tw(tw_req)
#define DMABUF_RW_TW_FLAGS IO_URING_CMD_TASK_WORK_ISSUE_FLAGS
#define DMABUF_RW_TW_DEAD (tw.cancel)
#else
#define DMABUF_RW_TW_ARGS struct io_uring_cmd *tw_cmd, unsigned int tw_flags
#define DMABUF_RW_TW_CMD tw_cmd
#define DMABUF_RW_TW_FLAGS tw_flags
#define DMABUF_RW_TW_DEAD (tw_flags & IO_URING_F_TASK_DEAD)
#endif

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
 * Direct I/O: was every piece of memory, not just the whole, to be a multiple of
 * the logical block? iov_iter_is_aligned() asked for that, and went away with
 * the rule. A run of pages that begins inside a page ends in an odd piece.
 */
#ifdef PROBE_ITER_ALIGNED
#define DMABUF_RW_PIECES_ARE_BLOCKS true
#else
#define DMABUF_RW_PIECES_ARE_BLOCKS false
#endif

/* The cmd bytes of an SQE, typed. */
#ifdef PROBE_SQE_CMD_TYPED
#define dmabuf_rw_sqe_cmd(cmd, type) io_uring_sqe_cmd((cmd)->sqe, type)
#else
#define dmabuf_rw_sqe_cmd(cmd, type) ((const type *)io_uring_sqe_cmd((cmd)->sqe))
#endif

/* Allocators by type, new in 7.0. */
#ifndef kzalloc_obj
#define kzalloc_obj(object, gfp) kzalloc(sizeof(object), gfp)
#define kmalloc_obj(object, gfp) kmalloc(sizeof(object), gfp)
#endif

struct nvme_command;

/* nvme-core exports it; its prototype is in a header of its own. */
void nvme_init_request(struct request *rq, struct nvme_command *command);

#endif /* DMABUF_RW_COMPAT_H */
