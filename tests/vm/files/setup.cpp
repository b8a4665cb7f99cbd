// SPDX-License-Identifier: GPL-2.0-only
#include "files.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/stat.h>

namespace vmtest {

namespace {

constexpr const char drive[] = "/dev/nvme0n1";

void must(const std::string &line) {
  if (std::system(line.c_str()) != 0)
    die(line + " failed");
}

} // namespace

FileSystem::FileSystem(const std::string &type, std::uint64_t start)
    : name_(start ? std::format("{} on a partition from byte {}", type, start) : type),
      node_(drive) {
  if (start)
    node_ = partition_.emplace(drive, start, 512u << 20).node();
  std::filesystem::create_directories(mount_point);
  must(type == "xfs" ? std::format("mkfs.xfs -q -f -m reflink=1 {}", node_)
                     : std::format("mkfs.{} -q -F -b 4096 {}", type, node_));
  if (::mount(node_.c_str(), mount_point, type.c_str(), 0, nullptr) != 0)
    die(std::format("mount of {}: {}", name_, errno_name(errno)));
  // Of ext4's own reserve, which is in one piece, Comb could leave nothing but that.
  if (type == "ext4")
    write_file(std::format("/sys/fs/ext4/{}/reserved_clusters",
                           std::filesystem::path(node_).filename().string()),
               "0");
}

FileSystem::~FileSystem() {
  report().check(wait_for([] { return ::umount2(mount_point, 0) == 0; }, 30),
                 name_ + ": umount when nothing is mapped");
  const std::string check = name_.starts_with("xfs") ? "xfs_repair -n" : "e2fsck -f -n";
  report().check(std::system(std::format("{} {} > /tmp/files.fsck 2>&1", check, node_).c_str()) == 0,
                 name_ + ": the file system is whole", read_file("/tmp/files.fsck"));
  must(std::format("wipefs -q -a {}", node_));
}

void make_file(const std::string &path, std::uint64_t bytes, std::uint32_t generation) {
  const UniqueFd file(::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644));
  if (!file)
    die(path + ": " + errno_name(errno));
  std::vector<Word> words((1u << 20) / 8);
  for (std::uint64_t at = 0; at < bytes; at += words.size() * 8) {
    const std::uint64_t length = std::min<std::uint64_t>(words.size() * 8, bytes - at);
    fill_pattern(words, generation, at);
    if (::pwrite(file.get(), words.data(), length, static_cast<off_t>(at)) !=
        static_cast<ssize_t>(length))
      die(path + ": " + errno_name(errno));
  }
  if (::fsync(file.get()) != 0)
    die(path + ": fsync: " + errno_name(errno));
}

namespace {

constexpr std::uint32_t tooth = 2222;

} // namespace

Comb::Comb(const FileSystem &fs, std::uint64_t bytes, std::uint64_t piece)
    : teeth_(fs.path("teeth")), filler_(fs.path("filler")), bytes_(4 * bytes), piece_(piece) {
  make_file(teeth_, bytes_, tooth);
  // All that is left of the file system; what does not fit is refused, and that is no error.
  const UniqueFd filler(::open(filler_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  for (off_t at = 0, step = 64 << 20; step >= 4096;) {
    if (::fallocate(filler.get(), 0, at, step) == 0)
      at += step;
    else
      step /= 2;
  }
  const UniqueFd file(::open(teeth_.c_str(), O_RDWR | O_CLOEXEC));
  for (std::uint64_t at = 0; at < bytes_; at += 2 * piece_)
    if (::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
                    static_cast<off_t>(piece_)) != 0)
      die(teeth_ + ": " + errno_name(errno));
  // ext4 gives freed blocks out when the journal has been written.
  ::sync();
}

Comb::~Comb() {
  ::unlink(filler_.c_str());
  ::unlink(teeth_.c_str());
}

bool Comb::untouched() const {
  const UniqueFd file = open_target(teeth_, O_RDONLY | O_DIRECT | O_CLOEXEC);
  HostBuffer found(piece_), wanted(piece_);
  for (std::uint64_t at = piece_; at < bytes_; at += 2 * piece_) {
    read_plain(file.get(), found.words(), at);
    fill_pattern(wanted.words(), tooth, at);
    if (compare_words(found.words(), wanted.words()))
      return false;
  }
  return true;
}

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
