/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * dmabuf_rw: read and write storage with a dma-buf as the memory.
 *
 * This header is the whole contract between dmabuf_rw.ko and user space. Both
 * sides compile it; neither keeps a copy. Rules that hold for every structure:
 *
 *  - only __u32 and __u64, naturally aligned, sizes asserted below;
 *  - pointers travel as __u64;
 *  - padding and unknown flags must be zero, or the call fails with EINVAL and
 *    nothing has happened;
 *  - new things announce themselves by a bit in dmabuf_rw_query.features. Test
 *    that bit, never the version.
 *
 * Words: the *target* is the open file that is read or written. A *mapping* is
 * one dma-buf made ready for one target; it has a handle that is valid in the
 * session (one open of /dev/dmabuf_rw) that made it. A *read* moves bytes from
 * the target into the dma-buf, a *write* from the dma-buf to the target.
 */
#ifndef _UAPI_LINUX_DMABUF_RW_H
#define _UAPI_LINUX_DMABUF_RW_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DMABUF_RW_DEVICE	"/dev/dmabuf_rw"
#define DMABUF_RW_ABI_VERSION	1

/*
 * Datapaths: how the bytes move.
 *
 * PREMAPPED	the dma-buf is DMA-mapped once for the drive; each I/O is one
 *		(or, past the drive's limit, a few) NVMe commands whose PRP
 *		pointers lead into a table made at map time. NVMe over PCI,
 *		raw namespace or partition, O_DIRECT.
 * REGISTERED	the dma-buf's pages are put into an io_uring's registered
 *		buffer table; I/O is then ordinary IORING_OP_READ_FIXED and
 *		WRITE_FIXED with the byte offset into the buffer as address.
 * BVEC		each I/O becomes a read_iter or write_iter call on the target with
 *		the dma-buf's pages as memory. Any regular file or block device,
 *		page cache included.
 * AUTO		in a MAP entry: the first of the above that works here.
 */
#define DMABUF_RW_PATH_AUTO		0
#define DMABUF_RW_PATH_PREMAPPED	1
#define DMABUF_RW_PATH_REGISTERED	2
#define DMABUF_RW_PATH_BVEC		3
#define DMABUF_RW_NR_PATHS		4	/* room in arrays indexed by path */

/* Directions, a mask. */
#define DMABUF_RW_DIR_READ		(1U << 0)	/* target -> dma-buf */
#define DMABUF_RW_DIR_WRITE		(1U << 1)	/* dma-buf -> target */

/* No target: only for REGISTERED, whose I/O names its file itself. */
#define DMABUF_RW_NO_TARGET		(~(__u32)0)

/* Bits of dmabuf_rw_query.features. */
#define DMABUF_RW_FEAT_PREMAPPED	(1ULL << 0)
#define DMABUF_RW_FEAT_REGISTERED	(1ULL << 1)
#define DMABUF_RW_FEAT_INVALIDATE	(1ULL << 2)	/* follows moving buffers */
#define DMABUF_RW_FEAT_TIMEOUT		(1ULL << 3)	/* CONFIG.timeout_ms */
#define DMABUF_RW_FEAT_BVEC		(1ULL << 4)
#define DMABUF_RW_FEAT_IOPOLL		(1ULL << 5)	/* PREMAPPED on polled rings */
#define DMABUF_RW_FEAT_RWFILE		(1ULL << 6)	/* OPEN */
#define DMABUF_RW_FEAT_IO		(1ULL << 7)	/* the ioctl IO */
#define DMABUF_RW_FEAT_WINDOW		(1ULL << 8)	/* DMABUF_RW_REG_WINDOW */
#define DMABUF_RW_FEAT_READ_FUA		(1ULL << 9)	/* DMABUF_RW_MAP_READ_FUA */
#define DMABUF_RW_FEAT_ASYNC		(1ULL << 10)	/* commands that are not issued at once */
#define DMABUF_RW_FEAT_HOLD_FILE	(1ULL << 11)	/* DMABUF_RW_MAP_HOLD_FILE */
#define DMABUF_RW_FEAT_RANGES		(1ULL << 12)	/* READV and WRITEV */

/*
 * Reasons. An errno says what kind of failure it was, the reason names its
 * cause. Numbers are never reused.
 */
