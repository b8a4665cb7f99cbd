// SPDX-License-Identifier: GPL-2.0-only
#include "module/session.hpp"

#include "module/reasons.hpp"

#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <sys/ioctl.h>

namespace dmabuf {
namespace {

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t address(const void *pointer) { return reinterpret_cast<uintptr_t>(pointer); }

} // namespace

const char *path_name(uint32_t path) {
  switch (path) {
  case DMABUF_RW_PATH_AUTO:
    return "auto";
  case DMABUF_RW_PATH_PREMAPPED:
    return "premapped";
  case DMABUF_RW_PATH_REGISTERED:
    return "registered";
  case DMABUF_RW_PATH_BVEC:
    return "bvec";
  default:
    return "unknown";
  }
}

const char *memory_name(uint32_t memory) {
  switch (memory) {
  case DMABUF_RW_MEM_SYSTEM:
    return "system";
  case DMABUF_RW_MEM_PEER:
    return "peer";
  case DMABUF_RW_MEM_MIXED:
    return "mixed";
  default:
    return "unknown";
  }
}

const char *route_name(uint32_t route) {
  switch (route) {
  case DMABUF_RW_ROUTE_MEMORY:
    return "memory";
  case DMABUF_RW_ROUTE_HOST_BRIDGE:
    return "host_bridge";
  case DMABUF_RW_ROUTE_SWITCH:
    return "switch";
  default:
    return "unknown";
  }
}

const char *view_memory_name(uint32_t view) {
  switch (view) {
  case DMABUF_RW_VIEW_MEMORY:
    return "system";
  case DMABUF_RW_VIEW_IO:
    return "peer";
  default:
    return "unknown";
  }
}

std::string rw_open_error_text(uint32_t reason, int code) {
  return "the module does not open this dma-buf as a file: " + reason_text(reason, code);
}

std::string rw_error_text(int code) {
  switch (code) {
  case ENODEV:
    return reason_text(DMABUF_RW_REASON_REVOKED, code);
  case ETIMEDOUT:
    return reason_text(DMABUF_RW_REASON_FENCE_TIMEOUT, code);
  default:
    return strf("the kernel gave no other reason than %s; look at the kernel log (dmesg)",
                errno_name(code).c_str());
  }
}

std::string open_error_text(int code) {
  switch (code) {
  case ENOENT:
  case ENODEV:
  case ENXIO:
    return "there is no " DMABUF_RW_DEVICE ": the dmabuf_rw kernel module is not loaded; load it "
           "(modprobe dmabuf_rw), or compare with dmabuf_datapath=bounce or host, which need none";
  case EACCES:
  case EPERM:
    return strf(DMABUF_RW_DEVICE
                " may not be opened (%s): it belongs to root unless a udev rule gives "
                "it to a group; run as root or install such a rule",
                errno_name(code).c_str());
  case EMFILE:
  case ENFILE:
    return strf("cannot open " DMABUF_RW_DEVICE ": too many open files (%s); raise ulimit -n",
                errno_name(code).c_str());
  case EUSERS:
  case ENOSPC:
    return strf(DMABUF_RW_DEVICE " has no session left for this user (%s); run fewer jobs",
                errno_name(code).c_str());
  default:
    return errno_text("cannot open " DMABUF_RW_DEVICE, code);
  }
}

Result<Session> Session::open() {
  Session session;
  session.fd_.reset(::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC));
  if (!session.fd_)
    return fail(errno, open_error_text(errno));
  if (ioctl(session.fd_.get(), DMABUF_RW_IOC_QUERY, &session.query_) < 0) {
    const int code = errno;
    return fail(code,
                strf("the loaded dmabuf_rw module does not answer this engine's QUERY (%s); use "
                     "a module and an engine of the same release",
                     errno_name(code).c_str()));
  }
  return session;
}

Result<void> Session::configure(unsigned timeout_ms) {
  if (!has(DMABUF_RW_FEAT_TIMEOUT))
    return fail(EOPNOTSUPP, "the loaded dmabuf_rw module has no time-out (feature TIMEOUT); drop "
                            "dmabuf_timeout_ms or use a newer module");
  dmabuf_rw_config config = {};
  config.timeout_ms = timeout_ms;
  if (ioctl(fd(), DMABUF_RW_IOC_CONFIG, &config) < 0)
    return fail(errno, errno_text("the module refused dmabuf_timeout_ms", errno));
  return {};
}

