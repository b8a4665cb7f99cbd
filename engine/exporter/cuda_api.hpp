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

using CuHandle = unsigned long long; ///< CUmemGenericAllocationHandle

/// CUuuid
struct CuUuid {
  unsigned char bytes[16];
};

/// CUmemLocation
struct CuMemLocation {
  int type;
  int id;
};

/// CUmemAllocationProp
struct CuMemProp {
  int type;
  int handle_types;
  CuMemLocation location;
  void *win32;
  unsigned char compression;
  unsigned char rdma; ///< gpuDirectRDMACapable
  unsigned short usage;
  unsigned char reserved[4];
};
static_assert(sizeof(CuMemProp) == 32);

/// CUmemAccessDesc
struct CuMemAccess {
  CuMemLocation location;
  int flags;
};

// CUresult
inline constexpr CuResult kCuSuccess = 0;
inline constexpr CuResult kCuInvalidValue = 1;
inline constexpr CuResult kCuOutOfMemory = 2;
inline constexpr CuResult kCuNotInitialized = 3;
inline constexpr CuResult kCuNoDevice = 100;
inline constexpr CuResult kCuInvalidDevice = 101;
inline constexpr CuResult kCuOperatingSystem = 304;
inline constexpr CuResult kCuNotPermitted = 800;
inline constexpr CuResult kCuNotSupported = 801;
inline constexpr CuResult kCuDriverMismatch = 803;

// CUdevice_attribute
inline constexpr int kCuVmm = 102;             ///< VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
inline constexpr int kCuVmmRdma = 110;         ///< GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED
inline constexpr int kCuFlushOptions = 117;    ///< GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS
inline constexpr int kCuWritesOrdering = 118;  ///< GPU_DIRECT_RDMA_WRITES_ORDERING
inline constexpr int kCuDmaBufSupported = 124; ///< DMA_BUF_SUPPORTED

inline constexpr int kCuSyncMemops = 6; ///< CU_POINTER_ATTRIBUTE_SYNC_MEMOPS
inline constexpr int kCuDmaBufFd = 1;   ///< CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD
/// CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE, of CUDA 12.8 and later
inline constexpr unsigned long long kCuMappingPcie = 1;

inline constexpr int kCuOrderedForOwner = 100; ///< CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER
inline constexpr int kCuFlushByHost = 1;       ///< CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST
/// CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX
inline constexpr int kCuFlushCurrent = 0;
inline constexpr int kCuFlushToOwner = 100; ///< CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER

inline constexpr int kCuPinned = 1;      ///< CU_MEM_ALLOCATION_TYPE_PINNED
inline constexpr int kCuOnDevice = 1;    ///< CU_MEM_LOCATION_TYPE_DEVICE
inline constexpr int kCuReadWrite = 3;   ///< CU_MEM_ACCESS_FLAGS_PROT_READWRITE
inline constexpr int kCuLeastBlocks = 0; ///< CU_MEM_ALLOC_GRANULARITY_MINIMUM

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

  // Each of these is nullptr where the library has none.
  CuResult (*gpu_uuid)(CuUuid *uuid, CuDevice device);      ///< cuDeviceGetUuid: the GPU's
  CuResult (*instance_uuid)(CuUuid *uuid, CuDevice device); ///< cuDeviceGetUuid_v2: MIG's, if it is
  CuResult (*flush)(int target, int scope);                 ///< cuFlushGPUDirectRDMAWrites
  /// cuMemGetAllocationGranularity
  CuResult (*granularity)(size_t *bytes, const CuMemProp *prop, int option);
  /// cuMemAddressReserve
  CuResult (*reserve)(CuPointer *pointer, size_t bytes, size_t align, CuPointer wanted,
                      unsigned long long flags);
  CuResult (*free_address)(CuPointer pointer, size_t bytes); ///< cuMemAddressFree
  /// cuMemCreate
  CuResult (*create)(CuHandle *handle, size_t bytes, const CuMemProp *prop,
                     unsigned long long flags);
  CuResult (*release_memory)(CuHandle handle); ///< cuMemRelease
  /// cuMemMap
  CuResult (*map)(CuPointer pointer, size_t bytes, size_t offset, CuHandle handle,
                  unsigned long long flags);
  CuResult (*unmap)(CuPointer pointer, size_t bytes); ///< cuMemUnmap
  /// cuMemSetAccess
  CuResult (*set_access)(CuPointer pointer, size_t bytes, const CuMemAccess *access, size_t count);
};

/// The functions of libcuda.so.1.
Result<CudaApi> load_cuda();

/// allocate_cuda() on a table of functions. `root`: in front of /sys; empty but in tests.
Result<DmaBuf> allocate_cuda(const CudaApi &api, const BufferRequest &request,
                             const std::string &root = "");

} // namespace dmabuf
