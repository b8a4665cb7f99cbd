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
#include <sys/mount.h>
#include <vector>

namespace vmtest {

namespace {

constexpr const char drive[] = "/dev/nvme0n1";

void must(const std::string &line) {
  if (std::system(line.c_str()) != 0)
    die(line + " failed");
}

} // namespace

FileSystem::FileSystem(const std::string &type, std::uint64_t start, std::uint64_t bytes)
    : name_(start ? std::format("{} on a partition from byte {}", type, start) : type),
      node_(drive) {
  if (start)
    node_ = partition_.emplace(drive, start, bytes).node();
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

} // namespace vmtest
