// SPDX-License-Identifier: GPL-2.0-only
/* 6.7: a module may keep a mount writable, without keeping it from being frozen. */
#include <linux/fs.h>
#include <linux/mount.h>
int probe(struct file *file);
int probe(struct file *file)
{
#ifdef COUNTER_PROBE
	return mnt_want_write(file->f_path.mnt);
#else
	return mnt_get_write_access(file->f_path.mnt);
#endif
}
