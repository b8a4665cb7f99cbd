/* SPDX-License-Identifier: MIT */
/*
 * An exporter of dma-bufs of your own, for libdmabuf's fio engine, for
 * dmabuf-integrity and for dmabuf-qual: a shared object that has the one
 * function libdmabuf_exporter_table().
 *
 *	dmabuf_exporter=plugin dmabuf_device=/path/of/mine.so,arguments
 *
 * The functions are C: no exception leaves them, and none ends the process or
 * changes what it does on a signal. Those that can fail return 0 or a positive
 * errno, and say the cause and what to try in @why: one sentence without a
 * newline at its end. Where they leave that empty, the errno's own words are all
 * that the user gets. @why is never NULL.
 *
 * Jobs may be threads of one process: several devices may be in use at the same
 * time, each by one thread. disturb() alone may be called while another thread
 * is in read() or write() of the same buffer.
 *
 * The object is not unloaded before the process ends.
 */
#ifndef LIBDMABUF_EXPORTER_H
#define LIBDMABUF_EXPORTER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What this header describes. It changes only when an older plug-in could not
 * be used any more; what is new otherwise is behind the table's end.
 */
#define LIBDMABUF_EXPORTER_ABI		1

/* The plug-in's own, for it to define. */
struct libdmabuf_device;
struct libdmabuf_buffer;

/**
 * struct libdmabuf_words - room for a sentence
 * @text:	ends with a 0 byte. Empty at first.
 */
struct libdmabuf_words {
	char text[256];
};

/**
 * struct libdmabuf_request - what alloc() is asked for
 * @bytes:	at least so many; never 0, and no multiple of anything.
 * @reserved:	0; not to be looked at.
 */
struct libdmabuf_request {
	uint64_t bytes;
	uint64_t reserved[3];
};

/**
 * struct libdmabuf_allocation - what alloc() gives; zero at first
 * @buffer:	names it in the calls that follow. May be NULL.
 * @bytes:	the size of the dma-buf, as lseek(fd, 0, SEEK_END) tells it.
 * @fd:		the dma-buf, open for reading and writing. The caller has it
 *		from then on, and closes it before it calls free(): each alloc()
 *		gives another one.
 * @reserved:	must stay 0.
 * @device:	where the memory is, for the report: a PCI address such as
 *		0000:01:00.0 or a device node, by which dmabuf-qual finds the
 *		device on the bus; else any short text. Empty: what the user gave.
 */
struct libdmabuf_allocation {
	struct libdmabuf_buffer *buffer;
	uint64_t bytes;
	int32_t fd;
	uint32_t reserved;
	char device[128];
};

/* What disturb() can be asked for, a mask in libdmabuf_exporter.disturbs. */
#define LIBDMABUF_DISTURB_MOVE		(1U << 0)	/* to another place, contents kept */
#define LIBDMABUF_DISTURB_REVOKE	(1U << 1)	/* take it away from all importers */
#define LIBDMABUF_DISTURB_RESTORE	(1U << 2)	/* end what REVOKE did; contents may be lost */

/**
 * struct libdmabuf_disturbed - what was seen; zero at first
 * @stray_bytes: bytes of memory that the buffer had left which changed since, as
 *		far as the plug-in looks: an importer wrote where it had to have let
 *		go. All of this buffer so far.
 * @reserved:	must stay 0.
 */
struct libdmabuf_disturbed {
	uint64_t stray_bytes;
	uint64_t reserved[3];
};

/**
 * struct libdmabuf_exporter - the table
 * @abi:	LIBDMABUF_EXPORTER_ABI.
 * @bytes:	sizeof(struct libdmabuf_exporter).
 * @name:	of the exporter, a word or two.
 * @version:	of this build of it. Runs are told apart by it.
 *
 * @open:	@arguments: what the user wrote behind the comma, "" for nothing.
 *		Called once for each dma-buf, in the process of the job.
 * @close:	after free().
 *
 * @alloc:	one dma-buf. Where it fails it leaves nothing behind.
 * @free:	when the dma-buf's descriptor is closed, its mappings are gone, and
 *		no drive has it mapped for this process any more.
 *
 * @read:	copies @bytes bytes at @offset of the buffer to @to, and returns
 *		when they are there.
 * @write:	copies to the buffer; a device that reads the dma-buf afterwards
 *		sees the bytes. The range lies inside the buffer.
 *
 * Both, or neither: NULL where the CPU can mmap() the dma-buf, which is what then
 * happens, with DMA_BUF_IOCTL_SYNC around each access.
 *
 * @disturb:	does one of LIBDMABUF_DISTURB_* to memory in use, as memory pressure
 *		or a reset would, and returns when it is done. EBUSY: not now,
 *		somebody keeps it in place. NULL where it cannot.
 * @disturbs:	what @disturb can do, a mask of LIBDMABUF_DISTURB_*.
 * @reserved:	must be 0.
 */
struct libdmabuf_exporter {
	uint32_t abi;
	uint32_t bytes;
	const char *name;
	const char *version;

	int (*open)(const char *arguments, struct libdmabuf_device **device,
		    struct libdmabuf_words *why);
	void (*close)(struct libdmabuf_device *device);

	int (*alloc)(struct libdmabuf_device *device, const struct libdmabuf_request *request,
		     struct libdmabuf_allocation *made, struct libdmabuf_words *why);
	void (*free)(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer);

	int (*read)(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer,
		    uint64_t offset, void *to, uint64_t bytes);
	int (*write)(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer,
		     uint64_t offset, const void *from, uint64_t bytes);

	int (*disturb)(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer,
		       uint32_t action, struct libdmabuf_disturbed *seen,
		       struct libdmabuf_words *why);
	uint32_t disturbs;
	uint32_t reserved;
};

/**
 * libdmabuf_exporter_table - what the plug-in has to define
 *
 * Return: the table, which stays as it is until the process ends.
 */
__attribute__((visibility("default")))
const struct libdmabuf_exporter *libdmabuf_exporter_table(void);

#ifdef __cplusplus
}
#endif

#endif /* LIBDMABUF_EXPORTER_H */
