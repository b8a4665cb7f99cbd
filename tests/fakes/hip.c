// SPDX-License-Identifier: GPL-2.0-only
/*
 * A libamdhip64.so.6 with two GPUs that are not there. It knows which process it was started in, and
 * each thread's device.
 */
#include "vram.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	SUCCESS = 0,
	INVALID_VALUE = 1,
	OUT_OF_MEMORY = 2,
	NOT_INITIALIZED = 3,
	INVALID_DEVICE = 101,
	UNKNOWN = 999,
};

#define GPUS 2

static pid_t started_in;
static __thread int current = -1;

static int check(const char *call)
{
	if (started_in != getpid())
		return NOT_INITIALIZED;
	return vram_fails(call) ? UNKNOWN : SUCCESS;
}

static int check_device(const char *call)
{
	return current >= 0 ? check(call) : INVALID_DEVICE;
}

int hipInit(unsigned int flags)
{
	if (started_in && started_in != getpid())
		return NOT_INITIALIZED;
	started_in = getpid();
	return flags ? INVALID_VALUE : check("hipInit");
}

const char *hipGetErrorName(int error)
{
	return error == OUT_OF_MEMORY ? "hipErrorOutOfMemory" : "hipErrorUnknown";
}

int hipGetDeviceCount(int *count)
{
	*count = GPUS;
	return check("hipGetDeviceCount");
}

int hipDeviceGetPCIBusId(char *pci, int bytes, int device)
{
	snprintf(pci, (size_t)bytes, "0000:%02x:00.0", 0x03 + device);
	return check("hipDeviceGetPCIBusId");
}

int hipDeviceGetByPCIBusId(int *device, const char *pci)
{
	char name[32];

	for (*device = 0; *device < GPUS; ++*device) {
		hipDeviceGetPCIBusId(name, sizeof(name), *device);
		if (!strcmp(name, pci))
			return check("hipDeviceGetByPCIBusId");
	}
	return INVALID_DEVICE;
}

int hipSetDevice(int device)
{
	if (device < 0 || device >= GPUS)
		return INVALID_DEVICE;
	current = device;
	return check("hipSetDevice");
}

int hipDeviceSynchronize(void)
{
	return check_device("hipDeviceSynchronize");
}

int hipMemGetInfo(size_t *available, size_t *total)
{
	*available = (size_t)7 << 20;
	*total = (size_t)16 << 30;
	return check_device("hipMemGetInfo");
}

int hipMalloc(void **pointer, size_t bytes)
{
	struct vram *vram;

	if (vram_fails("memory"))
		return OUT_OF_MEMORY;
	if (check_device("hipMalloc"))
		return check_device("hipMalloc");
	vram = vram_take("hip", bytes);
	if (!vram)
		return OUT_OF_MEMORY;
	*pointer = vram->base;
	return SUCCESS;
}

int hipFree(void *pointer)
{
	struct vram *vram = vram_at(pointer, 1);

	if (!vram || check_device("hipFree"))
		return INVALID_VALUE;
	vram_give_back("hip", vram);
	return SUCCESS;
}

int hipMemcpy(void *to, const void *from, size_t bytes, int kind)
{
	struct vram *vram = vram_at(kind == 1 ? to : from, bytes);

	if (!vram || (kind != 1 && kind != 2) || check_device("hipMemcpy"))
		return INVALID_VALUE;
	if (kind == 2) {
		vram_copy_from(vram, to, from, bytes);
		return SUCCESS;
	}
	if (!vram_fails("lose copies"))
		memcpy(to, from, bytes);
	vram->copied_to += bytes;
	return SUCCESS;
}
