// SPDX-License-Identifier: MIT
/*
 * An exporter for memory that the CPU cannot mmap(): an NVIDIA GPU's, by calls of
 * the CUDA driver. The engine has one built in; this is where to begin for memory
 * that your own program or driver allocates on a GPU.
 *
 *	cc -shared -fPIC -Wall -o cuda_plugin.so cuda_plugin.c -ldl
 *	fio ... --dmabuf_exporter=plugin --dmabuf_device=./cuda_plugin.so,0
 *
 * The argument is the number of the GPU. The driver's library is opened when the
 * plug-in is used, so that it is built without CUDA.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libdmabuf/exporter.h>

/* The driver's own pieces: a dma-buf has whole pages of the host, and begins with one. */
#define PIECE		((uint64_t)2 << 20)
#define AS_DMA_BUF	1	/* CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD */

/* The driver's calls; each returns 0 or the number of an error. */
static struct {
	int (*init)(unsigned int flags);
	int (*device)(int *device, int ordinal);
	int (*bus_id)(char *text, int length, int device);
	int (*retain)(void **context, int device);
	int (*release)(int device);
	int (*enter)(void *context);
	int (*leave)(void **context);
	int (*alloc)(uint64_t *address, size_t bytes);
	int (*free)(uint64_t address);
	int (*export)(void *handle, uint64_t address, size_t bytes, int type, unsigned long long flags);
	int (*to_host)(void *to, uint64_t from, size_t bytes);
	int (*to_device)(uint64_t to, const void *from, size_t bytes);
	int (*wait)(void);
} cuda;

static const struct {
	const char *name;
	void *call;
} calls[] = {
	{ "cuInit", &cuda.init },
	{ "cuDeviceGet", &cuda.device },
	{ "cuDeviceGetPCIBusId", &cuda.bus_id },
	{ "cuDevicePrimaryCtxRetain", &cuda.retain },
	{ "cuDevicePrimaryCtxRelease_v2", &cuda.release },
	{ "cuCtxPushCurrent_v2", &cuda.enter },
	{ "cuCtxPopCurrent_v2", &cuda.leave },
	{ "cuMemAlloc_v2", &cuda.alloc },
	{ "cuMemFree_v2", &cuda.free },
	{ "cuMemGetHandleForAddressRange", &cuda.export },
	{ "cuMemcpyDtoH_v2", &cuda.to_host },
	{ "cuMemcpyHtoD_v2", &cuda.to_device },
	{ "cuCtxSynchronize", &cuda.wait },
};

struct libdmabuf_device {
	int number;
	void *context;
	char bus_id[32];
};

struct libdmabuf_buffer {
	uint64_t address;
};

/* Says what failed; the result is for return. */
static int failed(struct libdmabuf_words *why, int code, const char *call, int error)
{
	snprintf(why->text, sizeof(why->text), "%s: the CUDA driver's error %d", call, error);
	return code;
}

static int find_calls(struct libdmabuf_words *why)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		snprintf(why->text, sizeof(why->text), "%s; is the driver installed?", dlerror());
		return ENODEV;
	}
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		void *call = dlsym(library, calls[i].name);

		if (!call) {
			snprintf(why->text, sizeof(why->text), "the CUDA driver has no %s", calls[i].name);
			return EOPNOTSUPP;
		}
		memcpy(calls[i].call, &call, sizeof(call));
	}
	return 0;
}

static int open_device(const char *arguments, struct libdmabuf_device **device,
		       struct libdmabuf_words *why)
{
	struct libdmabuf_device *made;
	char *end;
	long number = strtol(arguments, &end, 10);
	int error, code;

	if (*end || number < 0) {
		snprintf(why->text, sizeof(why->text), "'%.64s' is no number of a GPU", arguments);
		return EINVAL;
	}
	code = find_calls(why);
	if (code)
		return code;
	made = calloc(1, sizeof(*made));
	if (!made)
		return ENOMEM;
	error = cuda.init(0);
	if (!error)
		error = cuda.device(&made->number, (int)number);
	if (!error)
		error = cuda.bus_id(made->bus_id, sizeof(made->bus_id), made->number);
	if (!error)
		error = cuda.retain(&made->context, made->number);
	if (error) {
		free(made);
		return failed(why, ENODEV, "no such GPU", error);
	}
	/* The driver writes letters large, and sysfs small. */
	for (char *c = made->bus_id; *c; c++)
		if (*c >= 'A' && *c <= 'F')
			*c += 'a' - 'A';
	*device = made;
	return 0;
}

static void close_device(struct libdmabuf_device *device)
{
	cuda.release(device->number);
	free(device);
}

/* The calls that follow are for this GPU; the thread may have been on another. */
static int enter(struct libdmabuf_device *device)
{
	return cuda.enter(device->context);
}

static int leave(int error)
{
	void *context;

	cuda.leave(&context);
	return error;
}

static void free_buffer(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer)
{
	if (!enter(device))
		leave(cuda.free(buffer->address));
	free(buffer);
}

static int alloc_buffer(struct libdmabuf_device *device, const struct libdmabuf_request *request,
			struct libdmabuf_allocation *made, struct libdmabuf_words *why)
{
	uint64_t bytes = (request->bytes + PIECE - 1) / PIECE * PIECE;
	struct libdmabuf_buffer *buffer = calloc(1, sizeof(*buffer));
	int error, fd = -1;

	if (!buffer)
		return ENOMEM;
	error = enter(device);
	if (!error)
		error = leave(cuda.alloc(&buffer->address, bytes));
	if (error) {
		free(buffer);
		return failed(why, ENOMEM, "cuMemAlloc", error);
	}
	error = enter(device);
	if (!error)
		error = leave(cuda.export(&fd, buffer->address, bytes, AS_DMA_BUF, 0));
	if (error) {
		free_buffer(device, buffer);
		return failed(why, EOPNOTSUPP,
			      "the memory is not exported as a dma-buf (needs the open kernel modules)",
			      error);
	}
	made->buffer = buffer;
	made->bytes = bytes;
	made->fd = fd;
	snprintf(made->device, sizeof(made->device), "%s", device->bus_id);
	return 0;
}

static int read_buffer(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer,
		       uint64_t offset, void *to, uint64_t bytes)
{
	if (enter(device))
		return EIO;
	return leave(cuda.to_host(to, buffer->address + offset, bytes)) ? EIO : 0;
}

static int write_buffer(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer,
			uint64_t offset, const void *from, uint64_t bytes)
{
	int error;

	if (enter(device))
		return EIO;
	error = cuda.to_device(buffer->address + offset, from, bytes);
	/* A copy may come back before the GPU has it: a drive must not read earlier. */
	if (!error)
		error = cuda.wait();
	return leave(error) ? EIO : 0;
}

const struct libdmabuf_exporter *libdmabuf_exporter_table(void)
{
	static const struct libdmabuf_exporter table = {
		.abi = LIBDMABUF_EXPORTER_ABI,
		.bytes = sizeof(table),
		.name = "CUDA example",
		.version = "1.0",
		.open = open_device,
		.close = close_device,
		.alloc = alloc_buffer,
		.free = free_buffer,
		.read = read_buffer,
		.write = write_buffer,
	};

	return &table;
}
