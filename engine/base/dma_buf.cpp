// SPDX-License-Identifier: GPL-2.0-only
#include "base/dma_buf.hpp"

#include <cerrno>
#include <linux/dma-buf.h>
#include <sys/ioctl.h>

namespace dmabuf {
namespace {

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

int cpu_access_begin(int dmabuf_fd, uint64_t flags) {
  return sync_cpu(dmabuf_fd, DMA_BUF_SYNC_START | flags);
}

int cpu_access_end(int dmabuf_fd, uint64_t flags) {
  return sync_cpu(dmabuf_fd, DMA_BUF_SYNC_END | flags);
}

} // namespace dmabuf
