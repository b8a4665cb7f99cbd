// SPDX-License-Identifier: GPL-2.0-only
#include "memory.hpp"

#include "sizes.hpp"

#include <cstdlib>
#include <linux/dma-buf.h>
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
  return dmabuf::fail(code_, dmabuf::errno_text("the exporter could not copy to or from its memory; "
                                                "see the kernel log and the device's own",
                                                code_));
}

} // namespace integrity
