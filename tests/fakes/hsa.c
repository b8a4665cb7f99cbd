// SPDX-License-Identifier: GPL-2.0-only
/* The calls of libhsa-runtime64.so.1 that exporter hip makes. It has the memory, as there. */
#include "vram.h"

#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

int hsa_amd_portable_export_dmabuf(const void *pointer, size_t bytes, int *fd, uint64_t *offset)
{
	struct vram *vram = vram_at(pointer, bytes);

	if (!vram || vram_fails("hsa_amd_portable_export_dmabuf"))
		return 0x1000;
	*fd = vram_export(vram);
	*offset = (uint64_t)((const char *)pointer - vram->base);
	return *fd < 0 ? 0x1000 : 0;
}

int hsa_amd_portable_close_dmabuf(int fd)
{
	return close(fd) ? 0x1001 : 0;
}

int hsa_system_get_info(int which, void *value)
{
	if (which != 0x204)
		return 0x1001;
	*(bool *)value = !vram_fails("dma-buf");
	return 0;
}
