// SPDX-License-Identifier: MIT
/*
 * An exporter of your own, the smallest there is: udmabuf, as the engine has it
 * built in. Put your driver's calls in the place of these.
 *
 *	cc -shared -fPIC -Wall -o udmabuf_plugin.so udmabuf_plugin.c
 *	fio ... --dmabuf_exporter=plugin --dmabuf_device=./udmabuf_plugin.so
 *
 * Built with -DCOPIES it brings read() and write(), as memory must that the CPU
 * cannot mmap().
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/udmabuf.h>

#include <libdmabuf/exporter.h>

#define UDMABUF "/dev/udmabuf"

struct libdmabuf_device {
	int fd;
};

/* The memory as this plug-in reaches it. */
struct libdmabuf_buffer {
	unsigned char *memory;
	size_t bytes;
};

/* Says what failed; the result is for return. */
static int failed(struct libdmabuf_words *why, int code, const char *what)
{
	snprintf(why->text, sizeof(why->text), "%s: %s", what, strerror(code));
	return code;
}

static int open_device(const char *arguments, struct libdmabuf_device **device,
		       struct libdmabuf_words *why)
{
	struct libdmabuf_device *made;
	int code;

	if (*arguments)
		return failed(why, EINVAL, "it takes no arguments");
	made = malloc(sizeof(*made));
	if (!made)
		return failed(why, ENOMEM, "no memory");
	made->fd = open(UDMABUF, O_RDWR | O_CLOEXEC);
	if (made->fd < 0) {
		code = failed(why, errno, UDMABUF " (modprobe udmabuf)");
		free(made);
		return code;
	}
	*device = made;
	return 0;
}

static void close_device(struct libdmabuf_device *device)
{
	close(device->fd);
	free(device);
}

static void free_buffer(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer)
{
	(void)device;
	munmap(buffer->memory, buffer->bytes);
	free(buffer);
}

static int alloc_buffer(struct libdmabuf_device *device, const struct libdmabuf_request *request,
			struct libdmabuf_allocation *made, struct libdmabuf_words *why)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC };
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct libdmabuf_buffer *buffer;
	int code, memfd;

	buffer = malloc(sizeof(*buffer));
	if (!buffer)
		return failed(why, ENOMEM, "no memory");
	buffer->bytes = (request->bytes + page - 1) / page * page;
	memfd = memfd_create("udmabuf_plugin", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memfd < 0 || ftruncate(memfd, (off_t)buffer->bytes) ||
	    fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK)) {
		code = failed(why, errno, "memfd");
		goto err_free;
	}
	buffer->memory = mmap(NULL, buffer->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (buffer->memory == MAP_FAILED) {
		code = failed(why, errno, "mmap");
		goto err_free;
	}
	create.memfd = (unsigned int)memfd;
	create.size = buffer->bytes;
	made->fd = ioctl(device->fd, UDMABUF_CREATE, &create);
	if (made->fd < 0) {
		code = failed(why, errno, "UDMABUF_CREATE; see size_limit_mb of module udmabuf");
		goto err_unmap;
	}
	close(memfd);
	made->buffer = buffer;
	made->bytes = buffer->bytes;
	snprintf(made->device, sizeof(made->device), "%s", UDMABUF);
	return 0;

err_unmap:
	munmap(buffer->memory, buffer->bytes);
err_free:
	if (memfd >= 0)
		close(memfd);
	free(buffer);
	return code;
}

#ifdef COPIES
static int read_buffer(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer,
		       uint64_t offset, void *to, uint64_t bytes)
{
	(void)device;
	memcpy(to, buffer->memory + offset, bytes);
	return 0;
}

static int write_buffer(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer,
			uint64_t offset, const void *from, uint64_t bytes)
{
	(void)device;
	memcpy(buffer->memory + offset, from, bytes);
	return 0;
}
#endif

const struct libdmabuf_exporter *libdmabuf_exporter_table(void)
{
	static const struct libdmabuf_exporter table = {
		.abi = LIBDMABUF_EXPORTER_ABI,
		.bytes = sizeof(table),
		.name = "udmabuf example",
		.version = "1.0",
		.open = open_device,
		.close = close_device,
		.alloc = alloc_buffer,
		.free = free_buffer,
#ifdef COPIES
		.read = read_buffer,
		.write = write_buffer,
#endif
	};

	return &table;
}
