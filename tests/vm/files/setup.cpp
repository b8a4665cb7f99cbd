// SPDX-License-Identifier: GPL-2.0-only
#include "files.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/stat.h>

namespace vmtest {

bool file_holds(const std::string &what, const std::string &path, std::uint32_t generation) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat stat {};
  // What is read comes from the disk, and not from the page cache.
  if (!file || ::fstat(file.get(), &stat) != 0 || ::fsync(file.get()) != 0 ||
      ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED) != 0)
    die(path + ": " + errno_name(errno));
  const std::size_t whole = static_cast<std::size_t>(stat.st_size) / 8;
  std::vector<Word> found(whole), wanted(whole);
  fill_pattern(wanted, generation, 0);
  std::size_t done = 0;
  while (done < whole * 8) {
    const ssize_t got = ::pread(file.get(), reinterpret_cast<char *>(found.data()) + done,
                                whole * 8 - done, static_cast<off_t>(done));
    if (got <= 0)
      die(path + ": pread: " + errno_name(errno));
    done += static_cast<std::size_t>(got);
  }
  const auto bad = compare_words(found, wanted);
  return report().check(!bad, what, bad ? describe(*bad, 0) : "");
}

HeldFile::HeldFile(const Session &session, int dmabuf_fd, const std::string &path,
                   std::uint32_t directions)
    : session_(session), file_(open_target(path, O_RDONLY | O_DIRECT | O_CLOEXEC)) {
  entry_ = map_entry(dmabuf_fd, file_.get(), Path::Premapped, directions);
  entry_.flags = DMABUF_RW_MAP_HOLD_FILE;
  error_ = session_.map_one(entry_);
}

dmabuf_rw_info HeldFile::info() const {
  dmabuf_rw_info info{};
  if (const int error = session_.info(entry_.handle, info))
    die("INFO: " + errno_name(error));
  return info;
}

int HeldFile::move(Ring *ring, Direction direction, std::uint64_t buffer_offset,
                   std::uint32_t length, std::uint64_t file_offset) const {
  if (ring) {
    const dmabuf_rw_uring_io io{.file_offset = file_offset, .handle = entry_.handle, .flags = 0};
    return ring->command(session_.fd(),
                         direction == Direction::Read ? DMABUF_RW_URING_READ
                                                      : DMABUF_RW_URING_WRITE,
                         buffer_offset, length, io);
  }
  dmabuf_rw_io io{};
  io.handle = entry_.handle;
  io.direction = direction == Direction::Read ? DMABUF_RW_DIR_READ : DMABUF_RW_DIR_WRITE;
  io.buffer_offset = buffer_offset;
  io.file_offset = file_offset;
  io.length = length;
  const int error = session_.io(io);
  return error ? error : static_cast<int>(io.moved);
}

int HeldFile::release() {
  if (error_)
    return 0;
  error_ = -ENOENT;
  return session_.unmap_one(entry_.handle);
}

void refused(const std::string &what, const Session &session, int dmabuf_fd, int file_fd, int error,
             std::uint32_t reason, std::uint32_t directions, Path path) {
  auto entry = map_entry(dmabuf_fd, file_fd, path, directions);
  entry.flags = DMABUF_RW_MAP_HOLD_FILE;
  const int got = session.map_one(entry);
  report().check(got == -error && entry.reason == reason, what + " is refused",
                 std::format("{} {}, not {} {}", errno_name(got), reason_name(entry.reason),
                             errno_name(error), reason_name(reason)));
  if (got == 0)
    session.unmap_one(entry.handle);
}

int result_of(long value) { return value < 0 ? -errno : 0; }

} // namespace vmtest
