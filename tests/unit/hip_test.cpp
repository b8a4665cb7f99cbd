// SPDX-License-Identifier: GPL-2.0-only
// Exporter hip on a ROCm made up here: no machine of ours has such a GPU.
#include "base/sizes.hpp"
#include "call_script.hpp"
#include "exporter/hip_api.hpp"

#include <cerrno>
#include <cstring>

namespace dmabuf {
namespace {

struct FakeHip : FakeGpus<HipError> {
  uint64_t offset = 0; ///< where the memory lies in its dma-buf
  HsaStatus info = 0;  ///< what hsa_system_get_info answers
  bool exports = true; ///< and says
  int exported = -1;   ///< the descriptor that ROCm gave
};

FakeHip fake;
thread_local int current = -1;

HipError answer(const char *name) { return fake.answer(name); }

/// A call that acts on the thread's device.
HipError on_device(const char *name) {
  EXPECT_GE(current, 0) << name;
  return answer(name);
}

const HipApi kApi = {
    .init =
        [](unsigned flags) {
          EXPECT_EQ(flags, 0U);
          return answer("hipInit");
        },
    .error_name = [](HipError) { return "hipErrorMadeUp"; },
    .device_count = [](int *count) { return fake.count("hipGetDeviceCount", count); },
    .device_by_pci =
        [](int *device, const char *pci) {
          return fake.find("hipDeviceGetByPCIBusId", device, pci);
        },
    .device_pci =
        [](char *pci, int bytes, int device) {
          std::snprintf(pci, static_cast<size_t>(bytes), "0000:A%d:00.0", device);
          return answer("hipDeviceGetPCIBusId");
        },
    .set_device =
        [](int device) {
          const HipError result = answer("hipSetDevice");
          if (!result)
            current = device;
          return result;
        },
    .synchronize = []() { return on_device("hipDeviceSynchronize"); },
    .memory_info =
        [](size_t *available, size_t *total) {
          *available = 100 * kMiB;
          *total = 16368 * kMiB;
          return on_device("hipMemGetInfo");
        },
    .allocate =
        [](void **pointer, size_t bytes) {
          const HipError result = on_device("hipMalloc");
          fake.take_memory(result, bytes);
          if (!result)
            *pointer = fake.memory->data();
          return result;
        },
    .free =
        [](void *pointer) {
          EXPECT_EQ(pointer, fake.memory->data());
          fake.memory.reset();
          fake.script.give_back("hipFree");
          return kHipSuccess;
        },
    .copy =
        [](void *to, const void *from, size_t bytes, int kind) {
          const auto *device = static_cast<const std::byte *>(kind == 1 ? to : from);
          EXPECT_TRUE(kind == 1 || kind == 2);
          EXPECT_GE(device, fake.memory->data());
          EXPECT_LE(device + bytes, fake.memory->data() + fake.memory->size());
          std::memcpy(to, from, bytes);
          return on_device("hipMemcpy");
        },
    .export_range =
        [](const void *pointer, size_t bytes, int *fd, uint64_t *offset) {
          EXPECT_EQ(pointer, fake.memory->data());
          EXPECT_EQ(bytes, fake.asked_bytes);
          if (fake.script.fail("hsa_amd_portable_export_dmabuf"))
            return 0x1000;
          *fd = fake.exported = fake.memory->dup();
          *offset = fake.offset;
          return 0;
        },
    .close_export =
        [](int fd) {
          EXPECT_EQ(fd, fake.exported);
          EXPECT_EQ(close(fd), 0);
          fake.exported = -1;
          fake.script.calls.emplace_back("hsa_amd_portable_close_dmabuf");
          return 0;
        },
    .system_info =
        [](int which, void *value) {
          EXPECT_EQ(which, 0x204);
          fake.script.calls.emplace_back("hsa_system_get_info");
          if (!fake.info)
            *static_cast<bool *>(value) = fake.exports;
          return fake.info;
        },
};

CallScript &reset() {
  current = -1;
  return start_afresh(fake);
}

Result<DmaBuf> allocate(const char *device = "", uint64_t bytes = 3 * kMiB) {
  return allocate_hip(kApi, {.kind = ExporterKind::hip, .device = device, .bytes = bytes});
}

TEST(Hip, EachCallThatFailsLeavesNothingBehind) {
  fail_each_call(reset, [] { return allocate(); },
                 {"hipInit", "hipGetDeviceCount", "hipDeviceGetPCIBusId", "hipSetDevice",
                  "hipMalloc", "hsa_amd_portable_export_dmabuf"});
  fail_each_call(reset, [] { return allocate("0000:01:00.0"); },
                 {"hipInit", "hipDeviceGetByPCIBusId", "hipDeviceGetPCIBusId", "hipSetDevice",
                  "hipMalloc", "hsa_amd_portable_export_dmabuf"});
}

TEST(Hip, ADmaBufOfWholeBlocksThatIsGivenBack) {
  CallScript &script = reset();
  const int before = open_descriptors();
  {
    const auto buffer = allocate("1");
    ASSERT_TRUE(buffer) << buffer.error().message;
    EXPECT_EQ(fake.asked_bytes, 4 * kMiB);
    EXPECT_EQ(lseek(buffer->fd.get(), 0, SEEK_END), static_cast<off_t>(4 * kMiB));
    EXPECT_EQ(buffer->device, "0000:a1:00.0");
    EXPECT_FALSE(buffer->view);
    script.calls.clear();
    current = 0; // someone else's call
  }
  EXPECT_EQ(script.calls,
            (std::vector<std::string>{"hsa_amd_portable_close_dmabuf", "hipSetDevice", "hipFree"}));
  EXPECT_EQ(current, 1);
  EXPECT_EQ(script.held, 0);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Hip, CopiesGoWhereTheyAreToAndWait) {
  CallScript &script = reset();
  const auto buffer = allocate("1");
  ASSERT_TRUE(buffer);
  current = 0; // someone else's call
  check_copies(*buffer->memory, *fake.memory);
  EXPECT_EQ(current, 1);
  EXPECT_EQ(script.count("hipMemcpy"), 3U);
  EXPECT_EQ(script.count("hipDeviceSynchronize"), 3U);
}

TEST(Hip, ACopyThatFailsSaysSo) {
  for (size_t at = 0; at < 3; at++) {
    CallScript &script = reset();
    const auto buffer = allocate();
    ASSERT_TRUE(buffer);
    std::byte byte = {};
    script.fail_at = script.may_fail.size() + at;
    EXPECT_EQ(buffer->memory->write(0, {&byte, 1}), EIO) << at;
    script.fail_at = script.may_fail.size() + at;
    EXPECT_EQ(buffer->memory->read(0, {&byte, 1}), EIO) << at;
    EXPECT_EQ(buffer->memory->read(0, {&byte, 1}), 0) << at;
  }
}

TEST(Hip, DevicesAreNumbersOrPciAddresses) {
  reset();
  ASSERT_TRUE(allocate("0000:01:00.0"));
  EXPECT_EQ(fake.used_pci, "0000:01:00.0");
  reset();
  const auto none = allocate("2");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ENODEV);
  EXPECT_EQ(none.error().message, "there is no HIP device 2, the last one is 1; set dmabuf_device");
  reset();
  fake.devices = 0;
  EXPECT_FALSE(allocate());
}

TEST(Hip, TooLittleMemorySaysHowMuchThereIs) {
  CallScript &script = reset();
  fake.code = kHipOutOfMemory;
  script.fail_at = 4;
  const auto buffer = allocate("", 2048 * kMiB);
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOMEM);
  EXPECT_EQ(buffer.error().message,
            "the job's buffer needs 2048 MiB and GPU 0000:a0:00.0 has 100 MiB of 16368 MiB free; "
            "lower iodepth or bs, or use another dmabuf_device");
}

