// SPDX-License-Identifier: GPL-2.0-only
/*
 * A file is read and written without its file system only as long as nothing can
 * take its blocks away from it. Two things together make that so:
 *
 * Nobody has the file open for writing (deny_write_access(), which execve() uses,
 * too). Any call that truncates, punches, collapses, extends, writes or moves the
 * blocks of a file has it open for writing, or has write access to it for as long
 * as the call lasts. So no such call is under way when this succeeds, not even one
 * that has made its checks already, and none can begin: it gets ETXTBSY.
 *
 * S_SWAPFILE, set with the inode locked. What needs no open for writing looks at
 * it with the inode locked: sharing the blocks with another file (FICLONE from
 * it, FIDEDUPERANGE into it), and swapon(2), which takes the file for itself. It
 * also keeps the file's last name.
 *
 * All mappings of a file hold it once; the last one to end gives it back.
 */
#include <linux/cred.h>
#include <linux/fsnotify.h>
#include <linux/hashtable.h>
#include <linux/mount.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/stat.h>

#include "held_file.h"
#include "rights.h"

#define TOUCH_EVERY	HZ	/* a file that is written: its time */

/* One inode that is held, or is about to be. */
struct dmabuf_rw_held {
	struct hlist_node node;		/* held_files, held_lock */
	refcount_t refs;
	struct inode *inode;		/* reference */
	struct mutex setup;
	bool ready;			/* @setup: held, and its extents known */
	const struct cred *writer;	/* @setup: who may write it; NULL: nobody yet */
	struct dmabuf_rw_extents extents;
};

static DEFINE_HASHTABLE(held_files, 8);
static DEFINE_MUTEX(held_lock);

/* Frees the memory when the last who waits for its end has seen it. */
static void held_free(struct dmabuf_rw_held *h)
{
	mutex_destroy(&h->setup);
	kfree(h);
}

/*
 * The one of this inode, with a reference; new ones are not set up. NULL: no
 * memory. -EAGAIN: the hold on it is just being given back.
 */
static struct dmabuf_rw_held *held_find(struct inode *inode)
{
	struct dmabuf_rw_held *h;

	guard(mutex)(&held_lock);
	hash_for_each_possible(held_files, h, node, (unsigned long)inode) {
		if (h->inode == inode)
			return refcount_inc_not_zero(&h->refs) ? h : ERR_PTR(-EAGAIN);
	}
	h = kzalloc_obj(*h, GFP_KERNEL_ACCOUNT);
	if (!h)
		return ERR_PTR(-ENOMEM);
	refcount_set(&h->refs, 1);
	ihold(inode);
	h->inode = inode;
	mutex_init(&h->setup);
	hash_add(held_files, &h->node, (unsigned long)inode);
	return h;
}

/* Undo held_freeze(). */
static void held_release(struct inode *inode)
{
	inode_lock(inode);
	inode->i_flags &= ~S_SWAPFILE;
	inode_unlock(inode);
	atomic_inc(&inode->i_writecount);
}

static void held_put(struct dmabuf_rw_held *h)
{
	if (!refcount_dec_and_test(&h->refs))
		return;
	/* In the table as long as the inode is held, so that nobody takes it for a swap file. */
	if (h->ready)
		held_release(h->inode);
	dmabuf_rw_extents_free(&h->extents);
	mutex_lock(&held_lock);
	hash_del(&h->node);
	mutex_unlock(&held_lock);
	iput(h->inode);
	put_cred(h->writer);
	held_free(h);
}

/* Nobody writes the inode, and its blocks stay. */
static struct dmabuf_rw_result held_take(struct file *file)
{
	const struct dmabuf_rw_result busy = { -ETXTBSY, DMABUF_RW_REASON_FILE_BUSY };
	struct inode *inode = file_inode(file);

