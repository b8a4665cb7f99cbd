// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include "vram.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vram *all;

int vram_fails(const char *call)
{
	const char *fails = getenv("FAKE_GPU_FAIL");

	return fails && !strcmp(fails, call);
}

static void note(const char *line, int length)
{
	const char *path = getenv("FAKE_GPU_LOG");
	int fd;

	if (!path)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, line, (size_t)length) != length)
		abort();
	close(fd);
}

/* A file of memory, as udmabuf wants it; -1 if there is none. */
static int make_memory(const char *who, size_t bytes)
{
	int fd = memfd_create(who, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && !ftruncate(fd, (off_t)bytes) && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

struct vram *vram_take(const char *who, size_t bytes)
{
	struct vram *vram = calloc(1, sizeof(*vram));
	char line[128];

	if (!vram)
		return NULL;
	vram->bytes = bytes;
	vram->other = -1;
	vram->memfd = make_memory(who, bytes);
	if (vram->memfd < 0)
		goto no_memory;
	if (vram_fails("other memory")) {
		vram->other = make_memory(who, bytes);
		if (vram->other < 0)
			goto no_memory;
	}
	vram->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  vram_fails("private view") ? MAP_PRIVATE : MAP_SHARED, vram->memfd, 0);
	if (vram->base == MAP_FAILED)
		goto no_memory;
	pthread_mutex_lock(&lock);
	vram->next = all;
	all = vram;
	pthread_mutex_unlock(&lock);
	note(line, snprintf(line, sizeof(line), "%s %d takes %zu\n", who, getpid(), bytes));
	return vram;

no_memory:
	if (vram->memfd >= 0)
		close(vram->memfd);
	if (vram->other >= 0)
		close(vram->other);
	free(vram);
	return NULL;
}

void vram_give_back(const char *who, struct vram *vram)
{
	struct vram **at = &all;
	char line[128];

	pthread_mutex_lock(&lock);
	while (*at != vram)
		at = &(*at)->next;
	*at = vram->next;
	pthread_mutex_unlock(&lock);
	note(line, snprintf(line, sizeof(line), "%s %d gives back %zu to=%zu from=%zu\n", who, getpid(),
			    vram->bytes, vram->copied_to, vram->copied_from));
	munmap(vram->base, vram->bytes);
	close(vram->memfd);
	if (vram->other >= 0)
		close(vram->other);
	free(vram);
}

struct vram *vram_at(const void *address, size_t bytes)
{
	const char *start = address;
	struct vram *vram;

	pthread_mutex_lock(&lock);
	for (vram = all; vram; vram = vram->next)
		if (start >= vram->base && bytes <= vram->bytes &&
		    (size_t)(start - vram->base) <= vram->bytes - bytes)
			break;
	pthread_mutex_unlock(&lock);
	return vram;
}

void vram_copy_from(struct vram *vram, void *to, const void *from, size_t bytes)
{
	memcpy(to, from, bytes);
	if (vram_fails("other bytes"))
		((char *)to)[bytes / 2] ^= 4;
	vram->copied_from += bytes;
}

int vram_export(const struct vram *vram)
{
	struct udmabuf_create create = {
		.memfd = (unsigned int)(vram->other >= 0 ? vram->other : vram->memfd),
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = vram->bytes,
	};
	int control = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), fd, code;

	if (control < 0)
		return -1;
	fd = ioctl(control, UDMABUF_CREATE, &create);
	code = errno;
	close(control);
	errno = code;
	return fd;
}
