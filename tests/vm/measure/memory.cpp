// SPDX-License-Identifier: GPL-2.0-only
#include "measure.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <linux/memfd.h>
#include <sys/mman.h>

namespace measure {

namespace {

constexpr std::size_t gib = 1ul << 30;
// A GPU's driver keeps one for each of its queues that used the buffer.
constexpr std::uint32_t signalled_fences = 2;

std::size_t granule(const std::string &kind) {
  if (kind == "contiguous")
    return gib;
  return kind == "huge" ? 2ul << 20 : 4096;
}

UniqueFd make(const std::string &kind, std::size_t bytes) {
  if (kind == "contiguous") {
    UniqueFd memfd(
        ::memfd_create("measure", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_1GB));
    if (!memfd || ::ftruncate(memfd.get(), static_cast<off_t>(bytes)) != 0 ||
        ::fallocate(memfd.get(), 0, 0, static_cast<off_t>(bytes)) != 0)
      die(std::format("no 1 GiB page (boot with hugepagesz=1G hugepages=1): {}",
                      std::strerror(errno)));
    return memfd;
  }
  const Exporter exporter = kind == "huge"        ? Exporter::UdmabufHuge
                            : kind == "scattered" ? Exporter::UdmabufScattered
                                                  : Exporter::Udmabuf;
  if (exporter == Exporter::Udmabuf && kind != "plain")
    die("memory is scattered, huge, contiguous or plain, not " + kind);
  auto memfd = make_memfd(exporter, bytes);
  if (!memfd)
    die(memfd.error());
  return std::move(*memfd);
}

DmaBuf dmabuf_on(int memfd, std::size_t bytes) {
  // udmabuf's own limit of 64 MiB is in the way of large buffers.
  std::ofstream("/sys/module/udmabuf/parameters/size_limit_mb") << 65536;
  std::ofstream("/sys/module/udmabuf/parameters/list_limit") << 65536;
  auto buffer = DmaBuf::of_memfd(memfd, bytes);
  if (!buffer)
    die(buffer.error());
  return std::move(*buffer);
}

} // namespace

Memory::Memory(const std::string &kind, std::size_t size)
    : bytes((size + granule(kind) - 1) / granule(kind) * granule(kind)) {
  if (kind == "unfenced" || kind == "signalled") {
    static const Testexp exporter;
    exported = exporter.make(gpu_buffer(bytes, 1));
    if (kind == "signalled")
      if (const int error = exported->add_signalled(DMABUF_TESTEXP_USAGE_WRITE, signalled_fences))
        die("signalled fences: " + errno_name(error));
    return;
  }
  memfd = make(kind, bytes);
  buffer = dmabuf_on(memfd.get(), bytes);
  void *view = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  if (view == MAP_FAILED)
    die(std::format("mmap of the memfd: {}", std::strerror(errno)));
  host = static_cast<std::byte *>(view);
}

Memory::~Memory() {
  if (host)
    ::munmap(host, bytes);
}

DmaBuf fresh_dmabuf(const std::string &kind, std::size_t bytes) {
  if (kind == "heap") {
    auto buffer = DmaBuf::create(Exporter::Heap, bytes);
    if (!buffer)
      die(buffer.error());
    return std::move(*buffer);
  }
  const std::size_t whole = (bytes + granule(kind) - 1) / granule(kind) * granule(kind);
  const UniqueFd memfd = make(kind, whole);
  return dmabuf_on(memfd.get(), bytes);
}

std::shared_ptr<Memory> memory_of(const std::string &kind, std::size_t bytes) {
  static std::map<std::string, std::shared_ptr<Memory>> all;
  auto &memory = all[kind];
  if (!memory || memory->bytes < bytes)
    memory = std::make_shared<Memory>(kind, bytes);
  return memory;
}

} // namespace measure