	if (deny_write_access(file))
		return busy;
	if (down_write_killable(&inode->i_rwsem)) {
		allow_write_access(file);
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	}
	if (IS_SWAPFILE(inode)) {
		inode_unlock(inode);
		allow_write_access(file);
		return busy;
	}
	inode->i_flags |= S_SWAPFILE;
	/* What was sent before the file was closed for writing. */
	inode_dio_wait(inode);
	inode_unlock(inode);
	return DMABUF_RW_OK;
}

/* Of what opening a file for writing, or asking whether it may be, said. */
static struct dmabuf_rw_result held_may_not_write(int error)
{
	switch (error) {
	case -ETXTBSY:
		return dmabuf_rw_fail(error, DMABUF_RW_REASON_FILE_BUSY);
	case -EROFS:
		return dmabuf_rw_fail(error, DMABUF_RW_REASON_READ_ONLY);
	/* By a signal, while it waited for the holder of a lease. */
	case -EINTR:
	case -ERESTARTSYS:
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	default:
		return dmabuf_rw_fail(error, DMABUF_RW_REASON_TARGET_MODE);
	}
}

/*
 * May the caller open this file for writing? Only opening it asks all security
 * modules: AppArmor and Landlock know paths, and not inodes. Opening it also
 * breaks leases, and fails while the file is being executed.
 */
static struct dmabuf_rw_result held_prove_writing(struct file *file)
{
	struct file *writer = dentry_open(&file->f_path, O_WRONLY | O_LARGEFILE, current_cred());

	if (!IS_ERR(writer)) {
		/* Now, and not when the caller returns to user space: it would be in the way. */
		__fput_sync(writer);
		return DMABUF_RW_OK;
	}
	return held_may_not_write(PTR_ERR(writer));
}

/*
 * @h->setup held. A file that is held already cannot be opened for writing, not
 * even to see whether the caller might: the caller has to have the rights that the
 * first one had.
 */
static struct dmabuf_rw_result held_setup(struct dmabuf_rw_held *h, struct file *file,
					  bool writes)
{
	struct dmabuf_rw_result result = DMABUF_RW_OK;
	int ret;

	if (h->ready && writes && h->writer != current_cred())
		return dmabuf_rw_fail(-ETXTBSY, DMABUF_RW_REASON_FILE_BUSY);
	if (h->ready)
		return result;
	if (writes)
		result = held_prove_writing(file);
	if (!result.error)
		result = held_take(file);
	if (result.error)
		return result;
	/* What is not allocated yet is now. */
	ret = filemap_write_and_wait(h->inode->i_mapping);
	result = ret ? dmabuf_rw_fail(ret, DMABUF_RW_REASON_DRIVE) :
		dmabuf_rw_extents_look(h->inode, &h->extents);
	if (result.error) {
		held_release(h->inode);
		return result;
	}
	/* Each I/O would look among the file's pages for those that are in its way. */
	invalidate_inode_pages2(h->inode->i_mapping);
	h->ready = true;
	if (writes)
		h->writer = get_current_cred();
	return result;
}

static struct dmabuf_rw_result held_get(struct file *file, bool writes,
					struct dmabuf_rw_held **out)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_held *h;

	while ((h = held_find(file_inode(file))) == ERR_PTR(-EAGAIN)) {
		schedule_timeout_killable(1);
		if (fatal_signal_pending(current))
			return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	}
	if (IS_ERR(h))
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	if (mutex_lock_killable(&h->setup)) {
		result = dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	} else {
		result = held_setup(h, file, writes);
		mutex_unlock(&h->setup);
	}
	if (result.error)
		held_put(h);
	else
		*out = h;
	return result;
}

/* File systems whose code was read, see docs/files.md. */
static bool use_file_system_known(const struct super_block *sb)
{
	const char *name = sb->s_type->name;

	return sb->s_bdev && (!strcmp(name, "ext4") || !strcmp(name, "xfs"));
}