TEST(Hip, ADmaBufThatHasOtherMemoryTooIsRefused) {
  CallScript &script = reset();
  const int before = open_descriptors();
  fake.offset = 4096;
  const auto buffer = allocate();
  ASSERT_FALSE(buffer);
  EXPECT_NE(buffer.error().message.find("4096"), std::string::npos);
  EXPECT_EQ(script.held, 0);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Hip, WhatRocmExportedRocmCloses) {
  CallScript &script = reset();
  const int before = open_descriptors();
  {
    const auto buffer = allocate();
    ASSERT_TRUE(buffer);
    EXPECT_NE(buffer->fd.get(), fake.exported) << "a descriptor of ROCm's own";
    EXPECT_EQ(fcntl(buffer->fd.get(), F_GETFD), FD_CLOEXEC);
    script.calls.clear();
  }
  EXPECT_EQ(script.calls,
            (std::vector<std::string>{"hsa_amd_portable_close_dmabuf", "hipSetDevice", "hipFree"}));
  EXPECT_EQ(open_descriptors(), before);
  HipApi old = kApi;
  old.close_export = nullptr;
  reset();
  {
    const auto buffer = allocate_hip(old, {.kind = ExporterKind::hip, .bytes = kMiB});
    ASSERT_TRUE(buffer);
  }
  fake.memory.reset();
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Hip, WhatIsNotTheMemoryItselfIsClosedByRocmToo) {
  CallScript &script = reset();
  fake.offset = 4096;
  ASSERT_FALSE(allocate());
  EXPECT_EQ(script.count("hsa_amd_portable_close_dmabuf"), 1U);
}