#define DMABUF_RW_REASON_NONE		0
#define DMABUF_RW_REASON_ARGUMENT	1	/* unknown flag, path, nonzero padding */
#define DMABUF_RW_REASON_NOT_DMABUF	2	/* dmabuf_fd is no dma-buf */
#define DMABUF_RW_REASON_BAD_TARGET	3	/* target_fd is not open, or O_PATH */
#define DMABUF_RW_REASON_DMABUF_MODE	4	/* dma-buf not open for that direction */
#define DMABUF_RW_REASON_TARGET_MODE	5	/* target not open for that direction */
#define DMABUF_RW_REASON_READ_ONLY	6	/* the block device is read-only */
#define DMABUF_RW_REASON_NOT_BLOCK	7	/* target is no block device */
#define DMABUF_RW_REASON_NOT_NVME	8	/* target is not NVMe over PCI */
#define DMABUF_RW_REASON_NOT_DIRECT	9	/* target not opened with O_DIRECT */
#define DMABUF_RW_REASON_ZONED		10	/* zoned namespace */
#define DMABUF_RW_REASON_METADATA	11	/* metadata that the drive cannot make itself */
#define DMABUF_RW_REASON_LBA_SIZE	12	/* the logical block has another size now */
#define DMABUF_RW_REASON_MULTIPATH	13	/* multipath head without a usable PCI path */
#define DMABUF_RW_REASON_SEG_ALIGN	14	/* a segment is not 4 KiB-granular */
#define DMABUF_RW_REASON_SEG_SUM	15	/* segments do not sum to the buffer's size */
#define DMABUF_RW_REASON_BOUNCE		16	/* DMA layer would bounce or must sync */
#define DMABUF_RW_REASON_NO_P2P_ROUTE	17	/* no peer-to-peer route to the drive */
#define DMABUF_RW_REASON_ATTACH		18	/* exporter refused to attach */
#define DMABUF_RW_REASON_MAP		19	/* exporter failed to map */
#define DMABUF_RW_REASON_NO_CPU_VIEW	20	/* no kernel mapping, or a wrong one */
#define DMABUF_RW_REASON_NOT_PAGES	21	/* memory without struct pages */
#define DMABUF_RW_REASON_KERNEL		22	/* this kernel lacks what it takes */
#define DMABUF_RW_REASON_MEMLOCK	23	/* over RLIMIT_MEMLOCK */
#define DMABUF_RW_REASON_LIMIT		24	/* a count limit of QUERY is reached */
#define DMABUF_RW_REASON_NO_MEMORY	25	/* out of kernel memory */
#define DMABUF_RW_REASON_SIZE_CAP	26	/* buffer larger than the path takes */
#define DMABUF_RW_REASON_REVOKED	27	/* exporter took the memory away */
#define DMABUF_RW_REASON_DEVICE_GONE	28	/* drive removed or driver unbound */
#define DMABUF_RW_REASON_FENCE_TIMEOUT	29	/* a fence did not signal in time */
#define DMABUF_RW_REASON_NO_PATH_FITS	30	/* AUTO: see refused[] for each */
#define DMABUF_RW_REASON_INTERRUPTED	31	/* a signal arrived; try again */
#define DMABUF_RW_REASON_RANGE		32	/* outside buffer or target, misaligned */
#define DMABUF_RW_REASON_DRIVE		33	/* the drive reported the error */
#define DMABUF_RW_REASON_NOT_FILE	34	/* target is no regular file or block device */
#define DMABUF_RW_REASON_HANDLE		35	/* names no mapping, or one of another path */
#define DMABUF_RW_REASON_DIRECTION	36	/* not mapped for that direction */
#define DMABUF_RW_REASON_SWAP		37	/* the block device is in use as swap */
#define DMABUF_RW_REASON_FILE_SYSTEM	38	/* HOLD_FILE: not ext4 or xfs */
#define DMABUF_RW_REASON_FILE_KIND	39	/* HOLD_FILE: not plain bytes on the disk */
#define DMABUF_RW_REASON_FILE_OWNER	40	/* HOLD_FILE: not the caller's file */
#define DMABUF_RW_REASON_FILE_BUSY	41	/* HOLD_FILE: written, executed, or swap */
#define DMABUF_RW_REASON_FILE_HOLE	42	/* HOLD_FILE: hole, unwritten or shared */
#define DMABUF_RW_NR_REASONS		43