/* Are the bytes of the file those on the disk, and nothing else? */
static bool use_is_plain(struct file *file)
{
	const struct inode *inode = file_inode(file);
	struct kstat stat;

	if (IS_ENCRYPTED(inode) || IS_VERITY(inode) || IS_DAX(inode))
		return false;
	/* Not with data in the inode or in the journal: then there is no direct I/O. */
	return !vfs_getattr(&file->f_path, &stat, STATX_DIOALIGN, AT_STATX_SYNC_AS_STAT) &&
		(stat.result_mask & STATX_DIOALIGN) && stat.dio_offset_align;
}

/**
 * dmabuf_rw_file_is_direct - does a device move the bytes of a file's direct I/O?
 * @file: a regular file
 *
 * So it is with whole blocks of a plain file, on file systems whose code was read, as
 * long as the file's address_space_operations stay and it gets no fs-verity.
 *
 * Context: process; may sleep.
 * Return: false if the CPU may copy them.
 */
bool dmabuf_rw_file_is_direct(struct file *file)
{
	return use_file_system_known(file_inode(file)->i_sb) && use_is_plain(file);
}

/**
 * dmabuf_rw_file_has_holes - is a part of a file in no block that was written?
 * @file: a regular file, on a file system whose code was read
 *
 * A count of its blocks does not tell: those count, too, that list its pieces, that hold
 * its attributes, or that were allocated and not written.
 *
 * Context: process; may sleep.
 * Return: whether one is, or is not known. A part that was not written and is in the page
 * cache counts as written.
 */
bool dmabuf_rw_file_has_holes(struct file *file)
{
	loff_t position, hole;

	/* Of the one who shares the position, nobody knows how long he keeps it locked. */
	if (!mutex_trylock(&file->f_pos_lock))
		return true;
	position = file->f_pos;
	hole = vfs_llseek(file, 0, SEEK_HOLE);
	file->f_pos = position;
	mutex_unlock(&file->f_pos_lock);
	return hole != i_size_read(file_inode(file));
}

/* May the caller do that to this file? */
static struct dmabuf_rw_result use_check(struct file *file, u32 directions)
{
	struct inode *inode = file_inode(file);
	int ret;

	if (!use_file_system_known(inode->i_sb))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_FILE_SYSTEM);
	if (!inode_owner_or_capable(dmabuf_rw_file_idmap(file), inode))
		return dmabuf_rw_fail(-EPERM, DMABUF_RW_REASON_FILE_OWNER);
	if (file->f_mode & FMODE_WRITE)
		return dmabuf_rw_fail(-ETXTBSY, DMABUF_RW_REASON_FILE_BUSY);
	if (directions & DMABUF_RW_DIR_WRITE) {
		if (IS_APPEND(inode))
			return dmabuf_rw_fail(-EPERM, DMABUF_RW_REASON_TARGET_MODE);
		ret = inode_permission(dmabuf_rw_file_idmap(file), inode, MAY_WRITE);
		if (ret)
			return held_may_not_write(ret);
	}
	if (!use_is_plain(file))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_FILE_KIND);
	return DMABUF_RW_OK;
}

/*
 * The file is about to be written: its mount stays writable, its time is set, and
 * what a write takes off it (set-user-ID) goes.
 */
static struct dmabuf_rw_result use_begin_writing(struct dmabuf_rw_file_use *use)
{
	struct inode *inode = file_inode(use->file);
	int ret = mnt_get_write_access(use->file->f_path.mnt);

	if (ret)
		return dmabuf_rw_fail(ret, DMABUF_RW_REASON_READ_ONLY);
	use->writes = true;
	sb_start_write(inode->i_sb);
	inode_lock(inode);
	ret = file_modified(use->file);
	inode_unlock(inode);
	sb_end_write(inode->i_sb);
	use->touch = jiffies + TOUCH_EVERY;
	return ret ? dmabuf_rw_fail(ret, DMABUF_RW_REASON_TARGET_MODE) : DMABUF_RW_OK;
}

