// SPDX-License-Identifier: GPL-2.0-only
// Exporter cuda on a driver API made up here: no machine of ours has such a GPU.
#include "base/sizes.hpp"
#include "call_script.hpp"
#include "exporter/cuda_api.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>

namespace dmabuf {
namespace {

/// The driver API as it answers: the state of each of its calls.
struct FakeCuda {
  CallScript script;
  CuResult code = 999; ///< CUDA_ERROR_UNKNOWN; what a call that fails answers
  int devices = 2;
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
  size_t asked_bytes = 0;
  CuDevice used_device = -1;
  std::string used_pci;
  std::unique_ptr<FakeMemory> memory;
};

FakeCuda fake;
thread_local int pushed = 0;
CuContext_ *const kContext = reinterpret_cast<CuContext_ *>(0x1234);

CuResult answer(const char *name) { return fake.script.fail(name) ? fake.code : kCuSuccess; }

CuPointer base() { return reinterpret_cast<CuPointer>(fake.memory->data()); }

/// A call that needs the context to be the thread's own.
CuResult in_context(const char *name) {
  EXPECT_EQ(pushed, 1) << name;
  return answer(name);
}

void *host(CuPointer pointer, size_t bytes) {
  EXPECT_GE(pointer, base());
  EXPECT_LE(pointer + bytes, base() + fake.memory->size());
  return reinterpret_cast<void *>(pointer);
}

const CudaApi kApi = {
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
    .device_count =
        [](int *count) {
          *count = fake.devices;
          return answer("cuDeviceGetCount");
        },
    .device_get =
        [](CuDevice *device, int number) {
          *device = number;
          return answer("cuDeviceGet");
        },
    .device_by_pci =
        [](CuDevice *device, const char *pci) {
          fake.used_pci = pci;
          *device = 1;
          return answer("cuDeviceGetByPCIBusId");
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
          if (!result) {
            fake.asked_bytes = bytes;
            fake.memory = std::make_unique<FakeMemory>(bytes);
            *pointer = base() + (fake.odd_pointer ? 256 : 0);
            fake.script.held++;
          }
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
          if (!result) {
            fake.asked_bytes = bytes;
            fake.memory = std::make_unique<FakeMemory>(bytes);
            *handle = 77;
            fake.script.held++;
          }
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

CallScript &reset() {
  EXPECT_EQ(pushed, 0);
  fake = FakeCuda();
  return fake.script;
}

Result<DmaBuf> allocate(const char *device = "", uint64_t bytes = 3 * kMiB) {
  return allocate_cuda(kApi, {.kind = ExporterKind::cuda, .device = device, .bytes = bytes});
}

TEST(Cuda, EachCallThatFailsLeavesNothingBehind) {
  fail_each_call(reset, [] { return allocate(); },
                 {"cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetPCIBusId",
                  "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent",
                  "cuMemAlloc", "cuPointerSetAttribute", "cuDeviceGetAttribute",
                  "cuMemGetHandleForAddressRange"});
  fail_each_call(reset, [] { return allocate("0000:61:00.0"); },
                 {"cuInit", "cuDeviceGetByPCIBusId", "cuDeviceGetPCIBusId", "cuDeviceGetAttribute",
                  "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent", "cuMemAlloc",
                  "cuPointerSetAttribute", "cuDeviceGetAttribute",
                  "cuMemGetHandleForAddressRange"});
}

TEST(Cuda, ADmaBufOfWholeBlocksThatIsGivenBackInOrder) {
  CallScript &script = reset();
  const int before = open_descriptors();
  {
    const auto buffer = allocate();
    ASSERT_TRUE(buffer) << buffer.error().message;
    EXPECT_EQ(fake.asked_bytes, 4 * kMiB);
    EXPECT_EQ(lseek(buffer->fd.get(), 0, SEEK_END), static_cast<off_t>(4 * kMiB));
    EXPECT_EQ(buffer->device, "0000:c0:00.0");
    EXPECT_FALSE(buffer->view);
    EXPECT_EQ(pushed, 0) << "the thread's context is what it was";
    script.calls.clear();
  }
  EXPECT_EQ(script.calls,
            (std::vector<std::string>{"cuCtxPushCurrent", "cuMemFree", "cuCtxPopCurrent",
                                      "cuDevicePrimaryCtxRelease"}));
  EXPECT_EQ(script.held, 0);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Cuda, CopiesGoWhereTheyAreToAndWait) {
  CallScript &script = reset();
  const auto buffer = allocate();
  ASSERT_TRUE(buffer);
  check_copies(*buffer->memory, *fake.memory);
  EXPECT_EQ(pushed, 0);
  EXPECT_EQ(script.count("cuMemcpyHtoD"), script.count("cuCtxSynchronize"));
  EXPECT_EQ(script.count("cuMemcpyHtoD"), 1U);
}

TEST(Cuda, ACopyThatFailsSaysSo) {
  for (const char *call : {"cuCtxPushCurrent", "cuMemcpyHtoD", "cuCtxSynchronize"}) {
    CallScript &script = reset();
    const auto buffer = allocate();
    ASSERT_TRUE(buffer);
    const std::byte byte = {};
    const size_t start = script.may_fail.size();
    ASSERT_EQ(buffer->memory->write(0, {&byte, 1}), 0);
    const size_t calls = script.may_fail.size() - start;
    size_t at = 0;
    while (script.may_fail[start + at] != call)
      at++;
    script.fail_at = start + calls + at;
    EXPECT_EQ(buffer->memory->write(0, {&byte, 1}), EIO) << call;
    EXPECT_EQ(pushed, 0) << call;
  }
  CallScript &script = reset();
  const auto buffer = allocate();
  ASSERT_TRUE(buffer);
  std::byte byte = {};
  fake.code = kCuOutOfMemory;
  script.fail_at = script.may_fail.size() + 1;
  EXPECT_EQ(buffer->memory->read(0, {&byte, 1}), ENOMEM);
}

TEST(Cuda, DevicesAreNumbersOrPciAddresses) {
  reset();
  ASSERT_TRUE(allocate("1"));
  EXPECT_EQ(fake.used_device, 1);
  reset();
  ASSERT_TRUE(allocate("0000:61:00.0"));
  EXPECT_EQ(fake.used_pci, "0000:61:00.0");
  reset();
  const auto none = allocate("2");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ENODEV);
  EXPECT_EQ(none.error().message,
            "there is no CUDA device 2, the last one is 1; set dmabuf_device");
  reset();
  fake.devices = 0;
  EXPECT_FALSE(allocate());
  EXPECT_FALSE(allocate("4294967295"));
}

TEST(Cuda, TooLittleMemorySaysHowMuchThereIs) {
  CallScript &script = reset();
  fake.code = kCuOutOfMemory;
  script.fail_at = 7;
  const auto buffer = allocate("", 2048 * kMiB);
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOMEM);
  EXPECT_EQ(buffer.error().message,
            "the job's buffer needs 2048 MiB and GPU 0000:c0:00.0 has 512 MiB of 81559 MiB free; "
            "lower iodepth or bs, or use another dmabuf_device");
  EXPECT_EQ(script.held, 0);
}

TEST(Cuda, ADriverWithoutDmaBufsNamesTheOpenModules) {
  CallScript &script = reset();
  fake.attributes[kCuDmaBufSupported] = 0;
  const auto buffer = allocate();
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, EOPNOTSUPP);
  EXPECT_NE(buffer.error().message.find("open kernel modules"), std::string::npos);
  EXPECT_EQ(script.count("cuDevicePrimaryCtxRetain"), 0U);
}

TEST(Cuda, EachWayNotToStartHasItsRemedy) {
  const std::pair<CuResult, const char *> cases[] = {{kCuNotInitialized, "thread=1"},
                                                     {kCuNoDevice, "modprobe nvidia"},
                                                     {kCuNotPermitted, "/dev/nvidia*"},
                                                     {kCuOperatingSystem, "/dev/nvidia*"},
                                                     {kCuDriverMismatch, "reboot"}};
  for (const auto &[code, remedy] : cases) {
    CallScript &script = reset();
    fake.code = code;
    script.fail_at = 0;
    const auto buffer = allocate();
    ASSERT_FALSE(buffer) << remedy;
    EXPECT_NE(buffer.error().message.find(remedy), std::string::npos) << buffer.error().message;
  }
}

TEST(Cuda, MemoryInsideAPageOrTooLargeIsRefused) {
  CallScript &script = reset();
  fake.odd_pointer = true;
  EXPECT_FALSE(allocate());
  EXPECT_EQ(script.held, 0);
  reset();
  const auto buffer = allocate("", UINT64_MAX);
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, EOVERFLOW);
}

