// SPDX-License-Identifier: GPL-2.0-only
/*
 * dmabuf_rw: read and write storage with a dma-buf as the memory.
 *
 * The module, its device and the tables of calls. See uapi/linux/dmabuf_rw.h
 * for what the calls do and mapping.h for the locks.
 */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "attach.h"
#include "bvec.h"
#include "debugfs.h"
#include "held_file.h"
#include "info.h"
#include "io_ioctl.h"
#include "limits.h"
#include "map.h"
#include "nvme_driver.h"
#include "nvme_ns.h"
#include "pin.h"
#include "premapped.h"
#include "ranges.h"
#include "ranges_array.h"
#include "registered.h"
#include "rwfile.h"
#include "session.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static long ioctl_query(void __user *arg)
{
	struct dmabuf_rw_query query = {};

	if (copy_from_user(&query, arg, sizeof(query)))
		return -EFAULT;
	if (query.flags || memchr_inv(query.reserved, 0, sizeof(query.reserved)))
		return -EINVAL;

	memset(&query, 0, sizeof(query));
	query.abi_version = DMABUF_RW_ABI_VERSION;
	query.features = DMABUF_RW_FEAT_PREMAPPED | DMABUF_RW_FEAT_BVEC |
			 DMABUF_RW_FEAT_INVALIDATE | DMABUF_RW_FEAT_TIMEOUT |
			 DMABUF_RW_FEAT_IOPOLL | DMABUF_RW_FEAT_RWFILE | DMABUF_RW_FEAT_IO |
			 DMABUF_RW_FEAT_READ_FUA;
	if (dmabuf_rw_hold_file_available())
		query.features |= DMABUF_RW_FEAT_HOLD_FILE;
	if (DMABUF_RW_SQE_KEPT) {
		/* Without, what has to wait is kept by later.c, one I/O at a time. */
		query.features |= DMABUF_RW_FEAT_ASYNC | DMABUF_RW_FEAT_RANGES;
		query.max_ranges = DMABUF_RW_MAX_RANGES;
	}
	query.max_mappings = DMABUF_RW_MAX_MAPPINGS;
	query.max_batch = DMABUF_RW_MAX_BATCH;
	query.max_sessions = DMABUF_RW_MAX_SESSIONS;
	query.granule = DMABUF_RW_GRANULE;
	query.max_io_bytes = DMABUF_RW_MAX_IO;
	query.max_rw_files = DMABUF_RW_MAX_RW_FILES;
	query.max_rw_buffer_bytes = DMABUF_RW_MAX_RW_BUFFER;
	query.max_buffer_bytes[DMABUF_RW_PATH_PREMAPPED] = DMABUF_RW_MAX_PREMAPPED;
	query.max_buffer_bytes[DMABUF_RW_PATH_BVEC] = DMABUF_RW_MAX_BVEC;
	if (dmabuf_rw_registered_available()) {
		query.features |= DMABUF_RW_FEAT_REGISTERED | DMABUF_RW_FEAT_WINDOW;
		query.max_buffer_bytes[DMABUF_RW_PATH_REGISTERED] = DMABUF_RW_MAX_REGISTERED;
	}
	return copy_to_user(arg, &query, sizeof(query)) ? -EFAULT : 0;
}

static long dmabuf_rw_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct dmabuf_rw_session *session = file->private_data;
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case DMABUF_RW_IOC_QUERY:
		return ioctl_query(argp);
	case DMABUF_RW_IOC_CONFIG:
		return dmabuf_rw_ioctl_config(session, argp);
	case DMABUF_RW_IOC_MAP:
		return dmabuf_rw_ioctl_map(session, argp);
	case DMABUF_RW_IOC_UNMAP:
		return dmabuf_rw_ioctl_unmap(session, argp);
	case DMABUF_RW_IOC_INFO:
		return dmabuf_rw_ioctl_info(session, argp);
	case DMABUF_RW_IOC_OPEN:
		return dmabuf_rw_ioctl_open(session, argp);
	case DMABUF_RW_IOC_IO:
		return dmabuf_rw_ioctl_io(session, argp);
	default:
		return -ENOTTY;
	}
}

