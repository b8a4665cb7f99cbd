// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sessions: handles, and the life of what they name.
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
#include <linux/file.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "dmabuf_rw.h"

#define HANDLE_INDEX_BITS	ilog2(DMABUF_RW_MAX_MAPPINGS)
#define HANDLE_INDEX_MASK	(DMABUF_RW_MAX_MAPPINGS - 1)
#define HANDLE_GENERATIONS	(1U << (32 - HANDLE_INDEX_BITS))

static LIST_HEAD(dmabuf_rw_sessions);
static DEFINE_MUTEX(dmabuf_rw_sessions_lock);

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
	struct user_struct *user = current_user();
	u32 open = 0;

	session = kzalloc(sizeof(*session), GFP_KERNEL_ACCOUNT);
	if (!session)
		return -ENOMEM;
	session->slots = kvcalloc(DMABUF_RW_MAX_MAPPINGS, sizeof(*session->slots),
				  GFP_KERNEL_ACCOUNT);
	if (!session->slots) {
		kfree(session);
		return -ENOMEM;
	}
	mutex_init(&session->lock);

	mutex_lock(&dmabuf_rw_sessions_lock);
	list_for_each_entry(other, &dmabuf_rw_sessions, node)
		open += other->user == user;
	if (open >= DMABUF_RW_MAX_SESSIONS && !capable(CAP_SYS_RESOURCE)) {
		mutex_unlock(&dmabuf_rw_sessions_lock);
		kvfree(session->slots);
		kfree(session);
		return -EMFILE;
	}
	session->user = get_uid(user);
	list_add(&session->node, &dmabuf_rw_sessions);
	mutex_unlock(&dmabuf_rw_sessions_lock);

	file->private_data = session;
	return nonseekable_open(inode, file);
}

/**
 * dmabuf_rw_find_rcu - what a handle names
 * @session: where
 * @handle: from user space
 *
 * Context: rcu_read_lock() held; the mapping stays memory until it is dropped.
 * Return: the mapping, perhaps one that is just being unmapped, or NULL.
 */
struct dmabuf_rw_mapping *
dmabuf_rw_find_rcu(const struct dmabuf_rw_session *session, u32 handle)
{
	u32 index = array_index_nospec(handle & HANDLE_INDEX_MASK, DMABUF_RW_MAX_MAPPINGS);
	struct dmabuf_rw_mapping *m = rcu_dereference(session->slots[index].mapping);

	return likely(m && m->handle == handle) ? m : NULL;
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

/**
 * dmabuf_rw_mapping_put - drop a reference to a mapping
 * @m: freed with the last one, the target and the attachment with it
 *
 * Context: may sleep; no lock of this module held.
 */
void dmabuf_rw_mapping_put(struct dmabuf_rw_mapping *m)
{
	if (!refcount_dec_and_test(&m->refs))
		return;
	if (m->path == DMABUF_RW_PATH_PREMAPPED)
		percpu_ref_exit(&m->io);
	if (m->attach)
		dmabuf_rw_attach_put(m->attach);
	if (m->pages)
		dmabuf_rw_pages_put(m->pages);
	dmabuf_rw_target_put(&m->target);
	dmabuf_rw_uncharge(m->user, m->charged);
	free_uid(m->user);
	free_percpu(m->counts);
	kfree_rcu(m, rcu);
}

static void mapping_drained(struct percpu_ref *ref)
{
	complete_all(&container_of(ref, struct dmabuf_rw_mapping, io)->drained);
}

/* A mapping without memory or target, in no table. */
static struct dmabuf_rw_mapping *mapping_new(struct dmabuf_rw_session *session, u32 directions)
{
	struct dmabuf_rw_mapping *m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);

	if (!m)
		return NULL;
	m->counts = alloc_percpu_gfp(struct dmabuf_rw_counts, GFP_KERNEL_ACCOUNT);
	if (!m->counts) {
		kfree(m);
		return NULL;
	}
	refcount_set(&m->refs, 1);
	init_completion(&m->drained);
	m->directions = directions;
	m->user = get_uid(session->user);
	m->timeout = msecs_to_jiffies(READ_ONCE(session->timeout_ms));
	m->fence_ms = READ_ONCE(session->timeout_ms) ?: DMABUF_RW_FENCE_MS;
	return m;
}