/// What came of an allocation that is given back at once.
struct Outcome {
  bool made;
  std::string exported, note, no_room, message;
  int code;
};

Outcome outcome(const char *device = "", uint64_t bytes = 3 * kMiB, const CudaApi &api = kApi,
                const std::string &root = "/nowhere") {
  const auto buffer =
      allocate_cuda(api, {.kind = ExporterKind::cuda, .device = device, .bytes = bytes}, root);
  if (!buffer)
    return {false, "", "", "", buffer.error().message, buffer.error().code};
  return {true, buffer->exported, buffer->note, buffer->no_room, "", 0};
}

/// The flags that exports were asked with, in order.
using Flags = std::vector<unsigned long long>;

TEST(Cuda, APcieMappingIsAskedForAndWhichItIsIsSaid) {
  reset();
  const auto pcie = outcome();
  ASSERT_TRUE(pcie.made);
  EXPECT_EQ(fake.mappings, Flags{1});
  EXPECT_EQ(pcie.exported, "alloc+pcie");
  EXPECT_EQ(pcie.note, "");
  for (const CuResult code : {kCuInvalidValue, kCuNotSupported}) {
    reset();
    fake.pcie = code;
    const auto other = outcome();
    ASSERT_TRUE(other.made) << code;
    EXPECT_EQ(fake.mappings, (Flags{1, 0}));
    EXPECT_EQ(other.exported, "alloc+default");
  }
  reset();
  fake.pcie = kCuOutOfMemory; // no answer to the flag
  const auto none = outcome();
  ASSERT_FALSE(none.made);
  EXPECT_EQ(none.code, ENOMEM);
  EXPECT_EQ(fake.mappings, Flags{1});
}

