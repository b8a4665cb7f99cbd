// SPDX-License-Identifier: GPL-2.0-only
/* 6.3: setattr() is told the idmap of the mount; before, a user namespace. */
#include <linux/fs.h>
#ifdef COUNTER_PROBE
const struct inode_operations probe = { .setattr = NULL };
#else
static int setattr(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	return 0;
}
const struct inode_operations probe = { .setattr = setattr };
#endif
