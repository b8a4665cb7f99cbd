// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings as members of an attachment: joining it and leaving it, changing it
 * for that of another path, and the start and stop of their I/O.
 */
#include <linux/dma-resv.h>

#include "compat.h"
#include "addresses.h"
#include "attach.h"
#include "fence.h"
#include "gate.h"
#include "mapping.h"
#include "member.h"

/* Become a member of @a, in which I/O is allowed then. dma_resv held. */
static struct dmabuf_rw_result attach_add(struct dmabuf_rw_attach *a, struct dmabuf_rw_mapping *m)
{
	struct dmabuf_rw_result result = DMABUF_RW_OK;

	/* An invalidation may have come in between. */
	if (a->state != DMABUF_RW_STATE_LIVE || !a->mapped)
		result = dmabuf_rw_attach_map(a);
	if (result.error)
		return result;
	spin_lock(&a->lock);
	if (a->gone) {
		result = dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	} else {
		list_add_tail(&m->member, &a->members);
		a->nr_members++;
		m->attach = a;
	}
	spin_unlock(&a->lock);
	return result;
}

/* Stop being a member. dma_resv held, no I/O in flight. */
static void attach_remove(struct dmabuf_rw_attach *a, struct dmabuf_rw_mapping *m)
{
	guard(spinlock)(&a->lock);
	list_del(&m->member);
	a->nr_members--;
}

/**
 * dmabuf_rw_attach_join - become one of an attachment's mappings
 * @a: from dmabuf_rw_attach_get(); stays the caller's on failure
 * @m: target found, @m->io alive; sets @m->attach
 *
 * Context: may sleep.
 * Return: success, or an errno with its reason.
 */
struct dmabuf_rw_result dmabuf_rw_attach_join(struct dmabuf_rw_attach *a,
					      struct dmabuf_rw_mapping *m)
{
	struct dmabuf_rw_result result;

	if (dmabuf_rw_resv_lock(a->dmabuf))
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	result = attach_add(a, m);
	dma_resv_unlock(a->dmabuf->resv);
	return result;
}

/* End a suspension. dma_resv held, no I/O in flight. */
static void attach_resume(struct dmabuf_rw_attach *a, struct dmabuf_rw_mapping *m)
{
	spin_lock(&a->lock);
	m->suspended = false;
	if (!a->gone && a->state == DMABUF_RW_STATE_LIVE && a->mapped)
		dmabuf_rw_gate_open(m);
	spin_unlock(&a->lock);
}

/**
 * dmabuf_rw_attach_change - go on with another attachment of the same dma-buf
 * @m: suspended and drained; who changes it keeps others from that
 * @to: from dmabuf_rw_attach_get(); on success @m's
 * @target: the path that @to belongs to; on success @m has its references
 *
 * Gives back what @m had before.
 *
 * Context: may sleep.
 * Return: success, or an errno with its reason, and nothing has changed.
 */
struct dmabuf_rw_result dmabuf_rw_attach_change(struct dmabuf_rw_mapping *m,
						struct dmabuf_rw_attach *to,
						const struct dmabuf_rw_target *target)
{
	struct dmabuf_rw_attach *from = m->attach;
	struct dmabuf_rw_target old = m->target;
	struct dmabuf_rw_result result;

	if (dmabuf_rw_resv_lock(m->dmabuf))
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	attach_remove(from, m);
	m->target = *target;
	result = attach_add(to, m);
	if (result.error) {
		m->target = old;
		scoped_guard(spinlock, &from->lock) {
			list_add_tail(&m->member, &from->members);
			from->nr_members++;
		}
	} else {
		m->path_changes++;
		attach_resume(to, m);
	}
	dma_resv_unlock(m->dmabuf->resv);
	if (!result.error) {
		dmabuf_rw_target_put(&old);
		dmabuf_rw_attach_put(from);
	}
	return result;
}

