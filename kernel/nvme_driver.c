// SPDX-License-Identifier: GPL-2.0-only
/*
 * What this module uses of the nvme driver, besides its queues: a function, and
 * what it tells user space of its devices.
 */
#include <linux/device.h>
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nvme.h>
#include <linux/string.h>

#include "compat.h"
#include "nvme_driver.h"
#include "nvme_request.h"

#define DRIVER_NAME	"nvme"

/*
 * nvme_init_request() is reached through symbol_get(), so that this module
 * loads, and its other datapaths work, on a machine without NVMe. It is looked
 * up with the first NVMe target and kept, nvme_core with it, until exit.
 */
static typeof(nvme_init_request) *nvme_init;
/* Nothing of it has to be called: see dmabuf_rw_nvme_request_known(). */
bool dmabuf_rw_nvme_init_known;
static typeof(nvme_setup_cmd) *nvme_setup;
static DEFINE_MUTEX(nvme_init_lock);

/**
 * dmabuf_rw_nvme_available - can commands be sent by way of the driver?
 * @rq: from the queue of an NVMe namespace; never sent
 *
 * Looks the driver up, and makes sure once that its requests are what we take
 * them for.
 *
 * Context: may sleep.
 * Return: whether they can.
 */
bool dmabuf_rw_nvme_available(struct request *rq)
{
	static bool verified;

	guard(mutex)(&nvme_init_lock);
	if (!nvme_init)
		WRITE_ONCE(nvme_init, symbol_get(nvme_init_request));
	if (nvme_init && !nvme_setup)
		WRITE_ONCE(nvme_setup, symbol_get(nvme_setup_cmd));
	if (nvme_init && !verified) {
		verified = dmabuf_rw_nvme_request_verify(rq, nvme_init);
		if (verified)
			WRITE_ONCE(dmabuf_rw_nvme_init_known,
				   dmabuf_rw_nvme_request_known(rq, nvme_init));
	}
	return verified;
}

/**
 * dmabuf_rw_nvme_init_request - nvme_init_request() for a premapped command
 * @rq: from the namespace's queue
 * @command: what the drive is to do; copied
 *
 * Context: any; dmabuf_rw_nvme_available() has said yes.
 */
void dmabuf_rw_nvme_init_request(struct request *rq, struct nvme_command *command)
{
	READ_ONCE(nvme_init)(rq, command);
}

/**
 * dmabuf_rw_nvme_init_anew - dmabuf_rw_nvme_init_placed() by the driver
 * @rq: the command is where the driver keeps it
 *
 * Context: any; dmabuf_rw_nvme_available() has said yes.
 */
void dmabuf_rw_nvme_init_anew(struct request *rq)
{
	const struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(rq);
	struct nvme_command command = *nr->cmd;

	dmabuf_rw_nvme_init_request(rq, &command);
	/* Ordinary I/O, not an administrator's passthrough: resets are survived. */
	rq->cmd_flags &= ~REQ_FAILFAST_DRIVER;
}

/**
 * dmabuf_rw_nvme_own_read - what the driver itself would send to read a block
 * @rq: from the queue of an NVMe namespace; not sent, no command in it yet
 * @lba: of the block
 * @made: out: the command
 *
 * Context: does not sleep; dmabuf_rw_nvme_available() has said yes.
 * Return: whether the driver makes one.
 */
bool dmabuf_rw_nvme_own_read(struct request *rq, u64 lba, struct nvme_command *made)
{
	typeof(nvme_setup_cmd) *setup = READ_ONCE(nvme_setup);
	const struct dmabuf_rw_nvme_request *nr = blk_mq_rq_to_pdu(rq);
	blk_opf_t flags = rq->cmd_flags;
	sector_t sector = rq->__sector;
	blk_status_t status;

	if (!setup)
		return false;
	rq->cmd_flags = REQ_OP_READ;
	rq->__sector = lba << (ilog2(queue_logical_block_size(rq->q)) - SECTOR_SHIFT);
	status = setup(rq->q->queuedata, rq);
	if (!status)
		*made = *nr->cmd;
	rq->cmd_flags = flags;
	rq->__sector = sector;
	return !status && made->rw.opcode == nvme_cmd_read;
}

