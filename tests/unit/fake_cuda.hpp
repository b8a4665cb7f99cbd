// SPDX-License-Identifier: GPL-2.0-only
// CUDA's driver API made up here, for the tests of exporter cuda, which need no GPU.
#pragma once

#include "base/sizes.hpp"
#include "call_script.hpp"
#include "exporter/cuda_api.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace dmabuf {

/// The driver API as it answers: the state of each of its calls.
struct FakeCuda : FakeGpus<CuResult> {
  std::map<int, int> attributes = {{kCuDmaBufSupported, 1},
                                   {kCuWritesOrdering, kCuOrderedForOwner},
                                   {kCuFlushOptions, kCuFlushByHost},
                                   {kCuVmm, 1},
                                   {kCuVmmRdma, 1}};
  CuResult pcie = kCuSuccess;               ///< what an export with the PCIe flag answers
  std::vector<unsigned long long> mappings; ///< flags that exports were asked with
  CuResult sync_memops = kCuSuccess;
  bool mig = false;        ///< device 1 is an instance of a GPU
  bool info_fails = false; ///< cuMemGetInfo
  size_t block = 2 * kMiB; ///< of cuMemCreate
  bool mapped = false, accessible = false;
  bool odd_pointer = false;
  int export_fd_count = 0;
  CuDevice used_device = -1;
};

inline FakeCuda fake;
inline thread_local int pushed = 0;
inline CuContext_ *const kContext = reinterpret_cast<CuContext_ *>(0x1234);

inline CuResult answer(const char *name) { return fake.answer(name); }

inline CuPointer base() { return reinterpret_cast<CuPointer>(fake.memory->data()); }

/// A call that needs the context to be the thread's own.
inline CuResult in_context(const char *name) {
  EXPECT_EQ(pushed, 1) << name;
  return answer(name);
}

inline void *host(CuPointer pointer, size_t bytes) {
  EXPECT_GE(pointer, base());
  EXPECT_LE(pointer + bytes, base() + fake.memory->size());
  return reinterpret_cast<void *>(pointer);
}

