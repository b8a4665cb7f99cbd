/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sessions, and the handles in them; see session.c.
 */
#ifndef DMABUF_RW_SESSION_H
#define DMABUF_RW_SESSION_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/nospec.h>

#include "limits.h"
#include "mapping.h"
#include "result.h"

struct cred;
struct dmabuf_rw_later_user;

/* A handle: a slot's index in the lower bits, its generation above. */
#define DMABUF_RW_HANDLE_INDEX_MASK	(DMABUF_RW_MAX_MAPPINGS - 1)

struct dmabuf_rw_slot {
	struct dmabuf_rw_mapping __rcu *mapping;
	u32 generation;
};

/* One open of /dev/dmabuf_rw. */
struct dmabuf_rw_session {
	struct kref refs;		/* keeps this memory; the file holds one */
	struct mutex lock;		/* slots, nr_mappings, next_slot */
	struct list_head node;		/* all sessions */
	const struct cred *cred;
	struct dmabuf_rw_later_user *later;	/* see later_user.c */
	u32 id;				/* names the session in traces and debugfs */
	pid_t opener;			/* as the first PID namespace counts */
	u32 timeout_ms;
	u32 nr_mappings;
	u32 next_slot;
	struct dmabuf_rw_slot *slots;	/* DMABUF_RW_MAX_MAPPINGS of them */
};

int dmabuf_rw_open(struct inode *inode, struct file *file);
int dmabuf_rw_release(struct inode *inode, struct file *file);
long dmabuf_rw_ioctl_config(struct dmabuf_rw_session *session, void __user *arg);
struct dmabuf_rw_mapping *
dmabuf_rw_mapping_get(const struct dmabuf_rw_session *session, u32 handle);
struct dmabuf_rw_result dmabuf_rw_session_insert(struct dmabuf_rw_session *session,
						 struct dmabuf_rw_mapping *m, u32 *handle);
struct dmabuf_rw_mapping *
dmabuf_rw_session_remove(struct dmabuf_rw_session *session, u32 handle);
typedef void dmabuf_rw_session_fn(struct dmabuf_rw_session *session, void *data);
void dmabuf_rw_visit_sessions(dmabuf_rw_session_fn *fn, void *data);

/**
 * dmabuf_rw_find_rcu - what a handle names
 * @session: where
 * @handle: from user space
 *
 * Context: rcu_read_lock() held, or preemption off; the mapping stays memory until it is dropped.
 * Return: the mapping, perhaps one that is just being unmapped, or NULL.
 */
static inline struct dmabuf_rw_mapping *
dmabuf_rw_find_rcu(const struct dmabuf_rw_session *session, u32 handle)
{
	u32 index = array_index_nospec(handle & DMABUF_RW_HANDLE_INDEX_MASK,
				       DMABUF_RW_MAX_MAPPINGS);
	struct dmabuf_rw_mapping *m = rcu_dereference_check(session->slots[index].mapping,
							    rcu_read_lock_sched_held());

	return likely(m && m->handle == handle) ? m : NULL;
}

#endif /* DMABUF_RW_SESSION_H */
