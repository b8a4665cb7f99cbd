// SPDX-License-Identifier: GPL-2.0-only
#include "exporter.hpp"

#include "report.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/memfd.h>
#include <linux/udmabuf.h>
#include <mutex>
#include <numeric>
#include <random>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <utility>
#include <vector>
#include <xf86drm.h>
#include <xf86drmMode.h>

namespace vmtest {

namespace {

const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
constexpr std::size_t huge_page = 2u << 20;

using Made = std::expected<UniqueFd, std::string>;

std::unexpected<std::string> failed(std::string_view call) {
  return std::unexpected(std::format("{}: {}", call, std::strerror(errno)));
}

// Faults the memfd's pages in random order and takes other pages in between, so that
// neighbours in the file are not neighbours in memory.
bool fault_scattered(int memfd, std::size_t bytes) {
  const std::size_t pages = bytes / page;
  std::vector<std::size_t> order(pages);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(12345);
  std::ranges::shuffle(order, random);
  auto *file =
      static_cast<char *>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0));
  auto *other = static_cast<char *>(
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (file == MAP_FAILED || other == MAP_FAILED)
    return false;
  ::madvise(other, bytes, MADV_NOHUGEPAGE);
  ::madvise(file, bytes, MADV_NOHUGEPAGE);
  for (std::size_t i = 0; i < pages; ++i) {
    file[order[i] * page] = 1;
    if (i % 3 == 0)
      other[i * page] = 1;
  }
  ::munmap(other, bytes);
  ::munmap(file, bytes);
  return true;
}

long read_number(const char *file) {
  long number = 0;
  std::ifstream(file) >> number;
  return number;
}

// Makes sure that `count` huge pages are free. Memory that other tests left in small pieces is
// put together again, which may take the kernel more than one attempt.
bool reserve_huge_pages(std::size_t count) {
  // Of this size: /proc/sys/vm has those of the default size, which is larger where pages are.
  constexpr const char *free_file = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
  constexpr const char *total_file = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
  for (int attempt = 0; attempt < 20; ++attempt) {
    const long missing = static_cast<long>(count) - read_number(free_file);
    if (missing <= 0)
      return true;
    if (attempt) {
      std::ofstream("/proc/sys/vm/drop_caches") << 3;
      std::ofstream("/proc/sys/vm/compact_memory") << 1;
    }
    const long total = read_number(total_file);
    std::ofstream(total_file) << total + missing;
  }
  return read_number(free_file) >= static_cast<long>(count);
}

Made udmabuf_of(int memfd, std::size_t bytes) {
  if (::fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) != 0)
    return failed("F_ADD_SEALS");
  UniqueFd device(::open("/dev/udmabuf", O_RDWR | O_CLOEXEC));
  if (!device)
    return failed("open /dev/udmabuf");
  udmabuf_create create{};
  create.memfd = static_cast<__u32>(memfd);
  create.flags = UDMABUF_FLAGS_CLOEXEC;
  create.size = bytes;
  const int fd = ::ioctl(device.get(), UDMABUF_CREATE, &create);
  return fd < 0 ? Made(failed("UDMABUF_CREATE")) : Made(UniqueFd(fd));
}

Made make_udmabuf(Exporter exporter, std::size_t bytes) {
  Made memfd = make_memfd(exporter, bytes);
  return memfd ? udmabuf_of(memfd->get(), bytes) : std::move(memfd);
}

Made make_heap(std::size_t bytes, Access access) {
  UniqueFd heap(::open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC));
  if (!heap)
    return failed("open /dev/dma_heap/system");
  dma_heap_allocation_data data{};
  data.len = bytes;
  data.fd_flags = O_CLOEXEC | (access == Access::ReadWrite  ? O_RDWR
                               : access == Access::ReadOnly ? O_RDONLY
                                                            : O_WRONLY);
  if (::ioctl(heap.get(), DMA_HEAP_IOCTL_ALLOC, &data) != 0)
    return failed("DMA_HEAP_IOCTL_ALLOC");
  return UniqueFd(static_cast<int>(data.fd));
}

