// SPDX-License-Identifier: GPL-2.0-only
/*
 * A file sent to a socket by way of a dma-buf, without a copy by this program:
 * the drive writes into the dma-buf, the network reads out of it.
 *
 *   cc -o send_zc docs/examples/send_zc.c $(pkg-config --cflags --libs libdmabuf_rw) -luring
 *   ./send_zc ADDRESS PORT FILE [FD]	e.g. with `nc -l PORT >copy` there
 *
 * FD: a dma-buf that the caller has, in place of one of this program's own.
 *
 * The dma-buf is put into a slot of the ring's buffer table (REGISTER). From then
 * on it is a registered buffer like any other: READ_FIXED fills it, SEND_ZC sends
 * it. Memory without pages, as a GPU's, cannot be in a slot, and is refused here
 * by name.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <libdmabuf_rw.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "dmabuf.h"

#define PIECE	(1U << 20)
#define PIECES	4
#define BYTES	(PIECES * PIECE)

/* Notifications of SEND_ZC. */
static struct {
	unsigned int wanted, got, copied;
} notes;

/* Waits for a completion that is no notification; returns its result. */
static int result(struct io_uring *ring)
{
	for (;;) {
		struct io_uring_cqe *cqe;
		int res, flags;

		if (io_uring_submit_and_wait(ring, 1) < 0 || io_uring_wait_cqe(ring, &cqe))
			errx(1, "io_uring gave no completion");
		res = cqe->res;
		flags = cqe->flags;
		io_uring_cqe_seen(ring, cqe);
		if (!(flags & IORING_CQE_F_NOTIF)) {
			/* The network still needs the memory: a notification follows. */
			notes.wanted += !!(flags & IORING_CQE_F_MORE);
			return res;
		}
		notes.got++;
		notes.copied += !!((unsigned int)res & IORING_NOTIF_USAGE_ZC_COPIED);
	}
}

/* Waits until the network needs the buffer no more. */
static void settle(struct io_uring *ring)
{
	while (notes.got < notes.wanted) {
		struct io_uring_cqe *cqe;

		if (io_uring_wait_cqe(ring, &cqe))
			errx(1, "io_uring gave no completion");
		notes.got++;
		notes.copied += !!((unsigned int)cqe->res & IORING_NOTIF_USAGE_ZC_COPIED);
		io_uring_cqe_seen(ring, cqe);
	}
}

/* Ends the program if @res is not what it should be; @bytes is what was asked for. */
static void must(const char *what, int res, unsigned int bytes, bool good)
{
	char text[256];

	if (good)
		return;
	drw_result_text(NULL, 0, res, bytes, text, sizeof(text));
	errx(1, "%s: %s", what, text);
}

static int connected(const char *address, const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		errx(2, "%s is no IPv4 address", address);
	if (socket_fd < 0 || connect(socket_fd, (struct sockaddr *)&to, sizeof(to)))
		err(1, "%s port %s", address, port);
	return socket_fd;
}

/* The bytes of a regular file or a block device. */
static off_t length_of(int file)
{
	off_t length = lseek(file, 0, SEEK_END);

	if (length < 0)
		err(1, "lseek");
	/* Whole blocks: the drive itself then writes into the dma-buf, where the file allows it. */
	if (length % 4096 == 0)
		fcntl(file, F_SETFL, O_DIRECT);
	return length;
}

int main(int argc, char **argv)
{
	struct drw_session *session;
	struct drw_mapping mapping;
	struct drw_error error;
	struct io_uring ring;
	int file, out, dmabuf, res;
	off_t length;

	if (argc != 4 && argc != 5)
		errx(2, "usage: send_zc ADDRESS PORT FILE [FD]");
	file = open(argv[3], O_RDONLY | O_CLOEXEC);
	if (file < 0)
		err(1, "%s", argv[3]);
	length = length_of(file);
	dmabuf = argc == 5 ? atoi(argv[4]) : make_dmabuf(BYTES);

	if (drw_open(&session, &error) < 0)
		errx(1, "%s", error.text);
	/* Filled from the file, and sent: both directions. */
	if (drw_map(session, dmabuf, -1, DMABUF_RW_PATH_REGISTERED,
		    DMABUF_RW_DIR_READ | DMABUF_RW_DIR_WRITE, &mapping, &error) < 0)
		errx(1, "the dma-buf %s", error.text);
	if (mapping.buffer_bytes < BYTES)
		errx(1, "the dma-buf is smaller than %u bytes", BYTES);
	out = connected(argv[1], argv[2]);

	if (io_uring_queue_init(8, &ring, 0))
		errx(1, "io_uring_queue_init");
	if (io_uring_register_buffers_sparse(&ring, 1))
		errx(1, "io_uring has no tables of buffers");
	drw_prep_register(session, io_uring_get_sqe(&ring), mapping.handle, 0);
	res = result(&ring);
	must("REGISTER", res, 0, res == 0);

	for (off_t at = 0; at < length; at += BYTES) {
		off_t rest = length - at;
		unsigned int bytes = rest < BYTES ? rest : BYTES, done = 0;

		while (done < bytes) {
			drw_prep_read_fixed(io_uring_get_sqe(&ring), file, 0, done, bytes - done,
					    at + done);
			res = result(&ring);
			must(argv[3], res, bytes - done, res > 0);
			done += res;
		}
		for (done = 0; done < bytes; done += res) {
			unsigned int piece = bytes - done < PIECE ? bytes - done : PIECE;

			drw_prep_send_zc_fixed(io_uring_get_sqe(&ring), out, 0, done, piece,
					       MSG_WAITALL | MSG_NOSIGNAL,
					       IORING_SEND_ZC_REPORT_USAGE);
			res = result(&ring);
			must("SEND_ZC", res, piece, res > 0);
		}
		/* Not before: the next part would overwrite what is on its way. */
		settle(&ring);
	}
	printf("%lld bytes sent from %s memory; of %u sends the kernel copied %u\n",
	       (long long)length, drw_memory_name(mapping.memory), notes.wanted, notes.copied);
	drw_prep_unregister(session, io_uring_get_sqe(&ring), 0);
	res = result(&ring);
	must("UNREGISTER", res, 0, res == 0);
	close(out);
	io_uring_queue_exit(&ring);
	drw_close(session);
	return 0;
}
