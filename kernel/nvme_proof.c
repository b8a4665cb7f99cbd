// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does nvme-pci send a command's PRP words as they were given?
 *
 * It maps data, and writes PRP words, for requests that have segments. Ours have
 * none. Nobody promises that a driver leaves their words alone; one that does
 * not would have the drive write elsewhere. So before the first mapping a
 * command that moves nothing is sent, and its words are looked at. Then a few
 * blocks are read into memory of our own, which is looked at, too.
 */
#include <linux/blk-mq.h>
#include <linux/dma-mapping.h>
#include <linux/nvme.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include "limits.h"
#include "nvme_driver.h"
#include "nvme_proof.h"
#include "nvme_request.h"

#define PROOF_PAGES	3	/* that both PRP words and a list are used */
#define LIST_ENTRIES	(DMABUF_RW_GRANULE / sizeof(__le64))

/* What is known of the driver that is bound now. */
static enum {
	PROOF_NONE,		/* nothing */
	PROOF_KEPT,		/* it sends the words as they are */
	PROOF_CHANGED,		/* it does not */
} proof_state;

/* Memory that is read into, behind it the list of its pages. */
struct proof {
	struct device *dev;
	u8 *memory;
	dma_addr_t addr;
	u32 size;
	u32 pages;
};

static int proof_alloc(struct proof *proof, struct device *dev, u32 size)
{
	u32 pages = DIV_ROUND_UP(size, DMABUF_RW_GRANULE), i;
	unsigned int noio;
	__le64 *list;

	*proof = (struct proof){ .dev = dev, .size = size, .pages = pages };
	/* A request is held: a task that freezes the queue waits for us. */
	noio = memalloc_noio_save();
	proof->memory = dma_alloc_coherent(dev, (pages + 1) * DMABUF_RW_GRANULE, &proof->addr,
					   GFP_KERNEL | __GFP_NOWARN);
	memalloc_noio_restore(noio);
	if (!proof->memory)
		return -ENOMEM;
	/* No entry leads elsewhere, even if the drive gets the command's length wrong. */
	list = (__le64 *)(proof->memory + pages * DMABUF_RW_GRANULE);
	for (i = 0; i < LIST_ENTRIES; i++)
		list[i] = cpu_to_le64(proof->addr + min(i + 1, pages - 1) * DMABUF_RW_GRANULE);
	return 0;
}

static void proof_free(struct proof *proof)
{
	dma_free_coherent(proof->dev, (proof->pages + 1) * DMABUF_RW_GRANULE, proof->memory,
			  proof->addr);
}

static int proof_send(struct request *rq, struct nvme_command *command)
{
	dmabuf_rw_nvme_init_request(rq, command);
	rq->cmd_flags &= ~REQ_FAILFAST_DRIVER;
	rq->timeout = 0;
	return dmabuf_rw_nvme_result(rq, blk_execute_rq(rq, false));
}

/* Send words that mean nothing in a command that moves nothing. Are they kept? */
static int proof_words(struct gendisk *disk, u32 nsid, bool *kept)
{
	const struct dmabuf_rw_nvme_request *nr;
	struct nvme_command command = {};
	struct request *rq;

	rq = blk_mq_alloc_request(disk->queue, REQ_OP_DRV_IN, 0);
	if (IS_ERR(rq))
		return -ENODEV;
	command.common.opcode = nvme_cmd_flush;
	command.common.nsid = cpu_to_le32(nsid);
	command.common.dptr.prp1 = cpu_to_le64(0x0000a5a5a5a5a000ULL);
	command.common.dptr.prp2 = cpu_to_le64(0x00005a5a5a5a5000ULL);
	/* However it ends. */
	proof_send(rq, &command);
	nr = blk_mq_rq_to_pdu(rq);
	*kept = !memcmp(&nr->cmd->common.dptr, &command.common.dptr, sizeof(command.common.dptr)) &&
		!(nr->cmd->common.flags & NVME_CMD_SGL_ALL);
	blk_mq_free_request(rq);
	return 0;
}

static int proof_read(struct request *rq, const struct proof *proof,
		      const struct dmabuf_rw_nvme_format *format, u64 lba, u32 blocks)
{
	u64 second = proof->addr + (proof->pages == 2 ? 1 : proof->pages) * DMABUF_RW_GRANULE;
	struct nvme_command command = {};

	command.rw.opcode = nvme_cmd_read;
	command.rw.nsid = cpu_to_le32(format->nsid);
	command.rw.slba = cpu_to_le64(lba);
	command.rw.length = cpu_to_le16(blocks - 1);
	command.rw.control = cpu_to_le16(format->control);
	if (format->control)
		command.rw.reftag = cpu_to_le32(lower_32_bits(lba));
	if (format->control && format->guard64)
		command.rw.cdw3 = cpu_to_le32(upper_32_bits(lba) & 0xffff);
	command.rw.dptr.prp1 = cpu_to_le64(proof->addr);
	command.rw.dptr.prp2 = cpu_to_le64(second);
	return proof_send(rq, &command);
}

/*
 * Read from the start of the namespace over bytes that are all @over, or from
 * its end, where the start cannot be read. @landed: the pages of which some byte
 * is another one now. @pages: how many there were.
 */