TEST(Hip, ADriverWithoutDmaBufsIsAskedBeforehand) {
  CallScript &script = reset();
  fake.exports = false;
  const auto refused = allocate();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EOPNOTSUPP);
  EXPECT_NE(refused.error().message.find("use a newer kernel"), std::string::npos)
      << refused.error().message;
  EXPECT_EQ(script.count("hsa_amd_portable_export_dmabuf"), 0U);
  EXPECT_EQ(script.held, 0);
}

TEST(Hip, AnExportThatFailsBlamesTheKernelOnlyWhereItMayBe) {
  const auto refused = [](HsaStatus info, bool asks) {
    CallScript &script = reset();
    fake.info = info;
    script.fail_at = 5; // hsa_amd_portable_export_dmabuf
    HipApi api = kApi;
    if (!asks)
      api.system_info = nullptr;
    const auto buffer = allocate_hip(api, {.kind = ExporterKind::hip, .bytes = kMiB});
    EXPECT_FALSE(buffer);
    return buffer ? std::string() : buffer.error().message;
  };
  EXPECT_EQ(refused(0, true).find("newer kernel"), std::string::npos) << "it can, it said";
  EXPECT_NE(refused(0, true).find("status 0x1000"), std::string::npos);
  EXPECT_NE(refused(0, true).find("kernel's log"), std::string::npos);
  // A runtime that does not know the question.
  EXPECT_NE(refused(0x1001, true).find("newer kernel"), std::string::npos);
  EXPECT_NE(refused(0, false).find("newer kernel"), std::string::npos);
}

TEST(Hip, EachWayNotToStartHasItsRemedy) {
  for (const auto &[code, remedy] :
       {std::pair(kHipNotInitialized, "thread=1"), std::pair(kHipNoDevice, "/dev/kfd")}) {
    CallScript &script = reset();
    fake.code = code;
    script.fail_at = 0;
    const auto buffer = allocate();
    ASSERT_FALSE(buffer) << remedy;
    EXPECT_NE(buffer.error().message.find(remedy), std::string::npos) << buffer.error().message;
  }
}

TEST(Hip, WithoutTheLibraryItsPackageIsNamed) {
  if (load_hip())
    GTEST_SKIP() << "ROCm is on this machine";
  const auto buffer = allocate_dmabuf({.kind = ExporterKind::hip, .bytes = 4096});
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOENT);
  EXPECT_NE(buffer.error().message.find("libamdhip64"), std::string::npos);
  EXPECT_NE(buffer.error().message.find("/opt/rocm/lib"), std::string::npos);
}

} // namespace
} // namespace dmabuf
