// SPDX-License-Identifier: MIT
/* What errnos and the module's reasons mean. The one place that has these sentences. */
#include "module/libdmabuf_rw.h"

#include "module/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REASON(name, sentence, remedy) { DMABUF_RW_REASON_##name, #name, sentence, remedy }

static const struct drw_reason reasons[] = {
	REASON(NONE, "no reason was given", "look at the kernel log (dmesg)"),
	REASON(ARGUMENT, "the module did not accept the request",
	       "use a module and a program of the same release"),
	REASON(NOT_DMABUF, "the descriptor is not a dma-buf", "give one that an exporter made"),
	REASON(BAD_TARGET, "the target is not an open file", "check the descriptor"),
	REASON(DMABUF_MODE, "the dma-buf is not open for that direction",
	       "export it for reading and writing"),
	REASON(TARGET_MODE, "the target is not open for that direction",
	       "open it with O_RDWR, or ask for one direction"),
	REASON(READ_ONLY, "the block device is read-only",
	       "only read, or make it writable with blockdev --setrw"),
	REASON(NOT_BLOCK, "the target is not a block device",
	       "open the raw namespace, or take path REGISTERED or BVEC"),
	REASON(NOT_NVME, "the target is not NVMe over PCI",
	       "open an NVMe namespace, or take path REGISTERED or BVEC"),
	REASON(NOT_DIRECT, "the target is not open with O_DIRECT", "open it with O_DIRECT"),
	REASON(ZONED, "the namespace is zoned", "take path REGISTERED or BVEC"),
	REASON(METADATA,
	       "the namespace is formatted with metadata that the drive cannot make itself",
	       "use a format with 8-byte protection information or none (nvme format), or path "
	       "REGISTERED"),
	REASON(LBA_SIZE, "the logical block has another size than when the buffer was mapped",
	       "map the buffer again"),
	REASON(MULTIPATH, "the multipath head has no usable path over PCI: all are over another "
	       "transport (TCP, RDMA, FC, loop) or down",
	       "check nvme list-subsys, or take path REGISTERED or BVEC"),
	REASON(SEG_ALIGN, "a piece of the dma-buf is not a multiple of 4 KiB",
	       "use another exporter, or path REGISTERED or BVEC"),
	REASON(SEG_SUM, "the exporter's pieces do not add up to the dma-buf's size",
	       "use a smaller buffer or another exporter"),
	REASON(BOUNCE, "the drive does not reach this memory by itself: the kernel would copy it "
	       "(swiotlb), or flush caches for it",
	       "take path REGISTERED or BVEC, or turn off swiotlb=force, if that is why"),
	REASON(NO_P2P_ROUTE, "there is no peer-to-peer route from the drive to this memory",
	       "put both behind one PCIe switch, or check the IOMMU and ACS settings"),
	REASON(ATTACH, "the exporter refused to attach the drive, or to keep the memory in place",
	       "look at the kernel log (dmesg), or use another exporter"),
	REASON(MAP, "the exporter failed to map the memory for the drive",
	       "look at the kernel log (dmesg), or use a smaller buffer"),
	REASON(NO_CPU_VIEW, "the exporter gives the kernel no view of the memory, or a wrong one",
	       "take path PREMAPPED, or another exporter"),
	REASON(NOT_PAGES, "the memory has no struct pages", "take path PREMAPPED"),
	REASON(KERNEL, "this kernel lacks what the datapath needs",
	       "use a newer kernel, or another path"),
	REASON(MEMLOCK, "pinning the buffer would exceed RLIMIT_MEMLOCK",
	       "raise it (ulimit -l), run as root, or use a smaller buffer"),
	REASON(LIMIT, "a limit of the module on sessions or mappings is reached",
	       "unmap what is not needed, or use fewer processes"),
	REASON(NO_MEMORY, "the kernel is out of memory", "use less of it"),
	REASON(SIZE_CAP, "the buffer is larger than this datapath takes", "use a smaller buffer"),
	REASON(REVOKED, "the exporter took the memory away", "check the exporter's device"),
	REASON(DEVICE_GONE, "the drive was removed or its driver unbound", "check the drive"),
	REASON(FENCE_TIMEOUT, "the device that uses the memory did not finish in time",
	       "set a longer time-out, or check the exporter's device"),
	REASON(NO_PATH_FITS, "no datapath works for this target, exporter and kernel",
	       "see the reason given for each"),
	REASON(INTERRUPTED, "a signal arrived", "call again"),
	REASON(RANGE, "the transfer is misaligned, or outside the buffer or the target",
	       "use offsets and lengths that are multiples of the target's logical block"),
	REASON(DRIVE, "the drive reported the error",
	       "look at the kernel log and the drive's error log (nvme error-log)"),
	REASON(NOT_FILE, "the target is neither a regular file nor a block device",
	       "open a file or a block device"),
	REASON(HANDLE, "the handle names no mapping that this call can use",
	       "map it in this session, and as premapped or bvec"),
	REASON(DIRECTION, "the buffer was not mapped for that direction",
	       "map it for both directions"),
	REASON(SWAP, "the target is in use as swap", "swapoff it, or use another drive"),
	REASON(FILE_SYSTEM, "a file can be held still on ext4 and xfs on a block device only",
	       "put the file there, or use another datapath"),
	REASON(FILE_KIND, "the bytes of the file are not simply those on the disk (encrypted, verity, "
	       "in the inode or the journal, DAX)",
	       "use a plain file"),
	REASON(FILE_OWNER, "the file is not the caller's",
	       "call as its owner, or as root"),
	REASON(FILE_BUSY, "somebody has the file open for writing, runs it as a program, or holds it with "
	       "other rights; or it is in use as swap",
	       "open it for reading only, and end whoever uses it; only one job can write a file"),
	REASON(FILE_HOLE, "the file has a hole, or blocks that were not written or are shared with another "
	       "file",
	       "write all of it first, without holes"),
};

