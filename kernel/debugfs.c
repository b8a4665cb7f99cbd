// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/dmabuf_rw/mappings: what is mapped now, a line each. For
 * people; programs use INFO. Costs nothing unless it is read.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "debugfs.h"
#include "info.h"
#include "limits.h"
#include "mapping.h"
#include "session.h"

static struct dentry *debugfs_dir;

static void show_mapping(struct seq_file *seq, const struct dmabuf_rw_session *session,
			 struct dmabuf_rw_mapping *m)
{
	static const char * const paths[DMABUF_RW_NR_PATHS] = {
		[DMABUF_RW_PATH_AUTO] = "?",
		[DMABUF_RW_PATH_PREMAPPED] = "premapped",
		[DMABUF_RW_PATH_REGISTERED] = "registered",
		[DMABUF_RW_PATH_BVEC] = "bvec",
	};
	static const char * const states[] = {
		[DMABUF_RW_STATE_LIVE] = "live",
		[DMABUF_RW_STATE_INVALIDATED] = "invalidated",
		[DMABUF_RW_STATE_REVOKED] = "revoked",
		[DMABUF_RW_STATE_DEVICE_GONE] = "device-gone",
	};
	struct dmabuf_rw_info info;

	if (dmabuf_rw_info_fill(&info, m))
		return;
	seq_printf(seq, "%7u %7d %#10x %-10s %-11s %10llu %14llu %8u %6u %12llu %12llu %8llu %6llu %6llu\n",
		   session->id, session->opener, info.handle, paths[info.path],
		   states[info.state], (u64)file_inode(m->dmabuf->file)->i_ino, info.buffer_bytes,
		   info.segments, info.shared, info.reads, info.writes, info.commands,
		   info.errors, info.invalidations);
}

static void show_session(struct dmabuf_rw_session *session, void *data)
{
	struct dmabuf_rw_mapping *m;
	u32 i;

	for (i = 0; i < DMABUF_RW_MAX_MAPPINGS; i++) {
		rcu_read_lock();
		m = rcu_dereference(session->slots[i].mapping);
		if (m && !refcount_inc_not_zero(&m->refs))
			m = NULL;
		rcu_read_unlock();
		if (!m)
			continue;
		show_mapping(data, session, m);
		dmabuf_rw_mapping_put(m);
	}
}

static int mappings_show(struct seq_file *seq, void *unused)
{
	seq_printf(seq, "%7s %7s %10s %-10s %-11s %10s %14s %8s %6s %12s %12s %8s %6s %6s\n",
		   "session", "pid", "handle", "path", "state", "dmabuf", "bytes", "segments",
		   "shared", "reads", "writes", "commands", "errors", "moves");
	dmabuf_rw_visit_sessions(show_session, seq);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(mappings);

/**
 * dmabuf_rw_debugfs_init - make the debugfs files, where there is a debugfs
 */
void dmabuf_rw_debugfs_init(void)
{
	debugfs_dir = debugfs_create_dir("dmabuf_rw", NULL);
	debugfs_create_file("mappings", 0400, debugfs_dir, NULL, &mappings_fops);
}

/**
 * dmabuf_rw_debugfs_exit - undo dmabuf_rw_debugfs_init()
 */
void dmabuf_rw_debugfs_exit(void)
{
	debugfs_remove_recursive(debugfs_dir);
}
