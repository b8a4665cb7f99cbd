// SPDX-License-Identifier: GPL-2.0-only
#include "memfd_dmabuf.hpp"

#include <array>
#include <cstdlib>
#include <dlfcn.h>
#include <fcntl.h>
#include <filesystem>
#include <iterator>
#include <linux/magic.h>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace dmabuf::test {
namespace {

constexpr const char *kName = "passes-for-a-dmabuf";

int memfd(const char *name, uint64_t bytes) {
  const int fd = memfd_create(name, MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) < 0)
    std::abort();
  return fd;
}

} // namespace

int memfd_dmabuf(uint64_t bytes) { return memfd(kName, bytes); }
int plain_memfd(uint64_t bytes) { return memfd("plain", bytes); }

int open_files() {
  return static_cast<int>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

} // namespace dmabuf::test

/// Before libc's own, as it is in the program.
extern "C" int fstatfs(int fd, struct statfs *place) noexcept {
  using Call = int (*)(int, struct statfs *);
  static const auto real = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "fstatfs"));
  const int rc = real(fd, place);
  std::array<char, 64> name = {};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  if (rc != 0 || readlink(link.c_str(), name.data(), name.size() - 1) <= 0)
    return rc;
  constexpr std::string_view kMemfd = "/memfd:";
  const std::string_view found(name.data());
  if (found.starts_with(kMemfd) && found.substr(kMemfd.size()).starts_with(dmabuf::test::kName))
    place->f_type = DMA_BUF_MAGIC;
  return rc;
}