/**
 * struct dmabuf_rw_query - DMABUF_RW_IOC_QUERY
 * @flags:		in: must be 0.
 * @abi_version:	out: DMABUF_RW_ABI_VERSION of the module.
 * @features:		out: DMABUF_RW_FEAT_*, what this module on this kernel does.
 * @max_mappings:	out: live mappings a session may have.
 * @max_batch:		out: entries one MAP or UNMAP may carry.
 * @max_sessions:	out: sessions one user may have open (root: unbounded).
 * @granule:		out: bytes; segments of a PREMAPPED buffer are multiples of it.
 * @max_io_bytes:	out: longest READ or WRITE.
 * @max_buffer_bytes:	out: by path, the largest dma-buf; 0: path not there.
 * @max_rw_files:	out: rw fds one user may have open (root: unbounded); 0
 *			without FEAT_RWFILE.
 * @max_rw_buffer_bytes: out: largest dma-buf that OPEN takes.
 * @max_ranges:		out: ranges one READV or WRITEV may carry; 0 without
 *			FEAT_RANGES.
 * @reserved:		must be 0, returned 0.
 */
struct dmabuf_rw_query {
	__u32 flags;
	__u32 abi_version;
	__u64 features;
	__u32 max_mappings;
	__u32 max_batch;
	__u32 max_sessions;
	__u32 granule;
	__u64 max_io_bytes;
	__u64 max_buffer_bytes[DMABUF_RW_NR_PATHS];
	__u64 max_rw_files;
	__u64 max_rw_buffer_bytes;
	__u64 max_ranges;
	__u64 reserved[4];
};

/**
 * struct dmabuf_rw_config - DMABUF_RW_IOC_CONFIG, settings of the session
 * @flags:	in: must be 0.
 * @timeout_ms:	in: longest wait, in milliseconds, before an I/O can be sent:
 *		for the buffer's fences, for memory that was moved, for another
 *		path to the drive; at most 3600000. 0: 30 s. A command that the
 *		drive has is the driver's: its time-out is the queue's, and no
 *		user of this device changes it.
 * @reserved:	must be 0.
 */
struct dmabuf_rw_config {
	__u32 flags;
	__u32 timeout_ms;
	__u64 reserved[3];
};

/* dmabuf_rw_map_entry.flags */
#define DMABUF_RW_MAP_READ_FUA	(1U << 0)	/* PREMAPPED: reads come from the medium */
#define DMABUF_RW_MAP_HOLD_FILE	(1U << 1)	/* PREMAPPED: hold a regular file still */

/**
 * struct dmabuf_rw_map_entry - one dma-buf to make ready for one target
 * @dmabuf_fd:		in: the dma-buf.
 * @target_fd:		in: the open file, or DMABUF_RW_NO_TARGET for REGISTERED.
 * @path:		in: DMABUF_RW_PATH_*; out: the path it got.
 * @directions:		in: DMABUF_RW_DIR_*, at least one.
 * @flags:		in: 0, or with path PREMAPPED
 *			DMABUF_RW_MAP_READ_FUA: each READ has the bit FUA, so
 *			that the drive reads what is in its medium. For WRITEs
 *			open the target with O_DSYNC;
 *			DMABUF_RW_MAP_HOLD_FILE: the target is a regular file of
 *			ext4 or xfs that is the caller's, all of it written. As
 *			long as it is mapped nobody opens, truncates or moves
 *			it: they get ETXTBSY. Open it for reading only, whatever
 *			the directions: nobody may have it open for writing.
 * @max_command_hint:	in: bytes one command may move as far as the caller
 *			knows the drive (its MDTS), 0: what the block layer
 *			says. Multiple of 4096. A hint over the drive's limit
 *			costs an error from the drive, never safety.
 * @error:		out: 0 or a positive errno. The entry is mapped iff 0.
 * @reason:		out: DMABUF_RW_REASON_*.
 * @handle:		out: names the mapping in this session.
 * @buffer_align:	out: bytes; buffer offsets are multiples of it.
 * @length_align:	out: bytes; lengths and file offsets are multiples of it.
 * @segments:		out: DMA-contiguous pieces (PREMAPPED) or page runs.
 * @buffer_bytes:	out: size of the dma-buf.
 * @refused:		out, with AUTO: by path, the reason it was passed over.
 * @max_command_bytes:	out: longest single command; 0 unless PREMAPPED.
 * @reserved0:		must be 0.
 * @reserved:		must be 0.
 */