TEST(Cuda, TheMappingMayBeChosen) {
  reset();
  const auto chosen = outcome("1+default");
  ASSERT_TRUE(chosen.made) << chosen.message;
  EXPECT_EQ(fake.mappings, Flags{0});
  EXPECT_EQ(fake.used_device, 1);
  EXPECT_EQ(chosen.exported, "alloc+default");
  reset();
  const auto pcie = outcome("+pcie");
  ASSERT_TRUE(pcie.made) << pcie.message;
  EXPECT_EQ(fake.mappings, Flags{1});
  EXPECT_EQ(fake.used_device, 0);
  CallScript &script = reset();
  fake.pcie = kCuInvalidValue;
  const auto refused = outcome("0000:61:00.0+pcie");
  ASSERT_FALSE(refused.made);
  EXPECT_EQ(fake.mappings, Flags{1});
  EXPECT_EQ(fake.used_pci, "0000:61:00.0");
  EXPECT_NE(refused.message.find("no PCIe mapping"), std::string::npos) << refused.message;
  EXPECT_NE(refused.message.find("570"), std::string::npos);
  EXPECT_EQ(script.held, 0);
}

TEST(Cuda, WordsBehindTheDeviceThatMeanNothingAreRefused) {
  for (const char *device : {"0+pci", "0+", "+", "0+pcie+default", "0+vmm+alloc", "0++vmm"}) {
    CallScript &script = reset();
    const auto buffer = outcome(device);
    ASSERT_FALSE(buffer.made) << device;
    EXPECT_EQ(buffer.code, EINVAL) << device;
    EXPECT_NE(buffer.message.find("pcie, default, vmm and alloc"), std::string::npos)
        << buffer.message;
    EXPECT_EQ(script.calls.size(), 0U) << device;
  }
}

