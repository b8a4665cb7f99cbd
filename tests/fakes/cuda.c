// SPDX-License-Identifier: GPL-2.0-only
/*
 * A libcuda.so.1 with two GPUs that are not there. As strict as the real one where that matters to
 * exporter cuda: it knows which process it was started in, and which thread has a context.
 * $FAKE_CUDA_EARLY starts it when it is loaded, as a program does that uses CUDA itself.
 */
#include "vram.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SUCCESS = 0,
	INVALID_VALUE = 1,
	OUT_OF_MEMORY = 2,
	NOT_INITIALIZED = 3,
	INVALID_DEVICE = 101,
	INVALID_CONTEXT = 201,
	UNKNOWN = 999,
};

#define GPUS 2

static pid_t started_in;
static int retained[GPUS];
static __thread int *current;

static int check(const char *call)
{
	if (started_in != getpid())
		return NOT_INITIALIZED;
	return vram_fails(call) ? UNKNOWN : SUCCESS;
}

static int check_context(const char *call)
{
	return current ? check(call) : INVALID_CONTEXT;
}

int cuInit(unsigned int flags)
{
	if (started_in && started_in != getpid())
		return NOT_INITIALIZED;
	started_in = getpid();
	return flags ? INVALID_VALUE : check("cuInit");
}

static void __attribute__((constructor)) start_early(void)
{
	if (getenv("FAKE_CUDA_EARLY"))
		cuInit(0);
}

int cuGetErrorName(int error, const char **name)
{
	*name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" :
		error == NOT_INITIALIZED ? "CUDA_ERROR_NOT_INITIALIZED" : "CUDA_ERROR_UNKNOWN";
	return SUCCESS;
}

int cuDeviceGetCount(int *count)
{
	*count = GPUS;
	return check("cuDeviceGetCount");
}

int cuDeviceGet(int *device, int number)
{
	*device = number;
	return number < GPUS ? check("cuDeviceGet") : INVALID_DEVICE;
}

int cuDeviceGetPCIBusId(char *pci, int bytes, int device)
{
	snprintf(pci, (size_t)bytes, "0000:%02x:00.0", 0x41 + device);
	return check("cuDeviceGetPCIBusId");
}

int cuDeviceGetByPCIBusId(int *device, const char *pci)
{
	char name[32];

	for (*device = 0; *device < GPUS; ++*device) {
		cuDeviceGetPCIBusId(name, sizeof(name), *device);
		if (!strcmp(name, pci))
			return check("cuDeviceGetByPCIBusId");
	}
	return INVALID_DEVICE;
}

int cuDeviceGetAttribute(int *value, int which, int device)
{
	(void)device;
	*value = which == 124 && !vram_fails("dma-buf");
	return check("cuDeviceGetAttribute");
}

int cuDevicePrimaryCtxRetain(int **context, int device)
{
	__atomic_fetch_add(&retained[device], 1, __ATOMIC_SEQ_CST);
	*context = &retained[device];
	return check("cuDevicePrimaryCtxRetain");
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
	return __atomic_fetch_sub(&retained[device], 1, __ATOMIC_SEQ_CST) > 0 ? SUCCESS : INVALID_CONTEXT;
}

int cuCtxPushCurrent_v2(int *context)
{
	if (current || !*context)
		return INVALID_CONTEXT;
	current = context;
	return check("cuCtxPushCurrent");
}

int cuCtxPopCurrent_v2(int **context)
{
	*context = current;
	current = NULL;
	return *context ? SUCCESS : INVALID_CONTEXT;
}

int cuCtxSynchronize(void)
{
	return check_context("cuCtxSynchronize");
}

int cuMemGetInfo_v2(size_t *available, size_t *total)
{
	*available = (size_t)7 << 20;
	*total = (size_t)80 << 30;
	return check_context("cuMemGetInfo");
}

int cuMemAlloc_v2(unsigned long long *pointer, size_t bytes)
{
	struct vram *vram;

	if (vram_fails("memory"))
		return OUT_OF_MEMORY;
	if (check_context("cuMemAlloc"))
		return check_context("cuMemAlloc");
	vram = vram_take("cuda", bytes);
	if (!vram)
		return OUT_OF_MEMORY;
	*pointer = (unsigned long long)vram->base;
	return SUCCESS;
}

int cuMemFree_v2(unsigned long long pointer)
{
	struct vram *vram = vram_at((void *)pointer, 1);

	if (!vram || check_context("cuMemFree"))
		return INVALID_VALUE;
	vram_give_back("cuda", vram);
	return SUCCESS;
}

int cuPointerSetAttribute(const void *value, int which, unsigned long long pointer)
{
	if (which != 6 || *(const unsigned int *)value != 1 || !vram_at((void *)pointer, 1))
		return INVALID_VALUE;
	return check_context("cuPointerSetAttribute");
}

int cuMemGetHandleForAddressRange(void *handle, unsigned long long pointer, size_t bytes, int type,
				  unsigned long long flags)
{
	struct vram *vram = vram_at((void *)pointer, bytes);
	int fd;

	if (!vram || vram->bytes != bytes || type != 1 || flags)
		return INVALID_VALUE;
	if (check_context("cuMemGetHandleForAddressRange"))
		return UNKNOWN;
	fd = vram_export(vram);
	if (fd < 0)
		return UNKNOWN;
	*(int *)handle = fd;
	return SUCCESS;
}

int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t bytes)
{
	struct vram *vram = vram_at((void *)from, bytes);

	if (!vram || check_context("cuMemcpyDtoH"))
		return INVALID_VALUE;
	vram_copy_from(vram, to, (void *)from, bytes);
	return SUCCESS;
}

int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t bytes)
{
	struct vram *vram = vram_at((void *)to, bytes);

	if (!vram || check_context("cuMemcpyHtoD"))
		return INVALID_VALUE;
	if (!vram_fails("lose copies"))
		memcpy((void *)to, from, bytes);
	vram->copied_to += bytes;
	return SUCCESS;
}
