// SPDX-License-Identifier: GPL-2.0-only
// A PCI BAR as a dma-buf: device memory, exported by vfio-pci.
#pragma once

#include "pattern.hpp"
#include "unique_fd.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>

namespace vmtest {

// The lab's ivshmem function (`dmabuf-lab run --p2p`), driven by vfio-pci.
class VfioBar {
public:
  // Finds the function, gives it to vfio-pci and opens it. The error says which step failed.
  static std::expected<VfioBar, std::string> open();

  // Bytes of the BAR, and the CPU's view of it.
  std::size_t size() const { return words_.size_bytes(); }
  std::span<Word> words() const { return words_; }
  // The first `bytes` of the BAR as a dma-buf.
  std::expected<UniqueFd, std::string> export_range(std::size_t bytes) const;
  // Memory decoding on or off, in the function's command register. Off takes the memory
  // away from everyone who has it mapped.
  bool set_memory(bool on) const;

private:
  UniqueFd container_, group_, device_;
  std::uint64_t config_offset_ = 0;
  std::span<Word> words_;
};

} // namespace vmtest
