// SPDX-License-Identifier: GPL-2.0-only
/*
 * A drive writes what is in a dma-buf, and reads into it: one I/O each way by
 * the module's own calls, and nothing but its header. Each direction alone is
 * compared with plain pread() and pwrite().
 *
 *	cc -I kernel/uapi -o drive docs/examples/drive.c
 *	./drive DEVICE		DESTROYS the first MiB of DEVICE, an NVMe drive
 *
 * io_uring does the same without waiting for each I/O (IORING_OP_URING_CMD with
 * DMABUF_RW_URING_READ and _WRITE); docs/kernel-module.md has both.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/dma-buf.h>

#include "dmabuf.h"

#define BYTES (1U << 20)

/* The CPU's turn with the memory begins, or ends. */
static void cpu(int dmabuf, unsigned long long what)
{
	struct dma_buf_sync sync = { .flags = what | DMA_BUF_SYNC_RW };

	if (ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync))
		err(1, "DMA_BUF_IOCTL_SYNC");
}

/* One READ (drive to dma-buf) or WRITE of all of it, waited for. */
static void io(int session, unsigned int handle, unsigned int direction)
{
	struct dmabuf_rw_io io = {
		.handle = handle,
		.direction = direction,
		.length = BYTES,
	};

	if (ioctl(session, DMABUF_RW_IOC_IO, &io))
		err(1, "IO, reason %u", io.reason);
	if (io.moved != BYTES)
		errx(1, "%llu bytes were moved", (unsigned long long)io.moved);
}

int main(int argc, char **argv)
{
	struct dmabuf_rw_map_entry entry = {
		.path = DMABUF_RW_PATH_PREMAPPED,
		.directions = DMABUF_RW_DIR_READ | DMABUF_RW_DIR_WRITE,
	};
	struct dmabuf_rw_map map = { .entries = (uintptr_t)&entry, .nr_entries = 1 };
	struct dmabuf_rw_unmap unmap = { .nr_handles = 1 };
	struct dmabuf_rw_query query = { .flags = 0 };
	struct dmabuf_rw_info info = { .flags = 0 };
	int session, drive, dmabuf;
	unsigned char *memory;
	void *plain;

	if (argc != 2)
		errx(2, "usage: drive DEVICE (its first MiB is lost)");
	/* O_EXCL: nobody else has it, no mounted file system either. */
	drive = open(argv[1], O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
	if (drive < 0)
		err(1, "%s", argv[1]);
	session = open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC);
	if (session < 0)
		err(1, "%s", DMABUF_RW_DEVICE);
	/* What the module can do here: look at the bits, never at the version. */
	if (ioctl(session, DMABUF_RW_IOC_QUERY, &query))
		err(1, "QUERY");
	if (!(query.features & DMABUF_RW_FEAT_PREMAPPED) || !(query.features & DMABUF_RW_FEAT_IO))
		errx(1, "this kernel or module has no premapped I/O by ioctl");

	dmabuf = make_dmabuf(BYTES);
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, dmabuf, 0);
	plain = aligned_alloc(4096, BYTES);
	if (memory == MAP_FAILED || !plain)
		err(1, "memory");

	/* Ready for the drive. */
	entry.dmabuf_fd = (unsigned int)dmabuf;
	entry.target_fd = (unsigned int)drive;
	if (ioctl(session, DMABUF_RW_IOC_MAP, &map))
		err(1, "MAP");
	if (entry.error)
		errx(1, "MAP: %s, reason %u (docs/errors.md)", strerror((int)entry.error), entry.reason);

	/* The dma-buf's bytes on the drive, over others. */
	memset(plain, 0xee, BYTES);
	if (pwrite(drive, plain, BYTES, 0) != BYTES)
		err(1, "pwrite");
	cpu(dmabuf, DMA_BUF_SYNC_START);
	for (size_t i = 0; i < BYTES; i++)
		memory[i] = pixel(3, i);
	cpu(dmabuf, DMA_BUF_SYNC_END);
	io(session, entry.handle, DMABUF_RW_DIR_WRITE);
	if (pread(drive, plain, BYTES, 0) != BYTES)
		err(1, "pread");
	if (memcmp(plain, memory, BYTES))
		errx(1, "the drive has other bytes than the dma-buf");

	/* The drive's bytes in the dma-buf, over others. */
	for (size_t i = 0; i < BYTES; i++)
		((unsigned char *)plain)[i] = pixel(5, i);
	if (pwrite(drive, plain, BYTES, 0) != BYTES)
		err(1, "pwrite");
	io(session, entry.handle, DMABUF_RW_DIR_READ);
	cpu(dmabuf, DMA_BUF_SYNC_START);
	if (memcmp(plain, memory, BYTES))
		errx(1, "the dma-buf has other bytes than the drive");
	cpu(dmabuf, DMA_BUF_SYNC_END);

	/* What really happened, as the module counted it. */
	info.handle = entry.handle;
	if (ioctl(session, DMABUF_RW_IOC_INFO, &info))
		err(1, "INFO");
	printf("reads %llu writes %llu read_bytes %llu write_bytes %llu memory %u route %u segments %u\n",
	       (unsigned long long)info.reads, (unsigned long long)info.writes,
	       (unsigned long long)info.read_bytes, (unsigned long long)info.write_bytes, info.memory,
	       info.route, info.segments);

	unmap.handles = (uintptr_t)&entry.handle;
	if (ioctl(session, DMABUF_RW_IOC_UNMAP, &unmap))
		err(1, "UNMAP");
	return 0;
}
