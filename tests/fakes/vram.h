/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of GPUs that are not there: memfds, and dma-bufs of them by udmabuf. Shared by the
 * stand-ins for vendors' libraries and drivers.
 *
 *  - $FAKE_GPU_FAIL=CALL makes a call fail, by the name that its stand-in gives it. These succeed and do
 *    something else: "lose copies" and "other bytes" (a copy from it has one wrong bit), of the copies
 *    by the libraries cuda and hip; "private view", of the mappings that amdgpu, xe and i915 copy by:
 *    the device never sees what the CPU wrote, nor the CPU what a device wrote behind it; "other
 *    memory": the dma-buf is of memory that no copy reaches.
 *  - $FAKE_GPU_LOG gets a line for each allocation, and for each that is given back, with the bytes
 *    that were copied to and from it.
 */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vram {
	int memfd;
	char *base; /* where it is mapped here; the GPU's address of it, too */
	int other; /* the memory of "other memory", or -1 */
	size_t bytes;
	size_t copied_to, copied_from;
	struct vram *next;
};

/* Is @call the one that fails? */
int vram_fails(const char *call);

/* NULL if there is none. */
struct vram *vram_take(const char *who, size_t bytes);
void vram_give_back(const char *who, struct vram *vram);

/* The one that @bytes bytes at @address lie in; NULL if they do not. */
struct vram *vram_at(const void *address, size_t bytes);

/* Copies from it as a library does, with what $FAKE_GPU_FAIL says. */
void vram_copy_from(struct vram *vram, void *to, const void *from, size_t bytes);

/* A dma-buf of all of it, -1 and errno if there is none. */
int vram_export(const struct vram *vram);

#ifdef __cplusplus
}
#endif
