// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP and UNMAP: making a dma-buf ready for a target, in arrays.
 */
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/nvme.h>
#include <linux/sched/signal.h>
#include <linux/cred.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "attach.h"
#include "bvec.h"
#include "limits.h"
#include "map.h"
#include "mapping.h"
#include "member.h"
#include "pages.h"
#include "premapped.h"
#include "registered.h"
#include "session.h"
#include "trace.h"

#define MAP_TRIES	3	/* on a multipath head whose controllers come and go */

static void mapping_drained(struct percpu_ref *ref)
{
	complete_all(&container_of(ref, struct dmabuf_rw_mapping, io)->drained);
}

/*
 * What the entries of one call share. They mostly name the same target, which
 * is looked up once as long as they do.
 */
struct map_call {
	struct dmabuf_rw_target target;	/* all zero: none yet */
	u32 directions;
	u32 hint;
	bool hold;			/* the target is a file that is held */
	struct dmabuf_rw_counts_block *counts;	/* NULL: none yet */
	u32 counts_left;		/* in @counts, from the front */
	u32 entries_left;		/* this one and those after it */
};

/* Counts for one more mapping; on failure @m is as it was. */
static int map_counts(struct map_call *call, struct dmabuf_rw_mapping *m)
{
	if (call->counts_left == 0) {
		u32 nr = min(call->entries_left, DMABUF_RW_COUNTS_BLOCK);

		dmabuf_rw_counts_put(call->counts);
		call->counts = dmabuf_rw_counts_new(nr);
		if (!call->counts)
			return -ENOMEM;
		call->counts_left = nr;
	}
	m->counts = call->counts->counts + --call->counts_left;
	m->counts_block = call->counts;
	refcount_inc(&m->counts_block->refs);
	return 0;
}

/* A mapping without memory or target, in no table. */
static struct dmabuf_rw_mapping *mapping_new(struct dmabuf_rw_session *session,
					     struct map_call *call, u32 directions)
{
	struct dmabuf_rw_mapping *m = kzalloc_obj(*m, GFP_KERNEL_ACCOUNT);

	if (!m)
		return NULL;
	if (map_counts(call, m)) {
		kfree(m);
		return NULL;
	}
	refcount_set(&m->refs, 1);
	init_completion(&m->drained);
	m->directions = directions;
	m->session = session->id;
	m->cred = get_cred(session->cred);
	mutex_init(&m->path_lock);
	m->wait_ms = READ_ONCE(session->timeout_ms) ?: DMABUF_RW_WAIT_MS;
	return m;
}

static struct dmabuf_rw_result map_target(struct map_call *call, struct dmabuf_rw_mapping *m,
					  struct file *file, u32 hint, bool hold)
{
	struct dmabuf_rw_result result;

	if (call->target.file != file || call->directions != m->directions ||
	    call->hint != hint || call->hold != hold) {
		dmabuf_rw_target_put(&call->target);
		result = dmabuf_rw_target_nvme(&call->target, file, m->directions, hint, hold);
		if (result.error)
			return result;
		call->directions = m->directions;
		call->hint = hint;
		call->hold = hold;
	}
	dmabuf_rw_target_copy(&m->target, &call->target);
	return DMABUF_RW_OK;
}

/* By way of the controller that is best now. On failure @m is as it was. */
static struct dmabuf_rw_result map_premapped_once(struct map_call *call,
						  struct dmabuf_rw_mapping *m,
						  struct dma_buf *dmabuf, struct file *target,
						  u32 hint, bool hold)
{
	struct dmabuf_rw_attach *attach;
	struct dmabuf_rw_result result;

	if (!target)
		return dmabuf_rw_fail(-EBADF, DMABUF_RW_REASON_BAD_TARGET);
	if (dmabuf_rw_charge(m->cred->user, dmabuf->size, &m->charged))
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_MEMLOCK);
	result = map_target(call, m, target, hint, hold);
	if (result.error)
		goto uncharge;
	result = dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	if (percpu_ref_init(&m->io, mapping_drained, PERCPU_REF_ALLOW_REINIT, GFP_KERNEL))
		goto put_target;
	m->dmabuf = dmabuf;
	result = dmabuf_rw_attach_get(dmabuf, m->target.dma_dev, &attach);
	if (result.error)
		goto exit_ref;
	result = dmabuf_rw_attach_join(attach, m);
	if (result.error)
		goto put_attach;
	m->ops = &dmabuf_rw_premapped_ops;
	return DMABUF_RW_OK;

