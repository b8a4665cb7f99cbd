// SPDX-License-Identifier: GPL-2.0-only
#include "job/io_memory.hpp"

#include "base/sizes.hpp"
#include "base/system.hpp"

#include <cerrno>
#include <linux/dma-buf.h>
#include <sys/mman.h>

namespace dmabuf {
namespace {

/// Zero-filled host memory.
Result<MappedRange> map_host_memory(uint64_t bytes) {
  if (const auto enough = check_memory(bytes); !enough)
    return std::unexpected(enough.error());
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return fail(errno, errno_text(strf("cannot get %llu MiB of host memory; lower iodepth or bs",
                                       static_cast<unsigned long long>(mib_up(bytes))),
                                  errno));
  return MappedRange(memory, bytes);
}

} // namespace

Result<std::byte *> IoMemory::allocate_host(uint64_t bytes) {
  auto memory = map_host_memory(bytes);
  if (!memory)
    return std::unexpected(std::move(memory.error()));
  host_ = std::move(*memory);
  return host_.data();
}

Result<std::byte *> IoMemory::allocate_staging(uint64_t bytes) { return allocate_host(bytes); }

Result<void *> IoMemory::allocate(uint64_t bytes) {
  const auto size = round_up(bytes, page_bytes());
  if (!size)
    return fail(EOVERFLOW, "the job's buffer is too large; lower iodepth or bs");
  if (!traits(config_.datapath).dmabuf_memory) {
    auto memory = allocate_host(*size);
    if (!memory)
      return std::unexpected(std::move(memory.error()));
    lane_.base = *memory;
    if (!traits(config_.datapath).is_file) // what is reported is the memory of its files
      bytes_ = *size;
    return lane_.base;
  }
  if (auto ok = config_.buffer_per_slot ? allocate_slots(*size) : allocate_job(*size); !ok)
    return std::unexpected(std::move(ok.error()));
  for (const DmaBuf &buffer : dmabufs_) {
    bytes_ += buffer.bytes;
    fds_.push_back(buffer.fd.get());
  }
  count_ = static_cast<unsigned>(dmabufs_.size());
  device_ = dmabufs_[0].device;
  exported_ = dmabufs_[0].exported;
  lane_.dmabuf_fds = fds_.data();
  if (dmabufs_[0].memory) {
    use_memories();
    return config_.buffer_per_slot ? slots_.data() : lane_.base;
  }
  sync_fill_ = config_.cpu_fills;
  sync_check_ = config_.cpu_checks;
  // fio fills the buffers next; the first submission ends this.
  if (const int code = begin_cpu())
    return fail(code, errno_text("the exporter does not let the CPU access the dma-buf", code));
  return config_.buffer_per_slot ? slots_.data() : lane_.base;
}

Result<void> IoMemory::allocate_job(uint64_t bytes) {
  auto buffer = allocate_dmabuf(buffer_request(config_, bytes));
  if (!buffer)
    return std::unexpected(std::move(buffer.error()));
  lane_.base = buffer->view.data();
  if (buffer->memory) {
    auto shadow = map_host_memory(bytes);
    if (!shadow)
      return std::unexpected(std::move(shadow.error()));
    shadow_ = std::move(*shadow);
    lane_.base = shadow_.data();
  }
  dmabufs_.push_back(std::move(*buffer));
  return {};
}

void IoMemory::use_memories() {
  for (const DmaBuf &buffer : dmabufs_)
    memories_.push_back(buffer.memory.get());
  lane_.memories = memories_.data();
  if (config_.buffer_per_slot) {
    lane_.memory_mask = ~0U;
    lane_.memory_bytes = config_.max_bs;
  }
  lane_.copies_up = config_.refills;
  lane_.copies_down = config_.cpu_checks;
}

BufferKind IoMemory::buffer_kind() const {
  if (!lane_.memories)
    return BufferKind::view;
  return lane_.copies_up || lane_.copies_down ? BufferKind::shadow : BufferKind::device;
}

Result<void> IoMemory::allocate_slots(uint64_t bytes) {
  // fio wants one range of memory: the dma-bufs are mapped into it, each where its slot will be.
  auto range = map_host_memory(bytes);
  if (!range)
    return std::unexpected(std::move(range.error()));
  slots_ = std::move(*range);
  lane_.base = slots_.data() + config_.mem_align;
  lane_.slot_mask = ~0U;
  lane_.slot_bytes = config_.max_bs;
  for (unsigned i = 0; i < config_.iodepth; i++) {
    auto buffer = allocate_dmabuf(buffer_request(config_, config_.max_bs));
    if (!buffer)
      return std::unexpected(std::move(buffer.error()));
    buffer->view.reset();
    if (!buffer->memory &&
        mmap(lane_.base + i * config_.max_bs, config_.max_bs, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, buffer->fd.get(), 0) == MAP_FAILED)
      return fail(errno, errno_text("cannot map a dma-buf where its I/O slot is", errno));
    dmabufs_.push_back(std::move(*buffer));
  }
  return {};
}

Result<void> IoMemory::first_fill() {
  // Where every write brings its data along there is nothing to do now; a read brings the drive's.
  if (!lane_.memories || !config_.writes || lane_.copies_up)
    return {};
  const uint64_t bytes = config_.buffer_per_slot ? config_.max_bs : shadow_.size();
  for (size_t i = 0; i < memories_.size(); i++) {
    if (const int code = memories_[i]->write(0, {lane_.base + i * lane_.memory_bytes, bytes}))
      return fail(code, errno_text(strf("cannot copy what fio wants to write to the memory of "
                                        "exporter %s, device %s",
                                        exporter_name(config_.exporter), device_.c_str()),
                                   code));
    lane_.counters.first_fill += bytes;
  }
  return {};
}

int IoMemory::begin_cpu() {
  cpu_open_ = true;
  for (const DmaBuf &buffer : dmabufs_)
    if (const int code = cpu_access_begin(buffer.fd.get(), DMA_BUF_SYNC_RW))
      return code;
  return 0;
}

int IoMemory::end_cpu() {
  cpu_open_ = false;
  int code = 0;
  for (const DmaBuf &buffer : dmabufs_)
    if (const int failed = cpu_access_end(buffer.fd.get(), DMA_BUF_SYNC_RW))
      code = failed;
  return code;
}

int IoMemory::restart_cpu() {
  const int code = cpu_open_ ? end_cpu() : 0;
  return code ? code : begin_cpu();
}

void IoMemory::close_cpu() {
  if (cpu_open_)
    (void)end_cpu();
}

void IoMemory::free() {
  slots_.reset();
  shadow_.reset();
  memories_.clear();
  lane_.memories = nullptr;
  dmabufs_.clear();
  fds_.clear();
  host_.reset();
  lane_.base = lane_.staging = nullptr;
  lane_.dmabuf_fds = nullptr;
}

} // namespace dmabuf
