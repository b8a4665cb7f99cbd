// SPDX-License-Identifier: GPL-2.0-only
#include "files.hpp"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/stat.h>

namespace vmtest {

namespace {

// All of a file, from the disk and not from the page cache; the last word is filled up with zeros.
std::vector<Word> all_of(const std::string &path, std::uint64_t &bytes) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat stat{};
  if (!file || ::fstat(file.get(), &stat) != 0 || ::fsync(file.get()) != 0 ||
      ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED) != 0)
    die(path + ": " + errno_name(errno));
  bytes = static_cast<std::uint64_t>(stat.st_size);
  std::vector<Word> found((bytes + 7) / 8);
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(file.get(), reinterpret_cast<char *>(found.data()) + done,
                                bytes - done, static_cast<off_t>(done));
    if (got <= 0)
      die(path + ": pread: " + errno_name(errno));
    done += static_cast<std::size_t>(got);
  }
  return found;
}

} // namespace

bool file_holds(const std::string &what, const std::string &path, std::uint32_t generation) {
  std::uint64_t bytes = 0;
  const std::vector<Word> found = all_of(path, bytes);
  std::vector<Word> wanted(bytes / 8);
  fill_pattern(wanted, generation, 0);
  const auto bad = compare_words(std::span(found).first(wanted.size()), wanted);
  return report().check(!bad, what, bad ? describe(*bad, 0) : "");
}

bool file_is(const std::string &what, const std::string &path, std::span<const Word> wanted,
             std::uint64_t bytes) {
  std::uint64_t size = 0;
  const std::vector<Word> found = all_of(path, size);
  if (!report().check(size == bytes, what + ": its size", std::format("{} bytes", size)))
    return false;
  const auto bad = compare_words(std::span(found).first(bytes / 8), wanted.first(bytes / 8));
  const std::size_t tail = bytes / 8 * 8;
  const bool same = std::ranges::equal(std::as_bytes(std::span(found)).subspan(tail, bytes - tail),
                                       std::as_bytes(wanted).subspan(tail, bytes - tail));
  return report().check(!bad && same, what, bad ? describe(*bad, 0) : "the bytes of its last word");
}

HeldFile::HeldFile(const Session &session, int dmabuf_fd, const std::string &path,
                   std::uint32_t directions, int open_flags)
    : session_(session), file_(open_target(path, O_RDONLY | O_DIRECT | O_CLOEXEC | open_flags)) {
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
    return ring->command(
        session_.fd(), direction == Direction::Read ? DMABUF_RW_URING_READ : DMABUF_RW_URING_WRITE,
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

int HeldFile::sync() const { return result_of(::fsync(file_.get())); }

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

std::uint64_t log_entries() {
  constexpr const char path[] = "/share/writes";
  const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  std::uint64_t head[3] = {};
  // Its first sector says so, which is written with the first of them.
  const ssize_t got = ::pread(file.get(), head, sizeof(head), 0);
  if (!file || (got != 0 && got != sizeof(head)))
    die(std::string(path) + ": " + errno_name(errno));
  return head[2];
}

int result_of(long value) { return value < 0 ? -errno : 0; }

} // namespace vmtest
