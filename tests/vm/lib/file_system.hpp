// SPDX-License-Identifier: GPL-2.0-only
// A file system on the drive for the length of a scope, and files on it that lie as a test wants them.
#pragma once

#include "partition.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace vmtest {

inline constexpr const char mount_point[] = "/tmp/files.mount";

// A file system on a part of the drive, mounted at mount_point for as long as the object lives.
class FileSystem {
public:
  // `start`: where on /dev/nvme0n1 it begins, bytes, a multiple of 512; by a partition of its own, of
  // `bytes` bytes, unless it is 0.
  FileSystem(const std::string &type, std::uint64_t start, std::uint64_t bytes = 512u << 20);
  FileSystem(const FileSystem &) = delete;
  FileSystem &operator=(const FileSystem &) = delete;
  ~FileSystem();
  const std::string &name() const { return name_; }
  std::string path(const std::string &file) const { return mount_point + ("/" + file); }

private:
  std::string name_;
  std::optional<Partition> partition_;
  std::string node_;
};

// A file of `bytes` bytes whose blocks are all written, with the pattern of `generation`.
void make_file(const std::string &path, std::uint64_t bytes, std::uint32_t generation);

// As long as it lives the file system's free space is in pieces of `piece` bytes, between which its own
// file lies.
class Comb {
public:
  Comb(const FileSystem &fs, std::uint64_t bytes, std::uint64_t piece);
  Comb(const Comb &) = delete;
  Comb &operator=(const Comb &) = delete;
  ~Comb();
  // Whether its own file is as it was made.
  bool untouched() const;

private:
  std::string teeth_, filler_;
  std::uint64_t bytes_, piece_;
};

} // namespace vmtest
