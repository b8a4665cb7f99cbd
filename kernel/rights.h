/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * With whose rights an I/O goes on that its ring's task finishes later.
 *
 * io_uring issues a command with a personality (sqe->personality) with that one's
 * rights. Task work it runs with the task's own: what calls the target there
 * brings the rights that the command was issued with.
 */
#ifndef DMABUF_RW_RIGHTS_H
#define DMABUF_RW_RIGHTS_H

#include <linux/cred.h>

/*
 * The rights of a command that is being issued, with a reference of the caller's;
 * NULL: they are the task's own. put_cred() takes either.
 */
static inline const struct cred *dmabuf_rw_rights_lent(void)
{
	return likely(current_cred() == current_real_cred()) ? NULL : get_current_cred();
}

/* Go on with these. Returns what dmabuf_rw_rights_back() wants. */
static inline const struct cred *dmabuf_rw_rights_use(const struct cred *rights)
{
	return unlikely(rights) ? override_creds(rights) : NULL;
}

static inline void dmabuf_rw_rights_back(const struct cred *before)
{
	if (unlikely(before))
		revert_creds(before);
}

#endif
