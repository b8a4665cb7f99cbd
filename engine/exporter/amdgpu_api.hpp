// SPDX-License-Identifier: GPL-2.0-only
// What exporter amdgpu calls of libdrm_amdgpu, as a table of functions: that of
// libdrm_amdgpu.so.1, or a test's. Types and values are those of libdrm's amdgpu.h.
#pragma once

#include "exporter/exporter.hpp"
#include "exporter/gpu_node.hpp"

#include <amdgpu.h>

namespace dmabuf {

struct AmdgpuApi {
  decltype(&amdgpu_device_initialize) initialize;
  decltype(&amdgpu_device_deinitialize) deinitialize;
  decltype(&amdgpu_query_heap_info) heap_info;
  decltype(&amdgpu_bo_alloc) allocate;
  decltype(&amdgpu_bo_free) free;
  decltype(&amdgpu_bo_export) export_object;
  decltype(&amdgpu_bo_cpu_map) map;
  decltype(&amdgpu_bo_cpu_unmap) unmap;
};

/// The functions of libdrm_amdgpu.so.1.
Result<AmdgpuApi> load_amdgpu();

/// allocate_amdgpu() on tables of functions.
Result<DmaBuf> allocate_amdgpu(const AmdgpuApi &api, const DrmCalls &calls,
                               const BufferRequest &request);

} // namespace dmabuf
