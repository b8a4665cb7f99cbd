// SPDX-License-Identifier: GPL-2.0-only
#include "exporter/exporter.hpp"

#include <cerrno>
#include <sys/mman.h>
#include <unistd.h>

namespace dmabuf {

Result<DmaBuf> allocate_dmabuf(const BufferRequest &request) {
  const Exporter *const from = exporter_row(request.kind);
  if (!from)
    return fail(EINVAL, "this job has no exporter");
  // Memory that is pinned cannot be reclaimed: taking more than there is would
  // call the OOM killer. Huge pages come from a pool of their own.
  if (from->memory == MemoryOf::host && !request.hugepages)
    if (const auto enough = check_memory(request.bytes, request.shrink); !enough)
      return std::unexpected(enough.error());
  auto buffer = from->allocate(request);
  if (!buffer)
    return buffer;
  // lseek() is how the kernel tells a dma-buf's size.
  const off_t size = lseek(buffer->fd.get(), 0, SEEK_END);
  if (size < 0)
    return fail(errno, errno_text("cannot learn the size of the dma-buf", errno));
  if (static_cast<uint64_t>(size) < request.bytes)
    return fail(EIO, strf("exporter %s gave a dma-buf of %lld bytes where %llu were asked for; use "
                          "another exporter",
                          from->name, static_cast<long long>(size),
                          static_cast<unsigned long long>(request.bytes)));
  buffer->bytes = static_cast<uint64_t>(size);
  if (from->cpu == CpuReach::copies || buffer->memory)
    return buffer;
  void *view =
      mmap(nullptr, buffer->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, buffer->fd.get(), 0);
  if (view == MAP_FAILED) {
    const int code = errno;
    const std::string cause = errno_text(strf("exporter %s does not let the CPU map this dma-buf, "
                                              "which fio needs to fill and verify it",
                                              from->name),
                                         code);
    const char *const instead =
        buffer->no_view.empty() ? "use another exporter or device" : buffer->no_view.c_str();
    return fail(code, cause + "; " + instead);
  }
  buffer->view = MappedRange(view, buffer->bytes);
  return buffer;
}

} // namespace dmabuf
