// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sessions, and the handles in them.
 *
 * A handle is a slot's index and the slot's generation, so that a handle kept
 * past its UNMAP names nothing rather than the slot's next mapping. I/O looks
 * handles up under RCU; everything else under the session's lock.
 *
 * The last close of a session comes when no request of any ring holds its file
 * any more: all its I/O has ended by then.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "later_user.h"
#include "limits.h"
#include "mapping.h"
#include "session.h"

#define HANDLE_INDEX_BITS	ilog2(DMABUF_RW_MAX_MAPPINGS)
#define HANDLE_GENERATIONS	(1U << (32 - HANDLE_INDEX_BITS))

static LIST_HEAD(dmabuf_rw_sessions);
static DEFINE_MUTEX(dmabuf_rw_sessions_lock);
static u32 dmabuf_rw_next_session;	/* dmabuf_rw_sessions_lock */

/**
 * dmabuf_rw_open - a new session
 * @inode: of the device
 * @file: gets the session
 *
 * Return: 0, -EMFILE over the limit of sessions per user, -ENOMEM.
 */
int dmabuf_rw_open(struct inode *inode, struct file *file)
{
	struct dmabuf_rw_session *session, *other;
	const struct cred *cred = current_cred();
	u32 open = 0;

	session = kzalloc_obj(*session, GFP_KERNEL_ACCOUNT);
	if (!session)
		return -ENOMEM;
	session->slots = kvcalloc(DMABUF_RW_MAX_MAPPINGS, sizeof(*session->slots),
				  GFP_KERNEL_ACCOUNT);
	if (!session->slots) {
		kfree(session);
		return -ENOMEM;
	}
	if (dmabuf_rw_later_join(cred, &session->later)) {
		kvfree(session->slots);
		kfree(session);
		return -ENOMEM;
	}
	mutex_init(&session->lock);
	kref_init(&session->refs);

	mutex_lock(&dmabuf_rw_sessions_lock);
	list_for_each_entry(other, &dmabuf_rw_sessions, node)
		open += other->cred->user == cred->user;
	if (open >= DMABUF_RW_MAX_SESSIONS && !capable(CAP_SYS_RESOURCE)) {
		mutex_unlock(&dmabuf_rw_sessions_lock);
		dmabuf_rw_later_leave(session->later);
		kvfree(session->slots);
		kfree(session);
		return -EMFILE;
	}
	session->cred = get_cred(cred);
	session->id = ++dmabuf_rw_next_session;
	session->opener = task_tgid_nr(current);
	list_add(&session->node, &dmabuf_rw_sessions);
	mutex_unlock(&dmabuf_rw_sessions_lock);

	file->private_data = session;
	return nonseekable_open(inode, file);
}

static void session_free(struct kref *refs)
{
	struct dmabuf_rw_session *session = container_of(refs, struct dmabuf_rw_session, refs);

	put_cred(session->cred);
	mutex_destroy(&session->lock);
	kvfree(session->slots);
	kfree(session);
}

/* The session with the lowest number above @after, with a reference, or NULL. */
static struct dmabuf_rw_session *session_next(u32 after)
{
	struct dmabuf_rw_session *session, *best = NULL;

	guard(mutex)(&dmabuf_rw_sessions_lock);
	list_for_each_entry(session, &dmabuf_rw_sessions, node)
		if (session->id > after && (!best || session->id < best->id))
			best = session;
	if (best)
		kref_get(&best->refs);
	return best;
}

/**
 * dmabuf_rw_visit_sessions - call a function for every open session
 * @fn: what to call
 * @data: for @fn
 *
 * Sessions that are opened or closed while this runs may be seen or not. No lock is
 * held while @fn runs: @fn may wait for an exporter, and nobody else is to wait then.
 *
 * Context: may sleep.
 */
void dmabuf_rw_visit_sessions(dmabuf_rw_session_fn *fn, void *data)
{
	struct dmabuf_rw_session *session;
	u32 last = 0;

	while ((session = session_next(last))) {
		fn(session, data);
		last = session->id;
		kref_put(&session->refs, session_free);
	}
}

/**
 * dmabuf_rw_mapping_get - what a handle names, with a reference
 * @session: where
 * @handle: from user space
 *
 * Return: the mapping, for dmabuf_rw_mapping_put(), or NULL.
 */
struct dmabuf_rw_mapping *
dmabuf_rw_mapping_get(const struct dmabuf_rw_session *session, u32 handle)
{
	struct dmabuf_rw_mapping *m;

	rcu_read_lock();
	m = dmabuf_rw_find_rcu(session, handle);
	if (m && !refcount_inc_not_zero(&m->refs))
		m = NULL;
	rcu_read_unlock();
	return m;
}