#undef REASON

_Static_assert(sizeof(reasons) / sizeof(reasons[0]) == DMABUF_RW_NR_REASONS,
	       "a reason code has no sentence");

static const struct drw_reason unknown = {
	UINT32_MAX, "UNKNOWN", "the module gave a reason that this program does not know",
	"use a module and a program of the same release",
};

struct text text_begin(char *buffer, size_t size)
{
	if (size)
		buffer[0] = '\0';
	return (struct text){ .buffer = buffer, .size = size };
}

void text_add(struct text *text, const char *format, ...)
{
	const size_t room = text->length < text->size ? text->size - text->length : 0;
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(room ? text->buffer + text->length : NULL, room, format, args);
	va_end(args);
	if (length > 0)
		text->length += (size_t)length;
}

/*
 * The kernel's own errnos, which drivers let out though the C library has no names for them. A
 * program of the engine's has a table of its own (base/error.cpp).
 */
static const struct kernel_errno {
	int code;
	const char *name, *meaning;
} kernel_errnos[] = {
	{ 524, "ENOTSUPP", "Not supported, the kernel's own errno 524" },
};

static const struct kernel_errno *kernel_errno(int number)
{
	for (size_t i = 0; i < sizeof(kernel_errnos) / sizeof(kernel_errnos[0]); i++)
		if (kernel_errnos[i].code == number)
			return &kernel_errnos[i];
	return NULL;
}

static const char *errno_name(int number)
{
	const struct kernel_errno *own = kernel_errno(number);

	return own ? own->name : strerrorname_np(number);
}

static const char *errno_meaning(int number)
{
	const struct kernel_errno *own = kernel_errno(number);

	return own ? own->meaning : strerrordesc_np(number);
}

void text_add_errno(struct text *text, int code)
{
	const int number = code < 0 ? -code : code;
	const char *name = errno_name(number);

	if (name)
		text_add(text, "%s", name);
	else
		text_add(text, "errno %d", number);
}