static int dmabuf_rw_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	/*
	 * None of them means anything here, and a multishot command that ends well
	 * would never be completed.
	 */
	if (unlikely(cmd->flags & DMABUF_RW_CMD_FLAGS))
		return -EINVAL;
	switch (cmd->cmd_op) {
	case DMABUF_RW_URING_READ:
		return dmabuf_rw_issue_read(cmd, issue_flags);
	case DMABUF_RW_URING_WRITE:
		return dmabuf_rw_issue_write(cmd, issue_flags);
	case DMABUF_RW_URING_READV:
	case DMABUF_RW_URING_WRITEV:
		if (!DMABUF_RW_SQE_KEPT)
			return -ENOTTY;
		return dmabuf_rw_ranges_issue(cmd, issue_flags,
					      cmd->cmd_op == DMABUF_RW_URING_READV ?
					      DMABUF_RW_DIR_READ : DMABUF_RW_DIR_WRITE);
	case DMABUF_RW_URING_REGISTER:
		return dmabuf_rw_registered_issue(cmd, issue_flags);
	case DMABUF_RW_URING_UNREGISTER:
		return dmabuf_rw_unregister_issue(cmd, issue_flags);
	default:
		return -ENOTTY;
	}
}

static int dmabuf_rw_uring_cmd_iopoll(struct io_uring_cmd *cmd, struct io_comp_batch *iob,
				      unsigned int poll_flags)
{
	return dmabuf_rw_premapped_iopoll(cmd, iob);
}

static const struct file_operations dmabuf_rw_fops = {
	.owner = THIS_MODULE,
	.open = dmabuf_rw_open,
	.release = dmabuf_rw_release,
	.unlocked_ioctl = dmabuf_rw_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.uring_cmd = dmabuf_rw_uring_cmd,
	.uring_cmd_iopoll = dmabuf_rw_uring_cmd_iopoll,
};

static struct miscdevice dmabuf_rw_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "dmabuf_rw",
	.fops = &dmabuf_rw_fops,
	.mode = 0600,
};

static int __init dmabuf_rw_init(void)
{
	int ret;

	ret = dmabuf_rw_pin_init();
	if (ret)
		return ret;
	ret = dmabuf_rw_registered_init();
	if (ret)
		goto exit_pin;
	ret = dmabuf_rw_nvme_ns_init();
	if (ret)
		goto exit_registered;
	ret = dmabuf_rw_bvec_init();
	if (ret)
		goto exit_ns;
	ret = dmabuf_rw_attach_init();
	if (ret)
		goto exit_bvec;
	ret = misc_register(&dmabuf_rw_device);
	if (ret)
		goto exit_attach;
	dmabuf_rw_debugfs_init();
	return 0;

exit_attach:
	dmabuf_rw_attach_exit();
exit_bvec:
	dmabuf_rw_bvec_exit();
exit_ns:
	dmabuf_rw_nvme_ns_exit();
exit_registered:
	dmabuf_rw_registered_exit();
exit_pin:
	dmabuf_rw_pin_exit();
	return ret;
}

static void __exit dmabuf_rw_exit(void)
{
	dmabuf_rw_debugfs_exit();
	misc_deregister(&dmabuf_rw_device);
	dmabuf_rw_registered_exit();
	dmabuf_rw_attach_exit();
	dmabuf_rw_bvec_exit();
	dmabuf_rw_nvme_exit();
	dmabuf_rw_nvme_ns_exit();
	dmabuf_rw_pin_exit();
	dmabuf_rw_ranges_exit();
	/* Mappings are freed, and percpu_refs switched, by way of RCU. */
	rcu_barrier();
	/* A task that told of an I/O's end may have been preempted on its way out of here. */
	synchronize_rcu_tasks();
}

module_init(dmabuf_rw_init);
module_exit(dmabuf_rw_exit);

MODULE_DESCRIPTION("Read and write storage with a dma-buf as the memory");
MODULE_AUTHOR("The libdmabuf developers");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
