// SPDX-License-Identifier: GPL-2.0-only
// What one job has mapped for its targets: by the module, or by io_uring itself. And so the
// datapath that the job got, and the counters that prove it.
#pragma once

#include "base/dma_buf.hpp"
#include "base/error.hpp"
#include "datapath/kinds.hpp"
#include "datapath/lane.hpp"
#include "job/config.hpp"
#include "job/io_memory.hpp"
#include "job/report.hpp"
#include "module/session.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dmabuf {

/// The session, and the mappings of the job's dma-bufs in it. Tells the lane where the mappings
/// are. `config`, `lane` and `memory` outlive it.
class Mappings {
public:
  Mappings(const JobConfig &config, Lane &lane, const IoMemory &memory)
      : config_(config), lane_(lane), memory_(memory), path_(config.datapath) {}

  /// Opens the module's session, and refuses what the module cannot do.
  Result<void> open_session();

  /// nullptr for what needs no module.
  Session *session() { return session_ ? &*session_ : nullptr; }

  /// The datapath, Datapath::automatic until the first target decided it.
  Datapath path() const { return path_; }

  /// Whether the module maps the dma-bufs for each target by itself, as far as is known.
  bool by_target() const {
    return session_ && (path_ == Datapath::automatic || traits(path_).commands);
  }

  /// Makes room for the targets with numbers below `count`.
  void resize(size_t count);

  /// Refuses I/O that is longer than the module moves at once on `path`.
  Result<void> check_length(Datapath path) const;

  /// Reserves slots in the ring's table of buffers, and fills them as far as that needs no target.
  /// `buffers`: fio's, by I/O slot.
  Result<void> start(const std::vector<void *> &buffers);

  /// Maps the dma-bufs for an open target of the lane's, if the datapath wants that.
  Result<void> open(unsigned number, const std::string &name);

  /// Reads the module's counters for the target and drops its mappings; waits for their I/O.
  void close(unsigned number);

  /// Unmaps the dma-bufs from every open target and maps them again. `names`: of the targets.
  Result<void> remap(std::span<const std::string> names);

  /// Empties the ring's slots, and drops the mappings in them. What is left in the ring after an
  /// error is not submitted by that: the mappings are then left to the ends of ring and session.
  void unregister();

  /// Ends the session. What the functions below say stays.
  void end_session();

  /// Why an I/O on a target failed, as the module knows it; empty when it knows nothing.
  std::string explain(unsigned number);

  /// How the drive ended the last command that it failed, as NVMe writes it; empty when the module
  /// does not know.
  std::string drive_status(unsigned number);

  /// What `auto` passed over and why, empty if nothing.
  const std::string &passed_over() const { return passed_over_; }

  /// Adds to the report what is known of the mappings.
  void report(JobReport &report) const;

private:
  /// The module's mappings of the job's dma-bufs, in their order, for one target or none.
  using Handles = std::vector<uint32_t>;

  Result<dmabuf_rw_map_entry> map_one(const DmaBuf &buffer, int target_fd, uint32_t path,
                                      const std::string &what);
  /// Maps all dma-bufs; returns the path they got. What is in `handles` afterwards is mapped.
  Result<uint32_t> map(Handles &handles, int target_fd, uint32_t path, const std::string &what);
  Result<void> unmap(Handles &handles);
  /// `length`: of the window that is registered, from `offset` on; 0: the whole mapping.
  int command_ring(uint32_t command, uint32_t handle, uint32_t index, uint64_t offset = 0,
                   uint32_t length = 0);
  /// Can each I/O slot be a window of the one dma-buf?
  bool windows_fit(const std::vector<void *> &buffers) const;
  /// Slots of the ring's table that registered takes.
  uint32_t table_slots() const {
    return windows_ ? config_.iodepth : static_cast<uint32_t>(memory_.dmabufs().size());
  }
  Result<void> register_dmabufs();
  Result<void> map_registered();
  Result<void> map_target(unsigned number, const std::string &name);
  Result<void> map_upstream(unsigned number, const std::string &name);
  void unmap_upstream(unsigned number);
  void count_mapping(uint32_t handle);

  const JobConfig &config_;
  Lane &lane_;
  const IoMemory &memory_;
  Datapath path_;
  std::optional<Session> session_;
  std::vector<Handles> mapped_; ///< by file number
  std::vector<bool> upstream_;  ///< by file number: whether its slots are filled
  uint64_t upstream_count_ = 0; ///< registrations so far
  Handles registered_;          ///< the mappings in the ring's slots 0, 1, …
  bool windows_ = false;        ///< or one of them, in a window for each I/O slot
  int asked_fd_ = -1;           ///< the target whose drive said longest_
  uint32_t longest_ = 0;        ///< bytes one command may move; 0: it does not say
  ModuleCounts counts_;
  bool counts_lost_ = false;
  std::string passed_over_;
  std::optional<MemoryPlace> place_; ///< as the module saw it
  uint32_t segments_ = 0;
  uint64_t map_ns_ = 0;
  uint64_t unmap_ns_ = 0;
};

} // namespace dmabuf
