// SPDX-License-Identifier: GPL-2.0-only
/*
 * One dma-buf, two processes, two drives at once.
 *
 *   cc -o two_importers docs/examples/two_importers.c \
 *      $(pkg-config --cflags --libs libdmabuf_rw) -luring
 *   ./two_importers DRIVE1 DRIVE2	destroys bytes 8 MiB to 16 MiB of both
 *
 * Each process gets the dma-buf over a socket, as it would from a GPU's process,
 * and maps it for a drive of its own. Both read the first 8 MiB of their drives
 * into one half of the buffer each; then each writes what the other one has read
 * to its drive, behind its own. Plain pread() says whether the bytes are right.
 */
#define _GNU_SOURCE
#include <libdmabuf_rw.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "dmabuf.h"

#define HALF	(8U << 20)
#define PIECE	(1U << 20)

/* Sends one byte, and @fd with it unless that is -1. */
static void tell(int socket, char word, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec data = { .iov_base = &word, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
	}
	if (sendmsg(socket, &message, MSG_NOSIGNAL) != 1)
		err(1, "sendmsg");
}

/* Waits for the byte @word; returns the descriptor that came with it, or -1. */
static int hear(int socket, char word)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char got = 0;
	struct iovec data = { .iov_base = &got, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	int fd = -1;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || got != word)
		errx(1, "the other process has ended");
	if (CMSG_FIRSTHDR(&message))
		memcpy(&fd, CMSG_DATA(&control.header), sizeof(int));
	return fd;
}

/* Moves HALF bytes between the buffer from @buffer_offset on and the drive from @drive_offset on. */
static void move(struct drw_session *session, struct io_uring *ring, uint32_t handle,
		 bool reads, uint64_t buffer_offset, uint64_t drive_offset)
{
	for (unsigned int at = 0; at < HALF; at += PIECE) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

		(reads ? drw_prep_read : drw_prep_write)(session, sqe, handle, buffer_offset + at,
							 PIECE, drive_offset + at);
	}
	io_uring_submit_and_wait(ring, HALF / PIECE);
	for (unsigned int i = 0; i < HALF / PIECE; i++) {
		struct io_uring_cqe *cqe;
		char text[512];

		if (io_uring_wait_cqe(ring, &cqe))
			errx(1, "io_uring gave no completion");
		if (cqe->res != (int)PIECE) {
			drw_result_text(session, handle, cqe->res, PIECE, text, sizeof(text));
			errx(1, "%s: %s", reads ? "read" : "write", text);
		}
		io_uring_cqe_seen(ring, cqe);
	}
}

/* One of the two: @number is 0 or 1, @drive its own. */
static void import(int number, const char *name, int drive, int socket)
{
	int dmabuf = hear(socket, 'b');
	struct drw_session *session;
	struct drw_mapping mapping;
	struct drw_error error;
	struct io_uring ring;

	if (drw_open(&session, &error) < 0)
		errx(1, "%s", error.text);
	/* An NVMe drive by itself; any other by the kernel's block layer. */
	if (drw_map(session, dmabuf, drive, DMABUF_RW_PATH_PREMAPPED,
		    DMABUF_RW_DIR_READ | DMABUF_RW_DIR_WRITE, &mapping, &error) < 0 &&
	    drw_map(session, dmabuf, drive, DMABUF_RW_PATH_BVEC,
		    DMABUF_RW_DIR_READ | DMABUF_RW_DIR_WRITE, &mapping, &error) < 0)
		errx(1, "%s %s", name, error.text);
	close(dmabuf);		/* the mapping keeps the memory */
	if (io_uring_queue_init(HALF / PIECE, &ring, 0))
		errx(1, "io_uring_queue_init");
	tell(socket, 'm', -1);

	hear(socket, 'r');
	move(session, &ring, mapping.handle, true, number * HALF, 0);
	tell(socket, 'r', -1);

	hear(socket, 'w');
	move(session, &ring, mapping.handle, false, (1 - number) * HALF, HALF);
	printf("%s: %s, %s memory, %u segments\n", name, drw_path_name(mapping.path),
	       drw_memory_name(mapping.memory), mapping.segments);
	fflush(stdout);
	tell(socket, 'w', -1);
	io_uring_queue_exit(&ring);
	drw_close(session);	/* unmaps */
	exit(0);
}

/* @bytes of a drive, by the CPU. */
static unsigned char *plain(const char *name, int drive, uint64_t offset)
{
	unsigned char *bytes = aligned_alloc(4096, HALF);

	for (unsigned int at = 0; bytes && at < HALF; at += PIECE)
		if (pread(drive, bytes + at, PIECE, offset + at) != (ssize_t)PIECE)
			err(1, "%s", name);
	return bytes ? bytes : (errx(1, "no memory"), NULL);
}

int main(int argc, char **argv)
{
	int drives[2], sockets[2], status, wrong = 0, dmabuf;
	pid_t children[2];

	if (argc != 3)
		errx(2, "usage: two_importers DRIVE1 DRIVE2");
	for (int i = 0; i < 2; i++) {
		int pair[2];

		/* O_EXCL: not a drive that is mounted. */
		drives[i] = open(argv[1 + i], O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
		if (drives[i] < 0)
			err(1, "%s", argv[1 + i]);
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
			err(1, "socketpair");
		children[i] = fork();
		if (children[i] < 0)
			err(1, "fork");
		if (!children[i]) {
			close(pair[0]);
			import(i, argv[1 + i], drives[i], pair[1]);
		}
		close(pair[1]);
		sockets[i] = pair[0];
	}

	/* Stands for the exporter's process. It does not need the dma-buf afterwards. */
	dmabuf = make_dmabuf(2 * HALF);
	for (int i = 0; i < 2; i++)
		tell(sockets[i], 'b', dmabuf);
	close(dmabuf);
	for (int i = 0; i < 2; i++)
		hear(sockets[i], 'm');
	/* Both have it mapped: now both drives at once, and nobody writes before all is read. */
	for (const char *word = "rw"; *word; word++) {
		for (int i = 0; i < 2; i++)
			tell(sockets[i], *word, -1);
		for (int i = 0; i < 2; i++)
			hear(sockets[i], *word);
	}
	for (int i = 0; i < 2; i++)
		if (waitpid(children[i], &status, 0) < 0 || status)
			errx(1, "the process of %s failed", argv[1 + i]);

	for (int i = 0; i < 2; i++) {
		unsigned char *from = plain(argv[1 + i], drives[i], 0);
		unsigned char *to = plain(argv[2 - i], drives[1 - i], HALF);
		unsigned int different = 0;

		for (unsigned int at = 0; at < HALF; at++)
			different += from[at] != to[at];
		if (different)
			warnx("%s to %s: %u bytes differ", argv[1 + i], argv[2 - i], different);
		wrong |= different != 0;
		free(from);
		free(to);
	}
	return wrong;
}