struct dmabuf_rw_map_entry {
	__u32 dmabuf_fd;
	__u32 target_fd;
	__u32 path;
	__u32 directions;
	__u32 flags;
	__u32 max_command_hint;
	__u32 error;
	__u32 reason;
	__u32 handle;
	__u32 buffer_align;
	__u32 length_align;
	__u32 segments;
	__u64 buffer_bytes;
	__u32 refused[DMABUF_RW_NR_PATHS];
	__u32 max_command_bytes;
	__u32 reserved0;
	__u64 reserved[2];
};

/**
 * struct dmabuf_rw_map - DMABUF_RW_IOC_MAP
 * @entries:	in: address of an array of struct dmabuf_rw_map_entry.
 * @nr_entries:	in: 1 … dmabuf_rw_query.max_batch.
 * @flags:	in: must be 0.
 * @nr_mapped:	out: entries whose error is 0. Entries that could be mapped
 *		stay mapped when others fail; the call itself then returns 0.
 * @reserved:	must be 0.
 *
 * The call fails as a whole (EINVAL, EFAULT, ENOMEM), with nothing mapped,
 * only when the arguments themselves cannot be used.
 */
struct dmabuf_rw_map {
	__u64 entries;
	__u32 nr_entries;
	__u32 flags;
	__u32 nr_mapped;
	__u32 reserved;
};

/**
 * struct dmabuf_rw_unmap - DMABUF_RW_IOC_UNMAP
 * @handles:	in: address of an array of __u32 handles.
 * @nr_handles:	in: 1 … max_batch.
 * @flags:	in: must be 0.
 * @nr_unmapped: out: handles that were unmapped. A handle that names nothing
 *		makes the call return ENOENT after the others were unmapped.
 * @reserved:	must be 0.
 *
 * Returns when the I/O of all of them has ended. A ring in which a mapping is
 * registered keeps its pages until it is unregistered there.
 */
struct dmabuf_rw_unmap {
	__u64 handles;
	__u32 nr_handles;
	__u32 flags;
	__u32 nr_unmapped;
	__u32 reserved;
};

/* dmabuf_rw_info.memory: where the bytes are, by their addresses. */
#define DMABUF_RW_MEM_UNKNOWN	0
#define DMABUF_RW_MEM_SYSTEM	1	/* system RAM */
#define DMABUF_RW_MEM_PEER	2	/* a peer PCI device's BAR */
#define DMABUF_RW_MEM_MIXED	3

/* dmabuf_rw_info.route: how the drive reaches them. */
#define DMABUF_RW_ROUTE_UNKNOWN		0
#define DMABUF_RW_ROUTE_MEMORY		1	/* system memory, no peer involved */
#define DMABUF_RW_ROUTE_HOST_BRIDGE	2	/* peer to peer through the host bridge */
#define DMABUF_RW_ROUTE_SWITCH		3	/* peer to peer below one PCIe switch */

/* dmabuf_rw_info.state */
#define DMABUF_RW_STATE_LIVE		0
#define DMABUF_RW_STATE_INVALIDATED	1	/* maps again with the next I/O */
#define DMABUF_RW_STATE_REVOKED		2
#define DMABUF_RW_STATE_DEVICE_GONE	3

/* dmabuf_rw_info.controller: none, or its number is not known. */
#define DMABUF_RW_NO_CONTROLLER		(~(__u32)0)

