// SPDX-License-Identifier: GPL-2.0-only
/*
 * LD_PRELOAD library: a kernel that takes only a part of what is submitted.
 *
 * $PARTIAL_SUBMIT=N:K:ERRNO: of the Nth submission with more than K entries the kernel gets K, and is said to
 * have taken these. Each submission after that fails with ERRNO and hands nothing over; 0: they are as ever.
 * $PARTIAL_LOG gets one line for each submission of which the kernel took something: how many, of how many.
 * $PARTIAL_ENTRIES gets one line for each entry that is about to be submitted: its opcode, offset and length.
 *
 * liburing's own functions submit, so that the ring is in the state in which the kernel leaves it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static _Thread_local unsigned int seen, fails_with;

static void log_taken(int count, unsigned int of)
{
	const char *path = getenv("PARTIAL_LOG");
	char line[32];
	int fd, length;

	if (!path || count <= 0)
		return;
	length = snprintf(line, sizeof(line), "%d %u\n", count, of);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, line, (size_t)length) != length)
		abort();
	close(fd);
}

static void log_entries(const struct io_uring *ring)
{
	const char *path = getenv("PARTIAL_ENTRIES");
	unsigned int at;
	FILE *log;

	log = path ? fopen(path, "ae") : NULL;
	for (at = *ring->sq.khead; log && at != ring->sq.sqe_tail; at++) {
		const struct io_uring_sqe *sqe = &ring->sq.sqes[at & *ring->sq.kring_mask];

		fprintf(log, "%u %llu %u\n", sqe->opcode, (unsigned long long)sqe->off, sqe->len);
	}
	if (log && fclose(log))
		abort();
}

static int submit(struct io_uring *ring, const char *symbol)
{
	/* Which the engine has loaded for itself: it is not among the next ones. */
	int (*real)(struct io_uring *) = dlsym(dlopen("liburing.so.2", RTLD_LAZY), symbol);
	const char *spec = getenv("PARTIAL_SUBMIT");
	unsigned int nth = 0, most = 0, code = 0, tail = ring->sq.sqe_tail;
	unsigned int ready = io_uring_sq_ready(ring);
	int taken;

	if (!spec || sscanf(spec, "%u:%u:%u", &nth, &most, &code) != 3)
		abort();
	log_entries(ring);
	if (fails_with)
		return -(int)fails_with;
	if (ready <= most || ++seen != nth) {
		taken = real(ring);
	} else {
		/* Those behind are not there for the time of this call. */
		ring->sq.sqe_tail = *ring->sq.khead + most;
		taken = real(ring);
		ring->sq.sqe_tail = tail;
		fails_with = code;
	}
	log_taken(taken, ready);
	return taken;
}

int io_uring_submit(struct io_uring *ring)
{
	return submit(ring, "io_uring_submit");
}

int io_uring_submit_and_get_events(struct io_uring *ring)
{
	return submit(ring, "io_uring_submit_and_get_events");
}
