// SPDX-License-Identifier: GPL-2.0-only
// Exporter amdgpu on a libdrm_amdgpu made up here: no machine of ours has such a GPU.
#include "base/sizes.hpp"
#include "exporter/amdgpu_api.hpp"
#include "fake_drm.hpp"

#include <amdgpu_drm.h>

namespace dmabuf {
namespace {

struct FakeAmdgpu {
  FakeDrm drm;
  amdgpu_bo_alloc_request asked = {};
  uint64_t visible = 256 * kMiB;
};

FakeAmdgpu fake;
const auto kDevice = reinterpret_cast<amdgpu_device_handle>(0x100);
const auto kObject = reinterpret_cast<amdgpu_bo_handle>(0x200);

int answer(const char *name) { return fake.drm.script.fail(name) ? -fake.drm.code : 0; }

const AmdgpuApi kApi = {
    .initialize =
        [](int fd, uint32_t *major, uint32_t *minor, amdgpu_device_handle *device) {
          EXPECT_EQ(fake.drm.open[fd], "amdgpu");
          *major = 3;
          *minor = 49;
          const int rc = answer("initialize");
          if (!rc) {
            *device = kDevice;
            fake.drm.script.held++;
          }
          return rc;
        },
    .deinitialize =
        [](amdgpu_device_handle device) {
          EXPECT_EQ(device, kDevice);
          fake.drm.script.give_back("deinitialize");
          return 0;
        },
    .heap_info =
        [](amdgpu_device_handle, uint32_t heap, uint32_t flags, amdgpu_heap_info *info) {
          EXPECT_EQ(heap, 0x4U); // VRAM
          EXPECT_EQ(flags, 1U);  // that the CPU can see
          info->heap_size = fake.visible;
          info->heap_usage = 56 * kMiB;
          return answer("query_heap_info");
        },
    .allocate =
        [](amdgpu_device_handle device, amdgpu_bo_alloc_request *wanted, amdgpu_bo_handle *object) {
          EXPECT_EQ(device, kDevice);
          const int rc = answer("bo_alloc");
          if (!rc) {
            fake.asked = *wanted;
            fake.drm.make_object(wanted->alloc_size);
            *object = kObject;
          }
          return rc;
        },
    .free =
        [](amdgpu_bo_handle object) {
          EXPECT_EQ(object, kObject);
          fake.drm.script.give_back("bo_free");
          return 0;
        },
    .export_object =
        [](amdgpu_bo_handle object, amdgpu_bo_handle_type type, uint32_t *fd) {
          EXPECT_EQ(object, kObject);
          EXPECT_EQ(type, amdgpu_bo_handle_type_dma_buf_fd);
          const int rc = answer("bo_export");
          if (!rc)
            *fd = static_cast<uint32_t>(fake.drm.memory->dup());
          return rc;
        },
    .map =
        [](amdgpu_bo_handle object, void **cpu) {
          EXPECT_EQ(object, kObject);
          const int rc = answer("bo_cpu_map");
          if (!rc) {
            *cpu = fake.drm.memory->data();
            fake.drm.script.held++;
          }
          return rc;
        },
    .unmap =
        [](amdgpu_bo_handle object) {
          EXPECT_EQ(object, kObject);
          fake.drm.script.give_back("bo_cpu_unmap");
          return 0;
        },
};

CallScript &reset() {
  fake = FakeAmdgpu();
  fake.drm.driver = "amdgpu";
  FakeDrm::current = &fake.drm;
  return fake.drm.script;
}

Result<DmaBuf> allocate(const char *device = "renderD129", uint64_t bytes = 3 * kMiB + 1) {
  return allocate_amdgpu(kApi, kFakeDrm,
                         {.kind = ExporterKind::amdgpu, .device = device, .bytes = bytes});
}

TEST(Amdgpu, EachCallThatFailsLeavesNothingBehind) {
  fail_each_call(
      reset, [] { return allocate(); },
      {"open", "VERSION", "initialize", "query_heap_info", "bo_alloc", "bo_cpu_map", "bo_export"});
}

TEST(Amdgpu, VramOnTheBusThatIsGivenBackInOrder) {
  CallScript &script = reset();
  const int before = open_descriptors();
  {
    const auto buffer = allocate("");
    ASSERT_TRUE(buffer) << buffer.error().message;
    EXPECT_EQ(fake.asked.alloc_size, 3 * kMiB + 4096);
    EXPECT_EQ(fake.asked.preferred_heap, static_cast<uint32_t>(AMDGPU_GEM_DOMAIN_VRAM));
    EXPECT_EQ(fake.asked.flags, 1U);
    EXPECT_EQ(lseek(buffer->fd.get(), 0, SEEK_END), static_cast<off_t>(3 * kMiB + 4096));
    EXPECT_EQ(buffer->device, "/dev/dri/renderD129") << "the first one of the driver";
    EXPECT_FALSE(buffer->view);
    EXPECT_EQ(open_descriptors(), before + 2) << "the dma-buf and the memory behind it";
    check_copies(*buffer->memory, *fake.drm.memory);
    script.calls.clear();
  }
  EXPECT_EQ(script.calls, (std::vector<std::string>{"bo_cpu_unmap", "bo_free", "deinitialize"}));
  EXPECT_EQ(script.held, 0);
}

TEST(Amdgpu, MoreThanIsOnTheBusNamesResizableBar) {
  CallScript &script = reset();
  const auto buffer = allocate("1", 512 * kMiB);
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOMEM);
  EXPECT_NE(buffer.error().message.find("512 MiB and 256 MiB"), std::string::npos);
  EXPECT_NE(buffer.error().message.find("Resizable BAR"), std::string::npos);
  EXPECT_EQ(script.count("bo_alloc"), 0U);
  EXPECT_EQ(script.held, 0);
}

TEST(Amdgpu, TooLittleMemorySaysHowMuchThereIs) {
  CallScript &script = reset();
  fake.drm.code = ENOMEM;
  script.fail_at = 4;
  const auto buffer = allocate("1", 256 * kMiB);
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOMEM);
  EXPECT_NE(buffer.error().message.find("256 MiB of VRAM, of which 200 MiB of 256 MiB are free"),
            std::string::npos)
      << buffer.error().message;
}