Made make_dumb(std::string_view driver, std::size_t bytes, Access access) {
  UniqueFd card = open_drm_driver(driver);
  if (!card)
    return std::unexpected(std::format("no DRM device of driver {}", driver));
  drm_mode_create_dumb create{};
  create.width = static_cast<std::uint32_t>(page / 4); // one page per line
  create.height = static_cast<std::uint32_t>(bytes / page);
  create.bpp = 32;
  if (drmIoctl(card.get(), DRM_IOCTL_MODE_CREATE_DUMB, &create) != 0)
    return failed("DRM_IOCTL_MODE_CREATE_DUMB");
  int fd = -1;
  const int status = drmPrimeHandleToFD(
      card.get(), create.handle, DRM_CLOEXEC | (access == Access::ReadWrite ? DRM_RDWR : 0u), &fd);
  const int saved = errno;
  // The dma-buf holds the object; the handle is not needed any more.
  drm_mode_destroy_dumb destroy{};
  destroy.handle = create.handle;
  drmIoctl(card.get(), DRM_IOCTL_MODE_DESTROY_DUMB, &destroy);
  errno = saved;
  if (status != 0)
    return failed("drmPrimeHandleToFD");
  UniqueFd owned(fd);
  if (create.size != bytes)
    return std::unexpected(std::format("dumb buffer of {} bytes instead of {}",
                                       static_cast<std::uint64_t>(create.size), bytes));
  return owned;
}

Made make_fd(Exporter exporter, std::size_t bytes, Access access) {
  switch (exporter) {
  case Exporter::Heap:
    return make_heap(bytes, access);
  case Exporter::Vgem:
    return make_dumb("vgem", bytes, access);
  case Exporter::VirtioGpu:
    return make_dumb("virtio_gpu", bytes, access);
  default:
    return make_udmabuf(exporter, bytes);
  }
}

} // namespace

std::string_view name_of(Exporter exporter) {
  switch (exporter) {
  case Exporter::Udmabuf:
    return "udmabuf";
  case Exporter::UdmabufHuge:
    return "udmabuf-huge";
  case Exporter::UdmabufScattered:
    return "udmabuf-scattered";
  case Exporter::Heap:
    return "heap";
  case Exporter::Vgem:
    return "vgem";
  case Exporter::VirtioGpu:
    return "virtio-gpu";
  }
  std::unreachable();
}

std::optional<Exporter> exporter_by_name(std::string_view name) {
  for (const Exporter exporter : all_exporters)
    if (name_of(exporter) == name)
      return exporter;
  return std::nullopt;
}

std::expected<UniqueFd, std::string> make_memfd(Exporter exporter, std::size_t bytes) {
  const bool huge = exporter == Exporter::UdmabufHuge;
  // Two threads must not both count on the same free huge pages.
  static std::mutex huge_pages;
  const std::unique_lock guard =
      huge ? std::unique_lock(huge_pages) : std::unique_lock<std::mutex>();
  if (huge && !reserve_huge_pages(bytes / huge_page))
    return std::unexpected(std::string("not enough free huge pages"));
  UniqueFd memfd(::memfd_create("vmtest", MFD_CLOEXEC | MFD_ALLOW_SEALING |
                                              (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0u)));
  if (!memfd)
    return failed("memfd_create");
  if (::ftruncate(memfd.get(), static_cast<off_t>(bytes)) != 0)
    return failed("ftruncate of the memfd");
  if (exporter == Exporter::UdmabufScattered && !fault_scattered(memfd.get(), bytes))
    return failed("mmap of the memfd");
  // Huge pages that are reserved are others' to take until they are there.
  // A ring that was closed just now interrupts its task once more.
  int status = 0;
  do
    status = huge ? ::fallocate(memfd.get(), 0, 0, static_cast<off_t>(bytes)) : 0;
  while (status != 0 && errno == EINTR);
  if (status != 0)
    return failed("fallocate of the memfd");
  return memfd;
}

bool is_there(Exporter exporter) {
  switch (exporter) {
  case Exporter::Heap:
    return ::access("/dev/dma_heap/system", F_OK) == 0;
  case Exporter::Udmabuf:
  case Exporter::UdmabufHuge:
  case Exporter::UdmabufScattered:
    return ::access("/dev/udmabuf", F_OK) == 0;
  case Exporter::Vgem:
  case Exporter::VirtioGpu:
    return true; // every guest has them
  }
  std::unreachable();
}

