// SPDX-License-Identifier: GPL-2.0-only
/*
 * A dma-buf sent to a file by sendfile(): no buffer of the program's own.
 *
 *   cc -I kernel/uapi -o send docs/examples/send.c
 *   ./send OUTPUT	writes one frame
 *
 * The same call sends it to a socket, with a copy by the kernel; send_zc.c does
 * that without. The other way round, sendfile(rw, file, …) fills a dma-buf from a
 * file, and splice() does both for pipes.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/sendfile.h>

#include "dmabuf.h"

#define BYTES	(1 << 20)

int main(int argc, char **argv)
{
	unsigned char *frame = malloc(BYTES);
	int dmabuf, rw, output;
	off_t at = 0;

	if (argc != 2 || !frame)
		errx(2, "usage: send OUTPUT");
	output = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (output < 0)
		err(1, "%s", argv[1]);
	dmabuf = make_dmabuf(BYTES);
	rw = open_rw(dmabuf, O_RDWR | O_CLOEXEC);

	/* Stands for the device that fills it. */
	for (size_t i = 0; i < BYTES; i++)
		frame[i] = pixel(9, i);
	if (pwrite(rw, frame, BYTES, 0) != BYTES)
		err(1, "pwrite");

	while (at < BYTES) {
		ssize_t sent = sendfile(output, rw, &at, BYTES - at);

		if (sent <= 0)
			err(1, "sendfile");
	}
	return 0;
}