std::string refused_text(const dmabuf_rw_map_entry &entry) {
  std::string text;
  for (uint32_t path = 1; path < DMABUF_RW_NR_PATHS; path++) {
    const uint32_t code = entry.refused[path];
    if (code == DMABUF_RW_REASON_NONE)
      continue;
    if (!text.empty())
      text += "; ";
    text += strf("%s: %s (%s)", path_name(path), reason(code).sentence, reason(code).name);
  }
  return text;
}

std::string map_error_text(const dmabuf_rw_map_entry &entry, uint32_t asked,
                           const std::string &what) {
  std::string text = strf("%s cannot be used with datapath %s: ", what.c_str(), path_name(asked));
  text += reason_text(entry.reason, static_cast<int>(entry.error));
  const std::string refused = asked == DMABUF_RW_PATH_AUTO ? refused_text(entry) : std::string();
  if (!refused.empty())
    text += " [" + refused + "]";
  return text;
}

Result<dmabuf_rw_map_entry> Session::map(const MapRequest &request, const std::string &what) {
  // A signal may interrupt the wait for fences; fio sends itself some, so give it a few tries.
  constexpr int kTries = 10;
  dmabuf_rw_map_entry entry;
  for (int attempt = 1;; attempt++) {
    entry = {};
    entry.dmabuf_fd = static_cast<uint32_t>(request.dmabuf_fd);
    entry.target_fd =
        request.target_fd < 0 ? DMABUF_RW_NO_TARGET : static_cast<uint32_t>(request.target_fd);
    entry.path = request.path;
    entry.directions = request.directions;
    entry.max_command_hint = request.max_command_hint;
    entry.flags = request.flags;
    dmabuf_rw_map map = {};
    map.entries = address(&entry);
    map.nr_entries = 1;
    const uint64_t start = now_ns();
    const int rc = ioctl(fd(), DMABUF_RW_IOC_MAP, &map);
    const int code = errno;
    map_ns_ += now_ns() - start;
    if (rc < 0) {
      if (code == EINTR && attempt < kTries)
        continue;
      return fail(
          code,
          errno_text(strf("the module did not accept the mapping of %s", what.c_str()), code));
    }
    if (entry.error && entry.reason == DMABUF_RW_REASON_INTERRUPTED && attempt < kTries)
      continue;
    break;
  }
  if (entry.error)
    return fail(static_cast<int>(entry.error), map_error_text(entry, request.path, what));
  return entry;
}

Result<void> Session::unmap(uint32_t handle) {
  dmabuf_rw_unmap unmap = {};
  unmap.handles = address(&handle);
  unmap.nr_handles = 1;
  const uint64_t start = now_ns();
  int rc;
  do
    rc = ioctl(fd(), DMABUF_RW_IOC_UNMAP, &unmap);
  while (rc < 0 && errno == EINTR);
  const int code = errno;
  unmap_ns_ += now_ns() - start;
  if (rc < 0)
    return fail(code, errno_text("the module could not unmap", code));
  return {};
}

Result<RwFile> Session::open_rw(int dmabuf_fd, bool writes) {
  constexpr int kTries = 10; // as for map()
  for (int attempt = 1;; attempt++) {
    dmabuf_rw_open open = {};
    open.dmabuf_fd = static_cast<uint32_t>(dmabuf_fd);
    open.flags = (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC;
    if (ioctl(fd(), DMABUF_RW_IOC_OPEN, &open) < 0) {
      const int code = errno;
      if (code == EINTR && attempt < kTries)
        continue;
      return fail(code, rw_open_error_text(open.reason, code));
    }
    return RwFile{UniqueFd(static_cast<int>(open.fd)), open.buffer_bytes, open.view};
  }
}

Result<dmabuf_rw_info> Session::info(uint32_t handle) {
  dmabuf_rw_info info = {};
  info.handle = handle;
  if (ioctl(fd(), DMABUF_RW_IOC_INFO, &info) < 0)
    return fail(errno, errno_text("the module gives no INFO about a mapping", errno));
  return info;
}

} // namespace dmabuf