TEST(Cuda, WritesOfTheDriveAreFlushedBeforeACopyWhereTheGpuDoesNotOrderThem) {
  CallScript &script = reset();
  fake.attributes[kCuWritesOrdering] = 0;
  const auto buffer = allocate();
  ASSERT_TRUE(buffer);
  EXPECT_EQ(buffer->note, "");
  script.calls.clear();
  std::byte byte = {};
  ASSERT_EQ(buffer->memory->read(0, {&byte, 1}), 0);
  EXPECT_EQ(script.calls,
            (std::vector<std::string>{"cuCtxPushCurrent", "cuFlushGPUDirectRDMAWrites",
                                      "cuMemcpyDtoH", "cuCtxPopCurrent"}));
  script.calls.clear();
  ASSERT_EQ(buffer->memory->write(0, {&byte, 1}), 0);
  EXPECT_EQ(script.count("cuFlushGPUDirectRDMAWrites"), 0U);
  script.calls.clear();
  script.fail_at = script.may_fail.size() + 1;
  EXPECT_EQ(buffer->memory->read(0, {&byte, 1}), EIO);
  EXPECT_EQ(script.count("cuMemcpyDtoH"), 0U) << "what it would copy may be old";
  EXPECT_EQ(pushed, 0);
}

TEST(Cuda, AGpuThatOrdersWritesIsNotFlushed) {
  for (const int ordering : {100, 200}) {
    CallScript &script = reset();
    fake.attributes[kCuWritesOrdering] = ordering;
    const auto buffer = allocate();
    ASSERT_TRUE(buffer);
    std::byte byte = {};
    ASSERT_EQ(buffer->memory->read(0, {&byte, 1}), 0);
    EXPECT_EQ(script.count("cuFlushGPUDirectRDMAWrites"), 0U) << ordering;
    EXPECT_EQ(buffer->note, "");
  }
}

TEST(Cuda, AFlushThatIsNotToBeHadIsSaid) {
  for (const bool symbol : {false, true}) {
    CallScript &script = reset();
    fake.attributes[kCuWritesOrdering] = 0;
    CudaApi api = kApi;
    if (symbol)
      fake.attributes[kCuFlushOptions] = 2;
    else
      api.flush = nullptr;
    const auto buffer = allocate_cuda(api, {.kind = ExporterKind::cuda, .bytes = kMiB});
    ASSERT_TRUE(buffer) << buffer.error().message;
    EXPECT_NE(buffer->note.find("GPU 0000:c0:00.0"), std::string::npos) << buffer->note;
    EXPECT_NE(buffer->note.find("does not order"), std::string::npos) << buffer->note;
    std::byte byte = {};
    EXPECT_EQ(buffer->memory->read(0, {&byte, 1}), 0);
    EXPECT_EQ(script.count("cuFlushGPUDirectRDMAWrites"), 0U);
  }
}

TEST(Cuda, DevicesHaveNvidiasUuids) {
  const char *const first = "GPU-abcdef01-2345-6789-abcd-ef0123456700";
  const char *const second = "GPU-abcdef01-2345-6789-abcd-ef0123456701";
  reset();
  ASSERT_TRUE(outcome(second).made);
  EXPECT_EQ(fake.used_device, 1);
  reset();
  ASSERT_TRUE(outcome("GPU-ABCDEF01-2345-6789-ABCD-EF0123456700+vmm").made);
  EXPECT_EQ(fake.used_device, 0);
  reset();
  fake.devices = 1;
  ASSERT_TRUE(outcome("GPU-abc").made) << "as much of it as is needed";
  reset();
  const auto both = outcome("GPU-abc");
  ASSERT_FALSE(both.made);
  EXPECT_EQ(both.code, EINVAL);
  EXPECT_NE(both.message.find("2 GPUs"), std::string::npos) << both.message;
  reset();
  const auto none = outcome("GPU-b");
  ASSERT_FALSE(none.made);
  EXPECT_EQ(none.code, ENODEV);
  EXPECT_NE(none.message.find(first), std::string::npos) << none.message;
  EXPECT_NE(none.message.find("CUDA_VISIBLE_DEVICES"), std::string::npos);
  CudaApi old = kApi;
  old.gpu_uuid = nullptr;
  reset();
  const auto cannot = outcome(first, 1, old);
  ASSERT_FALSE(cannot.made);
  EXPECT_EQ(cannot.code, EOPNOTSUPP);
}

