// SPDX-License-Identifier: GPL-2.0-only
// Client of /dev/dmabuf_rw: libdmabuf_rw, as the engine wants it. One session, its mappings, what
// the module says about them.
#pragma once

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "module/libdmabuf_rw.h"

#include <cstdint>
#include <memory>
#include <string>

namespace dmabuf {

/// What to map. Sizes in bytes.
struct MapRequest {
  int dmabuf_fd = -1;
  int target_fd = -1; ///< -1: no target, for DMABUF_RW_PATH_REGISTERED
  uint32_t path = DMABUF_RW_PATH_AUTO;
  uint32_t directions = 0; ///< DMABUF_RW_DIR_*
  uint32_t max_command_hint = 0;
  const char *no_room = ""; ///< DmaBuf::no_room
  uint32_t flags = 0;       ///< DMABUF_RW_MAP_*
};

/// A dma-buf as a file that read() and write() work on.
struct RwFile {
  UniqueFd fd;
  uint64_t bytes = 0; ///< as the module says
  uint32_t view = 0;  ///< DMABUF_RW_VIEW_*
};

/// One open of the module's device. Everything mapped through it goes away with it.
class Session {
public:
  /// Opens the device and asks what it can do. Errors: the device missing, not permitted, or of
  /// another ABI, each as a sentence.
  static Result<Session> open();

  int fd() const { return drw_fd(drw_.get()); }
  const dmabuf_rw_query &query() const { return *drw_query(drw_.get()); }
  bool has(uint64_t feature) const { return (query().features & feature) == feature; }

  /// Sets the session's time-out in milliseconds.
  Result<void> configure(unsigned timeout_ms);

  /// Maps one dma-buf. The entry comes back as the module filled it, with `error` 0. On failure the
  /// message holds the reason in words and, for AUTO, why each path was passed over. `what` names
  /// the target in messages.
  Result<dmabuf_rw_map_entry> map(const MapRequest &request, const std::string &what);

  /// Unmaps; returns when the mapping's I/O has ended.
  Result<void> unmap(uint32_t handle);

  /// State and counters of a mapping.
  Result<dmabuf_rw_info> info(uint32_t handle);

  /// Opens a dma-buf as a file, for reading and writing or for reading only.
  Result<RwFile> open_rw(int dmabuf_fd, bool writes);

  /// Nanoseconds spent in map() and unmap() so far.
  uint64_t map_ns() const { return map_ns_; }
  uint64_t unmap_ns() const { return unmap_ns_; }

private:
  struct Close {
    void operator()(drw_session *session) const { drw_close(session); }
  };
  explicit Session(drw_session *session) : drw_(session) {}

  std::unique_ptr<drw_session, Close> drw_;
  uint64_t map_ns_ = 0;
  uint64_t unmap_ns_ = 0;
};

/// Name of a DMABUF_RW_PATH_*, DMABUF_RW_MEM_*, DMABUF_RW_ROUTE_*; "unknown" for one it does not
/// know.
inline const char *path_name(uint32_t path) { return drw_path_name(path); }
inline const char *memory_name(uint32_t memory) { return drw_memory_name(memory); }
inline const char *route_name(uint32_t route) { return drw_route_name(route); }

/// Where the memory behind a DMABUF_RW_VIEW_* is, in the words of memory_name().
const char *view_memory_name(uint32_t view);

/// The sentence for a failed open of the module's device: the library's, and for whom no module
/// is loaded what else the engine has.
std::string open_error_text(int code);

/// The sentence for a failed OPEN, from its reason and errno.
std::string rw_open_error_text(uint32_t reason, int code);

/// Why a read or write of an rw fd failed, as far as its errno tells.
std::string rw_error_text(int code);

/// The sentence for a failed MAP entry. `no_room`: DmaBuf::no_room. `note`: of reason_text().
std::string map_error_text(const dmabuf_rw_map_entry &entry, uint32_t asked,
                           const std::string &what, const std::string &no_room = "",
                           const std::string &note = "");

/// The paths an AUTO entry passed over, "premapped: <reason>; …"; empty if none.
std::string refused_text(const dmabuf_rw_map_entry &entry);

/// What the target is made of, where a path refused it for that: as beneath() has it; else empty.
std::string made_of(const dmabuf_rw_map_entry &entry, int target_fd);

} // namespace dmabuf
