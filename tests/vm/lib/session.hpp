// SPDX-License-Identifier: GPL-2.0-only
// Thin wrappers of the module's ABI. They add no policy: what the kernel says is returned.
#pragma once

#include "unique_fd.hpp"

#include <linux/dmabuf_rw.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmtest {

enum class Path : std::uint32_t {
  Auto = DMABUF_RW_PATH_AUTO,
  Premapped = DMABUF_RW_PATH_PREMAPPED,
  Registered = DMABUF_RW_PATH_REGISTERED,
  Bvec = DMABUF_RW_PATH_BVEC,
};

std::string_view name_of(Path path);
std::optional<Path> path_by_name(std::string_view name);
// "NOT_DIRECT (9)"
std::string reason_name(std::uint32_t reason);

inline constexpr std::uint32_t both_directions = DMABUF_RW_DIR_READ | DMABUF_RW_DIR_WRITE;

// A MAP entry with everything zero but these.
dmabuf_rw_map_entry map_entry(int dmabuf_fd, int target_fd, Path path,
                              std::uint32_t directions = both_directions);

// One open of /dev/dmabuf_rw. Calls return 0 or a negative errno.
class Session {
public:
  // Ends the program with exit_setup when the device cannot be opened.
  Session();
  explicit Session(UniqueFd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }
  int query(dmabuf_rw_query &query) const;
  int config(const dmabuf_rw_config &config) const;
  // MAP of all entries; nr_mapped, if given, gets the module's count.
  int map(std::span<dmabuf_rw_map_entry> entries, std::uint32_t *nr_mapped = nullptr) const;
  // MAP of one entry: 0 when it was mapped, else the negative errno of call or entry.
  int map_one(dmabuf_rw_map_entry &entry) const;
  int unmap(std::span<const std::uint32_t> handles, std::uint32_t *nr_unmapped = nullptr) const;
  int unmap_one(std::uint32_t handle) const;
  int info(std::uint32_t handle, dmabuf_rw_info &info) const;
  // One READ or WRITE that is waited for: 0 with io.moved set, or a negative errno with io.reason.
  int io(dmabuf_rw_io &io) const;
  void close() { fd_.reset(); }

private:
  UniqueFd fd_;
};

// The datapaths that QUERY says this module has on this kernel.
std::vector<Path> paths_here();
// A datapath that is here and works on the dma-buf's pages: registered, else bvec.
Path pages_path();

// Whether a module of this name is loaded.
bool module_loaded(std::string_view name);
// delete_module(2), tried again for `seconds` while the module is busy. 0 or a negative errno.
int unload_module(const char *name, double seconds);
// finit_module(2) of the file. 0 or a negative errno.
int load_module(const std::string &file);

} // namespace vmtest
