// SPDX-License-Identifier: GPL-2.0-only
// DRM: a dumb buffer, exported by PRIME.
#include "exporter/drm.hpp"
#include "base/sizes.hpp"
#include "exporter/exporter.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <vector>
#include <xf86drm.h>

namespace dmabuf {
namespace {

constexpr const char *kDri = "/dev/dri";
constexpr uint32_t kBytesPerPixel = 4;

struct CloseDir {
  void operator()(DIR *dir) const { closedir(dir); }
};

/// Paths of the primary nodes, card0 first.
std::vector<std::string> cards() {
  std::vector<unsigned> numbers;
  std::unique_ptr<DIR, CloseDir> dir(opendir(kDri));
  while (const dirent *entry = dir ? readdir(dir.get()) : nullptr) {
    const std::string name = entry->d_name;
    if (name.starts_with("card") && name.size() > 4 &&
        std::all_of(name.begin() + 4, name.end(), [](char c) { return c >= '0' && c <= '9'; }))
      numbers.push_back(static_cast<unsigned>(std::strtoul(name.c_str() + 4, nullptr, 10)));
  }
  std::sort(numbers.begin(), numbers.end());
  std::vector<std::string> paths;
  for (unsigned number : numbers)
    paths.push_back(strf("%s/card%u", kDri, number));
  return paths;
}

bool exports_prime(int fd) {
  uint64_t prime = 0;
  return drmGetCap(fd, DRM_CAP_PRIME, &prime) == 0 && (prime & DRM_PRIME_CAP_EXPORT);
}

/// Whether the driver says that it has dumb buffers. A driver without displays (vgem) may have them
/// and still not answer.
bool says_dumb_buffers(int fd) {
  uint64_t dumb = 0;
  return drmGetCap(fd, DRM_CAP_DUMB_BUFFER, &dumb) == 0 && dumb;
}

Result<UniqueFd> open_card(const std::string &path) {
  UniqueFd card(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (card)
    return card;
  const int code = errno;
  if (code == ENOENT || code == ENODEV || code == ENXIO)
    return fail(code, strf("there is no DRM device %s; see ls %s and set dmabuf_device",
                           path.c_str(), kDri));
  if (code == EACCES || code == EPERM)
    return fail(code, strf("%s may not be opened (%s); run as root or join the group that owns it "
                           "(video)",
                           path.c_str(), errno_name(code).c_str()));
  return fail(code, errno_text(strf("cannot open %s", path.c_str()), code));
}

/// Allocates from one card.
Result<DmaBuf> allocate_from(const std::string &device, const BufferRequest &request) {
  const char *path = device.c_str();
  auto card = open_card(device);
  if (!card)
    return std::unexpected(std::move(card.error()));
  if (!exports_prime(card->get()))
    return fail(EOPNOTSUPP,
                strf("%s is no DRM device that exports by PRIME; use another dmabuf_device", path));
  const auto shape = dumb_shape(request.bytes);
  if (!shape)
    return fail(EOVERFLOW,
                strf("the job's buffer is too large for a dumb buffer; %s", request.shrink));
  drm_mode_create_dumb create = {};
  create.width = shape->width;
  create.height = shape->height;
  create.bpp = kBytesPerPixel * 8;
  if (drmIoctl(card->get(), DRM_IOCTL_MODE_CREATE_DUMB, &create)) {
    const int code = errno;
    if (code == ENOSYS || code == EOPNOTSUPP)
      return fail(code, strf("%s has no dumb buffers (%s); use another dmabuf_device", path,
                             errno_name(code).c_str()));
    return fail(code, errno_text(strf("%s did not give a dumb buffer of %llu MiB; %s, or use "
                                      "another dmabuf_device",
                                      path, static_cast<unsigned long long>(mib_up(request.bytes)),
                                      request.shrink),
                                 code));
  }
  int fd = -1;
  const int rc = drmPrimeHandleToFD(card->get(), create.handle, DRM_CLOEXEC | DRM_RDWR, &fd);
  const int code = errno;
  // The dma-buf holds the memory from here on; the handle would only keep it longer.
  drm_mode_destroy_dumb destroy = {};
  destroy.handle = create.handle;
  drmIoctl(card->get(), DRM_IOCTL_MODE_DESTROY_DUMB, &destroy);
  if (rc)
    return fail(code, errno_text(strf("%s did not export its dumb buffer by PRIME; use another "
                                      "dmabuf_device",
                                      path),
                                 code));
  DmaBuf buffer;
  buffer.device = device;
  buffer.fd.reset(fd);
  return buffer;
}

/// The cards to try without a dmabuf_device: GPUs before drivers that only lend memory.
std::vector<std::string> candidates() {
  auto paths = cards();
  std::stable_partition(paths.begin(), paths.end(), [](const std::string &path) {
    const auto card = open_card(path);
    return card && says_dumb_buffers(card->get());
  });
  return paths;
}

} // namespace

std::optional<DumbShape> dumb_shape(uint64_t bytes) {
  // Rows of one page keep the driver from padding them; more than 2^31-1 rows need wider ones.
  for (uint32_t width = kPage / kBytesPerPixel; width <= (1U << 20); width *= 2) {
    const uint64_t row = uint64_t{width} * kBytesPerPixel;
    const uint64_t rows = bytes / row + (bytes % row != 0);
    if (rows <= INT32_MAX)
      return DumbShape{width, static_cast<uint32_t>(rows ? rows : 1)};
  }
  return std::nullopt;
}

std::string drm_path(const std::string &device) {
  if (device.starts_with('/'))
    return device;
  const bool number = !device.empty() && std::all_of(device.begin(), device.end(),
                                                     [](char c) { return c >= '0' && c <= '9'; });
  return std::string(kDri) + (number ? "/card" : "/") + device;
}

Result<DmaBuf> allocate_drm(const BufferRequest &request) {
  if (!request.device.empty())
    return allocate_from(drm_path(request.device), request);
  Result<DmaBuf> buffer =
      fail(ENOENT, strf("there is no DRM device in %s; load a DRM driver (modprobe vgem), or use "
                        "another dmabuf_exporter",
                        kDri));
  for (const auto &path : candidates()) {
    buffer = allocate_from(path, request);
    if (buffer)
      break;
  }
  return buffer;
}

} // namespace dmabuf
