// SPDX-License-Identifier: GPL-2.0-only
// Exporter cuda: the memory that it makes, hands out, copies and gives back.
#include "fake_cuda.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace dmabuf {
namespace {

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

} // namespace
} // namespace dmabuf