/**
 * struct dmabuf_rw_info - DMABUF_RW_IOC_INFO
 * @handle:		in.
 * @flags:		in: must be 0.
 * @path:		DMABUF_RW_PATH_*.
 * @directions:		DMABUF_RW_DIR_*.
 * @state:		DMABUF_RW_STATE_*.
 * @memory:		DMABUF_RW_MEM_*.
 * @route:		DMABUF_RW_ROUTE_*.
 * @segments:		pieces the buffer has for the drive.
 * @shared:		mappings, in any process, that share this attachment.
 * @max_command_bytes:	longest single command.
 * @last_error:		positive errno of the last failed I/O, 0: none failed.
 * @last_reason:	its DMABUF_RW_REASON_*.
 * @buffer_bytes:	size of the dma-buf.
 * @smallest_segment:	bytes.
 * @largest_segment:	bytes.
 * @reads:		READs ended without error. Here and below not REGISTERED:
 *			the I/O of such a buffer does not pass this module.
 * @writes:		WRITEs ended without error.
 * @read_bytes:		bytes they moved.
 * @write_bytes:	bytes they moved.
 * @commands:		commands handed to the drive; BVEC: calls of the target.
 * @errors:		READs and WRITEs that ended with an error.
 * @deferred:		submissions handed to a worker because they had to sleep.
 * @invalidations:	times the exporter moved or took the memory.
 * @map_ns:		nanoseconds spent mapping, all mappings again included.
 * @registrations:	REGISTERs done with this mapping.
 * @registered:		rings' table slots that hold it now.
 * @path_changes:	PREMAPPED on a multipath head: times another controller
 *			took over.
 * @controller:		PREMAPPED: N of the controller nvmeN that the commands
 *			go to; DMABUF_RW_NO_CONTROLLER otherwise.
 * @last_status:	PREMAPPED: how the drive ended the last command that it
 *			failed: the status code in bits 7:0, its type in bits
 *			10:8, as NVMe has them; 0: none.
 * @extents:		HOLD_FILE: runs of the file's blocks on the disk; else 0.
 * @reserved0:		0.
 * @held_bytes:		HOLD_FILE: size of the file that is held still; else 0.
 * @reserved:		must be 0, returned 0.
 */
struct dmabuf_rw_info {
	__u32 handle;
	__u32 flags;
	__u32 path;
	__u32 directions;
	__u32 state;
	__u32 memory;
	__u32 route;
	__u32 segments;
	__u32 shared;
	__u32 max_command_bytes;
	__u32 last_error;
	__u32 last_reason;
	__u64 buffer_bytes;
	__u64 smallest_segment;
	__u64 largest_segment;
	__u64 reads;
	__u64 writes;
	__u64 read_bytes;
	__u64 write_bytes;
	__u64 commands;
	__u64 errors;
	__u64 deferred;
	__u64 invalidations;
	__u64 map_ns;
	__u64 registrations;
	__u64 registered;
	__u64 path_changes;
	__u32 controller;
	__u32 last_status;
	__u32 extents;
	__u32 reserved0;
	__u64 held_bytes;
	__u64 reserved[4];
};

/* dmabuf_rw_open.view: what read() and write() copy from and to. */
#define DMABUF_RW_VIEW_MEMORY	1	/* ordinary memory */
#define DMABUF_RW_VIEW_IO	2	/* a device's memory, as the CPU maps it */

/**
 * struct dmabuf_rw_open - DMABUF_RW_IOC_OPEN, a dma-buf as a file: an rw fd
 * @dmabuf_fd:		in: the dma-buf.
 * @flags:		in: O_RDONLY, O_WRONLY or O_RDWR as in open(2), and
 *			O_CLOEXEC and O_NONBLOCK. No more than the dma-buf
 *			itself is open for.
 * @fd:			out: the rw fd.
 * @reason:		out, also when the call fails: DMABUF_RW_REASON_*.
 * @view:		out: DMABUF_RW_VIEW_*.
 * @reserved0:		must be 0.
 * @buffer_bytes:	out: size of the dma-buf, and of the file.
 * @reserved:		must be 0.
 *
 * The rw fd is a file of @buffer_bytes bytes that neither grows nor shrinks:
 * read and write in all their forms, lseek, splice, sendfile, poll, mmap,
 * io_uring. Here a *read* takes bytes out of the dma-buf, as read(2) does. It
 * keeps the dma-buf, and waits for its fences as long as the session's CONFIG
 * said at OPEN. It does not need the session any more.
 *
 * The call returns 0, or fails with EINVAL (ARGUMENT), EBADF (the descriptor is
 * not open) or EINVAL (NOT_DMABUF), EACCES (DMABUF_MODE), EMFILE (LIMIT: rw fds
 * of this user, or descriptors of this process), ENFILE (LIMIT: files of the
 * system), ENOMEM (MEMLOCK, NO_MEMORY),
 * EOPNOTSUPP (NO_CPU_VIEW, SIZE_CAP), ENODEV (REVOKED), EINTR (INTERRUPTED).
 */
