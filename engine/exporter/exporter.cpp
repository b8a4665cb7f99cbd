// SPDX-License-Identifier: GPL-2.0-only
#include "exporter/exporter.hpp"

#include "base/sizes.hpp"

#include <cerrno>
#include <cstdio>
#include <linux/dma-buf.h>
#include <sys/ioctl.h>

namespace dmabuf {
namespace {

Result<DmaBuf> allocate(const BufferRequest &request) {
  switch (request.kind) {
  case ExporterKind::udmabuf:
    return allocate_udmabuf(request);
  case ExporterKind::heap:
    return allocate_heap(request);
  case ExporterKind::drm:
    return allocate_drm(request);
  case ExporterKind::vfio:
    return allocate_vfio(request);
  case ExporterKind::cuda:
    return allocate_cuda(request);
  case ExporterKind::hip:
    return allocate_hip(request);
  case ExporterKind::amdgpu:
    return allocate_amdgpu(request);
  case ExporterKind::xe:
    return allocate_xe(request);
  case ExporterKind::i915:
    return allocate_i915(request);
  case ExporterKind::testexp:
    return allocate_testexp(request);
  case ExporterKind::none:
    break;
  }
  return fail(EINVAL, "this job has no exporter");
}

int sync_cpu(int fd, uint64_t flags) {
  dma_buf_sync sync = {.flags = flags};
  int rc;
  // The wait for fences may be interrupted by the signals fio uses; it is safe to start again.
  do
    rc = ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
  while (rc < 0 && (errno == EINTR || errno == EAGAIN));
  return rc < 0 ? errno : 0;
}

} // namespace

ExporterTraits exporter_traits(ExporterKind kind) {
  switch (kind) {
  case ExporterKind::udmabuf:
    return {.what = "A memfd, by /dev/udmabuf",
            .cpu_map = true,
            .device_memory = false,
            .dynamic = false};
  case ExporterKind::heap:
    return {.what = "A DMA heap, /dev/dma_heap/<name>",
            .cpu_map = true,
            .device_memory = false,
            .dynamic = false};
  case ExporterKind::drm:
    return {.what = "A dumb buffer of a DRM device, by PRIME",
            .cpu_map = true,
            .device_memory = true,
            .dynamic = true};
  case ExporterKind::vfio:
    return {.what = "A PCI device's memory BAR, by vfio-pci",
            .cpu_map = false,
            .device_memory = true,
            .dynamic = false};
  case ExporterKind::cuda:
    return {.what = "Memory of an NVIDIA GPU, by libcuda.so.1",
            .cpu_map = false,
            .device_memory = true,
            .dynamic = false};
  case ExporterKind::hip:
    return {.what = "Memory of an AMD GPU, by ROCm's libamdhip64.so",
            .cpu_map = false,
            .device_memory = true,
            .dynamic = true};
  case ExporterKind::amdgpu:
    return {.what = "VRAM of an AMD GPU, by libdrm_amdgpu.so.1",
            .cpu_map = false,
            .device_memory = true,
            .dynamic = true};
  case ExporterKind::xe:
    return {.what = "Memory of an Intel GPU with driver xe: VRAM, or system memory",
            .cpu_map = false,
            .device_memory = true,
            .dynamic = true};
  case ExporterKind::i915:
    return {.what = "Memory of an Intel GPU with driver i915: local, or system memory",
            .cpu_map = false,
            .device_memory = true,
            .dynamic = false};
  case ExporterKind::testexp:
    return {.what = "For kernel developers: dmabuf_testexp.ko, whose memory can move",
            .cpu_map = true,
            .device_memory = false,
            .dynamic = true};
  case ExporterKind::none:
    break;
  }
  return {.what = "", .cpu_map = false, .device_memory = false, .dynamic = false};
}

std::optional<std::string> over_memory(uint64_t bytes, uint64_t available_kib, const char *shrink) {
  if (bytes / 1024 < available_kib)
    return std::nullopt;
  return strf("the job's buffer needs %llu MiB and this machine has %llu MiB to spare; %s",
              static_cast<unsigned long long>(mib_up(bytes)),
              static_cast<unsigned long long>(available_kib / 1024), shrink);
}

Result<void> check_memory(uint64_t bytes, const char *shrink) {
  std::FILE *file = std::fopen("/proc/meminfo", "re");
  if (!file)
    return {};
  char line[128];
  unsigned long long available_kib = 0;
  bool known = false;
  while (!known && std::fgets(line, sizeof(line), file))
    known = std::sscanf(line, "MemAvailable: %llu kB", &available_kib) == 1;
  std::fclose(file);
  if (!known)
    return {};
  if (const auto text = over_memory(bytes, available_kib, shrink))
    return fail(ENOMEM, *text);
  return {};
}

Result<DmaBuf> allocate_dmabuf(const BufferRequest &request) {
  const ExporterTraits traits = exporter_traits(request.kind);
  // Memory that is pinned cannot be reclaimed: taking more than there is would call the OOM killer.
  // Huge pages come from a pool of their own.
  if (!traits.device_memory && !request.hugepages)
    if (const auto enough = check_memory(request.bytes, request.shrink); !enough)
      return std::unexpected(enough.error());
  auto buffer = allocate(request);
  if (!buffer)
    return buffer;
  // lseek() is how the kernel tells a dma-buf's size.
  const off_t size = lseek(buffer->fd.get(), 0, SEEK_END);
  if (size < 0)
    return fail(errno, errno_text("cannot learn the size of the dma-buf", errno));
  if (static_cast<uint64_t>(size) < request.bytes)
    return fail(EIO, strf("exporter %s gave a dma-buf of %lld bytes where %llu were asked for; use "
                          "another exporter",
                          exporter_name(request.kind), static_cast<long long>(size),
                          static_cast<unsigned long long>(request.bytes)));
  buffer->bytes = static_cast<uint64_t>(size);
  if (!traits.cpu_map || buffer->memory)
    return buffer;
  void *view =
      mmap(nullptr, buffer->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, buffer->fd.get(), 0);
  if (view == MAP_FAILED)
    return fail(errno,
                errno_text(strf("exporter %s does not let the CPU map this dma-buf, which fio "
                                "needs to fill and verify it; use another exporter or device",
                                exporter_name(request.kind)),
                           errno));
  buffer->view = MappedRange(view, buffer->bytes);
  return buffer;
}

int cpu_access_begin(int dmabuf_fd, uint64_t flags) {
  return sync_cpu(dmabuf_fd, DMA_BUF_SYNC_START | flags);
}

int cpu_access_end(int dmabuf_fd, uint64_t flags) {
  return sync_cpu(dmabuf_fd, DMA_BUF_SYNC_END | flags);
}

std::optional<uint64_t> read_number(const char *path) {
  std::FILE *file = std::fopen(path, "re");
  if (!file)
    return std::nullopt;
  unsigned long long number = 0;
  const int got = std::fscanf(file, "%llu", &number);
  std::fclose(file);
  if (got != 1)
    return std::nullopt;
  return number;
}

uint64_t page_bytes() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

} // namespace dmabuf
