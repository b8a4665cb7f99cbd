/* SPDX-License-Identifier: MIT */
/*
 * libdmabuf_rw: storage read into and written from a dma-buf, by dmabuf_rw.ko.
 *
 * A thin layer over <linux/dmabuf_rw.h>: it opens the module, maps, fills the
 * caller's io_uring submissions, and says in words what was refused. It makes no
 * ring and no thread, and allocates nothing after drw_open(). libdmabuf_rw(3)
 * describes every call.
 *
 * Names begin with drw_, as the kernel's header has the structures dmabuf_rw_*.
 * All calls may be made from several threads at once but drw_close(). After
 * fork(2) the child opens a session of its own.
 *
 * Calls that can fail return 0 (or what they say) or a negative errno. Where
 * @error is not NULL, it then holds the cause in words.
 */
#ifndef LIBDMABUF_RW_H
#define LIBDMABUF_RW_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/dmabuf_rw.h>

#ifdef __cplusplus
extern "C" {
#endif

struct io_uring_sqe;	/* of <liburing.h> or <linux/io_uring.h> */

/* One open of the module's device. What is mapped in it goes away with it. */
struct drw_session;

/* Why a call failed. */
struct drw_error {
	int32_t code;		/* an errno, positive; 0: nothing failed */
	uint32_t reason;	/* DMABUF_RW_REASON_*; NONE where the module gave none */
	char text[1016];	/* cause, then what to try; without a final newline */
};

/* A reason code: its name without the prefix, the cause, and what to try. */
struct drw_reason {
	uint32_t code;
	const char *name;
	const char *sentence;
	const char *remedy;
};

/* A dma-buf made ready for one target. */
struct drw_mapping {
	uint32_t handle;		/* names it in its session */
	uint32_t path;			/* DMABUF_RW_PATH_*, never AUTO */
	uint32_t memory;		/* DMABUF_RW_MEM_*: where the bytes are */
	uint32_t route;			/* DMABUF_RW_ROUTE_*: how the drive reaches them */
	uint32_t segments;		/* pieces the dma-buf has for the drive */
	uint32_t buffer_align;		/* buffer offsets are multiples of it */
	uint32_t length_align;		/* lengths and file offsets, too */
	uint32_t max_command_bytes;	/* longest single command; 0 unless PREMAPPED */
	uint64_t buffer_bytes;		/* size of the dma-buf */
	uint64_t reserved[4];
};

/* The session: open, close, what its file and module are. */
int drw_open(struct drw_session **session, struct drw_error *error);
void drw_close(struct drw_session *session);
int drw_fd(const struct drw_session *session);
const struct dmabuf_rw_query *drw_query(const struct drw_session *session);
int drw_set_timeout(struct drw_session *session, unsigned int timeout_ms, struct drw_error *error);

/*
 * Mappings. @target is -1 for DMABUF_RW_PATH_REGISTERED. drw_map_entry() is the
 * module's MAP of one entry, all of whose fields are the caller's: refused iff
 * entry->error is not 0 afterwards. Both return -EINTR when a signal arrived.
 */
int drw_map(struct drw_session *session, int dmabuf, int target, uint32_t path, uint32_t directions,
	    struct drw_mapping *mapping, struct drw_error *error);
int drw_map_entry(struct drw_session *session, struct dmabuf_rw_map_entry *entry);
int drw_unmap(struct drw_session *session, uint32_t handle, struct drw_error *error);
int drw_info(struct drw_session *session, uint32_t handle, struct dmabuf_rw_info *info,
	     struct drw_error *error);

/* One I/O, waited for. Returns the bytes moved. */
ssize_t drw_read(struct drw_session *session, uint32_t handle, uint64_t buffer_offset,
		 uint64_t length, uint64_t file_offset, struct drw_error *error);
ssize_t drw_write(struct drw_session *session, uint32_t handle, uint64_t buffer_offset,
		  uint64_t length, uint64_t file_offset, struct drw_error *error);

/* The dma-buf as a file. @flags as for open(2); @opened may be NULL. Returns a descriptor. */
int drw_open_file(struct drw_session *session, int dmabuf, int flags,
		  struct dmabuf_rw_open *opened, struct drw_error *error);

/*
 * Submissions for the caller's ring. Each sets all 64 bytes of @sqe but
 * user_data; set flags such as IOSQE_IO_LINK afterwards. The first two are for
 * PREMAPPED and BVEC, the others for REGISTERED: a slot of the ring's buffer
 * table gets the dma-buf, or a window of it, and is then used with ordinary
 * files and sockets.
 */
void drw_prep_read(const struct drw_session *session, struct io_uring_sqe *sqe, uint32_t handle,
		   uint64_t buffer_offset, uint32_t length, uint64_t file_offset);
void drw_prep_write(const struct drw_session *session, struct io_uring_sqe *sqe, uint32_t handle,
		    uint64_t buffer_offset, uint32_t length, uint64_t file_offset);
void drw_prep_register(const struct drw_session *session, struct io_uring_sqe *sqe,
		       uint32_t handle, uint32_t slot);
void drw_prep_register_window(const struct drw_session *session, struct io_uring_sqe *sqe,
			      uint32_t handle, uint32_t slot, uint64_t offset, uint32_t length);
void drw_prep_unregister(const struct drw_session *session, struct io_uring_sqe *sqe,
			 uint32_t slot);
void drw_prep_read_fixed(struct io_uring_sqe *sqe, int file, uint16_t slot,
			 uint64_t buffer_offset, uint32_t length, uint64_t file_offset);
void drw_prep_write_fixed(struct io_uring_sqe *sqe, int file, uint16_t slot,
			  uint64_t buffer_offset, uint32_t length, uint64_t file_offset);
/* @zc_flags: IORING_SEND_ZC_REPORT_USAGE or 0; @msg_flags as for send(2). */
void drw_prep_send_zc_fixed(struct io_uring_sqe *sqe, int socket, uint16_t slot,
			    uint64_t buffer_offset, uint32_t length, int msg_flags,
			    unsigned int zc_flags);

/*
 * Words. The functions with @buffer write as snprintf(3) does: at most @size
 * bytes with the final NUL, and, but for drw_result_text(), return how long the
 * whole text is.
 */
const struct drw_reason *drw_reason_of(uint32_t reason);
/* Why the module's device cannot be opened, by open(2)'s errno, and what to try. */
size_t drw_open_text(char *buffer, size_t size, int code);
const char *drw_path_name(uint32_t path);
const char *drw_memory_name(uint32_t memory);
const char *drw_route_name(uint32_t route);
/* "<sentence> (<name>, <errno's name>)": a cause, without what to try. */
size_t drw_cause_text(char *buffer, size_t size, uint32_t reason, int code);
/* What AUTO passed over: "premapped: <sentence> (<name>); …", "" if nothing. */
size_t drw_refused_text(char *buffer, size_t size, const struct dmabuf_rw_map_entry *entry);
/*
 * A completion's result in words. @session is NULL for one that is not the
 * module's (the _fixed calls). A sentence in any case; returns the reason.
 */
uint32_t drw_result_text(struct drw_session *session, uint32_t handle, int32_t res,
			 uint32_t length, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif

#endif /* LIBDMABUF_RW_H */
