/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the examples share: a dma-buf to work on, and the dma-buf as a file.
 *
 * The dma-buf is a memfd wrapped by udmabuf, so that the examples run anywhere.
 * That of a camera, a GPU or an accelerator is used in the same way from
 * open_rw() on.
 */
#ifndef EXAMPLES_DMABUF_H
#define EXAMPLES_DMABUF_H

#include <err.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/dmabuf_rw.h>
#include <linux/udmabuf.h>

/* A dma-buf of @bytes, a multiple of the page size. */
static inline int make_dmabuf(size_t bytes)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = bytes };
	int memfd, device, dmabuf;

	memfd = memfd_create("example", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memfd < 0 || ftruncate(memfd, bytes) || fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		err(1, "memfd");
	device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/udmabuf");
	create.memfd = memfd;
	dmabuf = ioctl(device, UDMABUF_CREATE, &create);
	if (dmabuf < 0)
		err(1, "UDMABUF_CREATE");
	close(device);
	close(memfd);
	return dmabuf;
}

/* The dma-buf as a file; @flags as for open(2). */
static inline int open_rw(int dmabuf, int flags)
{
	struct dmabuf_rw_open open_arg = { .dmabuf_fd = dmabuf, .flags = flags };
	int session = open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC);

	if (session < 0)
		err(1, "%s", DMABUF_RW_DEVICE);
	if (ioctl(session, DMABUF_RW_IOC_OPEN, &open_arg))
		err(1, "OPEN, reason %u", open_arg.reason);
	close(session);		/* the rw fd does not need it */
	return open_arg.fd;
}

/* Stands for the device: what byte @i of frame @frame is. */
static inline unsigned char pixel(unsigned int frame, size_t i)
{
	return frame * 131 + i * 7 + (i >> 8) * 3;
}

#endif /* EXAMPLES_DMABUF_H */