/* Make @m a premapped mapping; on failure it is as it was. */
static struct dmabuf_rw_result map_premapped(struct dmabuf_rw_mapping *m,
					     struct dma_buf *dmabuf, struct file *target,
					     u32 hint)
{
	struct dmabuf_rw_result result;

	if (!target)
		return dmabuf_rw_fail(-EBADF, DMABUF_RW_REASON_BAD_TARGET);
	if (dmabuf_rw_charge(m->user, dmabuf->size, &m->charged))
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_MEMLOCK);
	result = dmabuf_rw_target_nvme(&m->target, target, m->directions, hint);
	if (result.error)
		goto uncharge;
	result = dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	if (percpu_ref_init(&m->io, mapping_drained, PERCPU_REF_ALLOW_REINIT, GFP_KERNEL))
		goto put_target;
	m->dmabuf = dmabuf;
	result = dmabuf_rw_attach_join(m, dmabuf);
	if (result.error)
		goto exit_ref;
	m->path = DMABUF_RW_PATH_PREMAPPED;
	return DMABUF_RW_OK;

exit_ref:
	percpu_ref_exit(&m->io);
put_target:
	dmabuf_rw_target_put(&m->target);
uncharge:
	dmabuf_rw_uncharge(m->user, m->charged);
	m->charged = 0;
	m->dmabuf = NULL;
	return result;
}

static struct dmabuf_rw_result map_registered(struct dmabuf_rw_mapping *m,
					      struct dma_buf *dmabuf)
{
	struct dmabuf_rw_result result = dmabuf_rw_registered_map(m, dmabuf, m->user);

	if (!result.error) {
		m->dmabuf = dmabuf;
		m->path = DMABUF_RW_PATH_REGISTERED;
	}
	return result;
}

/*
 * Is this a refusal that leaves the other datapaths open, or something that
 * would be wrong with any of them?
 */
static bool map_try_next(struct dmabuf_rw_result result)
{
	return result.error == -EOPNOTSUPP;
}

static struct dmabuf_rw_result map_by_path(struct dmabuf_rw_mapping *m, struct dma_buf *dmabuf,
					   struct file *target, u32 hint,
					   struct dmabuf_rw_map_entry *e)
{
	struct dmabuf_rw_result result;

	switch (e->path) {
	case DMABUF_RW_PATH_PREMAPPED:
		return map_premapped(m, dmabuf, target, hint);
	case DMABUF_RW_PATH_REGISTERED:
		return map_registered(m, dmabuf);
	}

	result = map_premapped(m, dmabuf, target, hint);
	if (!map_try_next(result))
		return result;
	e->refused[DMABUF_RW_PATH_PREMAPPED] = result.reason;
	result = map_registered(m, dmabuf);
	if (!map_try_next(result))
		return result;
	e->refused[DMABUF_RW_PATH_REGISTERED] = result.reason;
	return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NO_PATH_FITS);
}

static struct dmabuf_rw_result map_check(const struct dmabuf_rw_map_entry *e)
{
	const struct dmabuf_rw_result bad = { -EINVAL, DMABUF_RW_REASON_ARGUMENT };

	if (e->flags || memchr_inv(e->reserved, 0, sizeof(e->reserved)))
		return bad;
	if (e->path > DMABUF_RW_PATH_REGISTERED)
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
					       const struct file *target, u32 directions)
{
	fmode_t mode = dmabuf->file->f_mode;

	if ((directions & DMABUF_RW_DIR_READ) && !(mode & FMODE_WRITE))
		return dmabuf_rw_fail(-EACCES, DMABUF_RW_REASON_DMABUF_MODE);
	if ((directions & DMABUF_RW_DIR_WRITE) && !(mode & FMODE_READ))
		return dmabuf_rw_fail(-EACCES, DMABUF_RW_REASON_DMABUF_MODE);
	return target ? dmabuf_rw_target_modes(target, directions) : DMABUF_RW_OK;
}

/* A free slot, found from where the last search ended. Session lock held. */
static struct dmabuf_rw_slot *slot_find(struct dmabuf_rw_session *session, u32 *index)
{
	u32 i;

	for (i = 0; i < DMABUF_RW_MAX_MAPPINGS; i++) {
		*index = (session->next_slot + i) & HANDLE_INDEX_MASK;
		if (!rcu_access_pointer(session->slots[*index].mapping)) {
			session->next_slot = *index + 1;
			return &session->slots[*index];
		}
	}
	return NULL;
}

