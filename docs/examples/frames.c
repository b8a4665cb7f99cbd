// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frames that a device captured into a dma-buf, read with plain read().
 *
 *   cc -I kernel/uapi -o frames docs/examples/frames.c
 *   ./frames OUTPUT	writes the frames, one after the other
 *
 * No mmap, no DMA_BUF_IOCTL_SYNC: read() waits until the device is done with
 * the buffer, and sees to the caches.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdlib.h>

#include "dmabuf.h"

#define FRAMES		4
#define FRAME_BYTES	(320 * 240 * 2)		/* YUYV */

/* Stands for the camera, which would do this by DMA. */
static void capture(int dmabuf, size_t bytes)
{
	unsigned char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, dmabuf, 0);

	if (memory == MAP_FAILED)
		err(1, "mmap");
	for (unsigned int frame = 0; frame < FRAMES; frame++)
		for (size_t i = 0; i < FRAME_BYTES; i++)
			memory[frame * FRAME_BYTES + i] = pixel(frame, i);
	munmap(memory, bytes);
}

int main(int argc, char **argv)
{
	size_t page = sysconf(_SC_PAGESIZE);
	size_t bytes = (FRAMES * FRAME_BYTES + page - 1) / page * page;
	unsigned char *frame = malloc(FRAME_BYTES);
	struct pollfd ready = { .events = POLLIN };
	int dmabuf, rw, output;

	if (argc != 2 || !frame)
		errx(2, "usage: frames OUTPUT");
	output = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (output < 0)
		err(1, "%s", argv[1]);
	dmabuf = make_dmabuf(bytes);
	rw = open_rw(dmabuf, O_RDONLY | O_CLOEXEC);
	capture(dmabuf, bytes);
	close(dmabuf);		/* the rw fd keeps the memory */

	ready.fd = rw;
	for (int i = 0; i < FRAMES; i++) {
		/* Or just read(), which waits; this is for programs with an event loop. */
		if (poll(&ready, 1, 1000) != 1)
			errx(1, "the device is not done");
		if (read(rw, frame, FRAME_BYTES) != FRAME_BYTES)
			err(1, "read");
		if (write(output, frame, FRAME_BYTES) != FRAME_BYTES)
			err(1, "write");
	}
	return 0;
}
