// SPDX-License-Identifier: GPL-2.0-only
#include "session.hpp"

#include "report.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace vmtest {

namespace {

constexpr std::array reason_names = {
    "NONE",         "ARGUMENT",    "NOT_DMABUF",  "BAD_TARGET", "DMABUF_MODE", "TARGET_MODE",
    "READ_ONLY",    "NOT_BLOCK",   "NOT_NVME",    "NOT_DIRECT", "ZONED",       "METADATA",
    "LBA_SIZE",     "MULTIPATH",   "SEG_ALIGN",   "SEG_SUM",    "BOUNCE",      "NO_P2P_ROUTE",
    "ATTACH",       "MAP",         "NO_CPU_VIEW", "NOT_PAGES",  "KERNEL",      "MEMLOCK",
    "LIMIT",        "NO_MEMORY",   "SIZE_CAP",    "REVOKED",    "DEVICE_GONE", "FENCE_TIMEOUT",
    "NO_PATH_FITS", "INTERRUPTED", "RANGE",       "DRIVE",      "NOT_FILE",    "HANDLE",
    "DIRECTION",    "SWAP",        "FILE_SYSTEM", "FILE_KIND",  "FILE_OWNER",  "FILE_BUSY",
    "FILE_HOLE",
};
static_assert(reason_names.size() == DMABUF_RW_NR_REASONS);

int status(int result) { return result < 0 ? -errno : result; }

std::uint64_t address(const void *pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

} // namespace

std::string_view name_of(Path path) {
  switch (path) {
  case Path::Auto:
    return "auto";
  case Path::Premapped:
    return "premapped";
  case Path::Registered:
    return "registered";
  case Path::Bvec:
    return "bvec";
  }
  return "?";
}

std::optional<Path> path_by_name(std::string_view name) {
  for (const Path path : {Path::Auto, Path::Premapped, Path::Registered, Path::Bvec})
    if (name_of(path) == name)
      return path;
  return std::nullopt;
}

std::string reason_name(std::uint32_t reason) {
  return std::format("{} ({})", reason < reason_names.size() ? reason_names[reason] : "?", reason);
}

dmabuf_rw_map_entry map_entry(int dmabuf_fd, int target_fd, Path path, std::uint32_t directions) {
  dmabuf_rw_map_entry entry{};
  entry.dmabuf_fd = static_cast<__u32>(dmabuf_fd);
  entry.target_fd = static_cast<__u32>(target_fd);
  entry.path = static_cast<__u32>(path);
  entry.directions = directions;
  return entry;
}

Session::Session() : fd_(::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC)) {
  if (!fd_)
    die(std::format("open {}: {}", DMABUF_RW_DEVICE, std::strerror(errno)));
}

int Session::query(dmabuf_rw_query &query) const {
  return status(::ioctl(fd(), DMABUF_RW_IOC_QUERY, &query));
}

int Session::config(const dmabuf_rw_config &config) const {
  return status(::ioctl(fd(), DMABUF_RW_IOC_CONFIG, &config));
}

int Session::map(std::span<dmabuf_rw_map_entry> entries, std::uint32_t *nr_mapped) const {
  dmabuf_rw_map map{};
  map.entries = address(entries.data());
  map.nr_entries = static_cast<__u32>(entries.size());
  const int result = status(::ioctl(fd(), DMABUF_RW_IOC_MAP, &map));
  if (nr_mapped)
    *nr_mapped = map.nr_mapped;
  return result;
}

int Session::map_one(dmabuf_rw_map_entry &entry) const {
  const int result = map({&entry, 1});
  return result ? result : -static_cast<int>(entry.error);
}

int Session::unmap(std::span<const std::uint32_t> handles, std::uint32_t *nr_unmapped) const {
  dmabuf_rw_unmap unmap{};
  unmap.handles = address(handles.data());
  unmap.nr_handles = static_cast<__u32>(handles.size());
  const int result = status(::ioctl(fd(), DMABUF_RW_IOC_UNMAP, &unmap));
  if (nr_unmapped)
    *nr_unmapped = unmap.nr_unmapped;
  return result;
}

int Session::unmap_one(std::uint32_t handle) const { return unmap({&handle, 1}); }

int Session::info(std::uint32_t handle, dmabuf_rw_info &info) const {
  info = {};
  info.handle = handle;
  return status(::ioctl(fd(), DMABUF_RW_IOC_INFO, &info));
}

int Session::io(dmabuf_rw_io &io) const { return status(::ioctl(fd(), DMABUF_RW_IOC_IO, &io)); }

std::vector<Path> paths_here() {
  dmabuf_rw_query query{};
  if (const int error = Session().query(query))
    die("QUERY: " + errno_name(error));
  std::vector<Path> paths;
  if (query.features & DMABUF_RW_FEAT_PREMAPPED)
    paths.push_back(Path::Premapped);
  if (query.features & DMABUF_RW_FEAT_REGISTERED)
    paths.push_back(Path::Registered);
  if (query.features & DMABUF_RW_FEAT_BVEC)
    paths.push_back(Path::Bvec);
  return paths;
}

Path pages_path() {
  for (const Path path : paths_here())
    if (path == Path::Registered)
      return path;
  return Path::Bvec;
}

bool module_loaded(std::string_view name) {
  struct stat state{};
  return ::stat(std::format("/sys/module/{}", name).c_str(), &state) == 0;
}

int unload_module(const char *name, double seconds) {
  const double end = now_s() + seconds;
  for (;;) {
    const int result = status(static_cast<int>(::syscall(SYS_delete_module, name, O_NONBLOCK)));
    if ((result != -EAGAIN && result != -EBUSY) || now_s() > end)
      return result;
    ::usleep(20000);
  }
}

int load_module(const std::string &file) {
  UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd)
    return -errno;
  return status(static_cast<int>(::syscall(SYS_finit_module, fd.get(), "", 0)));
}

} // namespace vmtest