put_attach:
	dmabuf_rw_attach_put(attach);
exit_ref:
	percpu_ref_exit(&m->io);
put_target:
	dmabuf_rw_target_put(&m->target);
uncharge:
	dmabuf_rw_uncharge(m->cred->user, m->charged);
	m->charged = 0;
	m->dmabuf = NULL;
	return result;
}

/* Make @m a premapped mapping; on failure it is as it was. */
static struct dmabuf_rw_result map_premapped(struct map_call *call, struct dmabuf_rw_mapping *m,
					     struct dma_buf *dmabuf, struct file *target,
					     u32 hint, bool hold)
{
	struct dmabuf_rw_result result;
	int tries;

	for (tries = 1; ; tries++) {
		result = map_premapped_once(call, m, dmabuf, target, hint, hold);
		if (tries == MAP_TRIES || result.reason != DMABUF_RW_REASON_DEVICE_GONE ||
		    !dmabuf_rw_target_on_head(target))
			return result;
		/* The controller of several that was the best one is just leaving. */
		dmabuf_rw_target_put(&call->target);
		schedule_timeout_killable(msecs_to_jiffies(20) + 1);
		if (fatal_signal_pending(current))
			return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	}
}

static struct dmabuf_rw_result map_registered(struct dmabuf_rw_mapping *m,
					      struct dma_buf *dmabuf)
{
	struct dmabuf_rw_result result;

	if (!dmabuf_rw_registered_available())
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);
	/* io_uring counts the bytes of such a buffer in 32 bits. */
	if (dmabuf->size > DMABUF_RW_MAX_REGISTERED)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SIZE_CAP);
	result = dmabuf_rw_pages_map(dmabuf, m->cred, &m->pages);
	if (result.error)
		return result;
	m->dmabuf = dmabuf;
	m->ops = &dmabuf_rw_registered_ops;
	return DMABUF_RW_OK;
}

static struct dmabuf_rw_result map_bvec(struct dmabuf_rw_mapping *m, struct dma_buf *dmabuf,
					struct file *target)
{
	struct dmabuf_rw_result result;

	if (!target)
		return dmabuf_rw_fail(-EBADF, DMABUF_RW_REASON_BAD_TARGET);
	result = dmabuf_rw_target_file(&m->target, target, m->directions);
	if (result.error)
		return result;
	result = dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	if (percpu_ref_init(&m->io, mapping_drained, 0, GFP_KERNEL))
		goto put_target;
	result = dmabuf_rw_pages_map(dmabuf, m->cred, &m->pages);
	if (result.error)
		goto exit_ref;
	m->dmabuf = dmabuf;
	m->ops = &dmabuf_rw_bvec_ops;
	return DMABUF_RW_OK;

exit_ref:
	percpu_ref_exit(&m->io);
put_target:
	dmabuf_rw_target_put(&m->target);
	return result;
}

/*
 * Is this a refusal that leaves the other datapaths open, or something that
 * would be wrong with any of them?
 */
static bool map_try_next(struct dmabuf_rw_result result)
{
	/* A drive that fails the one read of nvme_proof.c may serve others well. */
	return result.error == -EOPNOTSUPP || result.reason == DMABUF_RW_REASON_DRIVE;
}

static struct dmabuf_rw_result map_by_path(struct map_call *call, struct dmabuf_rw_mapping *m,
					   struct dma_buf *dmabuf, struct file *target, u32 hint,
					   struct dmabuf_rw_map_entry *e)
{
	struct dmabuf_rw_result result;