void text_add_cause(struct text *text, uint32_t reason, int code)
{
	const struct drw_reason *entry = drw_reason_of(reason);

	text_add(text, "%s (%s, ", entry->sentence, entry->name);
	text_add_errno(text, code);
	text_add(text, ")");
}

int error_plain(struct drw_error *error, int code, const char *what)
{
	const char *words = errno_meaning(code);
	struct text text;

	if (!error)
		return -code;
	error->code = code;
	error->reason = DMABUF_RW_REASON_NONE;
	text = text_begin(error->text, sizeof(error->text));
	text_add(&text, "%s: ", what);
	text_add_errno(&text, code);
	if (words)
		text_add(&text, " (%s)", words);
	return -code;
}

int error_reason(struct drw_error *error, uint32_t reason, int code, const char *what)
{
	struct text text;

	if (!error)
		return -code;
	error->code = code;
	error->reason = reason;
	text = text_begin(error->text, sizeof(error->text));
	text_add(&text, "%s", what);
	text_add_cause(&text, reason, code);
	text_add(&text, "; %s", drw_reason_of(reason)->remedy);
	return -code;
}

/* The first line of a small file; "" if it cannot be read. */
static void first_line(const char *path, char *line, int size)
{
	FILE *file = fopen(path, "re");

	line[0] = '\0';
	if (!file)
		return;
	if (!fgets(line, size, file))
		line[0] = '\0';
	fclose(file);
}

int signed_modules_only(const char *lockdown, const char *sig_enforce)
{
	return (lockdown[0] && !strstr(lockdown, "[none]")) || sig_enforce[0] == 'Y';
}

static struct machine this_machine(void)
{
	char lockdown[128], enforce[8];

	first_line("/sys/kernel/security/lockdown", lockdown, sizeof(lockdown));
	first_line("/sys/module/module/parameters/sig_enforce", enforce, sizeof(enforce));
	return (struct machine){
		.module_loaded = !access("/sys/module/dmabuf_rw", F_OK),
		.signed_modules_only = signed_modules_only(lockdown, enforce),
	};
}

size_t drw_open_text(char *buffer, size_t size, int code)
{
	return open_text(buffer, size, code, this_machine());
}

size_t open_text(char *buffer, size_t size, int code, struct machine machine)
{
	struct text text = text_begin(buffer, size);
	const char *words;

	switch (code) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		/* A container sees which modules its host has, and of the devices those it was given. */
		if (machine.module_loaded)
			text_add(&text, "there is no " DMABUF_RW_DEVICE " here, though the dmabuf_rw "
				 "kernel module is loaded; give the container this device (docker "
				 "run --device " DMABUF_RW_DEVICE ")");
		else if (machine.signed_modules_only)
			text_add(&text, "there is no " DMABUF_RW_DEVICE ": the dmabuf_rw kernel module "
				 "is not loaded; load it (modprobe dmabuf_rw). This kernel takes signed "
				 "modules only (Secure Boot, or a parameter of Linux): if it rejects the "
				 "module's key, sign it with one that is enrolled: "
				 "docs/kernel-module.md, Secure Boot");
		else
			text_add(&text, "there is no " DMABUF_RW_DEVICE ": the dmabuf_rw kernel module "
				 "is not loaded; load it (modprobe dmabuf_rw)");
		break;
	case EACCES:
	case EPERM:
		text_add(&text, DMABUF_RW_DEVICE " may not be opened (");
		text_add_errno(&text, code);
		text_add(&text, "): it belongs to root unless a udev rule gives it to a group; run as "
			 "root or install such a rule");
		break;
	case EMFILE:
	case ENFILE:
		text_add(&text, "cannot open " DMABUF_RW_DEVICE ": too many open files (");
		text_add_errno(&text, code);
		text_add(&text, "); raise ulimit -n");
		break;
	case EUSERS:
	case ENOSPC:
		text_add(&text, DMABUF_RW_DEVICE " has no session left for this user (");
		text_add_errno(&text, code);
		text_add(&text, "); run fewer jobs");
		break;
	default:
		text_add(&text, "cannot open " DMABUF_RW_DEVICE ": ");
		text_add_errno(&text, code);
		words = errno_meaning(code);
		if (words)
			text_add(&text, " (%s)", words);
	}
	return text.length;
}

