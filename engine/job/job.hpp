// SPDX-License-Identifier: GPL-2.0-only
// One fio job: what it owns, in the order it is set up and taken down. Knows nothing of fio.
#pragma once

#include "base/error.hpp"
#include "datapath/lane.hpp"
#include "exporter/exporter.hpp"
#include "job/buffer_file.hpp"
#include "job/config.hpp"
#include "job/report.hpp"
#include "module/session.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dmabuf {

/// Life of a job: create(), allocate() unless it moves no data, start(), then any number of
/// open_target() and close_target(), then stop(), then report(). On datapath syscall open_file()
/// gives the descriptor for open_target(). Everything happens in the job's
/// own process and thread, because a ring and a session belong to who made them.
class Job {
public:
  /// Checks the configuration, opens the report file and, where the datapath needs it, the module.
  static Result<std::unique_ptr<Job>> create(JobConfig config);

  /// Allocates the job's I/O memory, at least `bytes` bytes, page aligned: the dma-buf's CPU view,
  /// or host memory for datapath host, or host memory of the dma-buf's layout where the CPU does
  /// not map that. It is open for CPU access until the first submission.
  Result<void *> allocate(uint64_t bytes);

  /// Makes the ring and registers memory, and copies what fio has filled where the CPU does not map
  /// the dma-buf. `buffers[i]` is the start of I/O slot i, empty when the job moves no data.
  Result<void> start(const std::vector<void *> &buffers);

  /// datapath syscall: makes the dma-buf that is file number `number`, of `bytes` bytes, unless it
  /// is there already.
  Result<void> make_file(unsigned number, uint64_t bytes);

  /// datapath syscall: a descriptor of file number `number`, which make_file() made.
  Result<UniqueFd> open_file(unsigned number);

  /// Makes file number `number`, open as `fd`, ready for I/O; the first one decides what `auto` is.
  /// fio may open a file late, close it and open it again: a mapping belongs to one open of one
  /// file, so it is made here and dropped by close_target().
  Result<void> open_target(unsigned number, int fd, const std::string &name);

  /// Reads the module's counters for the file and drops its mapping; waits for its I/O.
  void close_target(unsigned number);

  /// Unmaps the dma-buf from every open target and maps it again. Nothing may be in flight.
  Result<void> remap();

  /// Unregisters, unmaps and frees everything but the report file. May be called more than once.
  void stop();

  /// What the job did. After stop().
  JobReport report() const;

  /// Appends the report to the job's report file, if it has one.
  Result<void> write_report(const JobReport &report) const;

  /// The datapath, Datapath::automatic until the first target decided it.
  Datapath path() const { return path_; }

  /// What fio's buffers are; after allocate().
  Buffers buffers() const;

  const JobConfig &config() const { return config_; }
  Lane &lane() { return lane_; }

  /// True from start() to stop(): targets can be opened.
  bool started() const { return started_; }

  /// True once a target was open and ready: the job did run and has something to report.
  bool ran() const { return ran_; }

  /// What `auto` passed over and why, empty if nothing.
  const std::string &passed_over() const { return passed_over_; }

  /// What the user should know of the memory that was chosen; empty if nothing.
  std::string memory_note() const { return buffers_.empty() ? std::string() : buffers_[0].note; }

  /// Why an I/O on a file failed with `error`, as the module knows it; empty when it knows nothing.
  std::string explain_failure(unsigned number, int error);

  /// Brackets the CPU's access to the dma-buf around a submission and after completions; nothing
  /// where there is no dma-buf or fio leaves the buffers alone. Return 0 or a positive errno.
  int before_submit() { return cpu_open_ ? end_cpu() : 0; }
  int after_submit() { return sync_fill_ ? begin_cpu() : 0; }
  int after_reap() { return sync_check_ ? restart_cpu() : 0; }

private:
  explicit Job(JobConfig config) : config_(std::move(config)) {}

