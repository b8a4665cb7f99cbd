// SPDX-License-Identifier: GPL-2.0-only
// LD_PRELOAD library with the render nodes of GPUs that are not there: /dev/dri/renderD900 of
// driver xe, renderD901 of i915, renderD902 of amdgpu (whose calls libdrm_amdgpu makes; see
// amdgpu.c).
#include "exporter/xe_abi.hpp"
#include "vram.h"

#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <i915_drm.h>
#include <iterator>
#include <mutex>
#include <string_view>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

namespace xe = dmabuf::xe;

constexpr int kMaxFd = 4096;
constexpr uint32_t kMaxObjects = 64;
constexpr uint64_t kVram = uint64_t{256} << 20;
constexpr const char *kDrivers[] = {"", "xe", "i915", "amdgpu"};

char node[kMaxFd];          // index in kDrivers
vram *objects[kMaxObjects]; // by handle
std::mutex objects_lock;    // jobs may be threads

template <class F> F *real(const char *name) {
  return reinterpret_cast<F *>(dlsym(RTLD_NEXT, name));
}

int refuse(int code) {
  errno = code;
  return -1;
}

int open_any(const char *name, const char *path, int flags, unsigned mode) {
  auto *next = real<int(const char *, int, ...)>(name);
  for (size_t i = 1; i < std::size(kDrivers); i++) {
    char own[] = "/dev/dri/renderD900";
    own[18] = static_cast<char>('0' + i - 1);
    if (std::strcmp(path, own))
      continue;
    if (vram_fails("open"))
      return refuse(EACCES);
    const int fd = next("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd >= 0 && fd < kMaxFd)
      node[fd] = static_cast<char>(i);
    return fd;
  }
  return next(path, flags, mode);
}

/// A new buffer object's handle; 0 if there is no memory.
uint32_t make_object(const char *driver, uint64_t bytes) {
  const std::lock_guard guard(objects_lock);
  for (uint32_t handle = 1; handle < kMaxObjects; handle++)
    if (!objects[handle]) {
      objects[handle] = vram_take(driver, bytes);
      return objects[handle] ? handle : 0;
    }
  return 0;
}

bool is_object(uint32_t handle) { return handle < kMaxObjects && objects[handle]; }

int xe_regions(xe::DeviceQuery &query) {
  const struct {
    xe::MemRegions head;
    xe::MemRegion regions[2];
  } answer = {.head = {.num_mem_regions = 2, .pad = 0},
              .regions = {{.mem_class = xe::kSysmem, .instance = 0, .min_page_size = 4096},
                          {.mem_class = xe::kVram,
                           .instance = 1,
                           .min_page_size = 65536,
                           .total_size = kVram,
                           .cpu_visible_size = kVram}}};
  if (query.query != xe::kQueryMemRegions || (query.size && query.size != sizeof(answer)))
    return refuse(EINVAL);
  if (query.size)
    std::memcpy(reinterpret_cast<void *>(query.data), &answer, sizeof(answer));
  query.size = sizeof(answer);
  return 0;
}

int xe_create(xe::GemCreate &create) {
  // As the driver checks it.
  if (create.placement != 2 || create.cpu_caching != xe::kCachingWc || create.size % 65536 ||
      create.vm_id || create.handle || create.flags != xe::kNeedsVisibleVram)
    return refuse(EINVAL);
  if (vram_fails("memory"))
    return refuse(ENOMEM);
  create.handle = make_object("xe", create.size);
  return create.handle ? 0 : refuse(ENOMEM);
}

int i915_regions(drm_i915_query &query) {
  auto &item = *reinterpret_cast<drm_i915_query_item *>(query.items_ptr);
  drm_i915_memory_region_info regions[2] = {};
  drm_i915_query_memory_regions head = {};
  head.num_regions = 2;
  regions[0].region.memory_class = I915_MEMORY_CLASS_SYSTEM;
  regions[1].region.memory_class = I915_MEMORY_CLASS_DEVICE;
  regions[1].probed_size = regions[1].unallocated_size = kVram;
  const int bytes = static_cast<int>(sizeof(head) + sizeof(regions));
  if (query.num_items != 1 || item.query_id != DRM_I915_QUERY_MEMORY_REGIONS ||
      (item.length && item.length != bytes))
    return refuse(EINVAL);
  if (item.length) {
    auto *to = reinterpret_cast<char *>(item.data_ptr);
    std::memcpy(to, &head, sizeof(head));
    std::memcpy(to + sizeof(head), regions, sizeof(regions));
  }
  item.length = bytes;
  return 0;
}

int i915_create(drm_i915_gem_create_ext &create) {
  const auto &places =
      *reinterpret_cast<drm_i915_gem_create_ext_memory_regions *>(create.extensions);
  if (create.flags || places.base.name != I915_GEM_CREATE_EXT_MEMORY_REGIONS ||
      places.num_regions != 1 ||
      reinterpret_cast<drm_i915_gem_memory_class_instance *>(places.regions)->memory_class !=
          I915_MEMORY_CLASS_DEVICE)
    return refuse(EINVAL);
  if (vram_fails("memory"))
    return refuse(ENOMEM);
  create.size = (create.size + 65535) & ~uint64_t{65535};
  create.handle = make_object("i915", create.size);
  return create.handle ? 0 : refuse(ENOMEM);
}

template <class Place> int map_offset(Place &place, bool flags_fit) {
  if (!is_object(place.handle) || !flags_fit)
    return refuse(EINVAL);
  place.offset = uint64_t{place.handle} << 32;
  return 0;
}

int call(int fd, unsigned long request, void *data) {
  const std::string_view driver = kDrivers[static_cast<size_t>(node[fd])];
  if (request == DRM_IOCTL_VERSION) {
    auto &version = *static_cast<drm_version *>(data);
    std::memcpy(version.name, driver.data(), driver.size());
    version.name_len = driver.size();
    return 0;
  }
  if (request == DRM_IOCTL_GEM_CLOSE) {
    const uint32_t handle = static_cast<drm_gem_close *>(data)->handle;
    const std::lock_guard guard(objects_lock);
    if (!is_object(handle))
      return refuse(EINVAL);
    vram_give_back(driver.data(), objects[handle]);
    objects[handle] = nullptr;
    return 0;
  }
  if (request == DRM_IOCTL_PRIME_HANDLE_TO_FD) {
    auto &prime = *static_cast<drm_prime_handle *>(data);
    if (!is_object(prime.handle) || vram_fails("export"))
      return refuse(EINVAL);
    prime.fd = vram_export(objects[prime.handle]);
    return prime.fd < 0 ? -1 : 0;
  }
  if (driver == "xe" && request == xe::kDeviceQuery)
    return xe_regions(*static_cast<xe::DeviceQuery *>(data));
  if (driver == "xe" && request == xe::kGemCreate)
    return xe_create(*static_cast<xe::GemCreate *>(data));
  if (driver == "xe" && request == xe::kGemMmapOffset)
    return map_offset(*static_cast<xe::GemMmapOffset *>(data), true);
  if (driver == "i915" && request == DRM_IOCTL_I915_QUERY)
    return i915_regions(*static_cast<drm_i915_query *>(data));
  if (driver == "i915" && request == DRM_IOCTL_I915_GEM_CREATE_EXT)
    return i915_create(*static_cast<drm_i915_gem_create_ext *>(data));
  if (driver == "i915" && request == DRM_IOCTL_I915_GEM_MMAP_OFFSET) {
    auto &place = *static_cast<drm_i915_gem_mmap_offset *>(data);
    return map_offset(place, place.flags == I915_MMAP_OFFSET_FIXED);
  }
  return refuse(ENOTTY);
}

void *map(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
  if (fd >= 0 && fd < kMaxFd && node[fd]) {
    const auto handle = static_cast<uint32_t>(offset >> 32);
    if (!is_object(handle) || bytes > objects[handle]->bytes) {
      errno = EINVAL;
      return MAP_FAILED;
    }
    fd = objects[handle]->memfd;
    offset = 0;
    if (vram_fails("private view"))
      flags = (flags & ~MAP_SHARED) | MAP_PRIVATE;
  }
  return reinterpret_cast<void *>(syscall(SYS_mmap, at, bytes, protection, flags, fd, offset));
}

} // namespace

extern "C" {

int open(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  const unsigned mode = va_arg(args, unsigned);
  va_end(args);
  return open_any("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  const unsigned mode = va_arg(args, unsigned);
  va_end(args);
  return open_any("open64", path, flags, mode);
}

int close(int fd) {
  if (fd >= 0 && fd < kMaxFd)
    node[fd] = 0;
  return real<int(int)>("close")(fd);
}

int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list args;
  va_start(args, request);
  void *data = va_arg(args, void *);
  va_end(args);
  if (fd >= 0 && fd < kMaxFd && node[fd])
    return call(fd, request, data);
  return real<int(int, unsigned long, ...)>("ioctl")(fd, request, data);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  return map(at, bytes, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off64_t offset) noexcept {
  return map(at, bytes, protection, flags, fd, offset);
}
}