/* A free slot, found from where the last search ended. Session lock held. */
static struct dmabuf_rw_slot *slot_find(struct dmabuf_rw_session *session, u32 *index)
{
	u32 i;

	for (i = 0; i < DMABUF_RW_MAX_MAPPINGS; i++) {
		*index = (session->next_slot + i) & DMABUF_RW_HANDLE_INDEX_MASK;
		if (!rcu_access_pointer(session->slots[*index].mapping)) {
			session->next_slot = *index + 1;
			return &session->slots[*index];
		}
	}
	return NULL;
}

/**
 * dmabuf_rw_session_insert - give a mapping a handle
 * @session: where
 * @m: complete; from here on user space can reach it, and unmap it: the
 *	caller, unless it holds a reference of its own, does not look at it again
 * @handle: out: its handle
 *
 * Context: process.
 * Return: success or -EMFILE.
 */
struct dmabuf_rw_result dmabuf_rw_session_insert(struct dmabuf_rw_session *session,
						 struct dmabuf_rw_mapping *m, u32 *handle)
{
	struct dmabuf_rw_slot *slot;
	u32 index;

	guard(mutex)(&session->lock);
	slot = slot_find(session, &index);
	if (!slot)
		return dmabuf_rw_fail(-EMFILE, DMABUF_RW_REASON_LIMIT);
	if (++slot->generation == HANDLE_GENERATIONS)
		slot->generation = 1;
	m->handle = slot->generation << HANDLE_INDEX_BITS | index;
	*handle = m->handle;
	session->nr_mappings++;
	rcu_assign_pointer(slot->mapping, m);
	return DMABUF_RW_OK;
}

/**
 * dmabuf_rw_session_remove - take a mapping out of the table
 * @session: where
 * @handle: from user space
 *
 * Context: process.
 * Return: the mapping, now the caller's, or NULL.
 */
struct dmabuf_rw_mapping *
dmabuf_rw_session_remove(struct dmabuf_rw_session *session, u32 handle)
{
	u32 index = array_index_nospec(handle & DMABUF_RW_HANDLE_INDEX_MASK,
				       DMABUF_RW_MAX_MAPPINGS);
	struct dmabuf_rw_mapping *m;

	guard(mutex)(&session->lock);
	m = rcu_dereference_protected(session->slots[index].mapping,
				      lockdep_is_held(&session->lock));
	if (!m || m->handle != handle)
		return NULL;
	RCU_INIT_POINTER(session->slots[index].mapping, NULL);
	session->nr_mappings--;
	return m;
}

/**
 * dmabuf_rw_ioctl_config - DMABUF_RW_IOC_CONFIG
 * @session: the session; mappings made from now on follow the settings
 * @arg: struct dmabuf_rw_config
 *
 * Return: 0, -EINVAL, -EFAULT.
 */
long dmabuf_rw_ioctl_config(struct dmabuf_rw_session *session, void __user *arg)
{
	struct dmabuf_rw_config config;

	if (copy_from_user(&config, arg, sizeof(config)))
		return -EFAULT;
	if (config.flags || memchr_inv(config.reserved, 0, sizeof(config.reserved)) ||
	    config.timeout_ms > DMABUF_RW_MAX_TIMEOUT_MS)
		return -EINVAL;
	WRITE_ONCE(session->timeout_ms, config.timeout_ms);
	return 0;
}

/**
 * dmabuf_rw_release - the end of a session
 * @inode: of the device
 * @file: the session's
 *
 * Return: 0.
 */
int dmabuf_rw_release(struct inode *inode, struct file *file)
{
	struct dmabuf_rw_session *session = file->private_data;
	struct dmabuf_rw_mapping *m;
	LIST_HEAD(doomed);
	u32 i;

	mutex_lock(&dmabuf_rw_sessions_lock);
	list_del(&session->node);
	mutex_unlock(&dmabuf_rw_sessions_lock);

	for (i = 0; i < DMABUF_RW_MAX_MAPPINGS; i++) {
		m = rcu_dereference_protected(session->slots[i].mapping, true);
		if (!m)
			continue;
		RCU_INIT_POINTER(session->slots[i].mapping, NULL);
		list_add_tail(&m->doomed, &doomed);
	}
	/* Who looks at all sessions, by way of RCU, finds none of these any more. */
	dmabuf_rw_unmap_all(&doomed);
	dmabuf_rw_later_leave(session->later);
	kref_put(&session->refs, session_free);
	return 0;
}
