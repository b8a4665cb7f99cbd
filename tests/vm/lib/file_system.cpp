// SPDX-License-Identifier: GPL-2.0-only
#include "file_system.hpp"

#include "pattern.hpp"
#include "report.hpp"
#include "sysfs.hpp"
#include "target.hpp"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <vector>

namespace vmtest {

namespace {

constexpr const char drive[] = "/dev/nvme0n1";

void must(const std::string &line) {
  if (std::system(line.c_str()) != 0)
    die(line + " failed");
}

// Options of its mkfs, and what says whether it is whole.
struct How {
  std::string_view type, make, check;
};

const How &how(std::string_view type) {
  static constexpr How known[] = {{"ext2", "-F -b 4096", "e2fsck -f -n"},
                                  {"ext4", "-F -b 4096", "e2fsck -f -n"},
                                  {"xfs", "-f -m reflink=1", "xfs_repair -n"},
                                  {"btrfs", "-f", "btrfs check --readonly"}};
  const auto found = std::ranges::find(known, type, &How::type);
  if (found == std::end(known))
    die(std::format("no test knows how to make {}", type));
  return *found;
}

} // namespace

bool ext4_has_verity() {
  must("modprobe -q ext4");
  return std::filesystem::exists("/sys/fs/ext4/features/verity");
}

FileSystem::FileSystem(const std::string &type, std::uint64_t start, std::uint64_t bytes,
                       const char *options)
    : type_(type), name_(start ? std::format("{} on a partition from byte {}", type, start) : type),
      node_(drive) {
  if (start)
    node_ = partition_.emplace(drive, start, bytes).node();
  make(type == "ext4" && ext4_has_verity() ? "-O verity" : "", options);
}

FileSystem::FileSystem(const std::string &type, const Disk &disk)
    : type_(type), name_(type + " on " + disk.node), node_(disk.node) {
  make(type == "xfs" ? "--unsupported" : "", nullptr);
}

void FileSystem::make(const std::string &options, const char *mount_options) {
  std::filesystem::create_directories(mount_point);
  must(std::format("mkfs.{} -q {} {} {}", type_, how(type_).make, options, node_));
  if (::mount(node_.c_str(), mount_point, type_.c_str(), 0, mount_options) != 0)
    die(std::format("mount of {}: {}", name_, errno_name(errno)));
}

FileSystem::~FileSystem() {
  report().check(wait_for([] { return ::umount2(mount_point, 0) == 0; }, 30),
                 name_ + ": umount when nothing is mapped");
  report().check(
      std::system(std::format("{} {} > /tmp/files.fsck 2>&1", how(type_).check, node_).c_str()) ==
          0,
      name_ + ": the file system is whole", read_file("/tmp/files.fsck"));
  must(std::format("wipefs -q -a {}", node_));
}

namespace {

void fill_file(int fd, const std::string &path, std::uint64_t bytes, std::uint32_t generation) {
  std::vector<Word> words((1u << 20) / 8);
  for (std::uint64_t at = 0; at < bytes; at += words.size() * 8) {
    const std::uint64_t length = std::min<std::uint64_t>(words.size() * 8, bytes - at);
    fill_pattern(words, generation, at);
    if (::pwrite(fd, words.data(), length, static_cast<off_t>(at)) != static_cast<ssize_t>(length))
      die(path + ": " + errno_name(errno));
  }
  if (::fsync(fd) != 0)
    die(path + ": fsync: " + errno_name(errno));
}

} // namespace

void make_file(const std::string &path, std::uint64_t bytes, std::uint32_t generation) {
  const UniqueFd file(::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644));
  if (!file)
    die(path + ": " + errno_name(errno));
  fill_file(file.get(), path, bytes, generation);
}

namespace {

constexpr std::uint32_t taken_out = 2222; // what the parts hold that go to nobody

// Where the file's pieces are followed by something else, on the file system's device.
std::vector<std::uint64_t> ends_of_pieces(int fd, std::size_t pieces) {
  std::vector<std::uint64_t> room((sizeof(fiemap) + 2 * pieces * sizeof(fiemap_extent)) / 8 + 1);
  auto *const map = reinterpret_cast<fiemap *>(room.data());
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_flags = FIEMAP_FLAG_SYNC;
  map->fm_extent_count = static_cast<__u32>(2 * pieces);
  if (::ioctl(fd, FS_IOC_FIEMAP, map) != 0)
    die("FIEMAP: " + errno_name(errno));
  std::vector<std::uint64_t> ends;
  for (__u32 i = 0; i + 1 < map->fm_mapped_extents; ++i) {
    const fiemap_extent &extent = map->fm_extents[i];
    if (map->fm_extents[i + 1].fe_physical > extent.fe_physical + extent.fe_length)
      ends.push_back(extent.fe_physical + extent.fe_length);
  }
  return ends;
}

} // namespace

PiecesFile::PiecesFile(const FileSystem &fs, const std::string &file, std::uint64_t bytes,
                       std::uint64_t piece, std::uint32_t generation, std::uint64_t whole)
    : node_(fs.node()), piece_(piece) {
  const std::string path = fs.path(file);
  const std::uint64_t apart = bytes - whole;
  // Every second piece is taken out, and the rest moves together; the last one stays to the end.
  make_file(path, whole + 2 * apart + piece, taken_out);
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  for (std::uint64_t at = whole + piece; at <= bytes; at += piece)
    if (::fallocate(fd.get(), FALLOC_FL_COLLAPSE_RANGE, static_cast<off_t>(at),
                    static_cast<off_t>(piece)) != 0)
      die(path + ": FALLOC_FL_COLLAPSE_RANGE: " + errno_name(errno));
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
    die(path + ": ftruncate: " + errno_name(errno));
  fill_file(fd.get(), path, bytes, generation);
  gaps_ = ends_of_pieces(fd.get(), bytes / piece);
  between_ = between();
  if (gaps_.size() < apart / piece / 2)
    die(path + ": its pieces do not lie apart");
}

std::vector<Word> PiecesFile::between() const {
  const UniqueFd fd = open_target(node_, O_RDONLY | O_DIRECT | O_CLOEXEC);
  HostBuffer part(piece_);
  std::vector<Word> found;
  for (const std::uint64_t at : gaps_) {
    read_plain(fd.get(), part.words(), at);
    found.insert(found.end(), part.words().begin(), part.words().end());
  }
  return found;
}

} // namespace vmtest
