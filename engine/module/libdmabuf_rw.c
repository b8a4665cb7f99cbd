// SPDX-License-Identifier: MIT
#include "module/libdmabuf_rw.h"

#include "module/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct drw_session {
	int fd;
	struct dmabuf_rw_query query;
};

/* The device cannot be opened. */
static int open_error(struct drw_error *error, int code)
{
	if (!error)
		return -code;
	error->code = code;
	error->reason = DMABUF_RW_REASON_NONE;
	drw_open_text(error->text, sizeof(error->text), code);
	return -code;
}

static uint64_t address(const void *pointer)
{
	return (uintptr_t)pointer;
}

int drw_open(struct drw_session **session, struct drw_error *error)
{
	struct drw_session *made = calloc(1, sizeof(*made));
	int code;

	*session = NULL;
	if (!made)
		return open_error(error, ENOMEM);
	made->fd = open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC);
	if (made->fd < 0) {
		code = errno;
		free(made);
		return open_error(error, code);
	}
	if (ioctl(made->fd, DMABUF_RW_IOC_QUERY, &made->query) < 0) {
		code = errno;
		drw_close(made);
		return error_reason(error, DMABUF_RW_REASON_ARGUMENT, code,
				    "the loaded dmabuf_rw module does not answer QUERY: ");
	}
	*session = made;
	return 0;
}

void drw_close(struct drw_session *session)
{
	if (!session)
		return;
	close(session->fd);
	free(session);
}

int drw_fd(const struct drw_session *session)
{
	return session->fd;
}

const struct dmabuf_rw_query *drw_query(const struct drw_session *session)
{
	return &session->query;
}

int drw_set_timeout(struct drw_session *session, unsigned int timeout_ms, struct drw_error *error)
{
	struct dmabuf_rw_config config = { .timeout_ms = timeout_ms };

	if (!(session->query.features & DMABUF_RW_FEAT_TIMEOUT))
		return error_plain(error, EOPNOTSUPP, "the loaded dmabuf_rw module has no time-out");
	if (ioctl(session->fd, DMABUF_RW_IOC_CONFIG, &config) < 0)
		return error_plain(error, errno, "the module refused the time-out");
	return 0;
}

int drw_map_entry(struct drw_session *session, struct dmabuf_rw_map_entry *entry)
{
	struct dmabuf_rw_map map = { .entries = address(entry), .nr_entries = 1 };

	if (ioctl(session->fd, DMABUF_RW_IOC_MAP, &map) < 0)
		return -errno;
	return -(int)entry->error;
}

/* Why @entry was not mapped; @asked is the path that the caller wanted. */
static int map_error(struct drw_error *error, const struct dmabuf_rw_map_entry *entry,
		     uint32_t asked)
{
	struct text text;

	if (!error)
		return -(int)entry->error;
	error->code = (int32_t)entry->error;
	error->reason = entry->reason;
	text = text_begin(error->text, sizeof(error->text));
	text_add(&text, "cannot be mapped with datapath %s: ", drw_path_name(asked));
	text_add_cause(&text, entry->reason, error->code);
	text_add(&text, "; %s", drw_reason_of(entry->reason)->remedy);
	if (asked == DMABUF_RW_PATH_AUTO) {
		char refused[640];

		if (drw_refused_text(refused, sizeof(refused), entry))
			text_add(&text, " [%s]", refused);
	}
	return -error->code;
}

int drw_map(struct drw_session *session, int dmabuf, int target, uint32_t path, uint32_t directions,
	    struct drw_mapping *mapping, struct drw_error *error)
{
	struct dmabuf_rw_map_entry entry = {
		.dmabuf_fd = (uint32_t)dmabuf,
		.target_fd = target < 0 ? DMABUF_RW_NO_TARGET : (uint32_t)target,
		.path = path,
		.directions = directions,
	};
	struct dmabuf_rw_info info;
	int ret;

