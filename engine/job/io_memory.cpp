// SPDX-License-Identifier: GPL-2.0-only
#include "job/io_memory.hpp"

#include "base/sizes.hpp"
#include "base/system.hpp"

#include <cerrno>
#include <cstring>
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

/// Memory that the CPU maps, to be copied all the same: each copy has the CPU's access to itself.
class ViewMemory final : public DeviceMemory {
public:
  ViewMemory(int fd, MappedRange view) : fd_(fd), view_(std::move(view)) {}

  int read(uint64_t offset, std::span<std::byte> to) override {
    return copy(to.data(), view_.data() + offset, to.size(), DMA_BUF_SYNC_READ);
  }
  int write(uint64_t offset, std::span<const std::byte> from) override {
    return copy(view_.data() + offset, from.data(), from.size(), DMA_BUF_SYNC_WRITE);
  }

private:
  int copy(void *to, const void *from, size_t bytes, uint64_t access) const {
    if (const int error = cpu_access_begin(fd_, access))
      return error;
    std::memcpy(to, from, bytes);
    return cpu_access_end(fd_, access);
  }

  int fd_; ///< the dma-buf's, which lives as long
  MappedRange view_;
};

/// A dma-buf of the job's. Threads that check data would look at a view while the job's thread
/// ends the CPU's access to it, to submit more: they get copies.
Result<DmaBuf> allocate_for(const JobConfig &config, uint64_t bytes) {
  auto buffer = allocate_dmabuf(buffer_request(config, bytes));
  if (buffer && config.async_checks && !buffer->memory)
    buffer->memory = std::make_unique<ViewMemory>(buffer->fd.get(), std::move(buffer->view));
  return buffer;
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

Result<void> IoMemory::check_slots(std::span<void *const> buffers) const {
  // Where fio's first one is; lane_.base may be a copy's, and there with or without mem_align.
  const std::byte *const start =
      lane_.base +
      (config_.buffer_per_slot && traits(config_.datapath).dmabuf_memory ? 0 : config_.mem_align);
  for (size_t i = 0; i < buffers.size(); i++)
    if (buffers[i] != start + i * slot_bytes_ || config_.mem_align + (i + 1) * slot_bytes_ > room_)
      return fail(EPROTO, strf("fio's buffer of I/O slot %zu is not where %llu bytes were "
                               "allocated for it; use the fio that this engine was built for",
                               i, static_cast<unsigned long long>(slot_bytes_)));
  return {};
}

Result<void *> IoMemory::allocate(uint64_t bytes, uint64_t slot_bytes) {
  const auto size = round_up(bytes, page_bytes());
  if (!size)
    return fail(EOVERFLOW, "the job's buffer is too large; lower iodepth or bs");
  slot_bytes_ = slot_bytes;
  room_ = *size;
  bytes_ = 0;
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
  auto buffer = allocate_for(config_, bytes);
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
    lane_.memory_bytes = slot_bytes_;
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
  if (slot_bytes_ % kPage || config_.mem_align > bytes ||
      slot_bytes_ > (bytes - config_.mem_align) / config_.iodepth)
    return fail(
        EPROTO,
        strf("%u I/O slots of %llu bytes each, from byte %llu on, are not in the %llu bytes "
             "that fio asks for; use the fio that this engine was built for",
             config_.iodepth, static_cast<unsigned long long>(slot_bytes_),
             static_cast<unsigned long long>(config_.mem_align),
             static_cast<unsigned long long>(bytes)));
  // fio wants one range of memory: the dma-bufs are mapped into it, each where its slot will be.
  auto range = map_host_memory(bytes);
  if (!range)
    return std::unexpected(std::move(range.error()));
  slots_ = std::move(*range);
  lane_.base = slots_.data() + config_.mem_align;
  lane_.slot_mask = ~0U;
  lane_.slot_bytes = slot_bytes_;
  for (unsigned i = 0; i < config_.iodepth; i++) {
    auto buffer = allocate_for(config_, slot_bytes_);
    if (!buffer)
      return std::unexpected(std::move(buffer.error()));
    buffer->view.reset();
    if (!buffer->memory && mmap(lane_.base + i * slot_bytes_, slot_bytes_, PROT_READ | PROT_WRITE,
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
  const uint64_t bytes = config_.buffer_per_slot ? slot_bytes_ : shadow_.size();
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
  lane_.cpu_open = true;
  for (const DmaBuf &buffer : dmabufs_)
    if (const int code = cpu_access_begin(buffer.fd.get(), DMA_BUF_SYNC_RW))
      return code;
  return 0;
}

int IoMemory::end_cpu() {
  lane_.cpu_open = false;
  int code = 0;
  for (const DmaBuf &buffer : dmabufs_)
    if (const int failed = cpu_access_end(buffer.fd.get(), DMA_BUF_SYNC_RW))
      code = failed;
  return code;
}

int IoMemory::restart_cpu() {
  const int code = lane_.cpu_open ? end_cpu() : 0;
  return code ? code : begin_cpu();
}

void IoMemory::close_cpu() {
  if (lane_.cpu_open)
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
