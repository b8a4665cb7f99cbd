/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The workers of what has to wait, a user's each; see later_user.c.
 */
#ifndef DMABUF_RW_LATER_USER_H
#define DMABUF_RW_LATER_USER_H

#include <linux/list.h>
#include <linux/types.h>
#include <linux/workqueue.h>

struct cred;

/* A user who has sessions. */
struct dmabuf_rw_later_user {
	struct list_head node;		/* this and @sessions: later_users_lock */
	const struct cred *cred;
	struct workqueue_struct *wq;
	u32 sessions;
};

int dmabuf_rw_later_join(const struct cred *cred, struct dmabuf_rw_later_user **joined);
void dmabuf_rw_later_leave(struct dmabuf_rw_later_user *user);

#endif /* DMABUF_RW_LATER_USER_H */
