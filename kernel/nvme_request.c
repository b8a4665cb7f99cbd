// SPDX-License-Identifier: GPL-2.0-only
/*
 * See nvme_request.h.
 */
#include <linux/blkdev.h>
#include <linux/nvme.h>
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
bool dmabuf_rw_nvme_request_verify(struct request *rq,
				   void (*init)(struct request *rq, struct nvme_command *command))
{
	const size_t first = offsetof(struct dmabuf_rw_nvme_request, result);
	const size_t size = sizeof(struct dmabuf_rw_nvme_request) - first;
	struct nvme_command command = {}, copy = {};
	u8 saved[sizeof(struct dmabuf_rw_nvme_request)];
	struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(rq);
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
	return good;
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
