// SPDX-License-Identifier: GPL-2.0-only
// Render nodes made up here, below which the tests of a driver put that driver's calls.
#pragma once

#include "call_script.hpp"
#include "exporter/gpu_node.hpp"

#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <xf86drm.h>

namespace dmabuf {

/// Node 128 is of driver "other", 129 of the driver under test.
struct FakeDrm {
  CallScript script;
  int code = EIO; ///< errno of a call that fails
  std::string driver;
  std::map<int, std::string> open;                       ///< descriptors and their drivers
  std::function<int(unsigned long, void *)> driver_call; ///< 0 or an errno
  std::unique_ptr<FakeMemory> memory;                    ///< of buffer object 7, the only one
  uint64_t map_offset = 0x10000; ///< where in the node that object is mapped
  bool hollow = false;           ///< there is no memory behind the mapping

  static constexpr uint32_t kHandle = 7;
  static FakeDrm *current;

  void make_object(size_t bytes) {
    memory = std::make_unique<FakeMemory>(bytes);
    script.held++;
  }
};

inline FakeDrm *FakeDrm::current = nullptr;

inline std::vector<std::string> fake_nodes() {
  return {"/dev/dri/renderD128", "/dev/dri/renderD129"};
}

inline int fake_open(const char *path) {
  FakeDrm &drm = *FakeDrm::current;
  const bool ours = std::string(path) == "/dev/dri/renderD129";
  if (!ours && std::string(path) != "/dev/dri/renderD128") {
    errno = ENOENT;
    return -1;
  }
  if (drm.script.fail(ours ? "open" : "open other")) {
    errno = drm.code;
    return -1;
  }
  const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  drm.open[fd] = ours ? drm.driver : "other";
  return fd;
}

inline int fake_ioctl(int fd, unsigned long request, void *data) {
  FakeDrm &drm = *FakeDrm::current;
  EXPECT_TRUE(drm.open.contains(fd));
  const auto answer = [&](const char *name) {
    errno = drm.code;
    return drm.script.fail(name) ? -1 : 0;
  };
  if (request == DRM_IOCTL_VERSION) {
    auto *version = static_cast<drm_version *>(data);
    const std::string &name = drm.open[fd];
    std::memcpy(version->name, name.data(), std::min<size_t>(version->name_len, name.size()));
    version->name_len = name.size();
    return name == "other" ? 0 : answer("VERSION");
  }
  EXPECT_EQ(drm.open[fd], drm.driver);
  if (request == DRM_IOCTL_GEM_CLOSE) {
    EXPECT_EQ(static_cast<drm_gem_close *>(data)->handle, FakeDrm::kHandle);
    drm.script.give_back("GEM_CLOSE");
    return 0;
  }
  if (request == DRM_IOCTL_PRIME_HANDLE_TO_FD) {
    auto *prime = static_cast<drm_prime_handle *>(data);
    EXPECT_EQ(prime->handle, FakeDrm::kHandle);
    EXPECT_EQ(prime->flags, static_cast<uint32_t>(DRM_CLOEXEC | DRM_RDWR));
    if (answer("PRIME_HANDLE_TO_FD"))
      return -1;
    prime->fd = drm.memory->dup();
    return 0;
  }
  errno = drm.driver_call(request, data);
  return errno ? -1 : 0;
}

inline void *fake_map(size_t bytes, int fd, uint64_t offset) {
  FakeDrm &drm = *FakeDrm::current;
  EXPECT_EQ(drm.open[fd], drm.driver);
  EXPECT_EQ(offset, drm.map_offset);
  EXPECT_EQ(bytes, drm.memory->size());
  if (drm.script.fail("mmap")) {
    errno = drm.code;
    return MAP_FAILED;
  }
  const UniqueFd copy(drm.memory->dup());
  EXPECT_TRUE(!drm.hollow || ftruncate(copy.get(), 0) == 0);
  return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, copy.get(), 0);
}

inline constexpr DrmCalls kFakeDrm = {
    .nodes = fake_nodes, .open = fake_open, .ioctl = fake_ioctl, .map = fake_map};

} // namespace dmabuf
