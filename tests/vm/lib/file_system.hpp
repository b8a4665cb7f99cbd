// SPDX-License-Identifier: GPL-2.0-only
// A file system on the drive for the length of a scope, and files on it that lie as a test wants
// them.
#pragma once

#include "partition.hpp"
#include "pattern.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace vmtest {

inline constexpr const char mount_point[] = "/tmp/files.mount";

// Whether this kernel's ext4 can have files with fs-verity. A file system is made so then.
bool ext4_has_verity();

// A file system on a part of the drive, mounted at mount_point for as long as the object lives.
class FileSystem {
public:
  // `type`: ext2, ext4, xfs or btrfs. `start`: where on /dev/nvme0n1 it begins, bytes, a multiple
  // of 512; by a partition of its own, of `bytes` bytes, unless it is 0. `options`: of mount(2).
  FileSystem(const std::string &type, std::uint64_t start, std::uint64_t bytes = 512u << 20,
             const char *options = nullptr);
  // On all of another disk, which may be smaller than mkfs likes.
  struct Disk {
    std::string node;
  };
  FileSystem(const std::string &type, const Disk &disk);
  FileSystem(const FileSystem &) = delete;
  FileSystem &operator=(const FileSystem &) = delete;
  ~FileSystem();
  const std::string &name() const { return name_; }
  // Of a file system on a partition: the partition becomes so long. 0 or a negative errno.
  int resize(std::uint64_t bytes) const { return partition_->resize(bytes); }
  // The block device.
  const std::string &node() const { return node_; }
  std::string path(const std::string &file) const { return mount_point + ("/" + file); }

private:
  void make(const std::string &options, const char *mount_options);
  std::string type_, name_;
  mutable std::optional<Partition> partition_;
  std::string node_;
};

// A file of `bytes` bytes whose blocks are all written, with the pattern of `generation`.
void make_file(const std::string &path, std::uint64_t bytes, std::uint32_t generation);

// A file whose pieces of `piece` bytes lie apart on the drive, with the pattern of `generation`.
// `bytes` is a multiple of `piece`. What lies between them belongs to nobody.
class PiecesFile {
public:
  PiecesFile(const FileSystem &fs, const std::string &file, std::uint64_t bytes,
             std::uint64_t piece, std::uint32_t generation, std::uint64_t whole = 0);
  // Whether what lies between the pieces is as it was when the file was made.
  bool between_untouched() const { return between() == between_; }

private:
  std::vector<Word> between() const;
  std::string node_;
  std::uint64_t piece_;
  std::vector<std::uint64_t> gaps_; // bytes on the file system's device
  std::vector<Word> between_;
};

} // namespace vmtest