/**
 * dmabuf_rw_io_stop - let no new I/O of a mapping begin, for ever
 * @m: takes READ and WRITE; already out of its session's table
 *
 * Does not wait, so that many can be stopped before one is waited for.
 *
 * Context: may sleep.
 */
void dmabuf_rw_io_stop(struct dmabuf_rw_mapping *m)
{
	if (!m->attach) {
		percpu_ref_kill(&m->io);
		return;
	}
	dma_resv_lock(m->dmabuf->resv, NULL);
	scoped_guard(spinlock, &m->attach->lock) {
		m->dying = true;
		dmabuf_rw_gate_close(m);
	}
	dma_resv_unlock(m->dmabuf->resv);
}

/**
 * dmabuf_rw_io_suspend - let no new I/O of a mapping begin for now
 * @m: premapped
 *
 * Mapping the memory again does not revive it; dmabuf_rw_attach_change() does.
 *
 * Context: may sleep.
 * Return: false if the mapping is being unmapped.
 */
bool dmabuf_rw_io_suspend(struct dmabuf_rw_mapping *m)
{
	bool alive;

	dma_resv_lock(m->dmabuf->resv, NULL);
	scoped_guard(spinlock, &m->attach->lock) {
		alive = !m->dying;
		m->suspended = true;
		dmabuf_rw_gate_close(m);
	}
	dma_resv_unlock(m->dmabuf->resv);
	return alive;
}

/**
 * dmabuf_rw_io_resume - undo dmabuf_rw_io_suspend()
 * @m: suspended and drained
 *
 * Context: may sleep.
 */
void dmabuf_rw_io_resume(struct dmabuf_rw_mapping *m)
{
	dma_resv_lock(m->dmabuf->resv, NULL);
	attach_resume(m->attach, m);
	dma_resv_unlock(m->dmabuf->resv);
}

/**
 * dmabuf_rw_attach_leave - take a mapping out of its attachment
 * @m: premapped, stopped and drained; its use of the attachment goes with itself
 *
 * Context: may sleep.
 */
void dmabuf_rw_attach_leave(struct dmabuf_rw_mapping *m)
{
	dma_resv_lock(m->dmabuf->resv, NULL);
	attach_remove(m->attach, m);
	dma_resv_unlock(m->dmabuf->resv);
}

/**
 * dmabuf_rw_io_revive - make sure a mapping's addresses are valid again
 * @m: its percpu_ref was found dead
 *
 * Context: may sleep; the caller holds m->refs and not m->io.
 * Return: success (another invalidation may already be on its way), -ENOENT if
 * the mapping is being unmapped, -ENODEV with REVOKED or DEVICE_GONE, -EINTR,
 * -ENOMEM.
 */
struct dmabuf_rw_result dmabuf_rw_io_revive(struct dmabuf_rw_mapping *m)
{
	struct dmabuf_rw_result result = DMABUF_RW_OK;
	struct dmabuf_rw_attach *a;

	/* Without an attachment only UNMAP ends a mapping. */
	if (!m->attach)
		return percpu_ref_is_dying(&m->io) ?
			dmabuf_rw_fail(-ENOENT, DMABUF_RW_REASON_HANDLE) : result;
	if (dmabuf_rw_resv_lock(m->dmabuf))
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	a = m->attach;
	if (m->dying) {
		result = dmabuf_rw_fail(-ENOENT, DMABUF_RW_REASON_HANDLE);
	} else if (READ_ONCE(a->gone)) {
		result = dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	} else if (a->state != DMABUF_RW_STATE_LIVE) {
		result = dmabuf_rw_attach_map(a);
		if (result.error && result.error != -EINTR && result.error != -ENOMEM &&
		    result.reason != DMABUF_RW_REASON_DEVICE_GONE) {
			a->state = DMABUF_RW_STATE_REVOKED;
			result = dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_REVOKED);
		}
	}
	dma_resv_unlock(m->dmabuf->resv);
	return result;
}
