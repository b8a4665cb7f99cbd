// SPDX-License-Identifier: GPL-2.0-only
// The memory of a dma-buf as this program looks at it: by the CPU's mapping of it, or, where it has
// none, by the exporter's own copies.
#pragma once

#include "exporter/exporter.hpp"
#include "pattern.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace integrity {

/// Host memory for O_DIRECT.
class HostBuffer {
public:
  explicit HostBuffer(size_t bytes);
  std::span<Word> words() { return {data_.get(), bytes_ / 8}; }
  std::span<Word> at(uint64_t offset, size_t bytes) {
    return words().subspan(offset / 8, bytes / 8);
  }
  size_t size() const { return bytes_; }

private:
  struct Free {
    void operator()(Word *data) const;
  };
  size_t bytes_;
  std::unique_ptr<Word, Free> data_;
};

/// A dma-buf, and what is in it.
///
/// look() and put() go between begin_cpu() and end_cpu(). Offsets and lengths are in bytes,
/// multiples of 8, inside the dma-buf.
class BufferMemory {
public:
  explicit BufferMemory(dmabuf::DmaBuf buffer);

  const dmabuf::DmaBuf &buffer() const { return buffer_; }
  uint64_t size() const { return buffer_.bytes; }

  /// What is there now. Of memory without a CPU view it is a copy, made now, that the next look()
  /// or put() at the same place overwrites.
  std::span<const Word> look(uint64_t offset, size_t bytes);
  /// Puts the words of `generation` for a piece of the drive at byte `place` there.
  void put(uint32_t generation, uint64_t offset, size_t bytes, uint64_t place);
  /// Fills it with the buffer's poison.
  void poison(uint64_t offset, size_t bytes) { put(kBufferPoison, offset, bytes, offset); }

  void begin_cpu() const;
  void end_cpu() const;

  /// An error once a copy has failed: what look() said since is worth nothing.
  dmabuf::Result<void> trouble() const;

private:
  std::span<Word> view(uint64_t offset, size_t bytes);

  dmabuf::DmaBuf buffer_;
  std::optional<HostBuffer> copy_; ///< of memory without a CPU view, place by place
  int code_ = 0;                   ///< of the first copy that failed
};

/// The PCI address of the device that a buffer came from, by what DmaBuf::device calls it: an
/// address, with "/BAR" or without, or a device node. "" where it is none on PCI. `root`: in front
/// of /sys and /dev; empty but in tests.
std::string pci_address(const std::string &device, const std::string &root = "");

} // namespace integrity