std::vector<Exporter> those_there(std::initializer_list<Exporter> exporters) {
  std::vector<Exporter> there;
  std::ranges::copy_if(exporters, std::back_inserter(there), is_there);
  return there;
}

Exporter this_or_other(Exporter wanted) {
  if (is_there(wanted))
    return wanted;
  return is_there(Exporter::Udmabuf) ? Exporter::Udmabuf : Exporter::Vgem;
}

std::size_t size_granule(Exporter exporter) {
  return exporter == Exporter::UdmabufHuge ? huge_page : page;
}

std::expected<DmaBuf, std::string> DmaBuf::create(Exporter exporter, std::size_t bytes,
                                                  Access access) {
  return of_fd(make_fd(exporter, bytes, access), bytes, access);
}

std::expected<DmaBuf, std::string> DmaBuf::of_memfd(int memfd, std::size_t bytes) {
  return of_fd(udmabuf_of(memfd, bytes), bytes, Access::ReadWrite);
}

std::expected<DmaBuf, std::string> DmaBuf::of_fd(std::expected<UniqueFd, std::string> fd,
                                                 std::size_t bytes, Access access) {
  if (!fd)
    return std::unexpected(fd.error());
  DmaBuf buffer(std::move(*fd), bytes);
  if (access != Access::ReadWrite)
    return buffer;
  void *view = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, buffer.fd(), 0);
  if (view == MAP_FAILED)
    return failed("mmap of the dma-buf");
  buffer.view_ = view;
  return buffer;
}

DmaBuf::DmaBuf(DmaBuf &&other) noexcept
    : fd_(std::move(other.fd_)), size_(other.size_), view_(std::exchange(other.view_, nullptr)) {}

DmaBuf &DmaBuf::operator=(DmaBuf &&other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  std::swap(view_, other.view_);
  return *this;
}

DmaBuf::~DmaBuf() {
  if (view_)
    ::munmap(view_, size_);
}

void DmaBuf::begin_cpu(bool write) const {
  dma_buf_sync sync{};
  sync.flags = static_cast<__u64>(DMA_BUF_SYNC_START) |
               static_cast<__u64>(write ? DMA_BUF_SYNC_RW : DMA_BUF_SYNC_READ);
  if (::ioctl(fd_.get(), DMA_BUF_IOCTL_SYNC, &sync) != 0)
    die(std::format("DMA_BUF_IOCTL_SYNC start: {}", std::strerror(errno)));
}

void DmaBuf::end_cpu(bool write) const {
  dma_buf_sync sync{};
  sync.flags = static_cast<__u64>(DMA_BUF_SYNC_END) |
               static_cast<__u64>(write ? DMA_BUF_SYNC_RW : DMA_BUF_SYNC_READ);
  if (::ioctl(fd_.get(), DMA_BUF_IOCTL_SYNC, &sync) != 0)
    die(std::format("DMA_BUF_IOCTL_SYNC end: {}", std::strerror(errno)));
}

UniqueFd open_drm_driver(std::string_view driver) {
  for (int minor = 0; minor < 16; ++minor) {
    UniqueFd card(::open(std::format("/dev/dri/card{}", minor).c_str(), O_RDWR | O_CLOEXEC));
    if (!card)
      continue;
    drmVersionPtr version = drmGetVersion(card.get());
    if (!version)
      continue;
    const bool same =
        driver == std::string_view(version->name, static_cast<std::size_t>(version->name_len));
    drmFreeVersion(version);
    if (same)
      return card;
  }
  return UniqueFd();
}

std::optional<long> live_dmabufs() {
  // The last line of bufinfo is "Total N objects, M bytes".
  std::ifstream info("/sys/kernel/debug/dma_buf/bufinfo");
  std::optional<long> total;
  for (std::string line; std::getline(info, line);) {
    long count = 0;
    if (std::sscanf(line.c_str(), "Total %ld objects", &count) == 1)
      total = count;
  }
  return total;
}

} // namespace vmtest
