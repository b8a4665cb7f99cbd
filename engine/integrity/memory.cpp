// SPDX-License-Identifier: GPL-2.0-only
#include "memory.hpp"

#include "base/sizes.hpp"

#include <cstdlib>
#include <filesystem>
#include <linux/dma-buf.h>
#include <string_view>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <utility>

namespace integrity {

HostBuffer::HostBuffer(size_t bytes)
    : bytes_(bytes), data_(static_cast<Word *>(std::aligned_alloc(
                         dmabuf::kPage, *dmabuf::round_up(bytes, dmabuf::kPage)))) {
  if (!data_)
    std::abort();
}

void HostBuffer::Free::operator()(Word *data) const { std::free(data); }

BufferMemory::BufferMemory(dmabuf::DmaBuf buffer) : buffer_(std::move(buffer)) {
  if (buffer_.memory)
    copy_.emplace(buffer_.bytes);
}

std::span<Word> BufferMemory::view(uint64_t offset, size_t bytes) {
  if (copy_)
    return copy_->at(offset, bytes);
  return std::span(reinterpret_cast<Word *>(buffer_.view.data()), buffer_.bytes / 8)
      .subspan(offset / 8, bytes / 8);
}

std::span<const Word> BufferMemory::look(uint64_t offset, size_t bytes) {
  const std::span<Word> words = view(offset, bytes);
  if (copy_)
    if (const int code = buffer_.memory->read(offset, std::as_writable_bytes(words));
        code && !code_)
      code_ = code;
  return words;
}

void BufferMemory::put(uint32_t generation, uint64_t offset, size_t bytes, uint64_t place) {
  const std::span<Word> words = view(offset, bytes);
  fill(words, generation, place);
  if (copy_)
    if (const int code = buffer_.memory->write(offset, std::as_bytes(words)); code && !code_)
      code_ = code;
}

// What fails here shows as wrong data or as an error of the I/O. The exporter's own copies need no
// more than themselves: to ask for the CPU's access would move the memory, of some exporters.
void BufferMemory::begin_cpu() const {
  if (!copy_)
    dmabuf::cpu_access_begin(buffer_.fd.get(), DMA_BUF_SYNC_READ | DMA_BUF_SYNC_WRITE);
}
void BufferMemory::end_cpu() const {
  if (!copy_)
    dmabuf::cpu_access_end(buffer_.fd.get(), DMA_BUF_SYNC_READ | DMA_BUF_SYNC_WRITE);
}

dmabuf::Result<void> BufferMemory::trouble() const {
  if (!code_)
    return {};
  return dmabuf::fail(code_,
                      dmabuf::errno_text("the exporter could not copy to or from its memory; "
                                         "see the kernel log and the device's own",
                                         code_));
}

namespace {

/// Whether a text is a PCI address such as 0000:01:00.0; the domain may be longer.
bool is_pci_address(std::string_view text) {
  const auto hex = [](std::string_view part) {
    return !part.empty() && part.find_first_not_of("0123456789abcdef") == part.npos;
  };
  if (text.size() < 12)
    return false;
  const std::string_view tail = text.substr(text.size() - 8); // :01:00.0
  return hex(text.substr(0, text.size() - 8)) && tail[0] == ':' && hex(tail.substr(1, 2)) &&
         tail[3] == ':' && hex(tail.substr(4, 2)) && tail[6] == '.' && hex(tail.substr(7));
}

} // namespace

std::string pci_address(const std::string &device, const std::string &root) {
  if (!device.starts_with('/')) {
    const std::string address = device.substr(0, device.find('/'));
    return is_pci_address(address) ? address : "";
  }
  struct stat node = {};
  if (stat((root + device).c_str(), &node) || !S_ISCHR(node.st_mode))
    return "";
  std::error_code error;
  const auto folder = std::filesystem::canonical(
      root + dmabuf::strf("/sys/dev/char/%u:%u", major(node.st_rdev), minor(node.st_rdev)), error);
  // A GPU's node lies below the GPU, and that below the bridges to it: the last one is meant.
  std::string found;
  for (const auto &part : folder)
    if (is_pci_address(part.native()))
      found = part.native();
  return found;
}

} // namespace integrity
