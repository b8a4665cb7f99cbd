// SPDX-License-Identifier: GPL-2.0-only
// Dma-bufs from the exporters a plain virtual machine has.
#pragma once

#include "pattern.hpp"
#include "unique_fd.hpp"

#include <array>
#include <cstddef>
#include <expected>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmtest {

enum class Exporter { Udmabuf, UdmabufHuge, UdmabufScattered, Heap, Vgem, VirtioGpu };

inline constexpr std::array all_exporters = {
    Exporter::Udmabuf, Exporter::UdmabufHuge, Exporter::UdmabufScattered,
    Exporter::Heap,    Exporter::Vgem,        Exporter::VirtioGpu};

std::string_view name_of(Exporter exporter);
std::optional<Exporter> exporter_by_name(std::string_view name);
// What sizes must be a multiple of: 2 MiB for huge pages, else 4 KiB.
std::size_t size_granule(Exporter exporter);

// Whether this kernel has it, and which of several it has: Debian's for arm64 have no heaps.
bool is_there(Exporter exporter);
std::vector<Exporter> those_there(std::initializer_list<Exporter> exporters);
// `wanted`, or any other where this kernel lacks it: for tests that any exporter will do for.
Exporter this_or_other(Exporter wanted);

// The memory of a udmabuf, before it is one: pages in place, laid out as `exporter` says.
std::expected<UniqueFd, std::string> make_memfd(Exporter exporter, std::size_t bytes);

// How the dma-buf's file is opened.
enum class Access { ReadWrite, ReadOnly, WriteOnly };

// One dma-buf. With Access::ReadWrite it is also mapped for the CPU.
class DmaBuf {
public:
  // Allocates `bytes` (a multiple of size_granule()). The error says which call failed.
  // ReadOnly: Heap, Vgem and VirtioGpu. WriteOnly: Heap.
  static std::expected<DmaBuf, std::string> create(Exporter exporter, std::size_t bytes,
                                                   Access access = Access::ReadWrite);
  // The udmabuf of a whole memfd, which goes on to be usable as ordinary memory.
  static std::expected<DmaBuf, std::string> of_memfd(int memfd, std::size_t bytes);
  DmaBuf(DmaBuf &&other) noexcept;
  DmaBuf &operator=(DmaBuf &&other) noexcept;
  ~DmaBuf();

  int fd() const { return fd_.get(); }
  std::size_t size() const { return size_; }
  // The CPU's view. Touch it only between begin_cpu() and end_cpu().
  std::span<Word> words() const { return {static_cast<Word *>(view_), view_ ? size_ / 8 : 0}; }
  void begin_cpu(bool write) const;
  void end_cpu(bool write) const;

private:
  DmaBuf(UniqueFd fd, std::size_t bytes) : fd_(std::move(fd)), size_(bytes) {}
  static std::expected<DmaBuf, std::string> of_fd(std::expected<UniqueFd, std::string> fd,
                                                  std::size_t bytes, Access access);
  UniqueFd fd_;
  std::size_t size_ = 0;
  void *view_ = nullptr;
};

// CPU access to a dma-buf for the length of a scope.
class CpuAccess {
public:
  explicit CpuAccess(const DmaBuf &buffer, bool write) : buffer_(buffer), write_(write) {
    buffer_.begin_cpu(write_);
  }
  CpuAccess(const CpuAccess &) = delete;
  CpuAccess &operator=(const CpuAccess &) = delete;
  ~CpuAccess() { buffer_.end_cpu(write_); }

private:
  const DmaBuf &buffer_;
  bool write_;
};

// Opens the DRM device whose driver has this name ("vgem", "virtio_gpu"); invalid if none.
UniqueFd open_drm_driver(std::string_view driver);

// Dma-bufs that exist in the whole system, from debugfs; nullopt where that cannot be read.
std::optional<long> live_dmabufs();

} // namespace vmtest
