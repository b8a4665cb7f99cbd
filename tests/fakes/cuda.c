// SPDX-License-Identifier: GPL-2.0-only
/*
 * A libcuda.so.1 with two GPUs that are not there. As strict as the real one where that matters to
 * exporter cuda: it knows which process it was started in, and which thread has a context.
 * $FAKE_CUDA_EARLY starts it when it is loaded, as a program does that uses CUDA itself.
 */
#include "vram.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SUCCESS = 0,
	INVALID_VALUE = 1,
	OUT_OF_MEMORY = 2,
	NOT_INITIALIZED = 3,
	NOT_SUPPORTED = 801,
	INVALID_DEVICE = 101,
	INVALID_CONTEXT = 201,
	UNKNOWN = 999,
};

#define GPUS 2
#define BLOCK ((size_t)2 << 20)

struct location {
	int type, id;
};

struct properties {
	int type, handle_types;
	struct location location;
	void *win32;
	unsigned char compression, rdma;
	unsigned short usage;
	unsigned char reserved[4];
};

/*
 * Memory of cuMemCreate. A stand-in gives it one address, which the thread that created it reserves,
 * and maps it there.
 */
static struct created {
	struct vram *vram;
	pthread_t by;
	int reserved, mapped, accessible;
} *all_created[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

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
	*name = error == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE" :
		error == NOT_SUPPORTED ? "CUDA_ERROR_NOT_SUPPORTED" :
		!error ? "CUDA_SUCCESS" :
		error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" :
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
	switch (which) {
	case 102: /* virtual memory */
	case 110: /* that peers reach */
		*value = !vram_fails("virtual memory");
		break;
	case 116: /* peers reach memory at all */
		*value = 1;
		break;
	case 117: /* flush by the host */
		*value = 1;
		break;
	case 118: /* ordering: for the owner, or none */
		*value = vram_fails("ordering") ? 0 : 100;
		break;
	default:
		*value = which == 124 && !vram_fails("dma-buf");
	}
	return check("cuDeviceGetAttribute");
}

int cuDriverGetVersion(int *version)
{
	*version = 12080;
	return vram_fails("cuDriverGetVersion") ? UNKNOWN : SUCCESS;
}

int cuDeviceGetName(char *name, int bytes, int device)
{
	snprintf(name, (size_t)bytes, "Stand-in %d", device);
	return check("cuDeviceGetName");
}

int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
	(void)device;
	*bytes = (size_t)80 << 30;
	return check("cuDeviceTotalMem");
}

int cuDeviceGetUuid(unsigned char *uuid, int device)
{
	memset(uuid, 0x50 + device, 16);
	return check("cuDeviceGetUuid");
}

