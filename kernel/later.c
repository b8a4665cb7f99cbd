// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commands that would have to wait, on kernels that do not keep their SQE
 * (before 6.5, see compat.h): io_uring would issue them again from a worker,
 * where their SQE cannot be read any more. So this file keeps what they ask for,
 * waits in a worker of our own, and then sends them.
 *
 * A worker does not have the rights, the limits and the cgroup of the task that
 * asked. Of a drive, by the premapped datapath, nothing asks for these. Another
 * target is called by the task that owns the ring, in its task work, with the
 * rights that the command was issued with. For a task that is gone nothing is
 * sent, except what was being waited for already.
 */
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "later.h"
#include "later_user.h"
#include "ready.h"
#include "rights.h"
#include "session.h"

struct dmabuf_rw_later {
	struct work_struct work;
	struct io_uring_cmd *cmd;	/* keeps its file, and so the session */
	u32 handle;
	struct dmabuf_rw_io_args args;
	const struct cred *rights;	/* a personality's, or NULL */
	s32 result;			/* of what was not sent */
};

static void later_free(struct dmabuf_rw_later *later)
{
	put_cred(later->rights);
	kfree(later);
}

/*
 * Send it, with a reference to its mapping of our own. From then on the command
 * is its datapath's; what was not sent ends here.
 */
static bool later_send(struct dmabuf_rw_later *later, struct dmabuf_rw_mapping *m,
		       unsigned int issue_flags)
{
	int ret = m->ops->send(later->cmd, m, &later->args, issue_flags);

	dmabuf_rw_mapping_put(m);
	later->result = ret;
	return ret == -EIOCBQUEUED;
}

/* End it unsent, since nobody is there any more who has asked for it. */
static s32 later_cancel(struct dmabuf_rw_mapping *m)
{
	dmabuf_rw_note_error(m, -ECANCELED, DMABUF_RW_REASON_INTERRUPTED);
	dmabuf_rw_mapping_put(m);
	return -ECANCELED;
}

/* In the task that owns the ring, or io_uring's fallback worker. */
static void later_task_work(DMABUF_RW_TW_ARGS)
{
	struct io_uring_cmd *cmd = DMABUF_RW_TW_CMD;
	struct dmabuf_rw_later *later = dmabuf_rw_pdu(cmd)->later;
	struct dmabuf_rw_mapping *m;

	if (!later->result) {
		bool dead = DMABUF_RW_TW_DEAD || (current->flags & (PF_EXITING | PF_KTHREAD));

		m = dmabuf_rw_mapping_get(cmd->file->private_data, later->handle);
		dmabuf_rw_pdu(cmd)->flags = 0;
		if (!m) {
			later->result = -ENOENT;
		} else if (dead) {
			later->result = later_cancel(m);
		} else {
			const struct cred *own = dmabuf_rw_rights_use(later->rights);
			bool sent = later_send(later, m, DMABUF_RW_TW_FLAGS);

			dmabuf_rw_rights_back(own);
			if (sent) {
				later_free(later);
				return;
			}
		}
	}
	dmabuf_rw_cmd_done(cmd, later->result, DMABUF_RW_TW_FLAGS);
	later_free(later);
}

static void later_work(struct work_struct *work)
{
	struct dmabuf_rw_later *later = container_of(work, struct dmabuf_rw_later, work);
	struct io_uring_cmd *cmd = later->cmd;
	struct dmabuf_rw_mapping *m;

	m = dmabuf_rw_mapping_get(cmd->file->private_data, later->handle);
	if (!m) {
		later->result = -ENOENT;
	} else if (dmabuf_rw_cmd_task_gone(cmd)) {
		later->result = later_cancel(m);
	} else if (!m->ops->clear) {
		if (later_send(later, m, IO_URING_F_UNLOCKED)) {
			later_free(later);
			return;
		}
	} else {
		struct dmabuf_rw_result result;

		result = dmabuf_rw_io_prepare(m, &later->args, m->ops->clear);
		if (result.error)
			dmabuf_rw_note_error(m, result.error, result.reason);
		else
			percpu_ref_put(&m->io);
		later->result = result.error;
		dmabuf_rw_mapping_put(m);
	}
	dmabuf_rw_pdu(cmd)->flags = 0;
	dmabuf_rw_pdu(cmd)->later = later;
	dmabuf_rw_in_task(cmd, later_task_work);
}

/**
 * dmabuf_rw_later - send an I/O when it has waited
 * @cmd: of the I/O
 * @handle: of its mapping
 * @args: the I/O
 *
 * Context: io_uring's issue context.
 * Return: -EIOCBQUEUED or -ENOMEM.
 */
int dmabuf_rw_later(struct io_uring_cmd *cmd, u32 handle, const struct dmabuf_rw_io_args *args)
{
	struct dmabuf_rw_later *later = kmalloc_obj(*later, GFP_KERNEL_ACCOUNT);
	const struct dmabuf_rw_session *session = cmd->file->private_data;

	if (!later)
		return -ENOMEM;
	*later = (struct dmabuf_rw_later){
		.cmd = cmd,
		.handle = handle,
		.args = *args,
		.rights = dmabuf_rw_rights_lent(),
	};
	INIT_WORK(&later->work, later_work);
	queue_work(session->later->wq, &later->work);
	return -EIOCBQUEUED;
}
