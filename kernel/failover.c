// SPDX-License-Identifier: GPL-2.0-only
/*
 * Of a namespace with several controllers one is in use. When it goes, or the
 * namespace cannot be reached by way of it any more, the mapping goes on with
 * the dma-buf attached to another one, as ordinary I/O goes on by another path.
 */
#include <linux/mutex.h>

#include "attach.h"
#include "failover.h"
#include "gate.h"
#include "mapping.h"
#include "member.h"

/* The path is found: map the memory for its controller, and change over. */
static struct dmabuf_rw_result failover_change(struct dmabuf_rw_mapping *m,
					       const struct dmabuf_rw_target *target)
{
	struct dmabuf_rw_attach *attach;
	struct dmabuf_rw_result result;

	result = dmabuf_rw_attach_get(m->dmabuf, target->dma_dev, &attach);
	if (result.error)
		return result;
	if (dmabuf_rw_io_suspend(m)) {
		dmabuf_rw_gate_drain(m);
		result = dmabuf_rw_attach_change(m, attach, target);
		if (!result.error)
			return result;
		dmabuf_rw_io_resume(m);
	} else {
		result = dmabuf_rw_fail(-ENOENT, DMABUF_RW_REASON_HANDLE);
	}
	dmabuf_rw_attach_put(attach);
	return result;
}

/**
 * dmabuf_rw_failover - go on by way of another controller
 * @m: premapped; the caller holds m->refs and not m->io
 * @failed: the PCI function by way of which an I/O failed; only compared
 *
 * Does nothing if another one is in use by now.
 *
 * Context: may sleep, as long as I/O in flight takes.
 * Return: success; -EAGAIN if the controllers that are left are resetting;
 * -ENODEV with DEVICE_GONE if there is none, or @m's target is no multipath
 * head; -ENOENT if @m is being unmapped; -EINTR, -ENOMEM or what the exporter
 * said.
 */
struct dmabuf_rw_result dmabuf_rw_failover(struct dmabuf_rw_mapping *m,
					   const struct device *failed)
{
	const struct dmabuf_rw_result gone = { -ENODEV, DMABUF_RW_REASON_DEVICE_GONE };
	struct dmabuf_rw_target target;
	struct dmabuf_rw_result result;

	if (!m->target.head)
		return gone;
	if (mutex_lock_killable(&m->path_lock))
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	result = DMABUF_RW_OK;
	if (m->target.dma_dev != failed)
		goto unlock;

	result = dmabuf_rw_target_repath(&target, &m->target, failed);
	if (!result.error) {
		/* The same one again: there is no other, and it works. */
		if (target.dma_dev == failed && !READ_ONCE(m->attach->gone)) {
			dmabuf_rw_target_put(&target);
			goto unlock;
		}
		result = failover_change(m, &target);
		if (result.error)
			dmabuf_rw_target_put(&target);
	} else if (result.error != -EAGAIN && result.error != -EINTR &&
		   result.error != -ENOMEM) {
		result = gone;
	}
unlock:
	mutex_unlock(&m->path_lock);
	return result;
}
