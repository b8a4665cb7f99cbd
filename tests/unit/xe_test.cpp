// SPDX-License-Identifier: GPL-2.0-only
// Exporter xe on a driver made up here: no machine of ours has such a GPU.
#include "base/sizes.hpp"
#include "exporter/gpu_exporters.hpp"
#include "exporter/xe_abi.hpp"
#include "fake_drm.hpp"

namespace dmabuf {
namespace {

struct FakeXe {
  FakeDrm drm;
  std::vector<xe::MemRegion> regions;
  xe::GemCreate asked = {};
};

FakeXe fake;

int answer(const char *name) { return fake.drm.script.fail(name) ? fake.drm.code : 0; }

int query(xe::DeviceQuery &query) {
  EXPECT_EQ(query.query, 1U);
  const size_t bytes = sizeof(xe::MemRegions) + fake.regions.size() * sizeof(xe::MemRegion);
  if (const int code = answer(query.size ? "QUERY" : "QUERY size"))
    return code;
  if (query.size) {
    EXPECT_EQ(query.size, bytes);
    auto *to = reinterpret_cast<std::byte *>(query.data);
    const xe::MemRegions head = {static_cast<uint32_t>(fake.regions.size()), 0};
    std::memcpy(to, &head, sizeof(head));
    std::memcpy(to + sizeof(head), fake.regions.data(), bytes - sizeof(head));
  }
  query.size = static_cast<uint32_t>(bytes);
  return 0;
}

int driver_call(unsigned long request, void *data) {
  if (request == xe::kDeviceQuery)
    return query(*static_cast<xe::DeviceQuery *>(data));
  if (request == xe::kGemCreate) {
    auto *create = static_cast<xe::GemCreate *>(data);
    EXPECT_EQ(create->handle, 0U);
    EXPECT_EQ(create->vm_id, 0U);
    if (const int code = answer("GEM_CREATE"))
      return code;
    fake.asked = *create;
    fake.drm.make_object(create->size);
    create->handle = FakeDrm::kHandle;
    return 0;
  }
  if (request == xe::kGemMmapOffset) {
    auto *place = static_cast<xe::GemMmapOffset *>(data);
    EXPECT_EQ(place->handle, FakeDrm::kHandle);
    EXPECT_EQ(place->flags, 0U);
    place->offset = fake.drm.map_offset;
    return answer("GEM_MMAP_OFFSET");
  }
  return ENOTTY;
}

xe::MemRegion region(uint16_t mem_class, uint16_t instance, uint64_t visible) {
  xe::MemRegion made = {};
  made.mem_class = mem_class;
  made.instance = instance;
  made.min_page_size = mem_class == xe::kVram ? 65536 : 4096;
  made.total_size = 8192 * kMiB;
  made.cpu_visible_size = visible;
  made.cpu_visible_used = visible / 4;
  return made;
}

CallScript &reset() {
  fake = FakeXe();
  fake.drm.driver = "xe";
  fake.drm.driver_call = driver_call;
  fake.regions = {region(xe::kSysmem, 0, 0), region(xe::kVram, 1, 256 * kMiB),
                  region(xe::kVram, 2, 512 * kMiB)};
  FakeDrm::current = &fake.drm;
  return fake.drm.script;
}

Result<DmaBuf> allocate(const char *device = "1", uint64_t bytes = 3 * kMiB + 1) {
  return allocate_xe(kFakeDrm, {.kind = ExporterKind::xe, .device = device, .bytes = bytes});
}

const std::vector<std::string> kCalls = {"open",  "VERSION",           "QUERY size",
                                         "QUERY", "GEM_CREATE",        "GEM_MMAP_OFFSET",
                                         "mmap",  "PRIME_HANDLE_TO_FD"};

TEST(Xe, EachCallThatFailsLeavesNothingBehind) {
  fail_each_call(reset, [] { return allocate(); }, kCalls);
}

TEST(Xe, TheAbiIsTheKernels) {
  // What xe_drm.h of Linux 6.8 and later comes to.
  EXPECT_EQ(xe::kDeviceQuery, 0xc0286440UL);
  EXPECT_EQ(xe::kGemCreate, 0xc0386441UL);
  EXPECT_EQ(xe::kGemMmapOffset, 0xc0286442UL);
}

TEST(Xe, VramOnTheBusWhoseHandleIsGivenBackAtOnce) {
  CallScript &script = reset();
  const auto buffer = allocate("");
  ASSERT_TRUE(buffer) << buffer.error().message;
  EXPECT_EQ(fake.asked.size, 3 * kMiB + 65536);
  EXPECT_EQ(fake.asked.placement, 2U);
  EXPECT_EQ(fake.asked.flags, 4U);
  EXPECT_EQ(fake.asked.cpu_caching, 2U);
  EXPECT_EQ(lseek(buffer->fd.get(), 0, SEEK_END), static_cast<off_t>(fake.asked.size));
  EXPECT_EQ(buffer->device, "/dev/dri/renderD129");
  EXPECT_FALSE(buffer->view);
  EXPECT_EQ(script.calls.back(), "GEM_CLOSE");
  EXPECT_EQ(script.held, 0);
  check_copies(*buffer->memory, *fake.drm.memory);
}

TEST(Xe, AGpuWithoutVramGivesSystemMemory) {
  reset();
  fake.regions = {region(xe::kSysmem, 0, 0)};
  const auto buffer = allocate();
  ASSERT_TRUE(buffer) << buffer.error().message;
  EXPECT_EQ(fake.asked.size, 3 * kMiB + 4096);
  EXPECT_EQ(fake.asked.placement, 1U);
  EXPECT_EQ(fake.asked.flags, 0U);
  EXPECT_EQ(fake.asked.cpu_caching, 1U);
  reset();
  fake.regions.clear();
  EXPECT_FALSE(allocate());
}

TEST(Xe, TooLittleMemorySaysHowMuchThereIs) {
  CallScript &script = reset();
  const auto large = allocate("1", 512 * kMiB);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, ENOMEM);
  EXPECT_NE(large.error().message.find("512 MiB of VRAM and 256 MiB"), std::string::npos);
  EXPECT_NE(large.error().message.find("Resizable BAR"), std::string::npos);
  EXPECT_EQ(script.count("GEM_CREATE"), 0U);
  reset();
  fake.drm.code = ENOMEM;
  script.fail_at = 4;
  const auto full = allocate("1", 256 * kMiB);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ENOMEM);
  EXPECT_NE(full.error().message.find("256 MiB of VRAM, of which 192 MiB of 256 MiB are free"),
            std::string::npos)
      << full.error().message;
}

TEST(Xe, MemoryThatIsNotThereIsNoBusError) {
  CallScript &script = reset();
  fake.drm.hollow = true;
  const auto buffer = allocate();
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOMEM);
  EXPECT_NE(buffer.error().message.find("4 MiB of VRAM; lower iodepth or bs"), std::string::npos)
      << buffer.error().message;
  EXPECT_EQ(script.held, 0);
}

TEST(Xe, WithoutTheGpuItIsNamed) {
  const auto buffer =
      allocate_dmabuf({.kind = ExporterKind::xe, .device = "/dev/does-not-exist", .bytes = 4096});
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOENT);
  EXPECT_NE(buffer.error().message.find("/dev/does-not-exist"), std::string::npos);
}

} // namespace
} // namespace dmabuf
