// SPDX-License-Identifier: GPL-2.0-only
/*
 * See nvme_request.h.
 */
#include <linux/blkdev.h>
#include <linux/nvme.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "nvme_request.h"

#define POISON 0xa5

static_assert(offsetof(struct dmabuf_rw_nvme_request, result) == 8);
static_assert(offsetof(struct dmabuf_rw_nvme_request, flags) == 18);
static_assert(offsetof(struct dmabuf_rw_nvme_request, status) == 20);
static_assert(sizeof(struct dmabuf_rw_nvme_request) == 24);

/*
 * What nvme_init_request() must have left alone and cleared: it resets the
 * status, the flags and the number of retries, and nothing else of this part.
 */
static bool request_cleared(const u8 *bytes)
{
	size_t i;

	for (i = offsetof(struct dmabuf_rw_nvme_request, result);
	     i < sizeof(struct dmabuf_rw_nvme_request); i++) {
		bool clear = i == offsetof(struct dmabuf_rw_nvme_request, retries) ||
			     i == offsetof(struct dmabuf_rw_nvme_request, flags) ||
			     i == offsetof(struct dmabuf_rw_nvme_request, status) ||
			     i == offsetof(struct dmabuf_rw_nvme_request, status) + 1;

		if (bytes[i] != (clear ? 0 : POISON))
			return false;
	}
	return true;
}

/**
 * dmabuf_rw_nvme_request_verify - is the driver's request what we take it for?
 * @rq: from the queue of an NVMe namespace; never sent
 * @init: nvme_init_request()
 *
 * Poisons the part we know, has the driver initialise it, and looks at which
 * bytes it wrote, and where the command went.
 *
 * Context: any.
 * Return: whether it is.
 */
bool dmabuf_rw_nvme_request_verify(struct request *rq, dmabuf_rw_nvme_init_fn *init)
{
	const size_t first = offsetof(struct dmabuf_rw_nvme_request, result);
	const size_t size = sizeof(struct dmabuf_rw_nvme_request) - first;
	struct nvme_command command = {}, copy = {};
	u8 saved[sizeof(struct dmabuf_rw_nvme_request)];
	struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(rq);
	blk_opf_t cmd_flags = rq->cmd_flags;
	req_flags_t rq_flags = rq->rq_flags;
	u8 *bytes = (u8 *)nr;
	bool good;

	command.rw.opcode = nvme_cmd_read;
	command.rw.nsid = cpu_to_le32(0x12345678);
	command.rw.slba = cpu_to_le64(0x0123456789abcdefULL);

	memcpy(saved, bytes, sizeof(saved));
	memset(bytes + first, POISON, size);
	init(rq, &command);
	good = request_cleared(bytes) &&
	       !copy_from_kernel_nofault(&copy, nr->cmd, sizeof(copy)) &&
	       !memcmp(&copy, &command, sizeof(copy));
	memcpy(bytes + first, saved + first, size);
	rq->cmd_flags = cmd_flags;
	rq->rq_flags = rq_flags;
	return good;
}

/*
 * Did nvme_init_request() change only what we know of? @was and @is: a
 * request, with the driver's part of it, before and after; @command: where in them
 * the command is. The count of its references is the block layer's, which may look
 * at any request at any time.
 */
static bool request_same_else(const struct request *was, struct request *is, size_t size,
			      size_t command)
{
	const struct dmabuf_rw_nvme_request *nr_was = blk_mq_rq_to_pdu((struct request *)was);
	struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(is);

	if ((is->cmd_flags & ~REQ_FAILFAST_DRIVER) != was->cmd_flags ||
	    (is->rq_flags | RQF_QUIET) != (was->rq_flags | RQF_DONTPREP | RQF_QUIET))
		return false;
	is->cmd_flags = was->cmd_flags;
	is->rq_flags = was->rq_flags;
	/* Some set it; we do, too, see command_make(). */
	is->timeout = was->timeout;
	is->ref = was->ref;
	nr->retries = nr_was->retries;
	nr->flags = nr_was->flags;
	nr->status = nr_was->status;
	/* It may also be elsewhere. */
	if (command <= size - sizeof(struct nvme_command))
		memcpy((u8 *)is + command, (const u8 *)was + command, sizeof(struct nvme_command));
	return !memcmp(was, is, size);
}

