// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does nvme-pci send a command's PRP words as they were given?
 *
 * It maps data, and writes PRP words, for requests that have segments. Ours have
 * none. Nobody promises that a driver leaves their words alone; one that does
 * not would have the drive write elsewhere. So before the first mapping one
 * block is read into memory of our own, and looked at.
 */
#include <linux/blk-mq.h>
#include <linux/dma-mapping.h>
#include <linux/nvme.h>
#include <linux/string.h>

#include "limits.h"
#include "nvme_driver.h"
#include "nvme_proof.h"
#include "nvme_request.h"

/* One block, behind it the list of its pages. */
struct proof {
	struct device *dev;
	u8 *block;
	dma_addr_t addr;
	u32 size;
};

static int proof_alloc(struct proof *proof, struct device *dev, u32 size)
{
	u32 pages = DIV_ROUND_UP(size, DMABUF_RW_GRANULE), i;
	__le64 *list;

	*proof = (struct proof){ .dev = dev, .size = size };
	proof->block = dma_alloc_coherent(dev, (pages + 1) * DMABUF_RW_GRANULE, &proof->addr,
					  GFP_KERNEL | __GFP_NOWARN);
	if (!proof->block)
		return -ENOMEM;
	list = (__le64 *)(proof->block + pages * DMABUF_RW_GRANULE);
	for (i = 1; i < pages; i++)
		list[i - 1] = cpu_to_le64(proof->addr + i * DMABUF_RW_GRANULE);
	return 0;
}

static void proof_free(struct proof *proof)
{
	u32 pages = DIV_ROUND_UP(proof->size, DMABUF_RW_GRANULE);

	dma_free_coherent(proof->dev, (pages + 1) * DMABUF_RW_GRANULE, proof->block, proof->addr);
}

/* Read the block at @lba. 0 or a negative errno. */
static int proof_read(struct request *rq, const struct proof *proof,
		      const struct dmabuf_rw_nvme_format *format, u64 lba)
{
	u32 pages = DIV_ROUND_UP(proof->size, DMABUF_RW_GRANULE);
	struct nvme_command command = {};
	dma_addr_t second = 0;

	if (pages == 2)
		second = proof->addr + DMABUF_RW_GRANULE;
	else if (pages > 2)
		second = proof->addr + pages * DMABUF_RW_GRANULE;
	command.rw.opcode = nvme_cmd_read;
	command.rw.nsid = cpu_to_le32(format->nsid);
	command.rw.slba = cpu_to_le64(lba);
	command.rw.control = cpu_to_le16(format->control);
	if (format->control)
		command.rw.reftag = cpu_to_le32(lower_32_bits(lba));
	if (format->control && format->guard64)
		command.rw.cdw3 = cpu_to_le32(upper_32_bits(lba) & 0xffff);
	command.rw.dptr.prp1 = cpu_to_le64(proof->addr);
	command.rw.dptr.prp2 = cpu_to_le64(second);
	dmabuf_rw_nvme_init_request(rq, &command);
	rq->cmd_flags &= ~REQ_FAILFAST_DRIVER;
	rq->timeout = 0;
	return dmabuf_rw_nvme_result(rq, blk_execute_rq(rq, false));
}

/* Read the block at @lba over bytes that are all @over: does any become another? */
static int proof_look(struct gendisk *disk, struct device *dma_dev,
		      const struct dmabuf_rw_nvme_format *format, u64 lba, u8 over, bool *landed)
{
	struct request *rq;
	struct proof proof;
	int ret;

	/* Keeps the driver, and with it the device's way to memory. */
	rq = blk_mq_alloc_request(disk->queue, REQ_OP_DRV_IN, 0);
	if (IS_ERR(rq))
		return -ENODEV;
	ret = proof_alloc(&proof, dma_dev, queue_logical_block_size(disk->queue));
	if (!ret) {
		memset(proof.block, over, proof.size);
		ret = proof_read(rq, &proof, format, lba);
		*landed = memchr_inv(proof.block, over, proof.size);
		proof_free(&proof);
	}
	blk_mq_free_request(rq);
	return ret;
}

/**
 * dmabuf_rw_nvme_prove - make sure that commands go out with our PRP words
 * @disk: of one controller, whose namespace has a capacity
 * @dma_dev: the PCI function
 * @format: of the namespace
 *
 * Reads one block of the namespace, once for as long as the module is loaded:
 * what is looked at is the driver, not the drive. Several callers may do so at a
 * time, so that no drive holds up the users of another.
 *
 * Context: may sleep, as long as the drive takes for a read.
 * Return: success; -EOPNOTSUPP with KERNEL if the block did not come to where it
 * was to; what the drive said, with DRIVE; -ENODEV with DEVICE_GONE, -ENOMEM.
 */
struct dmabuf_rw_result dmabuf_rw_nvme_prove(struct gendisk *disk, struct device *dma_dev,
					     const struct dmabuf_rw_nvme_format *format)
{
	u32 shift = ilog2(queue_logical_block_size(disk->queue)) - SECTOR_SHIFT;
	u64 last = (get_capacity(disk) >> shift) - 1;
	/* A block that happens to be full of one is not full of the other. */
	const u8 over[] = { 0xa5, 0x5a };
	static bool proven;
	bool landed = false;
	int ret = 0, i;

	if (!get_capacity(disk))
		return dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	for (i = 0; i < ARRAY_SIZE(over) && !ret && !landed; i++) {
		if (READ_ONCE(proven))
			return DMABUF_RW_OK;
		ret = proof_look(disk, dma_dev, format, 0, over[i], &landed);
		/* Where a block cannot be read, another one may do. */
		if (ret && ret != -ENODEV && ret != -ENOMEM)
			ret = proof_look(disk, dma_dev, format, last, over[i], &landed);
	}
	if (ret == -ENOMEM)
		return dmabuf_rw_fail(ret, DMABUF_RW_REASON_NO_MEMORY);
	if (ret == -ENODEV)
		return dmabuf_rw_fail(ret, DMABUF_RW_REASON_DEVICE_GONE);
	if (ret)
		return dmabuf_rw_fail(ret, DMABUF_RW_REASON_DRIVE);
	if (!landed) {
		pr_err_once("dmabuf_rw: the NVMe driver does not send PRP words as they are given\n");
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);
	}
	WRITE_ONCE(proven, true);
	return DMABUF_RW_OK;
}