const struct drw_reason *drw_reason_of(uint32_t reason)
{
	return reason < DMABUF_RW_NR_REASONS ? &reasons[reason] : &unknown;
}

const char *drw_path_name(uint32_t path)
{
	switch (path) {
	case DMABUF_RW_PATH_AUTO:
		return "auto";
	case DMABUF_RW_PATH_PREMAPPED:
		return "premapped";
	case DMABUF_RW_PATH_REGISTERED:
		return "registered";
	case DMABUF_RW_PATH_BVEC:
		return "bvec";
	default:
		return "unknown";
	}
}

const char *drw_memory_name(uint32_t memory)
{
	switch (memory) {
	case DMABUF_RW_MEM_SYSTEM:
		return "system";
	case DMABUF_RW_MEM_PEER:
		return "peer";
	case DMABUF_RW_MEM_MIXED:
		return "mixed";
	default:
		return "unknown";
	}
}

const char *drw_route_name(uint32_t route)
{
	switch (route) {
	case DMABUF_RW_ROUTE_MEMORY:
		return "memory";
	case DMABUF_RW_ROUTE_HOST_BRIDGE:
		return "host_bridge";
	case DMABUF_RW_ROUTE_SWITCH:
		return "switch";
	default:
		return "unknown";
	}
}

size_t drw_cause_text(char *buffer, size_t size, uint32_t reason, int code)
{
	struct text text = text_begin(buffer, size);

	text_add_cause(&text, reason, code);
	return text.length;
}

size_t drw_refused_text(char *buffer, size_t size, const struct dmabuf_rw_map_entry *entry)
{
	struct text text = text_begin(buffer, size);
	const struct drw_reason *reason;

	for (uint32_t path = 1; path < DMABUF_RW_NR_PATHS; path++) {
		if (entry->refused[path] == DMABUF_RW_REASON_NONE)
			continue;
		reason = drw_reason_of(entry->refused[path]);
		text_add(&text, "%s%s: %s (%s)", text.length ? "; " : "", drw_path_name(path),
			 reason->sentence, reason->name);
	}
	return text.length;
}

/* An errno that comes without a reason. */
static void add_errno_sentence(struct text *text, int code)
{
	const char *words = errno_meaning(code);

	switch (code) {
	case EAGAIN:
		text_add(text, "the kernel asks for another try (EAGAIN); submit it again");
		break;
	case ECANCELED:
		text_add(text, "it was cancelled before it was sent (ECANCELED): a linked request "
			 "failed, or the ring is going away");
		break;
	default:
		text_add_errno(text, code);
		if (words)
			text_add(text, " (%s)", words);
	}
}

uint32_t drw_result_text(struct drw_session *session, uint32_t handle, int32_t res,
			 uint32_t length, char *buffer, size_t size)
{
	struct text text = text_begin(buffer, size);
	struct dmabuf_rw_info info;

	if (res >= 0 && (uint32_t)res == length) {
		if (length)
			text_add(&text, "moved all %u bytes", length);
		else
			text_add(&text, "done");
		return DMABUF_RW_REASON_NONE;
	}
	if (res >= 0) {
		text_add(&text, "moved %d of %u bytes: the target ends there", res, length);
		return DMABUF_RW_REASON_NONE;
	}
	/* The mapping remembers its last failure, which need not be this one. */
	if (session && res != -EAGAIN && !drw_info(session, handle, &info, NULL) &&
	    info.last_error == (uint32_t)-res && info.last_reason != DMABUF_RW_REASON_NONE) {
		text_add_cause(&text, info.last_reason, -res);
		text_add(&text, "; %s", drw_reason_of(info.last_reason)->remedy);
		return info.last_reason;
	}
	add_errno_sentence(&text, -res);
	return DMABUF_RW_REASON_NONE;
}
