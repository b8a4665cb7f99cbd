// SPDX-License-Identifier: GPL-2.0-only
// Exporter cuda on a driver API made up here: no machine of ours has such a GPU.
#include "base/sizes.hpp"
#include "call_script.hpp"
#include "exporter/cuda_api.hpp"

#include <cerrno>
#include <cstring>
#include <memory>

namespace dmabuf {
namespace {

/// The driver API as it answers: the state of each of its calls.
struct FakeCuda {
  CallScript script;
  CuResult code = 999; ///< CUDA_ERROR_UNKNOWN; what a call that fails answers
  int devices = 2;
  int exports = 1;
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
          EXPECT_EQ(which, 124);
          *value = fake.exports;
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
          return in_context("cuMemGetInfo");
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
          return in_context("cuPointerSetAttribute");
        },
    .export_range =
        [](void *handle, CuPointer pointer, size_t bytes, int type, unsigned long long flags) {
          EXPECT_EQ(pointer, base());
          EXPECT_EQ(bytes, fake.asked_bytes);
          EXPECT_EQ(type, 1);
          EXPECT_EQ(flags, 0U);
          const CuResult result = in_context("cuMemGetHandleForAddressRange");
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
                  "cuMemAlloc", "cuPointerSetAttribute", "cuMemGetHandleForAddressRange"});
  fail_each_call(reset, [] { return allocate("0000:61:00.0"); },
                 {"cuInit", "cuDeviceGetByPCIBusId", "cuDeviceGetPCIBusId", "cuDeviceGetAttribute",
                  "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent", "cuMemAlloc",
                  "cuPointerSetAttribute", "cuMemGetHandleForAddressRange"});
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
  fake.exports = 0;
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
