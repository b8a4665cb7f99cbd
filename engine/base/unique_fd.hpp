// SPDX-License-Identifier: GPL-2.0-only
// Owners of a file descriptor and of a memory mapping.
#pragma once

#include <cstddef>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace dmabuf {

/// Owns one file descriptor; closes it at the end of its life.
class UniqueFd {
public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd &operator=(UniqueFd &&other) noexcept {
    if (this != &other)
      reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

  /// Gives up the descriptor without closing it.
  int release() { return std::exchange(fd_, -1); }

  /// Closes what is held and takes `fd`.
  void reset(int fd = -1) {
    if (fd_ >= 0)
      close(fd_);
    fd_ = fd;
  }

private:
  int fd_ = -1;
};

/// Owns one mmap()ed range.
class MappedRange {
public:
  MappedRange() = default;
  MappedRange(void *address, size_t bytes) : address_(address), bytes_(bytes) {}
  MappedRange(MappedRange &&other) noexcept
      : address_(std::exchange(other.address_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MappedRange &operator=(MappedRange &&other) noexcept {
    if (this != &other) {
      reset();
      address_ = std::exchange(other.address_, nullptr);
      bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
  }
  ~MappedRange() { reset(); }

  std::byte *data() const { return static_cast<std::byte *>(address_); }
  size_t size() const { return bytes_; }
  explicit operator bool() const { return address_ != nullptr; }

  /// Unmaps now.
  void reset() {
    if (address_)
      munmap(address_, bytes_);
    address_ = nullptr;
    bytes_ = 0;
  }

private:
  void *address_ = nullptr;
  size_t bytes_ = 0;
};

} // namespace dmabuf
