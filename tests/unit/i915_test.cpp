// SPDX-License-Identifier: GPL-2.0-only
// Exporter i915 on a driver made up here: no machine of ours has such a GPU.
#include "base/sizes.hpp"
#include "exporter/gpu_exporters.hpp"
#include "fake_drm.hpp"

#include <i915_drm.h>

namespace dmabuf {
namespace {

struct FakeI915 {
  FakeDrm drm;
  std::vector<drm_i915_memory_region_info> regions;
  int item_code = 0; ///< errno in the item, where the query itself succeeds
  uint64_t asked_bytes = 0;
  drm_i915_gem_memory_class_instance asked_region = {};
  uint64_t asked_flags = ~uint64_t{0};
};

FakeI915 fake;

int answer(const char *name) { return fake.drm.script.fail(name) ? fake.drm.code : 0; }

int query(const drm_i915_query &query) {
  EXPECT_EQ(query.num_items, 1U);
  auto *item = reinterpret_cast<drm_i915_query_item *>(query.items_ptr);
  EXPECT_EQ(item->query_id, 4U);
  const size_t head_bytes = sizeof(drm_i915_query_memory_regions);
  const size_t bytes = head_bytes + fake.regions.size() * sizeof(drm_i915_memory_region_info);
  if (const int code = answer(item->length ? "QUERY" : "QUERY size"))
    return code;
  if (item->length) {
    EXPECT_EQ(item->length, static_cast<int>(bytes));
    auto *to = reinterpret_cast<std::byte *>(item->data_ptr);
    drm_i915_query_memory_regions head = {};
    head.num_regions = static_cast<uint32_t>(fake.regions.size());
    std::memcpy(to, &head, head_bytes);
    std::memcpy(to + head_bytes, fake.regions.data(), bytes - head_bytes);
  }
  item->length = fake.item_code ? -fake.item_code : static_cast<int>(bytes);
  return 0;
}

int create(drm_i915_gem_create_ext &create) {
  EXPECT_EQ(create.flags, 0U);
  const auto *places =
      reinterpret_cast<const drm_i915_gem_create_ext_memory_regions *>(create.extensions);
  EXPECT_EQ(places->base.name, 0U);
  EXPECT_EQ(places->base.next_extension, 0U);
  EXPECT_EQ(places->num_regions, 1U);
  if (const int code = answer("GEM_CREATE_EXT"))
    return code;
  fake.asked_region =
      *reinterpret_cast<const drm_i915_gem_memory_class_instance *>(places->regions);
  fake.asked_bytes = create.size;
  if (fake.asked_region.memory_class == I915_MEMORY_CLASS_DEVICE)
    create.size = *round_up(create.size, 65536);
  fake.drm.make_object(create.size);
  create.handle = FakeDrm::kHandle;
  return 0;
}

int driver_call(unsigned long request, void *data) {
  if (request == DRM_IOCTL_I915_QUERY)
    return query(*static_cast<drm_i915_query *>(data));
  if (request == DRM_IOCTL_I915_GEM_CREATE_EXT)
    return create(*static_cast<drm_i915_gem_create_ext *>(data));
  if (request == DRM_IOCTL_I915_GEM_MMAP_OFFSET) {
    auto *place = static_cast<drm_i915_gem_mmap_offset *>(data);
    EXPECT_EQ(place->handle, FakeDrm::kHandle);
    EXPECT_EQ(place->extensions, 0U);
    fake.asked_flags = place->flags;
    place->offset = fake.drm.map_offset;
    return answer("GEM_MMAP_OFFSET");
  }
  return ENOTTY;
}

drm_i915_memory_region_info region(uint16_t memory_class, uint64_t visible) {
  drm_i915_memory_region_info made = {};
  made.region.memory_class = memory_class;
  made.region.memory_instance = 0;
  made.probed_size = 1024 * kMiB;
  made.unallocated_size = 640 * kMiB;
  made.probed_cpu_visible_size = visible;
  return made;
}

CallScript &reset() {
  fake = FakeI915();
  fake.drm.driver = "i915";
  fake.drm.driver_call = driver_call;
  fake.regions = {region(I915_MEMORY_CLASS_SYSTEM, 1024 * kMiB),
                  region(I915_MEMORY_CLASS_DEVICE, 256 * kMiB)};
  FakeDrm::current = &fake.drm;
  return fake.drm.script;
}

Result<DmaBuf> allocate(const char *device = "1", uint64_t bytes = 3 * kMiB + 1) {
  return allocate_i915(kFakeDrm, {.kind = ExporterKind::i915, .device = device, .bytes = bytes});
}

TEST(I915, EachCallThatFailsLeavesNothingBehind) {
  fail_each_call(reset, [] { return allocate(); },
                 {"open", "VERSION", "QUERY size", "QUERY", "GEM_CREATE_EXT", "GEM_MMAP_OFFSET",
                  "mmap", "PRIME_HANDLE_TO_FD"});
}

TEST(I915, LocalMemoryAloneWhoseHandleIsGivenBackAtOnce) {
  CallScript &script = reset();
  const auto buffer = allocate("");
  ASSERT_TRUE(buffer) << buffer.error().message;
  EXPECT_EQ(fake.asked_bytes, 3 * kMiB + 4096);
  EXPECT_EQ(fake.asked_region.memory_class, 1);
  EXPECT_EQ(fake.asked_flags, 4U);
  EXPECT_EQ(lseek(buffer->fd.get(), 0, SEEK_END), static_cast<off_t>(3 * kMiB + 65536));
  EXPECT_EQ(buffer->device, "/dev/dri/renderD129");
  EXPECT_EQ(script.calls.back(), "GEM_CLOSE");
  EXPECT_EQ(script.held, 0);
  check_copies(*buffer->memory, *fake.drm.memory);
}

TEST(I915, AGpuWithoutLocalMemoryGivesSystemMemory) {
  reset();
  fake.regions = {region(I915_MEMORY_CLASS_SYSTEM, 1024 * kMiB)};
  const auto buffer = allocate();
  ASSERT_TRUE(buffer) << buffer.error().message;
  EXPECT_EQ(fake.asked_region.memory_class, 0);
  EXPECT_EQ(fake.asked_flags, 2U);
  EXPECT_EQ(lseek(buffer->fd.get(), 0, SEEK_END), static_cast<off_t>(3 * kMiB + 4096));
  reset();
  fake.regions.clear();
  EXPECT_FALSE(allocate());
}

TEST(I915, AQueryThatItsKernelDoesNotKnowNamesTheKernel) {
  CallScript &script = reset();
  fake.item_code = EINVAL;
  const auto buffer = allocate();
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, EINVAL);
  EXPECT_NE(buffer.error().message.find("newer kernel"), std::string::npos);
  EXPECT_EQ(script.count("GEM_CREATE_EXT"), 0U);
}

TEST(I915, TooLittleMemorySaysHowMuchThereIs) {
  CallScript &script = reset();
  const auto large = allocate("1", 512 * kMiB);
  ASSERT_FALSE(large);
  EXPECT_NE(large.error().message.find("512 MiB of local memory and 256 MiB"), std::string::npos);
  EXPECT_NE(large.error().message.find("Resizable BAR"), std::string::npos);
  reset();
  fake.regions[1].probed_cpu_visible_size = 0; // a kernel that does not say: all of it
  ASSERT_TRUE(allocate("1", 512 * kMiB));
  reset();
  fake.drm.code = ENOMEM;
  script.fail_at = 4;
  const auto full = allocate("1", 256 * kMiB);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ENOMEM);
  EXPECT_NE(full.error().message.find("of which 640 MiB of 1024 MiB are free"), std::string::npos)
      << full.error().message;
}

TEST(I915, MemoryThatIsTakenAtTheFirstTouchIsNoBusError) {
  CallScript &script = reset();
  fake.drm.hollow = true;
  const auto buffer = allocate();
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOMEM);
  EXPECT_NE(buffer.error().message.find("4 MiB of local memory; lower iodepth or bs"),
            std::string::npos)
      << buffer.error().message;
  EXPECT_EQ(script.held, 0);
}

TEST(I915, WithoutTheGpuItIsNamed) {
  const auto buffer =
      allocate_dmabuf({.kind = ExporterKind::i915, .device = "/dev/does-not-exist", .bytes = 4096});
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOENT);
  EXPECT_NE(buffer.error().message.find("/dev/does-not-exist"), std::string::npos);
}

} // namespace
} // namespace dmabuf