/* nvme-pci, if it drives a device, or did a moment ago; until the caller's RCU section ends. */
static const struct device_driver *driver_of(const struct device *dev)
{
	const struct device_driver *driver;

	/* A driver that leaves its devices is freed no earlier than a grace period later. */
	lockdep_assert_in_rcu_read_lock();
	driver = READ_ONCE(dev->driver);
	return driver && !strcmp(driver->name, DRIVER_NAME) ? driver : NULL;
}

/**
 * dmabuf_rw_nvme_drives - is a device driven by nvme-pci?
 * @dev: its driver may be leaving it at this very moment
 *
 * Context: any.
 * Return: whether it is, or was a moment ago.
 */
bool dmabuf_rw_nvme_drives(const struct device *dev)
{
	guard(rcu)();
	return driver_of(dev);
}

/**
 * dmabuf_rw_nvme_hold - keep nvme-pci in the kernel, if it drives a device
 * @dev: its driver may be leaving it at this very moment
 * @owner: out: for module_put()
 *
 * The driver's own code frees a controller with the last reference to it, and only
 * an opened namespace keeps that code. A caller that looks at the controllers of
 * others may come to have the last reference: it holds the driver while it looks.
 *
 * Context: any.
 * Return: false if it does not drive @dev, or is being unloaded.
 */
bool dmabuf_rw_nvme_hold(const struct device *dev, struct module **owner)
{
	const struct device_driver *driver;

	guard(rcu)();
	driver = driver_of(dev);
	if (!driver || !try_module_get(driver->owner))
		return false;
	*owner = driver->owner;
	return true;
}

/**
 * dmabuf_rw_nvme_attr_find - an attribute that the driver shows of a device in sysfs
 * @dev: a controller, or the device of a namespace's disk
 * @name: of the attribute
 *
 * There is no function for it: no public header shows the structures that have a
 * namespace's format and a controller's state. User space reads both in sysfs. So
 * do we, by the same function, without the file.
 *
 * Context: any. The caller keeps @dev's driver from leaving: for a namespace by a
 * request of its queue, for a controller by a reference to @dev.
 * Return: the attribute, which is nvme-core's own, or NULL.
 */
struct device_attribute *dmabuf_rw_nvme_attr_find(const struct device *dev, const char *name)
{
	const struct attribute_group **group;
	int i;

	for (group = dev->groups; group && *group; group++)
		for (i = 0; (*group)->attrs && (*group)->attrs[i]; i++)
			if (!strcmp((*group)->attrs[i]->name, name))
				return container_of((*group)->attrs[i], struct device_attribute,
						    attr);
	return NULL;
}

static int attr_show(struct device *dev, struct device_attribute *attr, char *page)
{
	ssize_t length;

	if (!attr)
		return -ENOENT;
	length = attr->show ? attr->show(dev, attr, page) : -EIO;
	if (length <= 0 || length >= PAGE_SIZE)
		return -EIO;
	if (page[length - 1] == '\n')
		length--;
	page[length] = 0;
	return length;
}

/**
 * dmabuf_rw_nvme_attr - the text of an attribute
 * @dev: as dmabuf_rw_nvme_attr_find()
 * @name: as dmabuf_rw_nvme_attr_find()
 * @page: out: a page for the text, which has no newline at its end
 *
 * Context: does not sleep; as dmabuf_rw_nvme_attr_find().
 * Return: length of the text, or -ENOENT (no such attribute), -EIO.
 */
int dmabuf_rw_nvme_attr(struct device *dev, const char *name, char *page)
{
	return attr_show(dev, dmabuf_rw_nvme_attr_find(dev, name), page);
}

/**
 * dmabuf_rw_nvme_attr_u32 - the number that an attribute is
 * @dev: as dmabuf_rw_nvme_attr_find()
 * @attr: of @dev, or NULL
 * @page: a page for its use
 * @value: out
 *
 * Context: does not sleep; as dmabuf_rw_nvme_attr_find().
 * Return: 0, -ENOENT, -EIO or another error of what is not a number.
 */
int dmabuf_rw_nvme_attr_u32(struct device *dev, struct device_attribute *attr, char *page,
			    u32 *value)
{
	int ret = attr_show(dev, attr, page);

	return ret < 0 ? ret : kstrtou32(page, 10, value);
}

/**
 * dmabuf_rw_nvme_exit - let go of nvme_core
 *
 * Context: module exit, no target exists any more.
 */
void dmabuf_rw_nvme_exit(void)
{
	if (nvme_setup)
		symbol_put(nvme_setup_cmd);
	if (nvme_init)
		symbol_put(nvme_init_request);
}
