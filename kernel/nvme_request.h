/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The part of the nvme driver's request that a completion must look at.
 *
 * A passthrough request that fails may complete in a batch, and then its end_io
 * is told success: the sender of such requests has to look at the command's
 * status itself, as the driver's own users do. The structure that
 * holds it is not in a public header. What is declared here has been its
 * beginning for many releases; dmabuf_rw_nvme_request_verify() makes sure of it on the
 * running kernel before the first command is sent, and without that there is no
 * premapped datapath.
 */
#ifndef DMABUF_RW_NVME_REQUEST_H
#define DMABUF_RW_NVME_REQUEST_H

#include <linux/blk-mq.h>
#include <linux/nvme.h>

struct dmabuf_rw_nvme_request {
	struct nvme_command *cmd;
	u64 result;
	u8 genctr;
	union {
		struct {
			u8 retries;
			u8 flags;
		};
		u8 attempt[2];	/* both, to be cleared at once */
	};
	u16 status;
};

#define DMABUF_RW_NVME_CANCELLED BIT(0)	/* flags: taken back by time-out or reset */

/* What to do about a command that failed. */
enum dmabuf_rw_nvme_again {
	DMABUF_RW_NVME_OVER,		/* nothing: it is an error */
	DMABUF_RW_NVME_AGAIN,		/* send it again */
	DMABUF_RW_NVME_ELSEWHERE,	/* send it by way of another controller */
};

typedef void dmabuf_rw_nvme_init_fn(struct request *rq, struct nvme_command *command);

bool dmabuf_rw_nvme_request_verify(struct request *rq, dmabuf_rw_nvme_init_fn *init);
bool dmabuf_rw_nvme_request_known(struct request *rq, dmabuf_rw_nvme_init_fn *init);
enum dmabuf_rw_nvme_again dmabuf_rw_nvme_again(struct request *rq, bool several_paths);
int dmabuf_rw_nvme_errno(const struct dmabuf_rw_nvme_request *nr, blk_status_t status);

/**
 * dmabuf_rw_nvme_first_word - the first word of a command
 * @opcode: nvme_cmd_read or nvme_cmd_write
 * @nsid: of the namespace
 *
 * Context: any.
 * Return: the word.
 */
static __always_inline __le64 dmabuf_rw_nvme_first_word(u8 opcode, u32 nsid)
{
	BUILD_BUG_ON(offsetof(struct nvme_rw_command, opcode) != 0 ||
		     offsetof(struct nvme_rw_command, nsid) != 4);
	return cpu_to_le64(opcode | (u64)nsid << 32);
}

/**
 * dmabuf_rw_nvme_command - begin a read or a write where the driver keeps the command
 * @rq: from the queue of an NVMe namespace
 * @first: dmabuf_rw_nvme_first_word()
 * @lba: first block
 * @length: blocks less one, of 16 bits
 *
 * Word by word: the fields one by one, over zeroes, would be twice as many stores.
 *
 * Context: any; dmabuf_rw_nvme_request_verify() has said yes.
 * Return: the command, all zero except these and the PRP words, which have not
 * been written yet.
 */
static __always_inline struct nvme_rw_command *
dmabuf_rw_nvme_command(struct request *rq, __le64 first, u64 lba, u32 length)
{
	const struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(rq);
	struct nvme_rw_command *command = &nr->cmd->rw;
	__le64 *words = (__le64 *)command;

	BUILD_BUG_ON(offsetof(struct nvme_rw_command, dptr) != 3 * sizeof(*words) ||
		     offsetof(struct nvme_rw_command, slba) != 5 * sizeof(*words) ||
		     offsetof(struct nvme_rw_command, length) != 6 * sizeof(*words) ||
		     sizeof(*command) != 8 * sizeof(*words));
	words[0] = first;
	words[1] = 0;
	words[2] = 0;
	words[5] = cpu_to_le64(lba);
	words[6] = cpu_to_le64(length);
	words[7] = 0;
	return command;
}

/**
 * dmabuf_rw_nvme_init_here - what nvme_init_request() does besides copying
 * @rq: from the queue of an NVMe namespace
 *
 * Without REQ_FAILFAST_DRIVER, which we do not want. RQF_QUIET: as for any I/O,
 * no message of the driver's about a passthrough command that failed.
 *
 * Context: any; dmabuf_rw_nvme_request_known() has said yes.
 */
static __always_inline void dmabuf_rw_nvme_init_here(struct request *rq)
{
	struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(rq);
	u16 zero = 0;

	/* In one register: the compiler takes one for each store of 16 bits. */
	OPTIMIZER_HIDE_VAR(zero);
	memcpy(nr->attempt, &zero, sizeof(nr->attempt));
	nr->status = zero;
	rq->rq_flags |= RQF_DONTPREP | RQF_QUIET;
}

/**
 * dmabuf_rw_nvme_ended_well - did a command end well, with nothing to be looked into?
 * @rq: in its end_io
 * @status: as end_io was told
 *
 * Context: any.
 * Return: whether dmabuf_rw_nvme_result() is 0 without asking anybody.
 */
static __always_inline bool dmabuf_rw_nvme_ended_well(struct request *rq, blk_status_t status)
{
	const struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(rq);

	return !status && !nr->status;
}

/**
 * dmabuf_rw_nvme_result - how a command ended
 * @rq: in its end_io
 * @status: as end_io was told
 *
 * Context: any.
 * Return: 0 or a negative errno.
 */
static inline int dmabuf_rw_nvme_result(struct request *rq, blk_status_t status)
{
	if (likely(dmabuf_rw_nvme_ended_well(rq, status)))
		return 0;
	return dmabuf_rw_nvme_errno(blk_mq_rq_to_pdu(rq), status);
}

#endif /* DMABUF_RW_NVME_REQUEST_H */