TEST(Cuda, InstancesOfAGpuHaveMigUuids) {
  const char *const name = "MIG-11223300-0000-0000-0000-000000000000";
  reset();
  fake.mig = true;
  ASSERT_TRUE(outcome(name).made);
  EXPECT_EQ(fake.used_device, 1);
  reset();
  fake.mig = true;
  ASSERT_TRUE(outcome("GPU-abcdef01-2345-6789-abcd-ef0123456701").made) << "the GPU that it is of";
  EXPECT_EQ(fake.used_device, 1);
  reset();
  const auto none = outcome(name);
  ASSERT_FALSE(none.made);
  EXPECT_EQ(none.code, ENODEV);
  EXPECT_NE(none.message.find("CUDA_VISIBLE_DEVICES=MIG-11223300"), std::string::npos)
      << none.message;
  reset();
  EXPECT_FALSE(outcome("MIG-abcdef01").made) << "no instance has a GPU's own";
}

TEST(Cuda, EachUuidThatCannotBeReadIsAnError) {
  fail_each_call(reset, [] { return allocate("GPU-abcdef01-2345-6789-abcd-ef0123456701+vmm"); },
                 {"cuInit",
                  "cuDeviceGetCount",
                  "cuDeviceGet",
                  "cuDeviceGetUuid",
                  "cuDeviceGet",
                  "cuDeviceGetUuid",
                  "cuDeviceGetPCIBusId",
                  "cuDeviceGetAttribute",
                  "cuDeviceGetAttribute",
                  "cuDeviceGetAttribute",
                  "cuDevicePrimaryCtxRetain",
                  "cuCtxPushCurrent",
                  "cuMemGetAllocationGranularity",
                  "cuMemCreate",
                  "cuMemAddressReserve",
                  "cuMemMap",
                  "cuMemSetAccess",
                  "cuPointerSetAttribute",
                  "cuDeviceGetAttribute",
                  "cuMemGetHandleForAddressRange"});
}

TEST(Cuda, MappedMemoryIsGivenBackInOrder) {
  CallScript &script = reset();
  fake.block = 4 * kMiB;
  fake.pcie = kCuNotSupported;
  const int before = open_descriptors();
  {
    const auto buffer = allocate("1+vmm", 5 * kMiB);
    ASSERT_TRUE(buffer) << buffer.error().message;
    EXPECT_EQ(buffer->exported, "vmm+default");
    EXPECT_EQ(fake.asked_bytes, 8 * kMiB);
    EXPECT_TRUE(fake.accessible);
    EXPECT_EQ(script.count("cuMemAlloc"), 0U);
    check_copies(*buffer->memory, *fake.memory);
    script.calls.clear();
  }
  EXPECT_EQ(script.calls, (std::vector<std::string>{
                              "cuCtxPushCurrent", "cuMemUnmap", "cuMemAddressFree", "cuMemRelease",
                              "cuCtxPopCurrent", "cuDevicePrimaryCtxRelease"}));
  EXPECT_EQ(script.held, 0);
  fake.memory.reset();
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Cuda, MappedMemoryNeedsADriverAndAGpuThatHaveIt) {
  for (const int which : {kCuVmm, kCuVmmRdma}) {
    CallScript &script = reset();
    fake.attributes[which] = 0;
    const auto buffer = outcome("+vmm");
    ASSERT_FALSE(buffer.made) << which;
    EXPECT_EQ(buffer.code, EOPNOTSUPP);
    EXPECT_NE(buffer.message.find("drop +vmm"), std::string::npos) << buffer.message;
    EXPECT_EQ(script.held, 0);
  }
  reset();
  CudaApi old = kApi;
  old.set_access = nullptr;
  const auto buffer = outcome("+vmm", kMiB, old);
  ASSERT_FALSE(buffer.made);
  EXPECT_EQ(buffer.code, EOPNOTSUPP);
  // Copies wait by themselves; that the driver orders all others is more than they need.
  reset();
  fake.sync_memops = kCuNotSupported;
  EXPECT_TRUE(outcome("+vmm").made);
  reset();
  fake.sync_memops = kCuNotSupported;
  EXPECT_FALSE(outcome("+alloc").made);
  CallScript &script = reset();
  fake.code = kCuOutOfMemory;
  script.fail_at = 10; // cuMemCreate
  const auto large = outcome("+vmm", 2048 * kMiB);
  ASSERT_FALSE(large.made);
  EXPECT_NE(large.message.find("has 512 MiB of 81559 MiB free"), std::string::npos)
      << large.message;
}