  Result<void> allocate_host(uint64_t bytes);
  BufferRequest request(uint64_t bytes) const;
  Result<void> make_ring();
  Result<void> open_ring();
  Result<void> register_memory(const std::vector<void *> &buffers);
  Result<void> start_fixed_buffers(const std::vector<void *> &buffers);

  /// The module's mappings of the job's dma-bufs, in their order, for one target or none.
  using Handles = std::vector<uint32_t>;

  Result<void> allocate_job(uint64_t bytes);
  Result<void> allocate_slots(uint64_t bytes);
  void use_memories();
  Result<void> first_fill();
  Result<dmabuf_rw_map_entry> map_one(const DmaBuf &buffer, int target_fd, uint32_t path,
                                      const std::string &what);
  /// Maps all dma-bufs; returns the path they got. What is in `handles` afterwards is mapped.
  Result<uint32_t> map(Handles &handles, int target_fd, uint32_t path, const std::string &what);
  Result<void> unmap(Handles &handles);
  /// `length`: of the window that is registered, from `offset` on; 0: the whole mapping.
  int command_ring(uint32_t command, uint32_t handle, uint32_t index, uint64_t offset = 0,
                   uint32_t length = 0);
  /// Can each I/O slot be a window of the one dma-buf? `buffers`: fio's, by I/O slot.
  bool windows_fit(const std::vector<void *> &buffers) const;
  /// Slots of the ring's table that registered takes.
  uint32_t table_slots() const {
    return windows_ ? config_.iodepth : static_cast<uint32_t>(buffers_.size());
  }
  Result<void> register_dmabufs();
  Result<void> map_registered();
  Result<void> map_upstream(unsigned number, const std::string &name);
  void unmap_upstream(unsigned number);
  Result<void> check_length(Datapath path) const;
  Result<void> map_target(unsigned number, const std::string &name);
  void unregister_dmabufs();
  void close_files();
  void count_mapping(uint32_t handle);
  int begin_cpu();
  int end_cpu();
  int restart_cpu();

  JobConfig config_;
  Datapath path_ = Datapath::automatic;
  UniqueFd report_fd_;
  std::optional<Session> session_;
  std::vector<DmaBuf> buffers_;          ///< one for all I/O slots, or one for each
  std::vector<int> buffer_fds_;          ///< theirs, for the lane
  MappedRange slots_;                    ///< one for each: where they are mapped side by side
  std::vector<DeviceMemory *> memories_; ///< theirs, for the lane, where the CPU does not map them
  MappedRange shadow_;                   ///< one for all of such memory: what fio has for it
  MappedRange host_memory_; ///< datapath host: the I/O memory; bounce: the staging slots
  std::string device_;
  Lane lane_;
  std::vector<Target> targets_;
  std::vector<Handles> mapped_;                  ///< by file number
  std::vector<std::optional<BufferFile>> files_; ///< datapath syscall, by file number
  FileEvidence evidence_;
  std::vector<std::string> target_names_; ///< by file number, empty: never opened
  std::vector<bool> upstream_;            ///< by file number: whether its slots are filled
  uint64_t upstream_count_ = 0;           ///< registrations so far
  Handles registered_;                    ///< the mappings in the ring's slots 0, 1, …
  bool windows_ = false;                  ///< or one of them, in a window for each I/O slot
  int asked_fd_ = -1;                     ///< the target whose drive said longest_
  uint32_t longest_ = 0;                  ///< bytes one command may move; 0: it does not say
  ModuleCounts counts_;
  bool counts_lost_ = false;
  std::string passed_over_;
  std::string memory_ = "unknown";
  std::string route_ = "unknown";
  uint32_t segments_ = 0;
  uint64_t buffer_bytes_ = 0;
  unsigned buffer_count_ = 0;
  uint64_t map_ns_ = 0;
  uint64_t unmap_ns_ = 0;
  bool started_ = false;
  bool ran_ = false;
  bool sync_fill_ = false;
  bool sync_check_ = false;
  bool cpu_open_ = false;
};

} // namespace dmabuf
