// SPDX-License-Identifier: GPL-2.0-only
#include "module/session.hpp"

#include "module/beneath.hpp"
#include "module/reasons.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <fcntl.h>

namespace dmabuf {
namespace {

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(now.tv_nsec);
}

} // namespace

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
  std::string text(drw_open_text(nullptr, 0, code), '\0');
  drw_open_text(text.data(), text.size() + 1, code);
  if (code == ENOENT || code == ENODEV || code == ENXIO)
    text += ", or compare with dmabuf_datapath=bounce or host, which need none";
  return text;
}

Result<Session> Session::open() {
  drw_session *session = nullptr;
  drw_error error = {};
  if (drw_open(&session, &error) == 0)
    return Session(session);
  // The device was opened, and is of another ABI.
  if (error.reason == DMABUF_RW_REASON_ARGUMENT)
    return fail(error.code,
                strf("the loaded dmabuf_rw module does not answer this engine's QUERY (%s); use "
                     "a module and an engine of the same release",
                     errno_name(error.code).c_str()));
  return fail(error.code, open_error_text(error.code));
}

Result<void> Session::configure(unsigned timeout_ms) {
  if (!has(DMABUF_RW_FEAT_TIMEOUT))
    return fail(EOPNOTSUPP, "the loaded dmabuf_rw module has no time-out (feature TIMEOUT); drop "
                            "dmabuf_timeout_ms or use a newer module");
  if (const int rc = drw_set_timeout(drw_.get(), timeout_ms, nullptr); rc < 0)
    return fail(-rc, errno_text("the module refused dmabuf_timeout_ms", -rc));
  return {};
}

std::string refused_text(const dmabuf_rw_map_entry &entry) {
  std::string text(drw_refused_text(nullptr, 0, &entry), '\0');
  drw_refused_text(text.data(), text.size() + 1, &entry);
  return text;
}

std::string made_of(const dmabuf_rw_map_entry &entry, int target_fd) {
  const auto about_it = [](uint32_t reason) {
    switch (reason) {
    case DMABUF_RW_REASON_NOT_BLOCK:
    case DMABUF_RW_REASON_NOT_NVME:
    case DMABUF_RW_REASON_MULTIPATH:
    case DMABUF_RW_REASON_FILE_SYSTEM:
      return true;
    default:
      return false;
    }
  };
  // A user who mounts a volume may not know what it is made of.
  return about_it(entry.reason) || std::ranges::any_of(entry.refused, about_it) ? beneath(target_fd)
                                                                                : "";
}

std::string map_error_text(const dmabuf_rw_map_entry &entry, uint32_t asked,
                           const std::string &what, const std::string &no_room,
                           const std::string &note) {
  std::string text = strf("%s cannot be used with datapath %s: ", what.c_str(), path_name(asked));
  const bool full = entry.error == ENOMEM && (entry.reason == DMABUF_RW_REASON_MAP ||
                                              entry.reason == DMABUF_RW_REASON_NO_MEMORY);
  text += full && !no_room.empty() ? no_room
                                   : reason_text(entry.reason, static_cast<int>(entry.error), note);
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
    const uint64_t start = now_ns();
    const int code = -drw_map_entry(drw_.get(), &entry);
    map_ns_ += now_ns() - start;
    if (code && !entry.error) {
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
    return fail(static_cast<int>(entry.error),
                map_error_text(entry, request.path, what, request.no_room,
                               made_of(entry, request.target_fd)));
  return entry;
}

Result<void> Session::unmap(uint32_t handle) {
  drw_error error = {};
  const uint64_t start = now_ns();
  const int rc = drw_unmap(drw_.get(), handle, &error);
  unmap_ns_ += now_ns() - start;
  if (rc < 0)
    return fail(error.code, error.text);
  return {};
}

Result<RwFile> Session::open_rw(int dmabuf_fd, bool writes) {
  constexpr int kTries = 10; // as for map()
  for (int attempt = 1;; attempt++) {
    dmabuf_rw_open opened = {};
    const int flags = (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC;
    const int rc = drw_open_file(drw_.get(), dmabuf_fd, flags, &opened, nullptr);
    if (rc < 0) {
      if (rc == -EINTR && attempt < kTries)
        continue;
      return fail(-rc, rw_open_error_text(opened.reason, -rc));
    }
    return RwFile{UniqueFd(rc), opened.buffer_bytes, opened.view};
  }
}

Result<dmabuf_rw_info> Session::info(uint32_t handle) {
  dmabuf_rw_info info = {};
  drw_error error = {};
  if (drw_info(drw_.get(), handle, &info, &error) < 0)
    return fail(error.code, error.text);
  return info;
}

} // namespace dmabuf