/// A sysfs with the resources of GPU 0, of whose BARs the second has `bytes` bytes.
class Sysfs {
public:
  explicit Sysfs(uint64_t bytes) {
    const auto folder = std::filesystem::path(root_) / "sys/bus/pci/devices/0000:c0:00.0";
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "resource")
        << strf("0x%016x 0x%016x 0x%016x\n", 0xf6000000U, 0xf6ffffffU, 0x40200U)
        << strf("0x%016llx 0x%016llx 0x%016x\n", 1ULL << 40,
                static_cast<unsigned long long>((1ULL << 40) + bytes - 1), 0x14220cU)
        << "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
  }
  ~Sysfs() { std::filesystem::remove_all(root_); }
  Sysfs(const Sysfs &) = delete;
  Sysfs &operator=(const Sysfs &) = delete;
  std::string root() const { return root_; }

private:
  char name_[32] = "/tmp/dmabuf-cuda-XXXXXX";
  std::string root_ = mkdtemp(name_);
};

TEST(Cuda, WhyADriveFindsNoRoomNamesTheBarAndItsSize) {
  const auto why = [](const std::string &root, uint64_t bytes = kMiB) {
    return outcome("", bytes, kApi, root).no_room;
  };
  reset();
  const Sysfs small(256 * kMiB);
  EXPECT_EQ(why(small.root()),
            "a drive reaches GPU 0000:c0:00.0 by its BAR1 of 256 MiB, which all that is mapped "
            "shares and which is less than its memory (SMALL_BAR, ENOMEM); lower iodepth or bs, or "
            "turn on Resizable BAR and Above 4G Decoding in the firmware's setup");
  reset();
  const Sysfs large(131072 * kMiB);
  EXPECT_NE(why(large.root()).find("BAR1 of 131072 MiB"), std::string::npos);
  EXPECT_NE(why(large.root()).find("(MAP, ENOMEM)"), std::string::npos) << "it has room for all";
  // Where CUDA does not tell how much memory there is, the buffer says whether it fits.
  reset();
  fake.info_fails = true;
  EXPECT_NE(why(small.root()).find("(MAP, ENOMEM)"), std::string::npos);
  EXPECT_NE(why(small.root(), 300 * kMiB).find("(SMALL_BAR, ENOMEM)"), std::string::npos);
  reset();
  EXPECT_NE(why("/nowhere").find("nvidia-smi -q -d MEMORY"), std::string::npos);
}

TEST(Cuda, WithoutTheLibraryItsPackageIsNamed) {
  if (load_cuda())
    GTEST_SKIP() << "libcuda.so.1 is on this machine";
  const auto buffer = allocate_dmabuf({.kind = ExporterKind::cuda, .bytes = 4096});
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOENT);
  EXPECT_NE(buffer.error().message.find("libcuda.so.1"), std::string::npos);
  EXPECT_NE(buffer.error().message.find("libcuda1"), std::string::npos);
}

} // namespace
} // namespace dmabuf