struct dmabuf_rw_open {
	__u32 dmabuf_fd;
	__u32 flags;
	__u32 fd;
	__u32 reason;
	__u32 view;
	__u32 reserved0;
	__u64 buffer_bytes;
	__u64 reserved[4];
};

/**
 * struct dmabuf_rw_io - DMABUF_RW_IOC_IO, one READ or WRITE that is waited for
 * @handle:		in: a PREMAPPED or BVEC mapping of this session.
 * @direction:		in: one DMABUF_RW_DIR_*.
 * @flags:		in: must be 0.
 * @reason:		out, also when the call fails: DMABUF_RW_REASON_*.
 * @buffer_offset:	in: byte offset into the dma-buf.
 * @file_offset:	in: bytes, from the start of the file or block device.
 * @length:		in: bytes, at most dmabuf_rw_query.max_io_bytes.
 * @moved:		out: bytes moved. PREMAPPED moves all or fails; BVEC may
 *			move less at the end of a file, as read(2) does.
 * @reserved:		must be 0.
 *
 * The same I/O as the uring_cmds READ and WRITE, with the same checks and
 * errors, for callers without io_uring. Returns 0 with @moved set, or fails
 * with their errno.
 */
struct dmabuf_rw_io {
	__u32 handle;
	__u32 direction;
	__u32 flags;
	__u32 reason;
	__u64 buffer_offset;
	__u64 file_offset;
	__u64 length;
	__u64 moved;
	__u64 reserved[2];
};

#define DMABUF_RW_IOC_MAGIC	0xE7
#define DMABUF_RW_IOC_QUERY	_IOWR(DMABUF_RW_IOC_MAGIC, 0x00, struct dmabuf_rw_query)
#define DMABUF_RW_IOC_CONFIG	_IOW(DMABUF_RW_IOC_MAGIC, 0x01, struct dmabuf_rw_config)
#define DMABUF_RW_IOC_MAP	_IOWR(DMABUF_RW_IOC_MAGIC, 0x02, struct dmabuf_rw_map)
#define DMABUF_RW_IOC_UNMAP	_IOWR(DMABUF_RW_IOC_MAGIC, 0x03, struct dmabuf_rw_unmap)
#define DMABUF_RW_IOC_INFO	_IOWR(DMABUF_RW_IOC_MAGIC, 0x04, struct dmabuf_rw_info)
#define DMABUF_RW_IOC_OPEN	_IOWR(DMABUF_RW_IOC_MAGIC, 0x05, struct dmabuf_rw_open)
#define DMABUF_RW_IOC_IO	_IOWR(DMABUF_RW_IOC_MAGIC, 0x06, struct dmabuf_rw_io)

/*
 * IORING_OP_URING_CMD on the session's file. A 64-byte SQE is enough. cmd_op is
 * one of those below; the SQE's cmd[16] bytes are the structure named there.
 *
 * READ, WRITE	addr = byte offset into the dma-buf, len = bytes,
 *		cmd = struct dmabuf_rw_uring_io. Result: bytes moved, or a
 *		negative errno. PREMAPPED moves all or fails; BVEC may move
 *		less at the end of a file, as read(2) and write(2) do.
 * READV, WRITEV	several of them in one command, where QUERY has FEAT_RANGES:
 *		addr = address of an array of struct dmabuf_rw_range, len = how
 *		many, 1 … dmabuf_rw_query.max_ranges, cmd = struct
 *		dmabuf_rw_uring_io with @file_offset 0. Each range is read or
 *		written as by a READ or WRITE of its own, in any order, and may
 *		fail by itself. The array is to stay until the completion, by
 *		which each range's result is in it. Result: ranges that ended
 *		well, or a negative errno: none was looked at; but for EFAULT,
 *		after which any may have been moved, and no result counts.
 * REGISTER	cmd = struct dmabuf_rw_uring_reg: put the mapping, made with path
 *		REGISTERED, into slot @index of this ring's buffer table. The
 *		slot must exist and be empty. addr = 0, len = 0; with the flag
 *		DMABUF_RW_REG_WINDOW only the @len bytes from byte @addr of the
 *		dma-buf on, which the slot then counts from 0. Result 0 or a
 *		negative errno.
 * UNREGISTER	takes it out again; @handle must be 0.
 */
