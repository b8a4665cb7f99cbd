// SPDX-License-Identifier: GPL-2.0-only
// What exporter hip calls of AMD's ROCm, as a table of functions: those of libamdhip64.so and
// libhsa-runtime64.so.1, or a test's. Names, types and values are those of hip/hip_runtime_api.h
// and hsa/hsa_ext_amd.h.
#pragma once

#include "exporter/exporter.hpp"

#include <cstddef>

namespace dmabuf {

using HipError = int;  ///< hipError_t
using HsaStatus = int; ///< hsa_status_t

// hipError_t
inline constexpr HipError kHipSuccess = 0;
inline constexpr HipError kHipOutOfMemory = 2;
inline constexpr HipError kHipNotInitialized = 3;
inline constexpr HipError kHipNoDevice = 100;
inline constexpr HipError kHipInvalidDevice = 101;
inline constexpr HipError kHipNotSupported = 801;

inline constexpr HsaStatus kHsaSuccess = 0;
inline constexpr int kHsaDmaBufSupported = 0x204; ///< HSA_AMD_SYSTEM_INFO_DMABUF_SUPPORTED, a bool

// hipMemcpyKind
inline constexpr int kHipHostToDevice = 1;
inline constexpr int kHipDeviceToHost = 2;

struct HipApi {
  HipError (*init)(unsigned flags);                                     ///< hipInit
  const char *(*error_name)(HipError error);                            ///< hipGetErrorName
  HipError (*device_count)(int *count);                                 ///< hipGetDeviceCount
  HipError (*device_by_pci)(int *device, const char *pci);              ///< hipDeviceGetByPCIBusId
  HipError (*device_pci)(char *pci, int bytes, int device);             ///< hipDeviceGetPCIBusId
  HipError (*set_device)(int device);                                   ///< hipSetDevice
  HipError (*synchronize)();                                            ///< hipDeviceSynchronize
  HipError (*memory_info)(size_t *available, size_t *total);            ///< hipMemGetInfo
  HipError (*allocate)(void **pointer, size_t bytes);                   ///< hipMalloc
  HipError (*free)(void *pointer);                                      ///< hipFree
  HipError (*copy)(void *to, const void *from, size_t bytes, int kind); ///< hipMemcpy
  /// hsa_amd_portable_export_dmabuf: `offset` is where `pointer` lies in the dma-buf.
  HsaStatus (*export_range)(const void *pointer, size_t bytes, int *fd, uint64_t *offset);

  // Each of these is nullptr where the library has none.
  HsaStatus (*close_export)(int fd);                 ///< hsa_amd_portable_close_dmabuf
  HsaStatus (*system_info)(int which, void *answer); ///< hsa_system_get_info
};

/// The functions of ROCm's libraries.
Result<HipApi> load_hip();

/// allocate_hip() on a table of functions.
Result<DmaBuf> allocate_hip(const HipApi &api, const BufferRequest &request);

} // namespace dmabuf
