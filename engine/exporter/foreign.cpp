// SPDX-License-Identifier: GPL-2.0-only
#include "exporter/foreign.hpp"

#include <cerrno>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace dmabuf {

Result<uint64_t> check_foreign(int fd, uint64_t bytes, const std::string &who) {
  const int mode = fcntl(fd, F_GETFL);
  if (mode < 0)
    return fail(EBADF, strf("%s gave descriptor %d, which is not open; it has to give the "
                            "descriptor of a dma-buf",
                            who.c_str(), fd));
  // The file system of dma-bufs is the kernel's own, and has nothing else in it.
  struct statfs place = {};
  if (fstatfs(fd, &place) < 0 || static_cast<unsigned>(place.f_type) != DMA_BUF_MAGIC)
    return fail(EINVAL,
                strf("%s gave something that is no dma-buf; export the memory first", who.c_str()));
  if ((mode & O_ACCMODE) != O_RDWR)
    return fail(EACCES,
                strf("%s gave a dma-buf that is not open for reading and writing; export it "
                     "with O_RDWR",
                     who.c_str()));
  const off_t size = lseek(fd, 0, SEEK_END);
  if (size < 0)
    return fail(errno, errno_text("cannot learn the size of the dma-buf", errno));
  if (static_cast<uint64_t>(size) < bytes)
    return fail(EIO,
                strf("%s gave a dma-buf of %lld bytes where %llu were asked for; give a larger "
                     "one, or say that there is none",
                     who.c_str(), static_cast<long long>(size),
                     static_cast<unsigned long long>(bytes)));
  return static_cast<uint64_t>(size);
}

std::string one_line(std::string_view text, size_t most) {
  std::string line(text.substr(0, most));
  while (!line.empty() && (line.back() == '\n' || line.back() == ' '))
    line.pop_back();
  for (char &c : line)
    if (c < ' ' || c > '~')
      c = '?';
  return line;
}

} // namespace dmabuf