/**
 * dmabuf_rw_nvme_request_known - does nvme_init_request() do what we know, and no more?
 * @rq: from a queue of an NVMe namespace that is not polled; never sent
 * @init: nvme_init_request()
 *
 * Then a command may be written where the driver keeps it, and the rest done in
 * place, see dmabuf_rw_nvme_init_here(). The request and the driver's whole part
 * of it are compared, before and after.
 *
 * Context: may sleep.
 * Return: whether it does; false, too, for want of memory.
 */
bool dmabuf_rw_nvme_request_known(struct request *rq, dmabuf_rw_nvme_init_fn *init)
{
	const struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(rq);
	size_t size = sizeof(*rq) + rq->q->tag_set->cmd_size;
	struct nvme_command command = {};
	struct request *was, *is;
	bool same = false;

	/* A request is held: a task that freezes the queue waits for us. */
	was = kmalloc(size, GFP_NOIO | __GFP_NOWARN);
	is = kmalloc(size, GFP_NOIO | __GFP_NOWARN);
	if (was && is) {
		memcpy(was, rq, size);
		init(rq, &command);
		memcpy(is, rq, size);
		same = request_same_else(was, is, size, (u8 *)nr->cmd - (u8 *)rq);
	}
	kfree(was);
	kfree(is);
	return same;
}

#define DRIVER_RETRIES 5	/* the driver's own default */

/**
 * dmabuf_rw_nvme_again - is a command that failed to be sent again?
 * @rq: its request, in its end_io
 * @several_paths: the namespace can be reached by other controllers, too
 *
 * The driver sends again what a reset took back, and errors after which the
 * drive does not forbid it. Not those of commands that completed in a batch, and
 * by other controllers only what has bios: that is left to us.
 *
 * Context: any.
 * Return: what to do.
 */
enum dmabuf_rw_nvme_again dmabuf_rw_nvme_again(struct request *rq, bool several_paths)
{
	const struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(rq);
	bool dying = blk_queue_dying(rq->q);

	if (nr->status & NVME_STATUS_DNR)
		return DMABUF_RW_NVME_OVER;
	/* Status code type 3: the path, not the command. */
	if (several_paths && (dying || (nr->status & 0x700) == 0x300))
		return DMABUF_RW_NVME_ELSEWHERE;
	if (!dying && nr->status && nr->retries < DRIVER_RETRIES)
		return DMABUF_RW_NVME_AGAIN;
	return DMABUF_RW_NVME_OVER;
}

/**
 * dmabuf_rw_nvme_errno - the errno of a command that failed
 * @nr: its request
 * @status: as its end_io was told
 *
 * The block layer's translation where it was made, the same one where the
 * completion came in a batch and it was not.
 *
 * Context: any.
 * Return: a negative errno.
 */
int dmabuf_rw_nvme_errno(const struct dmabuf_rw_nvme_request *nr, blk_status_t status)
{
	u16 code = nr->status & NVME_SCT_SC_MASK;

	/* A time-out or a reset took it back, as often as the driver retries. */
	if ((nr->flags & DMABUF_RW_NVME_CANCELLED) && code == NVME_SC_HOST_ABORTED_CMD)
		return -ETIMEDOUT;
	if (status)
		return blk_status_to_errno(status);
	switch (code) {
	case NVME_SC_CAP_EXCEEDED:
		return blk_status_to_errno(BLK_STS_NOSPC);
	case NVME_SC_LBA_RANGE:
	case NVME_SC_CMD_INTERRUPTED:
	case NVME_SC_NS_NOT_READY:
		return blk_status_to_errno(BLK_STS_TARGET);
	case NVME_SC_BAD_ATTRIBUTES:
	case NVME_SC_INVALID_OPCODE:
	case NVME_SC_INVALID_FIELD:
	case NVME_SC_INVALID_NS:
		return blk_status_to_errno(BLK_STS_NOTSUPP);
	case NVME_SC_WRITE_FAULT:
	case NVME_SC_READ_ERROR:
	case NVME_SC_UNWRITTEN_BLOCK:
	case NVME_SC_ACCESS_DENIED:
	case NVME_SC_READ_ONLY:
		return blk_status_to_errno(BLK_STS_MEDIUM);
	case NVME_SC_RESERVATION_CONFLICT:
		return blk_status_to_errno(BLK_STS_RESV_CONFLICT);
	case NVME_SC_HOST_PATH_ERROR:
		return blk_status_to_errno(BLK_STS_TRANSPORT);
	default:
		return blk_status_to_errno(BLK_STS_IOERR);
	}
}
