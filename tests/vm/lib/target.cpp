// SPDX-License-Identifier: GPL-2.0-only
#include "target.hpp"

#include "report.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <linux/fs.h>
#include <sys/ioctl.h>

namespace vmtest {

HostBuffer::HostBuffer(std::size_t bytes)
    : bytes_(bytes),
      data_(static_cast<Word *>(std::aligned_alloc(4096, (bytes + 4095) & ~4095ul))) {
  if (!data_)
    die("out of host memory");
}

void HostBuffer::Free::operator()(Word *data) const { std::free(data); }

UniqueFd open_target(const std::string &path, int flags) {
  UniqueFd fd(::open(path.c_str(), flags < 0 ? O_RDWR | O_DIRECT | O_CLOEXEC : flags));
  if (!fd)
    die(std::format("open {}: {}", path, std::strerror(errno)));
  return fd;
}

std::uint64_t block_device_bytes(int fd) {
  std::uint64_t bytes = 0;
  if (::ioctl(fd, BLKGETSIZE64, &bytes) != 0)
    die(std::format("BLKGETSIZE64: {}", std::strerror(errno)));
  return bytes;
}

std::uint64_t block_layer_limit(const std::string &node) {
  // "nvme0n1" and its path "nvme0c0n1".
  const std::string name = std::filesystem::path(node).filename();
  const auto part = name.find('n', 4);
  std::uint64_t kib = 0;
  for (const auto &entry : std::filesystem::directory_iterator("/sys/class/nvme")) {
    std::error_code none;
    for (const auto &disk : std::filesystem::directory_iterator(entry.path(), none)) {
      const std::string found = disk.path().filename();
      if (part != std::string::npos && found.starts_with("nvme") &&
          (found == name ||
           (found.starts_with(name.substr(0, part) + "c") && found.ends_with(name.substr(part)))))
        std::ifstream(disk.path() / "queue/max_hw_sectors_kb") >> kib;
    }
  }
  if (kib == 0)
    die(std::format("{}: no max_hw_sectors_kb", node));
  return kib << 10;
}

void write_plain(int fd, std::span<const Word> words, std::uint64_t offset) {
  const auto *data = reinterpret_cast<const char *>(words.data());
  for (std::size_t done = 0; done < words.size_bytes();) {
    const ssize_t moved =
        ::pwrite(fd, data + done, words.size_bytes() - done, static_cast<off_t>(offset + done));
    if (moved <= 0)
      die(std::format("plain pwrite of {} bytes at {}: {}", words.size_bytes(), offset,
                      std::strerror(errno)));
    done += static_cast<std::size_t>(moved);
  }
}

void read_plain(int fd, std::span<Word> words, std::uint64_t offset) {
  auto *data = reinterpret_cast<char *>(words.data());
  for (std::size_t done = 0; done < words.size_bytes();) {
    const ssize_t moved =
        ::pread(fd, data + done, words.size_bytes() - done, static_cast<off_t>(offset + done));
    if (moved <= 0)
      die(std::format("plain pread of {} bytes at {}: {}", words.size_bytes(), offset,
                      std::strerror(errno)));
    done += static_cast<std::size_t>(moved);
  }
}

DiskRegion::DiskRegion(int plain_fd, std::uint64_t base, std::size_t bytes)
    : plain_fd_(plain_fd), base_(base), model_(bytes), scratch_(bytes) {}

std::span<Word> DiskRegion::expected(std::uint64_t offset, std::size_t bytes) {
  if (offset < base_ || offset + bytes > base_ + size())
    die(std::format("range {}+{} is outside the region {}+{}", offset, bytes, base_, size()));
  return model_.words().subspan((offset - base_) / 8, bytes / 8);
}

void DiskRegion::lay_down(std::uint32_t generation, std::uint64_t offset, std::size_t bytes) {
  const auto words = expected(offset, bytes);
  fill_pattern(words, generation, offset);
  // The model's memory is aligned only at its start: go through the scratch buffer.
  const auto copy = scratch_.words().first(words.size());
  std::ranges::copy(words, copy.begin());
  write_plain(plain_fd_, copy, offset);
}

std::optional<std::string> DiskRegion::check(std::uint64_t offset, std::size_t bytes,
                                             std::size_t margin) {
  const std::uint64_t first = std::max(base_, offset < margin ? 0 : offset - margin);
  const std::uint64_t last = std::min(base_ + size(), offset + bytes + margin);
  const auto found = scratch_.words().first((last - first) / 8);
  // What an earlier look left there must not stand in for what the drive did not return.
  std::ranges::fill(found, 0);
  read_plain(plain_fd_, found, first);
  const auto mismatch = compare_words(found, expected(first, last - first));
  if (!mismatch)
    return std::nullopt;
  return "on the drive, " + describe(*mismatch, first);
}

} // namespace vmtest