TEST(Amdgpu, WithoutTheLibraryOrAGpuItIsNamed) {
  const auto buffer = allocate_dmabuf(
      {.kind = ExporterKind::amdgpu, .device = "/dev/does-not-exist", .bytes = 4096});
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOENT);
  EXPECT_NE(buffer.error().message.find(load_amdgpu() ? "/dev/does-not-exist" : "libdrm-amdgpu1"),
            std::string::npos)
      << buffer.error().message;
}

TEST(GpuNode, PathsAreNumbersNamesOrPciAddresses) {
  EXPECT_EQ(render_path("0"), "/dev/dri/renderD128");
  EXPECT_EQ(render_path("12"), "/dev/dri/renderD140");
  EXPECT_EQ(render_path("card1"), "/dev/dri/card1");
  EXPECT_EQ(render_path("0000:03:00.0"), "/dev/dri/by-path/pci-0000:03:00.0-render");
  EXPECT_EQ(render_path("/dev/dri/renderD129"), "/dev/dri/renderD129");
}

TEST(GpuNode, OtherDriversAndNoDeviceAreNamed) {
  CallScript &script = reset();
  const int before = open_descriptors();
  const auto other = open_gpu(kFakeDrm, "0", "amdgpu");
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message.find("driver other, not of a GPU with driver amdgpu"),
            std::string::npos)
      << other.error().message;
  const auto gone = open_gpu(kFakeDrm, "7", "amdgpu");
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ENOENT);
  EXPECT_NE(gone.error().message.find("/dev/dri/renderD135"), std::string::npos);
  const auto none = open_gpu(kFakeDrm, "", "nova");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ENODEV);
  EXPECT_NE(none.error().message.find("modprobe nova"), std::string::npos);
  fake.drm.code = EACCES;
  script.fail_at = script.may_fail.size() + 1;
  const auto closed = open_gpu(kFakeDrm, "", "amdgpu");
  ASSERT_FALSE(closed);
  EXPECT_EQ(closed.error().code, EACCES);
  EXPECT_NE(closed.error().message.find("(render)"), std::string::npos);
  EXPECT_EQ(open_descriptors(), before);
  const auto null = open_gpu(kDrmCalls, "/dev/null", "amdgpu");
  ASSERT_FALSE(null);
  EXPECT_NE(null.error().message.find("no DRM device"), std::string::npos);
}

} // namespace
} // namespace dmabuf
