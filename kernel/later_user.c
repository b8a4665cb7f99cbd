// SPDX-License-Identifier: GPL-2.0-only
/*
 * The workers of what has to wait: I/O that is sent again, ranges that found no
 * request, and what later.c keeps. Each user has workers of their own, so that
 * commands that one user keeps waiting do not delay another user's.
 */
#include <linux/cred.h>
#include <linux/mutex.h>
#include <linux/slab.h>

#include "compat.h"
#include "later_user.h"

static LIST_HEAD(later_users);
static DEFINE_MUTEX(later_users_lock);

static struct dmabuf_rw_later_user *later_user_new(const struct cred *cred)
{
	struct dmabuf_rw_later_user *user = kzalloc_obj(*user, GFP_KERNEL_ACCOUNT);

	if (!user)
		return NULL;
	user->wq = alloc_workqueue("dmabuf_rw_later", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!user->wq) {
		kfree(user);
		return NULL;
	}
	user->cred = get_cred(cred);
	list_add(&user->node, &later_users);
	return user;
}

/**
 * dmabuf_rw_later_join - make what waiting needs, for a session
 * @cred: whose user waits
 * @joined: out: for dmabuf_rw_later_leave()
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int dmabuf_rw_later_join(const struct cred *cred, struct dmabuf_rw_later_user **joined)
{
	struct dmabuf_rw_later_user *user;

	*joined = NULL;
	guard(mutex)(&later_users_lock);
	list_for_each_entry(user, &later_users, node)
		if (user->cred->user == cred->user)
			*joined = user;
	if (!*joined)
		*joined = later_user_new(cred);
	if (!*joined)
		return -ENOMEM;
	(*joined)->sessions++;
	return 0;
}

/**
 * dmabuf_rw_later_leave - undo dmabuf_rw_later_join()
 * @user: from there
 *
 * Context: may sleep; no command of the session exists any more.
 */
void dmabuf_rw_later_leave(struct dmabuf_rw_later_user *user)
{
	scoped_guard(mutex, &later_users_lock) {
		if (--user->sessions)
			return;
		list_del(&user->node);
	}
	/* Waits for work that has ended its command, but not yet returned. */
	destroy_workqueue(user->wq);
	put_cred(user->cred);
	kfree(user);
}