inline const CudaApi kApi = {
    .init =
        [](unsigned flags) {
          EXPECT_EQ(flags, 0U);
          return answer("cuInit");
        },
    .error_name =
        [](CuResult result, const char **name) {
          *name = result == kCuOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : nullptr;
          return *name ? kCuSuccess : 1;
        },
    .device_count = [](int *count) { return fake.count("cuDeviceGetCount", count); },
    .device_get =
        [](CuDevice *device, int number) {
          *device = number;
          return answer("cuDeviceGet");
        },
    .device_by_pci =
        [](CuDevice *device, const char *pci) {
          return fake.find("cuDeviceGetByPCIBusId", device, pci);
        },
    .device_pci =
        [](char *pci, int bytes, CuDevice device) {
          fake.used_device = device;
          std::snprintf(pci, static_cast<size_t>(bytes), "0000:C%d:00.0", device);
          return answer("cuDeviceGetPCIBusId");
        },
    .attribute =
        [](int *value, int which, CuDevice) {
          EXPECT_TRUE(fake.attributes.contains(which)) << which;
          *value = fake.attributes[which];
          return answer("cuDeviceGetAttribute");
        },
    .retain =
        [](CuContext *context, CuDevice device) {
          EXPECT_EQ(device, fake.used_device);
          const CuResult result = answer("cuDevicePrimaryCtxRetain");
          if (!result) {
            *context = kContext;
            fake.script.held++;
          }
          return result;
        },
    .release =
        [](CuDevice device) {
          EXPECT_EQ(device, fake.used_device);
          fake.script.give_back("cuDevicePrimaryCtxRelease");
          return kCuSuccess;
        },
    .push =
        [](CuContext context) {
          EXPECT_EQ(context, kContext);
          const CuResult result = answer("cuCtxPushCurrent");
          pushed += !result;
          return result;
        },
    .pop =
        [](CuContext *context) {
          *context = kContext;
          fake.script.calls.emplace_back("cuCtxPopCurrent");
          pushed--;
          return kCuSuccess;
        },
    .synchronize = []() { return in_context("cuCtxSynchronize"); },
    .memory_info =
        [](size_t *available, size_t *total) {
          *available = 512 * kMiB;
          *total = 81559 * kMiB;
          EXPECT_EQ(pushed, 1);
          return fake.info_fails ? fake.code : kCuSuccess;
        },
    .allocate =
        [](CuPointer *pointer, size_t bytes) {
          const CuResult result = in_context("cuMemAlloc");
          fake.take_memory(result, bytes);
          if (!result)
            *pointer = base() + (fake.odd_pointer ? 256 : 0);
          return result;
        },
    .free =
        [](CuPointer pointer) {
          EXPECT_EQ(pushed, 1);
          EXPECT_EQ(pointer, base() + (fake.odd_pointer ? 256 : 0));
          fake.memory.reset();
          fake.script.give_back("cuMemFree");
          return kCuSuccess;
        },
    .set_attribute =
        [](const void *value, int which, CuPointer pointer) {
          unsigned on = 0;
          std::memcpy(&on, value, sizeof(on));
          EXPECT_EQ(on, 1U);
          EXPECT_EQ(which, 6);
          EXPECT_EQ(pointer, base() + (fake.odd_pointer ? 256 : 0));
          const CuResult result = in_context("cuPointerSetAttribute");
          return result ? result : fake.sync_memops;
        },
    .export_range =
        [](void *handle, CuPointer pointer, size_t bytes, int type, unsigned long long flags) {
          EXPECT_EQ(pointer, base());
          EXPECT_EQ(bytes, fake.asked_bytes);
          EXPECT_EQ(type, 1);
          fake.mappings.push_back(flags);
          CuResult result = in_context("cuMemGetHandleForAddressRange");
          if (!result && flags)
            result = fake.pcie;
          if (!result)
            *static_cast<int *>(handle) = fake.memory->dup();
          return result;
        },
    .to_host =
        [](void *to, CuPointer from, size_t bytes) {
          std::memcpy(to, host(from, bytes), bytes);
          return in_context("cuMemcpyDtoH");
        },
    .to_device =
        [](CuPointer to, const void *from, size_t bytes) {
          std::memcpy(host(to, bytes), from, bytes);
          return in_context("cuMemcpyHtoD");
        },
    .gpu_uuid =
        [](CuUuid *uuid, CuDevice device) {
          *uuid = {{0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23,
                    0x45, 0x67, static_cast<unsigned char>(device)}};
          return answer("cuDeviceGetUuid");
        },
    .instance_uuid =
        [](CuUuid *uuid, CuDevice device) {
          *uuid = {{0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23,
                    0x45, 0x67, static_cast<unsigned char>(device)}};
          if (fake.mig && device == 1)
            *uuid = {{0x11, 0x22, 0x33}};
          return answer("cuDeviceGetUuid_v2");
        },
    .flush =
        [](int target, int scope) {
          EXPECT_EQ(target, 0);
          EXPECT_EQ(scope, 100);
          return in_context("cuFlushGPUDirectRDMAWrites");
        },
    .granularity =
        [](size_t *bytes, const CuMemProp *prop, int option) {
          EXPECT_EQ(prop->type, 1);
          EXPECT_EQ(option, 0);
          *bytes = fake.block;
          return answer("cuMemGetAllocationGranularity");
        },
    .reserve =
        [](CuPointer *pointer, size_t bytes, size_t align, CuPointer wanted,
           unsigned long long flags) {
          EXPECT_EQ(bytes, fake.asked_bytes);
          EXPECT_EQ(align, 0U);
          EXPECT_EQ(wanted, 0U);
          EXPECT_EQ(flags, 0U);
          const CuResult result = in_context("cuMemAddressReserve");
          if (!result) {
            *pointer = base();
            fake.script.held++;
          }
          return result;
        },
    .free_address =
        [](CuPointer pointer, size_t bytes) {
          EXPECT_EQ(pointer, base());
          EXPECT_EQ(bytes, fake.asked_bytes);
          EXPECT_FALSE(fake.mapped);
          EXPECT_EQ(pushed, 1);
          fake.script.give_back("cuMemAddressFree");
          return kCuSuccess;
        },
    .create =
        [](CuHandle *handle, size_t bytes, const CuMemProp *prop, unsigned long long flags) {
          EXPECT_EQ(prop->type, 1);
          EXPECT_EQ(prop->handle_types, 0);
          EXPECT_EQ(prop->location.type, 1);
          EXPECT_EQ(prop->location.id, fake.used_device);
          EXPECT_EQ(prop->rdma, 1);
          EXPECT_EQ(prop->compression, 0);
          EXPECT_EQ(flags, 0U);
          const CuResult result = in_context("cuMemCreate");
          fake.take_memory(result, bytes);
          if (!result)
            *handle = 77;
          return result;
        },
    .release_memory =
        [](CuHandle handle) {
          EXPECT_EQ(handle, 77U);
          EXPECT_EQ(pushed, 1);
          fake.script.give_back("cuMemRelease");
          return kCuSuccess;
        },
    .map =
        [](CuPointer pointer, size_t bytes, size_t offset, CuHandle handle,
           unsigned long long flags) {
          EXPECT_EQ(pointer, base());
          EXPECT_EQ(bytes, fake.asked_bytes);
          EXPECT_EQ(offset, 0U);
          EXPECT_EQ(handle, 77U);
          EXPECT_EQ(flags, 0U);
          const CuResult result = in_context("cuMemMap");
          if (!result) {
            fake.mapped = true;
            fake.script.held++;
          }
          return result;
        },
    .unmap =
        [](CuPointer pointer, size_t bytes) {
          EXPECT_EQ(pointer, base());
          EXPECT_EQ(bytes, fake.asked_bytes);
          EXPECT_TRUE(fake.mapped);
          EXPECT_EQ(pushed, 1);
          fake.mapped = false;
          fake.script.give_back("cuMemUnmap");
          return kCuSuccess;
        },
    .set_access =
        [](CuPointer pointer, size_t bytes, const CuMemAccess *access, size_t count) {
          EXPECT_EQ(pointer, base());
          EXPECT_EQ(bytes, fake.asked_bytes);
          EXPECT_EQ(count, 1U);
          EXPECT_EQ(access->location.type, 1);
          EXPECT_EQ(access->location.id, fake.used_device);
          EXPECT_EQ(access->flags, 3);
          fake.accessible = true;
          return in_context("cuMemSetAccess");
        },
};

inline CallScript &reset() {
  EXPECT_EQ(pushed, 0);
  return start_afresh(fake);
}

inline Result<DmaBuf> allocate(const char *device = "", uint64_t bytes = 3 * kMiB) {
  return allocate_cuda(kApi, {.kind = ExporterKind::cuda, .device = device, .bytes = bytes});
}

/// What came of an allocation that is given back at once.
struct Outcome {
  bool made;
  std::string exported, note, no_room, message;
  int code;
};

inline Outcome outcome(const char *device = "", uint64_t bytes = 3 * kMiB,
                       const CudaApi &api = kApi, const std::string &root = "/nowhere") {
  const auto buffer =
      allocate_cuda(api, {.kind = ExporterKind::cuda, .device = device, .bytes = bytes}, root);
  if (!buffer)
    return {false, "", "", "", buffer.error().message, buffer.error().code};
  return {true, buffer->exported, buffer->note, buffer->no_room, "", 0};
}

} // namespace dmabuf