	switch (e->path) {
	case DMABUF_RW_PATH_PREMAPPED:
		return map_premapped(call, m, dmabuf, target, hint,
				     e->flags & DMABUF_RW_MAP_HOLD_FILE);
	case DMABUF_RW_PATH_REGISTERED:
		return map_registered(m, dmabuf);
	case DMABUF_RW_PATH_BVEC:
		return map_bvec(m, dmabuf, target);
	}

	result = map_premapped(call, m, dmabuf, target, hint, false);
	if (!map_try_next(result))
		return result;
	e->refused[DMABUF_RW_PATH_PREMAPPED] = result.reason;
	result = map_registered(m, dmabuf);
	if (!map_try_next(result))
		return result;
	e->refused[DMABUF_RW_PATH_REGISTERED] = result.reason;
	result = map_bvec(m, dmabuf, target);
	if (!map_try_next(result))
		return result;
	e->refused[DMABUF_RW_PATH_BVEC] = result.reason;
	return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NO_PATH_FITS);
}

static struct dmabuf_rw_result map_check(const struct dmabuf_rw_map_entry *e)
{
	const struct dmabuf_rw_result bad = { -EINVAL, DMABUF_RW_REASON_ARGUMENT };

	if ((e->flags & ~(DMABUF_RW_MAP_READ_FUA | DMABUF_RW_MAP_HOLD_FILE)) || e->reserved0 ||
	    memchr_inv(e->reserved, 0, sizeof(e->reserved)))
		return bad;
	if (e->path >= DMABUF_RW_NR_PATHS)
		return bad;
	/* No other datapath makes the command of a read itself, or leaves the file system out. */
	if (e->flags && e->path != DMABUF_RW_PATH_PREMAPPED)
		return bad;
	if (!e->directions || (e->directions & ~(DMABUF_RW_DIR_READ | DMABUF_RW_DIR_WRITE)))
		return bad;
	if (e->max_command_hint & (DMABUF_RW_GRANULE - 1))
		return bad;
	if (e->target_fd == DMABUF_RW_NO_TARGET && e->path != DMABUF_RW_PATH_REGISTERED)
		return dmabuf_rw_fail(-EBADF, DMABUF_RW_REASON_BAD_TARGET);
	return DMABUF_RW_OK;
}

static struct dmabuf_rw_result map_check_modes(const struct dma_buf *dmabuf,
					       const struct file *target,
					       const struct dmabuf_rw_map_entry *e)
{
	fmode_t mode = dmabuf->file->f_mode;
	u32 directions = e->directions;

	if ((directions & DMABUF_RW_DIR_READ) && !(mode & FMODE_WRITE))
		return dmabuf_rw_fail(-EACCES, DMABUF_RW_REASON_DMABUF_MODE);
	if ((directions & DMABUF_RW_DIR_WRITE) && !(mode & FMODE_READ))
		return dmabuf_rw_fail(-EACCES, DMABUF_RW_REASON_DMABUF_MODE);
	/* A caller who may write a file that is held has it open for reading. */
	if (e->flags & DMABUF_RW_MAP_HOLD_FILE)
		directions = DMABUF_RW_DIR_READ;
	return target ? dmabuf_rw_target_modes(target, directions) : DMABUF_RW_OK;
}

static void mapping_unmap(struct dmabuf_rw_mapping *m)
{
	LIST_HEAD(doomed);

	list_add(&m->doomed, &doomed);
	dmabuf_rw_unmap_all(&doomed);
}

/* What O_DIRECT I/O of the block layer asks for; without it, any offset does. */
static void map_alignment(struct dmabuf_rw_map_entry *e, const struct file *target)
{
	struct block_device *bdev = NULL;
	struct inode *inode;

	e->buffer_align = 1;
	e->length_align = 1;
	if (!target || !(target->f_flags & O_DIRECT))
		return;
	inode = target->f_mapping->host;
	if (S_ISBLK(inode->i_mode))
		bdev = I_BDEV(inode);
	else
		bdev = inode->i_sb->s_bdev;
	if (!bdev)
		return;
	e->buffer_align = bdev_dma_alignment(bdev) + 1;
	e->length_align = bdev_logical_block_size(bdev);
	if (DMABUF_RW_PIECES_ARE_BLOCKS)
		e->buffer_align = max(e->buffer_align, e->length_align);
}

