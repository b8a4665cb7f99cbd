// SPDX-License-Identifier: GPL-2.0-only
// One job from its configuration to its report. It owns the I/O memory and what is mapped for the
// targets, and sets them up and takes them down in order. Knows nothing of fio.
#pragma once

#include "base/error.hpp"
#include "datapath/lane.hpp"
#include "job/buffer_file.hpp"
#include "job/config.hpp"
#include "job/io_memory.hpp"
#include "job/mappings.hpp"
#include "job/report.hpp"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace dmabuf {

/// Life of a job: create(), allocate() unless it moves no data, start(), then any number of
/// open_target() and close_target(), then release_memory(), stop() and report(). Between
/// release_memory() and stop() it may get other memory: allocate(), attach(). On datapath syscall
/// open_file() gives the descriptor for open_target(). Everything happens in the job's
/// own process and thread, because a ring and a session belong to the task that made them.
class Job {
public:
  /// Checks the configuration, opens the report file and, where the datapath needs it, the module.
  static Result<std::unique_ptr<Job>> create(JobConfig config);

  /// Stops, if nobody did: the ring has to go before the memory that it reaches.
  ~Job() { stop(); }

  /// Allocates the job's I/O memory, at least `bytes` bytes, page aligned: the dma-buf's CPU view,
  /// or host memory for datapath host, or host memory of the dma-buf's layout where the CPU does
  /// not map that. It is open for CPU access until the first submission. The I/O slots will be
  /// `slot_bytes` bytes apart; 0: as many as the longest I/O has. Longer ones than the job's are
  /// checked as the job was.
  Result<void *> allocate(uint64_t bytes, uint64_t slot_bytes = 0);

  /// Makes the ring and registers memory, and copies what fio has filled where the CPU does not map
  /// the dma-buf. `buffers[i]` is the start of I/O slot i, empty when the job moves no data.
  Result<void> start(const std::vector<void *> &buffers);

  /// Puts memory that was allocated after start() in the place of what release_memory() freed, for
  /// the targets that are open. The rest is as for start().
  Result<void> attach(const std::vector<void *> &buffers);

  /// Unregisters, unmaps and frees the I/O memory. Nothing may be in flight; the ring, the session
  /// and the targets stay.
  void release_memory();

  /// datapath syscall: makes the dma-buf that is file number `number`, of `bytes` bytes, unless it
  /// is there already.
  Result<void> make_file(unsigned number, uint64_t bytes);

  /// datapath syscall: a descriptor of file number `number`, which make_file() made.
  Result<UniqueFd> open_file(unsigned number);

  /// Makes file number `number`, open as `fd`, ready for I/O; the first one decides what `auto` is.
  /// fio may open a file late, close it and open it again: a mapping belongs to one open of one
  /// file, so it is made here and dropped by close_target().
  Result<void> open_target(unsigned number, int fd, const std::string &name);

  /// Why trims of a file that was opened are done one at a time, although the job has more in
  /// flight; the first time that there is a reason, then empty.
  std::string trims_note() { return std::exchange(trims_note_, {}); }

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
  Datapath path() const { return mappings_.path(); }

  /// What fio's buffers are; after allocate().
  BufferKind buffer_kind() const { return memory_.buffer_kind(); }

  const JobConfig &config() const { return config_; }
  Lane &lane() { return lane_; }

  /// True from start() to stop(): targets can be opened.
  bool started() const { return started_; }

  /// True while the targets can be read and written: from start() or attach() to release_memory().
  bool attached() const { return attached_; }

  /// True once a target was open and ready: the job did run and has something to report.
  bool ran() const { return ran_; }

  /// What `auto` passed over and why, empty if nothing.
  const std::string &passed_over() const { return mappings_.passed_over(); }

  /// What the user should know of the memory that was chosen; empty if nothing.
  std::string memory_note() const {
    return memory_.dmabufs().empty() ? std::string() : memory_.dmabufs()[0].note;
  }

  /// Why an I/O on a file failed with `error`, as the module knows it; empty when it knows nothing.
  std::string explain_failure(unsigned number, int error);

  /// Where a read or write that failed was, for fio's own message: datapath, I/O slot, place in the
  /// dma-buf, and the drive's own status where it is known.
  std::string locate_failure(const Request &request, unsigned number);

  /// To be called around a submission and after completions, for the CPU's access to the memory.
  /// Return 0 or a positive errno.
  int before_submit() { return memory_.before_submit(); }
  int after_submit() { return memory_.after_submit(); }
  int after_reap() { return memory_.after_reap(); }

private:
  explicit Job(JobConfig config) : config_(std::move(config)) {}

  void resize_targets(size_t count);
  Result<void> set_up_lane();
  Result<void> open_ring();
  Result<void> register_memory(const std::vector<void *> &buffers);
  Result<void> start_fixed_buffers(const std::vector<void *> &buffers);
  Result<void> check_writable(int fd, const std::string &name) const;
  Result<void> check_trims(int fd) const;
  bool queues_trims(int fd);

  JobConfig config_;
  UniqueFd report_fd_;
  Lane lane_;
  std::vector<Target> targets_;           ///< the lane's
  std::vector<std::string> target_names_; ///< by file number, empty: never opened
  IoMemory memory_{config_, lane_};
  BufferFiles files_; ///< datapath syscall
  Mappings mappings_{config_, lane_, memory_};
  std::string trims_note_;
  bool trims_noted_ = false;
  bool started_ = false;
  bool attached_ = false;
  unsigned table_files_ = 0; ///< targets that have a slot in the ring's table of files
  bool ran_ = false;
  unsigned unreaped_ = 0; ///< submitted, and not seen to end before stop()
};

} // namespace dmabuf