static int proof_look(struct gendisk *disk, struct device *dma_dev,
		      const struct dmabuf_rw_nvme_format *format, bool at_end, u8 over,
		      unsigned long *landed, u32 *pages)
{
	u32 block, size, i;
	struct request *rq;
	struct proof proof;
	u64 blocks;
	int ret;

	/* Keeps the driver, and with it the device's way to memory. */
	rq = blk_mq_alloc_request(disk->queue, REQ_OP_DRV_IN, 0);
	if (IS_ERR(rq))
		return -ENODEV;
	block = queue_logical_block_size(disk->queue);
	blocks = get_capacity(disk) >> (ilog2(block) - SECTOR_SHIFT);
	size = min_t(u64, PROOF_PAGES * DMABUF_RW_GRANULE,
		     (u64)queue_max_hw_sectors(disk->queue) << SECTOR_SHIFT);
	size = max(round_down(size, block), block);
	size = min_t(u64, size, blocks * block);
	ret = size ? proof_alloc(&proof, dma_dev, size) : -ENODEV;
	if (!ret) {
		memset(proof.memory, over, size);
		ret = proof_read(rq, &proof, format, at_end ? blocks - size / block : 0,
				 size / block);
		for (i = 0; !ret && i < proof.pages; i++) {
			u32 done = i * DMABUF_RW_GRANULE;

			if (memchr_inv(proof.memory + done, over,
				       min_t(u32, size - done, DMABUF_RW_GRANULE)))
				__set_bit(i, landed);
		}
		*pages = proof.pages;
		proof_free(&proof);
	}
	blk_mq_free_request(rq);
	return ret;
}

/* Twice, over different bytes: what happens to be full of one is not full of the other. */
static int proof_data(struct gendisk *disk, struct device *dma_dev,
		      const struct dmabuf_rw_nvme_format *format, bool *kept)
{
	const u8 over[] = { 0xa5, 0x5a };
	unsigned long landed = 0;
	u32 pages = 0;
	int ret, i;

	*kept = false;
	for (i = 0; i < ARRAY_SIZE(over) && !*kept; i++) {
		ret = proof_look(disk, dma_dev, format, false, over[i], &landed, &pages);
		if (ret && ret != -ENODEV && ret != -ENOMEM)
			ret = proof_look(disk, dma_dev, format, true, over[i], &landed, &pages);
		if (ret)
			return ret;
		*kept = landed == GENMASK(pages - 1, 0);
	}
	return 0;
}

/* As dmabuf_rw_command_send_by_head(): nobody formats while we read. */
static int proof_enter_head(struct request_queue *head)
{
	while (!percpu_ref_tryget_live(&head->q_usage_counter)) {
		if (blk_queue_dying(head))
			return -ENODEV;
		schedule_timeout_killable(1);
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	/* What the format changed is seen. */
	smp_rmb();
	return 0;
}

static struct dmabuf_rw_result proof_refuse(int error)
{
	switch (error) {
	case -ENOMEM:
		return dmabuf_rw_fail(error, DMABUF_RW_REASON_NO_MEMORY);
	case -ENODEV:
		return dmabuf_rw_fail(error, DMABUF_RW_REASON_DEVICE_GONE);
	case -EINTR:
		return dmabuf_rw_fail(error, DMABUF_RW_REASON_INTERRUPTED);
	default:
		return dmabuf_rw_fail(error, DMABUF_RW_REASON_DRIVE);
	}
}

/**
 * dmabuf_rw_nvme_prove - make sure that commands go out with our PRP words
 * @disk: of one controller
 * @head: the queue of its multipath head, or NULL
 * @dma_dev: the PCI function
 * @format: of the namespace
 *
 * Sends a flush, then reads up to 12 KiB of the namespace, once for as long as
 * the driver is bound: what is looked at is the driver, not the drive. Several
 * callers may do so at a time, so that no drive holds up the users of another. A
 * driver that was found to change the words is not tried again.
 *
 * Context: may sleep, as long as the drive takes.
 * Return: success; -EOPNOTSUPP with KERNEL if the driver does not keep the words;
 * what the drive said of the read, with DRIVE; -ENODEV with DEVICE_GONE, -ENOMEM,
 * -EINTR.
 */
struct dmabuf_rw_result dmabuf_rw_nvme_prove(struct gendisk *disk, struct request_queue *head,
					     struct device *dma_dev,
					     const struct dmabuf_rw_nvme_format *format)
{
	bool kept = false;
	int ret = 0;

	if (READ_ONCE(proof_state) == PROOF_KEPT)
		return DMABUF_RW_OK;
	if (READ_ONCE(proof_state) == PROOF_CHANGED)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);
	if (head)
		ret = proof_enter_head(head);
	if (ret)
		return proof_refuse(ret);
	ret = proof_words(disk, format->nsid, &kept);
	if (!ret && kept)
		ret = proof_data(disk, dma_dev, format, &kept);
	if (!ret)
		WRITE_ONCE(proof_state, kept ? PROOF_KEPT : PROOF_CHANGED);
	if (head)
		percpu_ref_put(&head->q_usage_counter);
	if (ret)
		return proof_refuse(ret);
	if (kept)
		return DMABUF_RW_OK;
	pr_err_once("dmabuf_rw: the NVMe driver does not send PRP words as they are given\n");
	return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);
}

/**
 * dmabuf_rw_nvme_forget - the driver leaves a device, and may be another one next
 *
 * Context: any.
 */
void dmabuf_rw_nvme_forget(void)
{
	WRITE_ONCE(proof_state, PROOF_NONE);
}
