// SPDX-License-Identifier: GPL-2.0-only
// What exporter cuda calls of the CUDA driver API, as a table of functions: that of libcuda.so.1,
// or a test's. Names, types and values are those of cuda.h (CUDA toolkit 11.7 and later).
#pragma once

#include "exporter/exporter.hpp"

#include <cstddef>

namespace dmabuf {

using CuResult = int;                  ///< CUresult
using CuDevice = int;                  ///< CUdevice
using CuContext = struct CuContext_ *; ///< CUcontext
using CuPointer = unsigned long long;  ///< CUdeviceptr

// CUresult
inline constexpr CuResult kCuSuccess = 0;
inline constexpr CuResult kCuOutOfMemory = 2;
inline constexpr CuResult kCuNotInitialized = 3;
inline constexpr CuResult kCuNoDevice = 100;
inline constexpr CuResult kCuInvalidDevice = 101;
inline constexpr CuResult kCuOperatingSystem = 304;
inline constexpr CuResult kCuNotPermitted = 800;
inline constexpr CuResult kCuNotSupported = 801;
inline constexpr CuResult kCuDriverMismatch = 803;

inline constexpr int kCuDmaBufSupported = 124; ///< CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED
inline constexpr int kCuSyncMemops = 6;        ///< CU_POINTER_ATTRIBUTE_SYNC_MEMOPS
inline constexpr int kCuDmaBufFd = 1;          ///< CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD

struct CudaApi {
  CuResult (*init)(unsigned flags);                              ///< cuInit
  CuResult (*error_name)(CuResult error, const char **name);     ///< cuGetErrorName
  CuResult (*device_count)(int *count);                          ///< cuDeviceGetCount
  CuResult (*device_get)(CuDevice *device, int number);          ///< cuDeviceGet
  CuResult (*device_by_pci)(CuDevice *device, const char *pci);  ///< cuDeviceGetByPCIBusId
  CuResult (*device_pci)(char *pci, int bytes, CuDevice device); ///< cuDeviceGetPCIBusId
  CuResult (*attribute)(int *value, int which, CuDevice device); ///< cuDeviceGetAttribute
  CuResult (*retain)(CuContext *context, CuDevice device);       ///< cuDevicePrimaryCtxRetain
  CuResult (*release)(CuDevice device);                          ///< cuDevicePrimaryCtxRelease_v2
  CuResult (*push)(CuContext context);                           ///< cuCtxPushCurrent_v2
  CuResult (*pop)(CuContext *context);                           ///< cuCtxPopCurrent_v2
  CuResult (*synchronize)();                                     ///< cuCtxSynchronize
  CuResult (*memory_info)(size_t *available, size_t *total);     ///< cuMemGetInfo_v2
  CuResult (*allocate)(CuPointer *pointer, size_t bytes);        ///< cuMemAlloc_v2
  CuResult (*free)(CuPointer pointer);                           ///< cuMemFree_v2
  /// cuPointerSetAttribute
  CuResult (*set_attribute)(const void *value, int which, CuPointer pointer);
  /// cuMemGetHandleForAddressRange
  CuResult (*export_range)(void *handle, CuPointer pointer, size_t bytes, int type,
                           unsigned long long flags);
  CuResult (*to_host)(void *to, CuPointer from, size_t bytes);         ///< cuMemcpyDtoH_v2
  CuResult (*to_device)(CuPointer to, const void *from, size_t bytes); ///< cuMemcpyHtoD_v2
};

/// The functions of libcuda.so.1.
Result<CudaApi> load_cuda();

/// allocate_cuda() on a table of functions.
Result<DmaBuf> allocate_cuda(const CudaApi &api, const BufferRequest &request);

} // namespace dmabuf
