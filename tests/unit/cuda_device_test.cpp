// SPDX-License-Identifier: GPL-2.0-only
// Exporter cuda: which GPU is meant, and what a user is told where there is none that can be used.
#include "fake_cuda.hpp"

#include <utility>

namespace dmabuf {
namespace {

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
