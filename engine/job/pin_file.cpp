// SPDX-License-Identifier: GPL-2.0-only
#include "job/pin_file.hpp"

#include "base/unique_fd.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace dmabuf {
namespace {

UniqueFd open_again(int fd, int flags) {
  return UniqueFd(open(strf("/proc/self/fd/%d", fd).c_str(), flags | O_CLOEXEC));
}

constexpr off_t write_at_once = 1 << 20; // bytes

/// Zeros from `from` to `to`; 0 or an errno.
int write_zeros(int fd, off_t from, off_t to) {
  const std::vector<char> zeros(write_at_once);
  while (from < to) {
    const auto length = std::min<size_t>(zeros.size(), static_cast<size_t>(to - from));
    const ssize_t written = pwrite(fd, zeros.data(), length, from);
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return written ? errno : ENOSPC;
    from += written;
  }
  return 0;
}

/// Writes what is a hole, or allocated and not written; 0 or an errno.
int write_holes(int fd, off_t size) {
  off_t data = 0;
  while (data < size) {
    const off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole < 0)
      return errno;
    if (hole >= size)
      break;
    data = lseek(fd, hole, SEEK_DATA);
    if (data < 0 && errno != ENXIO)
      return errno;
    if (data < 0)
      data = size;
    // Then it is looked at again: somebody may write there, although nobody should.
    data = std::min(data, hole + write_at_once);
    if (const int error = write_zeros(fd, hole, data))
      return error;
  }
  return 0;
}

Result<void> prepare(int fd, const std::string &name, off_t size) {
  const UniqueFd writer = open_again(fd, O_RDWR);
  // Clean pages of the page cache pass for data, also where nothing was written.
  int error = writer && fsync(writer.get()) == 0 ? 0 : errno;
  if (!error)
    error = posix_fadvise(writer.get(), 0, 0, POSIX_FADV_DONTNEED);
  if (!error)
    error = write_holes(writer.get(), size);
  if (!error && fsync(writer.get()) != 0)
    error = errno;
  if (error)
    return fail(
        error,
        errno_text(strf("dmabuf_pin_file=prepare cannot write all of %s", name.c_str()), error));
  return {};
}

} // namespace

Result<void> ready_to_hold(int fd, const std::string &name, PinFile how) {
  struct stat state = {};
  if (fstat(fd, &state) || !S_ISREG(state.st_mode))
    return fail(EINVAL, strf("dmabuf_pin_file is about files in a file system, and %s is none; "
                             "drop it",
                             name.c_str()));
  if (how == PinFile::prepare && state.st_size)
    if (auto ok = prepare(fd, name, state.st_size); !ok)
      return ok;
  const int flags = fcntl(fd, F_GETFL) & (O_DIRECT | O_SYNC | O_DSYNC | O_NOATIME);
  const UniqueFd reader = open_again(fd, O_RDONLY | flags);
  if (!reader || dup3(reader.get(), fd, O_CLOEXEC) < 0)
    return fail(errno, errno_text(strf("cannot open %s for reading", name.c_str()), errno));
  return {};
}

} // namespace dmabuf