/**
 * dmabuf_rw_file_use_get - hold a file still, and look where it is
 * @file: a regular file, open for reading only
 * @directions: DMABUF_RW_DIR_*; for writing the caller has to have the permission
 * @out: out: the use, with one reference
 *
 * Context: process, with the caller's rights; may sleep for as long as writing
 * back takes.
 * Return: success; -EOPNOTSUPP with FILE_SYSTEM, FILE_KIND or KERNEL; -EPERM with
 * FILE_OWNER or TARGET_MODE; -EACCES with TARGET_MODE; -ETXTBSY with FILE_BUSY;
 * -EROFS with READ_ONLY; what dmabuf_rw_extents_look() says; -EINTR, -ENOMEM.
 */
struct dmabuf_rw_result dmabuf_rw_file_use_get(struct file *file, u32 directions,
					       struct dmabuf_rw_file_use **out)
{
	bool writes = directions & DMABUF_RW_DIR_WRITE;
	struct dmabuf_rw_file_use *use;
	struct dmabuf_rw_result result;

	if (!dmabuf_rw_hold_file_available())
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);
	result = use_check(file, directions);
	if (result.error)
		return result;
	use = kzalloc_obj(*use, GFP_KERNEL_ACCOUNT);
	if (!use)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	refcount_set(&use->refs, 1);
	use->file = get_file(file);
	result = held_get(file, writes, &use->held);
	if (!result.error && writes)
		result = use_begin_writing(use);
	if (result.error) {
		dmabuf_rw_file_use_put(use);
		return result;
	}
	use->extents = &use->held->extents;
	*out = use;
	return result;
}

/**
 * dmabuf_rw_file_use_put - drop a reference to a use of a file
 * @use: let go of with the last one; or NULL
 *
 * Context: may sleep; takes the inode's lock.
 */
void dmabuf_rw_file_use_put(struct dmabuf_rw_file_use *use)
{
	struct super_block *sb;

	if (!use || !refcount_dec_and_test(&use->refs))
		return;
	sb = file_inode(use->file)->i_sb;
	/* Not for a file system that is frozen: nobody waits here for its thaw. */
	if (use->written && sb_start_write_trylock(sb)) {
		file_update_time(use->file);
		sb_end_write(sb);
		fsnotify_modify(use->file);
	}
	if (use->held)
		held_put(use->held);
	if (use->writes)
		mnt_put_write_access(use->file->f_path.mnt);
	fput(use->file);
	kfree(use);
}

/**
 * dmabuf_rw_file_touch - the file is being written: set its time, take off it what a
 * write does, tell its watchers
 * @use: of a mapping that writes
 *
 * Context: may sleep, as long as the file system is frozen.
 * Return: 0, or why the file system cannot be written any more.
 */
int dmabuf_rw_file_touch(struct dmabuf_rw_file_use *use)
{
	struct inode *inode = file_inode(use->file);
	const struct cred *mapper = NULL, *own;
	int ret;

	/*
	 * Who sends the I/O may have given up what the mapper could do. A kernel thread, which
	 * sends it again, could do more than either: it may keep set-user-ID.
	 */
	if (current->flags & PF_KTHREAD)
		mapper = use->held->writer;
	own = dmabuf_rw_rights_use(mapper);
	sb_start_write(inode->i_sb);
	WRITE_ONCE(use->touch, jiffies + TOUCH_EVERY);
	WRITE_ONCE(use->written, false);
	inode_lock(inode);
	ret = file_modified(use->file);
	inode_unlock(inode);
	sb_end_write(inode->i_sb);
	dmabuf_rw_rights_back(own);
	if (ret)
		return ret;
	fsnotify_modify(use->file);
	return 0;
}

/**
 * dmabuf_rw_file_thaw_wait - wait until the file system is not frozen
 * @use: of a mapping that writes
 *
 * Context: may sleep, as any write of a frozen file system does.
 */
void dmabuf_rw_file_thaw_wait(struct dmabuf_rw_file_use *use)
{
	struct super_block *sb = file_inode(use->file)->i_sb;

	sb_start_write(sb);
	sb_end_write(sb);
}
