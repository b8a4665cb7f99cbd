// SPDX-License-Identifier: GPL-2.0-only
// dma-heap: /dev/dma_heap/<name>.
#include "exporter/heap.hpp"
#include "base/sizes.hpp"
#include "base/system.hpp"
#include "exporter/exporter.hpp"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <memory>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vector>

namespace dmabuf {
namespace {

constexpr const char *kHeaps = "/dev/dma_heap";

struct CloseDir {
  void operator()(DIR *dir) const { closedir(dir); }
};

/// "system" if there is one, else the heap that sorts first; empty if there is none.
std::string first_heap() {
  std::unique_ptr<DIR, CloseDir> dir(opendir(kHeaps));
  std::string best;
  if (!dir)
    return best;
  while (const dirent *entry = readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name[0] == '.')
      continue;
    if (name == "system")
      return name;
    if (best.empty() || name < best)
      best = name;
  }
  return best;
}

} // namespace

std::string heap_path(const std::string &device) {
  return device.starts_with('/') ? device : std::string(kHeaps) + "/" + device;
}

std::string no_heap(const char *heaps) {
  if (access(heaps, F_OK) != 0 && errno == ENOENT)
    return strf("there is no heap in %s, and this kernel was built without DMA heaps "
                "(CONFIG_DMABUF_HEAPS), as Debian's for arm64 are; use another dmabuf_exporter, "
                "such as udmabuf",
                kHeaps);
  return strf("there is no heap in %s; load one (modprobe system_heap), or use another "
              "dmabuf_exporter",
              kHeaps);
}

Result<DmaBuf> allocate_heap(const BufferRequest &request) {
  const std::string name = request.device.empty() ? first_heap() : request.device;
  if (name.empty())
    return fail(ENOENT, no_heap("/sys/class/dma_heap"));
  DmaBuf buffer;
  buffer.device = heap_path(name);
  const char *path = buffer.device.c_str();
  UniqueFd heap(open(path, O_RDONLY | O_CLOEXEC));
  if (!heap) {
    const int code = errno;
    if (code == ENOENT || code == ENODEV || code == ENXIO)
      return fail(code, strf("there is no heap %s; see ls %s and set dmabuf_device", path, kHeaps));
    if (code == EACCES || code == EPERM)
      return fail(code,
                  strf("%s may not be opened (%s); run as root or join the group that owns it",
                       path, errno_name(code).c_str()));
    return fail(code, errno_text(strf("cannot open %s", path), code));
  }
  const auto size = round_up(request.bytes, page_bytes());
  if (!size)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", request.shrink));
  dma_heap_allocation_data allocation = {};
  allocation.len = *size;
  allocation.fd_flags = O_RDWR | O_CLOEXEC;
  if (ioctl(heap.get(), DMA_HEAP_IOCTL_ALLOC, &allocation) < 0) {
    const int code = errno;
    return fail(code,
                errno_text(strf("heap %s did not give %llu MiB; %s", path,
                                static_cast<unsigned long long>(mib_up(*size)), request.shrink),
                           code));
  }
  buffer.fd.reset(static_cast<int>(allocation.fd));
  return buffer;
}

} // namespace dmabuf
