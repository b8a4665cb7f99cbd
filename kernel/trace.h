/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dmabuf_rw

#if !defined(DMABUF_RW_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define DMABUF_RW_TRACE_H

#include <linux/tracepoint.h>

/*
 * Mappings are named by session and handle, as user space knows them; the
 * session by the number that debugfs shows. No address is shown.
 */

TRACE_EVENT(dmabuf_rw_map,
	TP_PROTO(u32 session, u32 handle, u32 path, u64 bytes, u32 segments, int error,
		 u32 reason),
	TP_ARGS(session, handle, path, bytes, segments, error, reason),
	TP_STRUCT__entry(
		__field(u32, session)
		__field(u32, handle)
		__field(u32, path)
		__field(u64, bytes)
		__field(u32, segments)
		__field(int, error)
		__field(u32, reason)
	),
	TP_fast_assign(
		__entry->session = session;
		__entry->handle = handle;
		__entry->path = path;
		__entry->bytes = bytes;
		__entry->segments = segments;
		__entry->error = error;
		__entry->reason = reason;
	),
	TP_printk("session=%u handle=%#x path=%u bytes=%llu segments=%u error=%d reason=%u",
		  __entry->session, __entry->handle, __entry->path, __entry->bytes,
		  __entry->segments, __entry->error, __entry->reason)
);

TRACE_EVENT(dmabuf_rw_unmap,
	TP_PROTO(u32 session, u32 handle),
	TP_ARGS(session, handle),
	TP_STRUCT__entry(
		__field(u32, session)
		__field(u32, handle)
	),
	TP_fast_assign(
		__entry->session = session;
		__entry->handle = handle;
	),
	TP_printk("session=%u handle=%#x", __entry->session, __entry->handle)
);

TRACE_EVENT(dmabuf_rw_invalidate,
	TP_PROTO(u64 inode, u32 mappings, u64 wait_ns),
	TP_ARGS(inode, mappings, wait_ns),
	TP_STRUCT__entry(
		__field(u64, inode)
		__field(u32, mappings)
		__field(u64, wait_ns)
	),
	TP_fast_assign(
		__entry->inode = inode;
		__entry->mappings = mappings;
		__entry->wait_ns = wait_ns;
	),
	TP_printk("dmabuf_inode=%llu mappings=%u wait_ns=%llu", __entry->inode,
		  __entry->mappings, __entry->wait_ns)
);

TRACE_EVENT(dmabuf_rw_submit,
	TP_PROTO(u32 session, u32 handle, u32 direction, u64 file_offset, u64 buffer_offset,
		 u32 bytes),
	TP_ARGS(session, handle, direction, file_offset, buffer_offset, bytes),
	TP_STRUCT__entry(
		__field(u32, session)
		__field(u32, handle)
		__field(u32, direction)
		__field(u64, file_offset)
		__field(u64, buffer_offset)
		__field(u32, bytes)
	),
	TP_fast_assign(
		__entry->session = session;
		__entry->handle = handle;
		__entry->direction = direction;
		__entry->file_offset = file_offset;
		__entry->buffer_offset = buffer_offset;
		__entry->bytes = bytes;
	),
	TP_printk("session=%u handle=%#x %s file_offset=%llu buffer_offset=%llu bytes=%u",
		  __entry->session, __entry->handle,
		  __entry->direction == 1 ? "read" : "write", __entry->file_offset,
		  __entry->buffer_offset, __entry->bytes)
);

TRACE_EVENT(dmabuf_rw_complete,
	TP_PROTO(u32 session, u32 handle, u32 direction, long result),
	TP_ARGS(session, handle, direction, result),
	TP_STRUCT__entry(
		__field(u32, session)
		__field(u32, handle)
		__field(u32, direction)
		__field(long, result)
	),
	TP_fast_assign(
		__entry->session = session;
		__entry->handle = handle;
		__entry->direction = direction;
		__entry->result = result;
	),
	TP_printk("session=%u handle=%#x %s result=%ld", __entry->session, __entry->handle,
		  __entry->direction == 1 ? "read" : "write", __entry->result)
);

#endif /* DMABUF_RW_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