/*
 * What the caller is told. Before the mapping has a handle: from then on
 * another thread may unmap it.
 */
static void map_describe(struct dmabuf_rw_map_entry *e, const struct dmabuf_rw_mapping *m,
			 const struct file *target)
{
	map_alignment(e, target);
	e->path = m->ops->path;
	e->buffer_bytes = m->size;
	if (m->attach) {
		e->max_command_bytes = m->target.max_command;
		/* Not a multipath head's own, which may be stricter. */
		e->buffer_align = queue_dma_alignment(m->target.disk->queue) + 1;
		e->segments = m->attach->segments;
	} else {
		e->max_command_bytes = 0;
		e->segments = m->pages->nr_bvecs;
	}
}

/* One entry of MAP, with its files at hand. */
static struct dmabuf_rw_result map_files(struct dmabuf_rw_session *session,
					 struct map_call *call, struct dmabuf_rw_map_entry *e,
					 struct dma_buf *dmabuf, struct file *target)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_mapping *m;

	result = map_check_modes(dmabuf, target, e);
	if (result.error)
		return result;
	m = mapping_new(session, call, e->directions);
	if (!m)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	m->size = dmabuf->size;
	if (e->flags & DMABUF_RW_MAP_READ_FUA)
		m->fua[0] = NVME_RW_FUA;
	/* No fcntl() changes these after open(). */
	if (target && ((target->f_flags & O_DSYNC) ||
		       ((e->flags & DMABUF_RW_MAP_HOLD_FILE) && IS_SYNC(file_inode(target)))))
		m->fua[1] = NVME_RW_FUA;

	result = map_by_path(call, m, dmabuf, target, e->max_command_hint, e);
	if (result.error) {
		dmabuf_rw_mapping_put(m);
		return result;
	}
	map_describe(e, m, target);
	result = dmabuf_rw_session_insert(session, m, &e->handle);
	if (result.error)
		mapping_unmap(m);
	return result;
}

static struct dmabuf_rw_result map_one(struct dmabuf_rw_session *session,
				       struct map_call *call, struct dmabuf_rw_map_entry *e)
{
	struct dmabuf_rw_result result = map_check(e);
	struct file *target = NULL;
	struct dma_buf *dmabuf;

	if (result.error)
		return result;
	if (READ_ONCE(session->nr_mappings) >= DMABUF_RW_MAX_MAPPINGS)
		return dmabuf_rw_fail(-EMFILE, DMABUF_RW_REASON_LIMIT);
	dmabuf = dma_buf_get(e->dmabuf_fd);
	if (IS_ERR(dmabuf))
		return dmabuf_rw_fail(PTR_ERR(dmabuf), DMABUF_RW_REASON_NOT_DMABUF);
	if (e->target_fd != DMABUF_RW_NO_TARGET) {
		target = fget(e->target_fd);
		if (!target) {
			dma_buf_put(dmabuf);
			return dmabuf_rw_fail(-EBADF, DMABUF_RW_REASON_BAD_TARGET);
		}
	}
	result = map_files(session, call, e, dmabuf, target);
	if (target)
		fput(target);
	dma_buf_put(dmabuf);
	return result;
}

static void map_undo(struct dmabuf_rw_session *session, const struct dmabuf_rw_map_entry *entries,
		     u32 nr)
{
	struct dmabuf_rw_mapping *m;
	LIST_HEAD(doomed);
	u32 i;

	for (i = 0; i < nr; i++) {
		m = entries[i].error ? NULL : dmabuf_rw_session_remove(session, entries[i].handle);
		if (m)
			list_add_tail(&m->doomed, &doomed);
	}
	dmabuf_rw_unmap_all(&doomed);
}