/* With "MIG" GPU 1 is an instance of one. */
int cuDeviceGetUuid_v2(unsigned char *uuid, int device)
{
	memset(uuid, (vram_fails("MIG") && device ? 0x60 : 0x50) + device, 16);
	return check("cuDeviceGetUuid_v2");
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

static struct created *find_created(unsigned long long handle)
{
	struct created *found;

	pthread_mutex_lock(&lock);
	found = handle && handle <= 64 ? all_created[handle - 1] : NULL;
	pthread_mutex_unlock(&lock);
	return found;
}

/* The one of @vram; with NULL one of @bytes bytes that this thread created and has not reserved. */
static struct created *created_of(const struct vram *vram, size_t bytes)
{
	struct created *found = NULL;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < 64 && !found; i++) {
		found = all_created[i];
		if (found && (vram ? found->vram != vram :
			      found->reserved || found->vram->bytes != bytes ||
			      !pthread_equal(found->by, pthread_self())))
			found = NULL;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

static struct created *created_at(unsigned long long pointer, size_t bytes)
{
	struct vram *vram = vram_at((void *)pointer, bytes);

	return vram ? created_of(vram, bytes) : NULL;
}

/* Puts it in the table; 0 if that is full. */
static unsigned long long keep(struct created *made)
{
	unsigned long long handle = 0;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < 64 && !handle; i++)
		if (!all_created[i]) {
			all_created[i] = made;
			handle = (unsigned long long)i + 1;
		}
	pthread_mutex_unlock(&lock);
	return handle;
}

static int good(const struct properties *wanted)
{
	return wanted->type == 1 && wanted->location.type == 1 && wanted->location.id < GPUS;
}

int cuMemGetAllocationGranularity(size_t *bytes, const struct properties *wanted, int which)
{
	*bytes = BLOCK;
	return good(wanted) && which <= 1 ? check("cuMemGetAllocationGranularity") : INVALID_VALUE;
}

int cuMemCreate(unsigned long long *handle, size_t bytes, const struct properties *wanted,
		unsigned long long flags)
{
	struct created *made;

	if (!good(wanted) || !wanted->rdma || bytes % BLOCK || flags)
		return INVALID_VALUE;
	if (vram_fails("memory"))
		return OUT_OF_MEMORY;
	if (check_context("cuMemCreate"))
		return check_context("cuMemCreate");
	made = calloc(1, sizeof(*made));
	if (!made)
		return OUT_OF_MEMORY;
	made->by = pthread_self();
	made->vram = vram_take("cuda", bytes);
	*handle = made->vram ? keep(made) : 0;
	if (*handle)
		return SUCCESS;
	if (made->vram)
		vram_give_back("cuda", made->vram);
	free(made);
	return OUT_OF_MEMORY;
}

int cuMemAddressReserve(unsigned long long *pointer, size_t bytes, size_t align,
			unsigned long long wanted, unsigned long long flags)
{
	struct created *made;

	if (align || wanted || flags)
		return INVALID_VALUE;
	if (check_context("cuMemAddressReserve"))
		return check_context("cuMemAddressReserve");
	made = created_of(NULL, bytes);
	if (!made)
		return INVALID_VALUE;
	made->reserved = 1;
	*pointer = (unsigned long long)made->vram->base;
	return SUCCESS;
}

int cuMemMap(unsigned long long pointer, size_t bytes, size_t offset, unsigned long long handle,
	     unsigned long long flags)
{
	struct created *made = find_created(handle);

	if (!made || !made->reserved || made->mapped || made != created_at(pointer, bytes) || offset ||
	    flags)
		return INVALID_VALUE;
	if (check_context("cuMemMap"))
		return check_context("cuMemMap");
	made->mapped = 1;
	return SUCCESS;
}

int cuMemSetAccess(unsigned long long pointer, size_t bytes, const int *access, size_t count)
{
	struct created *made = created_at(pointer, bytes);

	if (!made || !made->mapped || access[0] != 1 || access[2] != 3 || count != 1)
		return INVALID_VALUE;
	made->accessible = 1;
	return check_context("cuMemSetAccess");
}

int cuMemUnmap(unsigned long long pointer, size_t bytes)
{
	struct created *made = created_at(pointer, bytes);

	if (!made || !made->mapped || !current)
		return INVALID_VALUE;
	made->mapped = 0;
	return SUCCESS;
}

int cuMemAddressFree(unsigned long long pointer, size_t bytes)
{
	struct created *made = created_at(pointer, bytes);

	if (!made || made->mapped || !made->reserved)
		return INVALID_VALUE;
	made->reserved = 0;
	return SUCCESS;
}

int cuMemRelease(unsigned long long handle)
{
	struct created *made = find_created(handle);

	if (!made || made->mapped || made->reserved)
		return INVALID_VALUE;
	pthread_mutex_lock(&lock);
	all_created[handle - 1] = NULL;
	pthread_mutex_unlock(&lock);
	vram_give_back("cuda", made->vram);
	free(made);
	return SUCCESS;
}

/* Memory of cuMemCreate is, where it is mapped and access was given. */
static int reachable(const struct vram *vram)
{
	struct created *made = created_of(vram, 0);

	return !made || (made->mapped && made->accessible);
}

int cuFlushGPUDirectRDMAWrites(int target, int scope)
{
	if (target || (scope != 100 && scope != 200))
		return INVALID_VALUE;
	return check_context("cuFlushGPUDirectRDMAWrites");
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

	if (!vram || vram->bytes != bytes || type != 1 || flags > 1 || !reachable(vram))
		return INVALID_VALUE;
	if (flags && vram_fails("PCIe mapping"))
		return NOT_SUPPORTED;
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

	if (!vram || !reachable(vram) || check_context("cuMemcpyDtoH"))
		return INVALID_VALUE;
	vram_copy_from(vram, to, (void *)from, bytes);
	return SUCCESS;
}

int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t bytes)
{
	struct vram *vram = vram_at((void *)to, bytes);

	if (!vram || !reachable(vram) || check_context("cuMemcpyHtoD"))
		return INVALID_VALUE;
	if (!vram_fails("lose copies"))
		memcpy((void *)to, from, bytes);
	vram->copied_to += bytes;
	return SUCCESS;
}