	memset(mapping, 0, sizeof(*mapping));
	ret = drw_map_entry(session, &entry);
	if (entry.error)
		return map_error(error, &entry, path);
	if (ret)
		return error_plain(error, -ret, "the module did not accept the mapping");
	ret = drw_info(session, entry.handle, &info, error);
	if (ret) {
		drw_unmap(session, entry.handle, NULL);
		return ret;
	}
	mapping->handle = entry.handle;
	mapping->path = entry.path;
	mapping->memory = info.memory;
	mapping->route = info.route;
	mapping->segments = entry.segments;
	mapping->buffer_align = entry.buffer_align;
	mapping->length_align = entry.length_align;
	mapping->max_command_bytes = entry.max_command_bytes;
	mapping->buffer_bytes = entry.buffer_bytes;
	return 0;
}

int drw_unmap(struct drw_session *session, uint32_t handle, struct drw_error *error)
{
	struct dmabuf_rw_unmap unmap = { .handles = address(&handle), .nr_handles = 1 };
	int ret;

	/* The mapping is there until this has succeeded, whatever signals arrive. */
	do
		ret = ioctl(session->fd, DMABUF_RW_IOC_UNMAP, &unmap);
	while (ret < 0 && errno == EINTR);
	return ret < 0 ? error_plain(error, errno, "the module could not unmap") : 0;
}

int drw_info(struct drw_session *session, uint32_t handle, struct dmabuf_rw_info *info,
	     struct drw_error *error)
{
	memset(info, 0, sizeof(*info));
	info->handle = handle;
	if (ioctl(session->fd, DMABUF_RW_IOC_INFO, info) < 0)
		return error_plain(error, errno, "the module gives no INFO about a mapping");
	return 0;
}

static ssize_t run_io(struct drw_session *session, struct dmabuf_rw_io *io, struct drw_error *error)
{
	if (ioctl(session->fd, DMABUF_RW_IOC_IO, io) < 0)
		return error_reason(error, io->reason, errno,
				    io->direction == DMABUF_RW_DIR_READ ? "cannot read: " :
									  "cannot write: ");
	return (ssize_t)io->moved;
}

ssize_t drw_read(struct drw_session *session, uint32_t handle, uint64_t buffer_offset,
		 uint64_t length, uint64_t file_offset, struct drw_error *error)
{
	struct dmabuf_rw_io read = {
		.handle = handle, .direction = DMABUF_RW_DIR_READ,
		.buffer_offset = buffer_offset, .file_offset = file_offset, .length = length,
	};

	return run_io(session, &read, error);
}

ssize_t drw_write(struct drw_session *session, uint32_t handle, uint64_t buffer_offset,
		  uint64_t length, uint64_t file_offset, struct drw_error *error)
{
	struct dmabuf_rw_io write = {
		.handle = handle, .direction = DMABUF_RW_DIR_WRITE,
		.buffer_offset = buffer_offset, .file_offset = file_offset, .length = length,
	};

	return run_io(session, &write, error);
}

int drw_open_file(struct drw_session *session, int dmabuf, int flags,
		  struct dmabuf_rw_open *opened, struct drw_error *error)
{
	struct dmabuf_rw_open arg = { .dmabuf_fd = (uint32_t)dmabuf, .flags = (uint32_t)flags };
	int ret = ioctl(session->fd, DMABUF_RW_IOC_OPEN, &arg) < 0 ? -errno : 0;

	if (opened)
		*opened = arg;
	if (ret)
		return error_reason(error, arg.reason, -ret,
				    "the module does not open this dma-buf as a file: ");
	return (int)arg.fd;
}

/* All zero but user_data: what is left from the slot's last use must not count. */
static void clear(struct io_uring_sqe *sqe)
{
	const __u64 user_data = sqe->user_data;

	/* The ring may have entries of 128 bytes, or of 64. */
	memset(sqe, 0, 64);
	sqe->user_data = user_data;
}

static void command(const struct drw_session *session, struct io_uring_sqe *sqe, uint32_t op,
		    uint64_t offset, uint32_t length)
{
	clear(sqe);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = session->fd;
	sqe->cmd_op = op;
	sqe->addr = offset;
	sqe->len = length;
}