/* Give the mapping a handle. From here on user space can reach it. */
static struct dmabuf_rw_result session_insert(struct dmabuf_rw_session *session,
					      struct dmabuf_rw_mapping *m)
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
	session->nr_mappings++;
	rcu_assign_pointer(slot->mapping, m);
	return DMABUF_RW_OK;
}

/* Take the mapping out of the table; nobody finds it any more. */
static struct dmabuf_rw_mapping *session_remove(struct dmabuf_rw_session *session, u32 handle)
{
	u32 index = array_index_nospec(handle & HANDLE_INDEX_MASK, DMABUF_RW_MAX_MAPPINGS);
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

/* Stop all, then wait for all: what waiting costs is paid once. */
static void mappings_unmap(struct list_head *doomed)
{
	struct dmabuf_rw_mapping *m, *next;

	list_for_each_entry(m, doomed, doomed)
		if (m->path == DMABUF_RW_PATH_PREMAPPED)
			dmabuf_rw_attach_stop(m);
	list_for_each_entry_safe(m, next, doomed, doomed) {
		if (m->path == DMABUF_RW_PATH_PREMAPPED)
			dmabuf_rw_attach_leave(m);
		list_del(&m->doomed);
		dmabuf_rw_mapping_put(m);
	}
}

static void mapping_unmap(struct dmabuf_rw_mapping *m)
{
	LIST_HEAD(doomed);

	list_add(&m->doomed, &doomed);
	mappings_unmap(&doomed);
}

static void map_describe(struct dmabuf_rw_map_entry *e, const struct dmabuf_rw_mapping *m)
{
	e->path = m->path;
	e->handle = m->handle;
	e->buffer_bytes = m->size;
	if (m->path == DMABUF_RW_PATH_PREMAPPED) {
		e->max_command_hint = m->target.max_command;
		e->buffer_align = bdev_dma_alignment(m->target.bdev) + 1;
		e->length_align = bdev_logical_block_size(m->target.bdev);
		e->segments = m->attach->segments;
	} else {
		e->max_command_hint = 0;
		e->buffer_align = 1;
		e->length_align = 1;
		e->segments = m->pages->nr_bvecs;
	}
}

/* One entry of MAP, with its files at hand. */
static struct dmabuf_rw_result map_files(struct dmabuf_rw_session *session,
					 struct dmabuf_rw_map_entry *e, struct dma_buf *dmabuf,
					 struct file *target)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_mapping *m;

	result = map_check_modes(dmabuf, target, e->directions);
	if (result.error)
		return result;
	m = mapping_new(session, e->directions);
	if (!m)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	m->size = dmabuf->size;

	result = map_by_path(m, dmabuf, target, e->max_command_hint, e);
	if (result.error) {
		dmabuf_rw_mapping_put(m);
		return result;
	}
	result = session_insert(session, m);
	if (result.error) {
		mapping_unmap(m);
		return result;
	}
	map_describe(e, m);
	return DMABUF_RW_OK;
}

static struct dmabuf_rw_result map_one(struct dmabuf_rw_session *session,
				       struct dmabuf_rw_map_entry *e)
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
	result = map_files(session, e, dmabuf, target);
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
		m = entries[i].error ? NULL : session_remove(session, entries[i].handle);
		if (m)
			list_add_tail(&m->doomed, &doomed);
	}
	mappings_unmap(&doomed);
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

		memset(e->refused, 0, sizeof(e->refused));
		e->handle = 0;
		result = fatal_signal_pending(current) ?
			dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED) : map_one(session, e);
		e->error = -result.error;
		e->reason = result.reason;
		map.nr_mapped += !result.error;
	}

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
		m = session_remove(session, handles[i]);
		if (m) {
			list_add_tail(&m->doomed, &doomed);
			unmap.nr_unmapped++;
		}
	}
	kvfree(handles);
	mappings_unmap(&doomed);
	if (copy_to_user(arg, &unmap, sizeof(unmap)))
		return -EFAULT;
	return unmap.nr_unmapped == unmap.nr_handles ? 0 : -ENOENT;
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
		if (m)
			list_add_tail(&m->doomed, &doomed);
	}
	mappings_unmap(&doomed);
	free_uid(session->user);
	mutex_destroy(&session->lock);
	kvfree(session->slots);
	kfree(session);
	return 0;
}
