// SPDX-License-Identifier: GPL-2.0-only
#include "exporter/gpu_node.hpp"

#include "exporter/shared_library.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/mman.h>
#include <xf86drm.h>

namespace dmabuf {
namespace {

constexpr const char *kDri = "/dev/dri";
constexpr unsigned kFirstRenderNode = 128;

struct CloseDir {
  void operator()(DIR *dir) const { closedir(dir); }
};

std::vector<std::string> render_nodes() {
  std::vector<std::string> paths;
  std::unique_ptr<DIR, CloseDir> dir(opendir(kDri));
  while (const dirent *entry = dir ? readdir(dir.get()) : nullptr)
    if (std::strncmp(entry->d_name, "renderD", 7) == 0)
      paths.push_back(strf("%s/%s", kDri, entry->d_name));
  // Their numbers have three digits.
  std::sort(paths.begin(), paths.end());
  return paths;
}

Result<UniqueFd> open_node(const DrmCalls &calls, const std::string &path) {
  UniqueFd node(calls.open(path.c_str()));
  if (node)
    return node;
  const int code = errno;
  if (code == ENOENT || code == ENODEV || code == ENXIO || code == ENOTDIR)
    return fail(code, strf("there is no %s; see ls %s and set dmabuf_device", path.c_str(), kDri));
  if (code == EACCES || code == EPERM)
    return fail(code, strf("%s may not be opened (%s); run as root or join the group that owns it "
                           "(render)",
                           path.c_str(), errno_name(code).c_str()));
  return fail(code,
              errno_text(strf("cannot open %s; use another dmabuf_device", path.c_str()), code));
}

/// Name of the driver; empty for what is no DRM device.
std::string driver_of(const DrmCalls &calls, int fd) {
  char name[64] = {};
  drm_version version = {};
  version.name = name;
  version.name_len = sizeof(name) - 1;
  return calls.ioctl(fd, DRM_IOCTL_VERSION, &version) ? "" : name;
}

/// Reads the first byte of a mapping by a system call, which tells of an error where the CPU itself
/// would get SIGBUS. Returns 0 or a positive errno.
int touch(const std::byte *map) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC))
    return errno;
  const UniqueFd from(ends[0]), to(ends[1]);
  if (write(to.get(), map, 1) == 1)
    return 0;
  return errno == EFAULT ? ENOMEM : errno;
}

/// A buffer object by the driver's own mapping, which keeps it.
class GemMemory final : public DeviceMemory {
public:
  explicit GemMemory(MappedRange map) : map_(std::move(map)) {}

  int read(uint64_t offset, std::span<std::byte> to) override {
    read_mapped(map_.data(), offset, to);
    return 0;
  }
  int write(uint64_t offset, std::span<const std::byte> from) override {
    write_mapped(map_.data(), offset, from);
    return 0;
  }

private:
  MappedRange map_;
};

} // namespace

const DrmCalls kDrmCalls = {
    .nodes = render_nodes,
    .open = [](const char *path) { return open(path, O_RDWR | O_CLOEXEC); },
    .ioctl = [](int fd, unsigned long request, void *data) { return drmIoctl(fd, request, data); },
    .map =
        [](size_t bytes, int fd, uint64_t offset) {
          return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                      static_cast<off_t>(offset));
        },
};

std::string render_path(const std::string &device) {
  if (device.starts_with('/'))
    return device;
  if (const auto number = device_number(device))
    return strf("%s/renderD%u", kDri, kFirstRenderNode + *number);
  if (device.find(':') != std::string::npos)
    return strf("%s/by-path/pci-%s-render", kDri, device.c_str());
  return strf("%s/%s", kDri, device.c_str());
}

Result<GpuNode> open_gpu(const DrmCalls &calls, const std::string &device, const char *driver) {
  if (!device.empty()) {
    const std::string path = render_path(device);
    auto node = open_node(calls, path);
    if (!node)
      return std::unexpected(std::move(node.error()));
    const std::string found = driver_of(calls, node->get());
    if (found != driver)
      return fail(ENODEV,
                  strf("%s is %s, not of a GPU with driver %s; use another dmabuf_device or "
                       "dmabuf_exporter",
                       path.c_str(),
                       found.empty() ? "no DRM device" : ("of driver " + found).c_str(), driver));
    return GpuNode{std::move(*node), path};
  }
  Error why = {ENODEV, strf("there is no GPU with driver %s in %s; load the driver (modprobe %s), "
                            "or use another dmabuf_exporter",
                            driver, kDri, driver)};
  for (const auto &path : calls.nodes()) {
    auto node = open_node(calls, path);
    if (!node)
      why = std::move(node.error()); // it may have been the one
    else if (driver_of(calls, node->get()) == driver)
      return GpuNode{std::move(*node), path};
  }
  return std::unexpected(std::move(why));
}

GemHandle::~GemHandle() {
  drm_gem_close close = {};
  close.handle = handle_;
  (void)calls_.ioctl(fd_, DRM_IOCTL_GEM_CLOSE, &close);
}

Result<DmaBuf> share_gem(const DrmCalls &calls, const GpuNode &gpu, const GemHandle &object,
                         const GemPlace &place) {
  const char *path = gpu.path.c_str();
  void *address = calls.map(place.bytes, gpu.fd.get(), place.offset);
  if (address == MAP_FAILED) {
    const int code = errno;
    return fail(code, errno_text(strf("%s does not let the CPU map %s; use another dmabuf_device",
                                      path, place.want.c_str()),
                                 code));
  }
  MappedRange map(address, place.bytes);
  // A driver may take the memory only now.
  if (const int code = touch(map.data()))
    return fail(code, errno_text(strf("%s did not give %s; %s, or use another dmabuf_device", path,
                                      place.want.c_str(), place.shrink),
                                 code));
  drm_prime_handle prime = {};
  prime.handle = object.get();
  prime.flags = DRM_CLOEXEC | DRM_RDWR;
  prime.fd = -1;
  if (calls.ioctl(gpu.fd.get(), DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime)) {
    const int code = errno;
    return fail(code, errno_text(strf("%s did not export its memory by PRIME; use another "
                                      "dmabuf_device",
                                      path),
                                 code));
  }
  DmaBuf buffer;
  buffer.fd.reset(prime.fd);
  buffer.device = gpu.path;
  buffer.memory = std::make_unique<GemMemory>(std::move(map));
  return buffer;
}

void read_mapped(const std::byte *map, uint64_t offset, std::span<std::byte> to) {
  std::memcpy(to.data(), map + offset, to.size());
}

void write_mapped(std::byte *map, uint64_t offset, std::span<const std::byte> from) {
  if (from.empty())
    return;
  std::memcpy(map + offset, from.data(), from.size());
  // Out of the CPU's write-combining buffers, and then off the bus: a read of what was written
  // last arrives after it.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  (void)*static_cast<volatile const std::byte *>(map + offset + from.size() - 1);
}

} // namespace dmabuf