#define DMABUF_RW_URING_READ	_IOW(DMABUF_RW_IOC_MAGIC, 0x40, struct dmabuf_rw_uring_io)
#define DMABUF_RW_URING_WRITE	_IOW(DMABUF_RW_IOC_MAGIC, 0x41, struct dmabuf_rw_uring_io)
#define DMABUF_RW_URING_REGISTER _IOW(DMABUF_RW_IOC_MAGIC, 0x42, struct dmabuf_rw_uring_reg)
#define DMABUF_RW_URING_UNREGISTER _IOW(DMABUF_RW_IOC_MAGIC, 0x43, struct dmabuf_rw_uring_reg)
#define DMABUF_RW_URING_READV	_IOW(DMABUF_RW_IOC_MAGIC, 0x44, struct dmabuf_rw_uring_io)
#define DMABUF_RW_URING_WRITEV	_IOW(DMABUF_RW_IOC_MAGIC, 0x45, struct dmabuf_rw_uring_io)

/**
 * struct dmabuf_rw_uring_io - cmd bytes of READ, WRITE, READV and WRITEV
 * @file_offset: bytes, from the start of the file or block device opened. 0 with
 *		READV and WRITEV.
 * @handle:	a PREMAPPED or BVEC mapping of this session.
 * @flags:	must be 0.
 */
struct dmabuf_rw_uring_io {
	__u64 file_offset;
	__u32 handle;
	__u32 flags;
};

/**
 * struct dmabuf_rw_range - one range of READV and WRITEV
 * @file_offset:   in: bytes, from the start of the file or block device opened.
 * @buffer_offset: in: byte offset into the dma-buf.
 * @length:	   in: bytes.
 * @moved:	   out: bytes moved, 0 with an error. As READ and WRITE say it.
 * @error:	   out: 0 or a positive errno, as READ and WRITE have it.
 * @reason:	   out: DMABUF_RW_REASON_*.
 */
struct dmabuf_rw_range {
	__u64 file_offset;
	__u64 buffer_offset;
	__u32 length;
	__u32 moved;
	__u32 error;
	__u32 reason;
};

/* dmabuf_rw_uring_reg.flags */
#define DMABUF_RW_REG_WINDOW	(1U << 0)

/**
 * struct dmabuf_rw_uring_reg - cmd bytes of REGISTER and UNREGISTER
 * @handle:	a REGISTERED mapping of this session; 0 for UNREGISTER.
 * @index:	slot in the ring's registered-buffer table.
 * @flags:	of REGISTER: DMABUF_RW_REG_WINDOW or 0; else must be 0.
 * @reserved:	must be 0.
 *
 * io_uring finds a place in such a slot by going through its pieces one by one.
 * Windows keep I/O that begins far inside a scattered dma-buf as fast as at its
 * start.
 */
struct dmabuf_rw_uring_reg {
	__u32 handle;
	__u32 index;
	__u32 flags;
	__u32 reserved;
};

#ifdef __cplusplus
#define __DMABUF_RW_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#else
#define __DMABUF_RW_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif
__DMABUF_RW_SIZE(struct dmabuf_rw_query, 128);
__DMABUF_RW_SIZE(struct dmabuf_rw_config, 32);
__DMABUF_RW_SIZE(struct dmabuf_rw_map_entry, 96);
__DMABUF_RW_SIZE(struct dmabuf_rw_map, 24);
__DMABUF_RW_SIZE(struct dmabuf_rw_unmap, 24);
__DMABUF_RW_SIZE(struct dmabuf_rw_info, 224);
__DMABUF_RW_SIZE(struct dmabuf_rw_open, 64);
__DMABUF_RW_SIZE(struct dmabuf_rw_io, 64);
__DMABUF_RW_SIZE(struct dmabuf_rw_uring_io, 16);
__DMABUF_RW_SIZE(struct dmabuf_rw_uring_reg, 16);
__DMABUF_RW_SIZE(struct dmabuf_rw_range, 32);
#undef __DMABUF_RW_SIZE

#endif /* _UAPI_LINUX_DMABUF_RW_H */
