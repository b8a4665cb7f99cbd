// SPDX-License-Identifier: GPL-2.0-only
/*
 * INFO: what a mapping is, where its memory is, and what it has done.
 */
#include <linux/percpu.h>
#include <linux/uaccess.h>

#include "addresses.h"
#include "attach.h"
#include "fence.h"
#include "info.h"
#include "mapping.h"
#include "pages.h"
#include "session.h"

static void info_counts(struct dmabuf_rw_info *info, const struct dmabuf_rw_mapping *m)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		const struct dmabuf_rw_counts *c = per_cpu_ptr(m->counts, cpu);

		info->reads += READ_ONCE(c->reads);
		info->writes += READ_ONCE(c->writes);
		info->read_bytes += READ_ONCE(c->read_bytes);
		info->write_bytes += READ_ONCE(c->write_bytes);
		info->commands += READ_ONCE(c->commands);
		info->errors += READ_ONCE(c->errors);
		info->deferred += READ_ONCE(c->deferred);
	}
	info->last_error = READ_ONCE(m->last_error);
	info->last_reason = READ_ONCE(m->last_reason);
	info->last_status = READ_ONCE(m->last_status);
}

static int info_attach(struct dmabuf_rw_info *info, struct dmabuf_rw_mapping *m)
{
	int ret = dmabuf_rw_resv_lock(m->dmabuf);
	struct dmabuf_rw_attach *a;

	if (ret)
		return ret;
	a = m->attach;
	info->state = READ_ONCE(a->gone) ? DMABUF_RW_STATE_DEVICE_GONE : a->state;
	info->controller = m->target.controller;
	info->path_changes = m->path_changes;
	dmabuf_rw_attach_classify(a);
	info->memory = a->place.memory;
	info->route = a->place.route;
	info->segments = a->segments;
	info->shared = a->nr_members;
	info->smallest_segment = a->smallest;
	info->largest_segment = a->largest;
	info->invalidations = a->invalidations;
	info->map_ns = a->map_ns;
	info->max_command_bytes = m->target.max_command;
	if (m->target.use) {
		info->extents = m->target.use->extents->nr;
		info->held_bytes = m->target.use->extents->bytes;
	}
	dma_resv_unlock(m->dmabuf->resv);
	return 0;
}

static void info_pages(struct dmabuf_rw_info *info, const struct dmabuf_rw_pages *pages)
{
	info->state = dmabuf_rw_pin_lost(&pages->pin) ? DMABUF_RW_STATE_REVOKED :
		DMABUF_RW_STATE_LIVE;
	info->memory = DMABUF_RW_MEM_SYSTEM;
	info->route = DMABUF_RW_ROUTE_MEMORY;
	info->segments = pages->nr_bvecs;
	info->shared = 1;
	info->smallest_segment = pages->smallest;
	info->largest_segment = pages->largest;
	info->map_ns = pages->map_ns;
	info->registrations = atomic64_read(&pages->registrations);
	info->registered = atomic64_read(&pages->registered);
}

/**
 * dmabuf_rw_info_fill - describe a mapping
 * @info: out
 * @m: the mapping; the caller holds a reference
 *
 * Context: may sleep; takes the dma_resv of a premapped one.
 * Return: 0 or -EINTR.
 */
int dmabuf_rw_info_fill(struct dmabuf_rw_info *info, struct dmabuf_rw_mapping *m)
{
	memset(info, 0, sizeof(*info));
	info->handle = m->handle;
	info->path = m->ops->path;
	info->controller = DMABUF_RW_NO_CONTROLLER;
	info->directions = m->directions;
	info->buffer_bytes = m->size;
	info_counts(info, m);
	if (m->attach)
		return info_attach(info, m);
	info_pages(info, m->pages);
	return 0;
}

/**
 * dmabuf_rw_ioctl_info - DMABUF_RW_IOC_INFO
 * @session: the session
 * @arg: struct dmabuf_rw_info
 *
 * Counters are exact once the I/O has ended. Classes, counts and lengths only:
 * no address leaves the kernel.
 *
 * Return: 0, -EINVAL, -ENOENT (handle), -EFAULT, -ERESTARTSYS or -EINTR.
 */
long dmabuf_rw_ioctl_info(struct dmabuf_rw_session *session, void __user *arg)
{
	struct dmabuf_rw_info in, info;
	struct dmabuf_rw_mapping *m;
	int ret;

	if (copy_from_user(&in, arg, sizeof(in)))
		return -EFAULT;
	if (in.flags || memchr_inv(in.reserved, 0, sizeof(in.reserved)))
		return -EINVAL;
	m = dmabuf_rw_mapping_get(session, in.handle);
	if (!m)
		return -ENOENT;

	ret = dmabuf_rw_info_fill(&info, m);
	dmabuf_rw_mapping_put(m);
	if (ret)
		return ret;
	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}
