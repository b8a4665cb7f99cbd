// SPDX-License-Identifier: MIT
/*
 * The test exporter as a plug-in that moves its memory, takes it away and gives
 * it back. Its arguments, words joined by '+':
 *
 *	no-cpu		the dma-buf has no mmap() and no pages: with -DCOPIES, the copies that
 *			that wants are the test exporter's
 *	stubborn	every move says EBUSY
 *	fails		every move fails with words
 *	lose-writes	what drives write never arrives
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/dmabuf_testexp.h>

#include <libdmabuf/exporter.h>

struct libdmabuf_device {
	int fd;
	int no_cpu, stubborn, fails, lose;
};

struct libdmabuf_buffer {
	unsigned int id;
};

static int failed(struct libdmabuf_words *why, int code, const char *what)
{
	snprintf(why->text, sizeof(why->text), "%s: %s", what, strerror(code));
	return code;
}

static int open_device(const char *arguments, struct libdmabuf_device **device,
		       struct libdmabuf_words *why)
{
	struct libdmabuf_device *made = calloc(1, sizeof(*made));
	char words[128], *word, *rest = words;

	if (!made)
		return failed(why, ENOMEM, "no memory");
	snprintf(words, sizeof(words), "%s", arguments);
	while ((word = strsep(&rest, "+")) && *word) {
		int *flag = !strcmp(word, "no-cpu") ? &made->no_cpu :
			    !strcmp(word, "stubborn") ? &made->stubborn :
			    !strcmp(word, "fails") ? &made->fails :
			    !strcmp(word, "lose-writes") ? &made->lose : NULL;

		if (!flag) {
			snprintf(why->text, sizeof(why->text), "there is no argument %s", word);
			free(made);
			return EINVAL;
		}
		*flag = 1;
	}
	made->fd = open(DMABUF_TESTEXP_DEVICE, O_RDWR | O_CLOEXEC);
	if (made->fd < 0) {
		int code = failed(why, errno, DMABUF_TESTEXP_DEVICE);

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

static int alloc_buffer(struct libdmabuf_device *device, const struct libdmabuf_request *request,
			struct libdmabuf_allocation *made, struct libdmabuf_words *why)
{
	struct dmabuf_testexp_create create = {
		.bytes = (request->bytes + 4095) / 4096 * 4096,
		.seed = 1,
		.segment_min = 4096,
		.segment_max = 16 * 4096,
		.quarantine = 4,
		.flags = device->lose ? DMABUF_TESTEXP_LOSE_WRITES : DMABUF_TESTEXP_DYNAMIC,
	};
	struct libdmabuf_buffer *buffer = malloc(sizeof(*buffer));

	if (!buffer)
		return failed(why, ENOMEM, "no memory");
	if (device->no_cpu)
		create.flags |= DMABUF_TESTEXP_NO_CPU | DMABUF_TESTEXP_NO_PAGES;
	if (ioctl(device->fd, DMABUF_TESTEXP_IOC_CREATE, &create)) {
		int code = failed(why, errno, "CREATE");

		free(buffer);
		return code;
	}
	buffer->id = create.id;
	made->buffer = buffer;
	made->fd = (int)create.fd;
	made->bytes = create.bytes;
	return 0;
}

static void free_buffer(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer)
{
	struct dmabuf_testexp_id id = { .id = buffer->id };

	ioctl(device->fd, DMABUF_TESTEXP_IOC_DESTROY, &id);
	free(buffer);
}

#ifdef COPIES
static int copy(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer, unsigned long call,
		uint64_t offset, const void *address, uint64_t bytes)
{
	struct dmabuf_testexp_access access = {
		.id = buffer->id,
		.offset = offset,
		.length = bytes,
		.address = (uintptr_t)address,
	};

	return ioctl(device->fd, call, &access) ? errno : 0;
}

static int read_buffer(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer,
		       uint64_t offset, void *to, uint64_t bytes)
{
	return copy(device, buffer, DMABUF_TESTEXP_IOC_READ, offset, to, bytes);
}

static int write_buffer(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer,
			uint64_t offset, const void *from, uint64_t bytes)
{
	return copy(device, buffer, DMABUF_TESTEXP_IOC_WRITE, offset, from, bytes);
}
#endif

static int disturb(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer, uint32_t action,
		   struct libdmabuf_disturbed *seen, struct libdmabuf_words *why)
{
	struct dmabuf_testexp_move move = { .id = buffer->id };
	struct dmabuf_testexp_id id = { .id = buffer->id };
	struct dmabuf_testexp_stats stats = { .id = buffer->id };

	switch (action) {
	case LIBDMABUF_DISTURB_MOVE:
		if (device->stubborn)
			return EBUSY;
		if (device->fails)
			return failed(why, EIO, "the memory is nailed down");
		if (ioctl(device->fd, DMABUF_TESTEXP_IOC_MOVE, &move))
			return failed(why, errno, "MOVE");
		break;
	case LIBDMABUF_DISTURB_REVOKE:
		if (ioctl(device->fd, DMABUF_TESTEXP_IOC_REVOKE, &move))
			return failed(why, errno, "REVOKE");
		break;
	case LIBDMABUF_DISTURB_RESTORE:
		if (ioctl(device->fd, DMABUF_TESTEXP_IOC_UNREVOKE, &id))
			return failed(why, errno, "UNREVOKE");
		break;
	}
	if (ioctl(device->fd, DMABUF_TESTEXP_IOC_STATS, &stats))
		return failed(why, errno, "STATS");
	seen->stray_bytes = stats.stray_words * 8;
	return 0;
}

const struct libdmabuf_exporter *libdmabuf_exporter_table(void)
{
	static const struct libdmabuf_exporter table = {
		.abi = LIBDMABUF_EXPORTER_ABI,
		.bytes = sizeof(table),
		.name = "testexp plug-in",
		.version = "1.0",
		.open = open_device,
		.close = close_device,
		.alloc = alloc_buffer,
		.free = free_buffer,
#ifdef COPIES
		.read = read_buffer,
		.write = write_buffer,
#endif
		.disturb = disturb,
		.disturbs = LIBDMABUF_DISTURB_MOVE | LIBDMABUF_DISTURB_REVOKE |
			    LIBDMABUF_DISTURB_RESTORE,
	};

	return &table;
}
