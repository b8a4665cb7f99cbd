// SPDX-License-Identifier: GPL-2.0-only
/* The calls of libdrm_amdgpu.so.1 that exporter amdgpu makes, on a GPU that is not there. */
#include "vram.h"

#include <amdgpu.h>
#include <amdgpu_drm.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct amdgpu_device {
	int objects;
};

struct amdgpu_bo {
	struct amdgpu_device *device;
	struct vram *vram;
	int mapped;
};

int amdgpu_device_initialize(int fd, uint32_t *major, uint32_t *minor, amdgpu_device_handle *device)
{
	if (fd < 0 || vram_fails("amdgpu_device_initialize"))
		return -EACCES;
	*major = 3;
	*minor = 49;
	*device = calloc(1, sizeof(**device));
	return *device ? 0 : -ENOMEM;
}

int amdgpu_device_deinitialize(amdgpu_device_handle device)
{
	if (device->objects)
		abort();
	free(device);
	return 0;
}

int amdgpu_query_heap_info(amdgpu_device_handle device, uint32_t heap, uint32_t flags,
			   struct amdgpu_heap_info *info)
{
	(void)device;
	if (heap != AMDGPU_GEM_DOMAIN_VRAM || flags != AMDGPU_GEM_CREATE_CPU_ACCESS_REQUIRED)
		return -EINVAL;
	memset(info, 0, sizeof(*info));
	info->heap_size = (uint64_t)256 << 20;
	return 0;
}

int amdgpu_bo_alloc(amdgpu_device_handle device, struct amdgpu_bo_alloc_request *wanted,
		    amdgpu_bo_handle *object)
{
	struct amdgpu_bo *made;

	if (wanted->preferred_heap != AMDGPU_GEM_DOMAIN_VRAM || wanted->alloc_size % 4096)
		return -EINVAL;
	if (vram_fails("memory"))
		return -ENOMEM;
	made = calloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	made->vram = vram_take("amdgpu", wanted->alloc_size);
	if (!made->vram) {
		free(made);
		return -ENOMEM;
	}
	made->device = device;
	device->objects++;
	*object = made;
	return 0;
}

int amdgpu_bo_free(amdgpu_bo_handle object)
{
	if (object->mapped)
		abort();
	object->device->objects--;
	vram_give_back("amdgpu", object->vram);
	free(object);
	return 0;
}

int amdgpu_bo_export(amdgpu_bo_handle object, enum amdgpu_bo_handle_type type, uint32_t *shared)
{
	int fd;

	if (type != amdgpu_bo_handle_type_dma_buf_fd)
		return -EINVAL;
	fd = vram_export(object->vram);
	if (fd < 0)
		return -errno;
	*shared = (uint32_t)fd;
	return 0;
}

int amdgpu_bo_cpu_map(amdgpu_bo_handle object, void **cpu)
{
	object->mapped++;
	*cpu = object->vram->base;
	return 0;
}

int amdgpu_bo_cpu_unmap(amdgpu_bo_handle object)
{
	object->mapped--;
	return 0;
}