static void io_command(const struct drw_session *session, struct io_uring_sqe *sqe, uint32_t op,
		       uint32_t handle, uint64_t buffer_offset, uint32_t length,
		       uint64_t file_offset)
{
	const struct dmabuf_rw_uring_io words = { .file_offset = file_offset, .handle = handle };

	command(session, sqe, op, buffer_offset, length);
	memcpy(&sqe->addr3, &words, sizeof(words));
}

static void slot_command(const struct drw_session *session, struct io_uring_sqe *sqe, uint32_t op,
			 uint32_t handle, uint32_t slot, uint32_t flags, uint64_t offset,
			 uint32_t length)
{
	const struct dmabuf_rw_uring_reg words = {
		.handle = handle, .index = slot, .flags = flags,
	};

	command(session, sqe, op, offset, length);
	memcpy(&sqe->addr3, &words, sizeof(words));
}

static void fixed(struct io_uring_sqe *sqe, uint8_t opcode, int file, uint16_t slot,
		  uint64_t buffer_offset, uint32_t length, uint64_t file_offset)
{
	clear(sqe);
	sqe->opcode = opcode;
	sqe->fd = file;
	sqe->off = file_offset;
	sqe->addr = buffer_offset;
	sqe->len = length;
	sqe->buf_index = slot;
}

void drw_prep_read(const struct drw_session *session, struct io_uring_sqe *sqe, uint32_t handle,
		   uint64_t buffer_offset, uint32_t length, uint64_t file_offset)
{
	io_command(session, sqe, DMABUF_RW_URING_READ, handle, buffer_offset, length, file_offset);
}

void drw_prep_write(const struct drw_session *session, struct io_uring_sqe *sqe, uint32_t handle,
		    uint64_t buffer_offset, uint32_t length, uint64_t file_offset)
{
	io_command(session, sqe, DMABUF_RW_URING_WRITE, handle, buffer_offset, length, file_offset);
}

void drw_prep_register(const struct drw_session *session, struct io_uring_sqe *sqe,
		       uint32_t handle, uint32_t slot)
{
	slot_command(session, sqe, DMABUF_RW_URING_REGISTER, handle, slot, 0, 0, 0);
}

void drw_prep_register_window(const struct drw_session *session, struct io_uring_sqe *sqe,
			      uint32_t handle, uint32_t slot, uint64_t offset, uint32_t length)
{
	slot_command(session, sqe, DMABUF_RW_URING_REGISTER, handle, slot, DMABUF_RW_REG_WINDOW,
		     offset, length);
}

void drw_prep_unregister(const struct drw_session *session, struct io_uring_sqe *sqe,
			 uint32_t slot)
{
	slot_command(session, sqe, DMABUF_RW_URING_UNREGISTER, 0, slot, 0, 0, 0);
}

void drw_prep_read_fixed(struct io_uring_sqe *sqe, int file, uint16_t slot,
			 uint64_t buffer_offset, uint32_t length, uint64_t file_offset)
{
	fixed(sqe, IORING_OP_READ_FIXED, file, slot, buffer_offset, length, file_offset);
}

void drw_prep_write_fixed(struct io_uring_sqe *sqe, int file, uint16_t slot,
			  uint64_t buffer_offset, uint32_t length, uint64_t file_offset)
{
	fixed(sqe, IORING_OP_WRITE_FIXED, file, slot, buffer_offset, length, file_offset);
}

void drw_prep_send_zc_fixed(struct io_uring_sqe *sqe, int socket, uint16_t slot,
			    uint64_t buffer_offset, uint32_t length, int msg_flags,
			    unsigned int zc_flags)
{
	fixed(sqe, IORING_OP_SEND_ZC, socket, slot, buffer_offset, length, 0);
	sqe->msg_flags = (uint32_t)msg_flags;
	sqe->ioprio = (uint16_t)(zc_flags | IORING_RECVSEND_FIXED_BUF);
}
