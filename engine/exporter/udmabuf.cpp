// SPDX-License-Identifier: GPL-2.0-only
// udmabuf: a memfd, ordinary or huge pages, wrapped as a dma-buf.
#include "exporter/udmabuf.hpp"
#include "base/sizes.hpp"
#include "base/system.hpp"
#include "exporter/exporter.hpp"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace dmabuf {
namespace {

constexpr const char *kSizeLimit = "/sys/module/udmabuf/parameters/size_limit_mb";

/// Default huge page size in bytes, from /proc/meminfo; 0 when this kernel has no huge pages.
uint64_t huge_page_bytes() {
  std::FILE *file = std::fopen("/proc/meminfo", "re");
  if (!file)
    return 0;
  char line[256];
  unsigned long long kib = 0;
  while (std::fgets(line, sizeof(line), file))
    if (std::sscanf(line, "Hugepagesize: %llu kB", &kib) == 1)
      break;
  std::fclose(file);
  return kib * 1024;
}

} // namespace

std::optional<std::string> udmabuf_over_limit(uint64_t bytes, uint64_t limit_mb,
                                              const char *shrink) {
  if (bytes / kMiB < limit_mb || (bytes / kMiB == limit_mb && bytes % kMiB == 0))
    return std::nullopt;
  const auto need = static_cast<unsigned long long>(mib_up(bytes));
  return strf("SIZE_CAP: the job's buffer needs %llu MiB and udmabuf takes at most %llu MiB "
              "(size_limit_mb); %s, or run: echo %llu > %s",
              need, static_cast<unsigned long long>(limit_mb), shrink, need, kSizeLimit);
}

Result<DmaBuf> allocate_udmabuf(const BufferRequest &request) {
  const std::string &device = request.device;
  const bool hugepages = request.hugepages;
  DmaBuf buffer;
  buffer.device = device.empty() ? "/dev/udmabuf" : device;
  const char *path = buffer.device.c_str();
  UniqueFd control(open(path, O_RDWR | O_CLOEXEC));
  if (!control) {
    const int code = errno;
    if (code == ENOENT || code == ENODEV || code == ENXIO)
      return fail(code, strf("there is no %s; load the udmabuf module (modprobe udmabuf), or use "
                             "another dmabuf_exporter",
                             path));
    if (code == EACCES || code == EPERM)
      return fail(code,
                  strf("%s may not be opened (%s); run as root or join the group that owns it",
                       path, errno_name(code).c_str()));
    return fail(code, errno_text(strf("cannot open %s", path), code));
  }

  uint64_t unit = page_bytes();
  if (hugepages) {
    unit = huge_page_bytes();
    if (!unit)
      return fail(EOPNOTSUPP, "this kernel has no huge pages; drop dmabuf_hugepages=1");
  }
  const auto size = round_up(request.bytes, unit);
  if (!size || *size > INT64_MAX)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", request.shrink));
  const auto limit = read_number(kSizeLimit);
  if (limit)
    if (auto why = udmabuf_over_limit(*size, *limit, request.shrink))
      return fail(ENOSPC, std::move(*why));

  UniqueFd memory(
      memfd_create("libdmabuf", MFD_CLOEXEC | MFD_ALLOW_SEALING | (hugepages ? MFD_HUGETLB : 0U)));
  if (!memory)
    return fail(errno, errno_text("cannot create a memfd", errno));
  // udmabuf insists on memory that cannot shrink under it.
  if (ftruncate(memory.get(), static_cast<off_t>(*size)) < 0 ||
      fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK) < 0)
    return fail(errno, errno_text("cannot size the memfd", errno));
  // Take the pages now: with too few huge pages the first access would be a SIGBUS. What a ring of
  // this process leaves to it interrupts that, as signals do.
  int rc;
  do
    rc = fallocate(memory.get(), 0, 0, static_cast<off_t>(*size));
  while (rc < 0 && errno == EINTR);
  if (rc < 0) {
    const int code = errno;
    if (hugepages)
      return fail(code,
                  strf("there are not enough free huge pages for %llu MiB (%s); raise "
                       "/proc/sys/vm/nr_hugepages, or drop dmabuf_hugepages=1",
                       static_cast<unsigned long long>(mib_up(*size)), errno_name(code).c_str()));
    return fail(code,
                errno_text(strf("cannot allocate the memfd's pages; %s", request.shrink), code));
  }

  udmabuf_create create = {};
  create.memfd = static_cast<uint32_t>(memory.get());
  create.flags = UDMABUF_FLAGS_CLOEXEC;
  create.size = *size;
  const int fd = ioctl(control.get(), UDMABUF_CREATE, &create);
  if (fd < 0) {
    const int code = errno;
    if (hugepages && code == EINVAL)
      return fail(code, "udmabuf on this kernel does not take huge pages (EINVAL); use a newer "
                        "kernel, or drop dmabuf_hugepages=1");
    return fail(code, errno_text(strf("udmabuf refused a buffer of %llu MiB",
                                      static_cast<unsigned long long>(mib_up(*size))),
                                 code));
  }
  buffer.fd.reset(fd);
  return buffer;
}

} // namespace dmabuf