/**
 * dmabuf_rw_ioctl_map - DMABUF_RW_IOC_MAP
 * @session: the session
 * @arg: struct dmabuf_rw_map
 *
 * Context: process.
 * Return: 0, each entry with its own result; or -EINVAL, -EFAULT, -ENOMEM with
 * nothing mapped.
 */
long dmabuf_rw_ioctl_map(struct dmabuf_rw_session *session, void __user *arg)
{
	struct dmabuf_rw_map_entry *entries;
	struct dmabuf_rw_result result;
	struct map_call call = {};
	struct dmabuf_rw_map map;
	void __user *array;
	long ret = 0;
	u32 i;

	if (copy_from_user(&map, arg, sizeof(map)))
		return -EFAULT;
	if (map.flags || map.reserved || !map.nr_entries || map.nr_entries > DMABUF_RW_MAX_BATCH)
		return -EINVAL;
	array = u64_to_user_ptr(map.entries);
	entries = vmemdup_array_user(array, map.nr_entries, sizeof(*entries));
	if (IS_ERR(entries))
		return PTR_ERR(entries);

	map.nr_mapped = 0;
	for (i = 0; i < map.nr_entries; i++) {
		struct dmabuf_rw_map_entry *e = &entries[i];

		call.entries_left = map.nr_entries - i;
		memset(e->refused, 0, sizeof(e->refused));
		e->handle = 0;
		e->buffer_bytes = 0;
		e->segments = 0;
		e->max_command_bytes = 0;
		result = fatal_signal_pending(current) ?
			dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED) :
			map_one(session, &call, e);
		e->error = -result.error;
		e->reason = result.reason;
		trace_dmabuf_rw_map(session->id, e->handle, e->path, e->buffer_bytes,
				    e->segments, result.error, result.reason);
		map.nr_mapped += !result.error;
	}
	dmabuf_rw_target_put(&call.target);
	dmabuf_rw_counts_put(call.counts);

	if (copy_to_user(array, entries, array_size(map.nr_entries, sizeof(*entries))) ||
	    copy_to_user(arg, &map, sizeof(map))) {
		map_undo(session, entries, map.nr_entries);
		ret = -EFAULT;
	}
	kvfree(entries);
	return ret;
}

/**
 * dmabuf_rw_ioctl_unmap - DMABUF_RW_IOC_UNMAP
 * @session: the session
 * @arg: struct dmabuf_rw_unmap
 *
 * Context: process; waits for the I/O of what is unmapped.
 * Return: 0, -ENOENT (a handle named nothing; the others are unmapped),
 * -EINVAL, -EFAULT, -ENOMEM.
 */
long dmabuf_rw_ioctl_unmap(struct dmabuf_rw_session *session, void __user *arg)
{
	struct dmabuf_rw_unmap unmap;
	struct dmabuf_rw_mapping *m;
	LIST_HEAD(doomed);
	u32 *handles, i;

	if (copy_from_user(&unmap, arg, sizeof(unmap)))
		return -EFAULT;
	if (unmap.flags || unmap.reserved || !unmap.nr_handles ||
	    unmap.nr_handles > DMABUF_RW_MAX_BATCH)
		return -EINVAL;
	handles = vmemdup_array_user(u64_to_user_ptr(unmap.handles), unmap.nr_handles,
				     sizeof(*handles));
	if (IS_ERR(handles))
		return PTR_ERR(handles);

	unmap.nr_unmapped = 0;
	for (i = 0; i < unmap.nr_handles; i++) {
		m = dmabuf_rw_session_remove(session, handles[i]);
		if (m) {
			list_add_tail(&m->doomed, &doomed);
			unmap.nr_unmapped++;
		}
	}
	kvfree(handles);
	dmabuf_rw_unmap_all(&doomed);
	if (copy_to_user(arg, &unmap, sizeof(unmap)))
		return -EFAULT;
	return unmap.nr_unmapped == unmap.nr_handles ? 0 : -ENOENT;
}
