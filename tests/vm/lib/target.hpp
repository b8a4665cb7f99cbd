// SPDX-License-Identifier: GPL-2.0-only
// The drive under test, and the independent witness: plain O_DIRECT pread and pwrite.
#pragma once

#include "pattern.hpp"
#include "unique_fd.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace vmtest {

// Host memory aligned for O_DIRECT.
class HostBuffer {
public:
  explicit HostBuffer(std::size_t bytes);
  std::span<Word> words() { return {data_.get(), bytes_ / 8}; }
  std::size_t size() const { return bytes_; }

private:
  struct Free {
    void operator()(Word *data) const;
  };
  std::size_t bytes_;
  std::unique_ptr<Word, Free> data_;
};

// Opens with O_RDWR | O_DIRECT | O_CLOEXEC, or these flags; exit_setup when it fails.
UniqueFd open_target(const std::string &path, int flags = -1);
// Size of a block device in bytes; exit_setup when it cannot be told.
std::uint64_t block_device_bytes(int fd);
// What one command may move as far as the block layer knows: max_hw_sectors_kb of the queue that
// takes the commands, a multipath head's path. exit_setup when it cannot be told.
std::uint64_t block_layer_limit(const std::string &node);
// All of it, or exit_setup: the witness itself must not fail.
void write_plain(int fd, std::span<const Word> words, std::uint64_t offset);
void read_plain(int fd, std::span<Word> words, std::uint64_t offset);

// A range of the drive together with what it must hold. Only plain I/O is used here.
class DiskRegion {
public:
  DiskRegion(int plain_fd, std::uint64_t base, std::size_t bytes);

  int plain_fd() const { return plain_fd_; }
  std::uint64_t base() const { return base_; }
  std::size_t size() const { return model_.size(); }
  // Writes the pattern of `generation` over [offset, offset + bytes), absolute offsets.
  void lay_down(std::uint32_t generation, std::uint64_t offset, std::size_t bytes);
  void lay_down_all(std::uint32_t generation) { lay_down(generation, base_, size()); }
  // What the range is expected to hold; changing it says what a later write will do.
  std::span<Word> expected(std::uint64_t offset, std::size_t bytes);
  // Reads [offset - margin, offset + bytes + margin), clipped to the region, and compares.
  std::optional<std::string> check(std::uint64_t offset, std::size_t bytes, std::size_t margin);
  std::optional<std::string> check_all() { return check(base_, size(), 0); }

private:
  int plain_fd_;
  std::uint64_t base_;
  HostBuffer model_, scratch_;
};

} // namespace vmtest
