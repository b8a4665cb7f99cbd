// SPDX-License-Identifier: GPL-2.0-only
#include "job/job.hpp"

#include "base/sizes.hpp"
#include "base/system.hpp"
#include "datapath/discard.hpp"
#include "job/drive.hpp"
#include "module/reasons.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace dmabuf {
namespace {

bool moves_data(const JobConfig &config) { return config.reads || config.writes; }

} // namespace

Result<std::unique_ptr<Job>> Job::create(JobConfig config) {
  if (auto ok = check_config(config); !ok)
    return std::unexpected(std::move(ok.error()));
  std::unique_ptr<Job> job(new Job(std::move(config)));
  const JobConfig &cfg = job->config_;

  if (!cfg.report.empty()) {
    auto report = open_report(cfg.report);
    if (!report)
      return std::unexpected(std::move(report.error()));
    job->report_fd_ = std::move(*report);
  }
  if (moves_data(cfg) && needs_module(cfg.datapath, cfg.submit))
    if (auto ok = job->mappings_.open_session(); !ok)
      return std::unexpected(std::move(ok.error()));
  return job;
}

Result<void *> Job::allocate(uint64_t bytes, uint64_t slot_bytes) {
  if (slot_bytes > config_.max_bs) {
    config_.max_bs = slot_bytes;
    if (auto ok = check_config(config_); !ok)
      return std::unexpected(std::move(ok.error()));
    if (mappings_.session())
      if (auto ok = mappings_.check_length(path()); !ok)
        return std::unexpected(std::move(ok.error()));
  }
  return memory_.allocate(bytes, slot_bytes ? slot_bytes : config_.max_bs);
}

Result<void> Job::start(const std::vector<void *> &buffers) {
  auto ok = set_up_lane();
  if (ok)
    ok = attach(buffers);
  started_ = ok.has_value();
  return ok;
}

Result<void> Job::attach(const std::vector<void *> &buffers) {
  if (config_.submit == Submit::uring && !lane_.ring.is_open())
    return fail(EIO, "the job was stopped after an error and cannot go on");
  Result<void> ok;
  if (!buffers.empty()) {
    ok = memory_.check_slots(buffers);
    if (ok)
      ok = register_memory(buffers);
  }
  if (ok)
    ok = memory_.first_fill();
  for (unsigned i = 0; ok && i < targets_.size(); i++)
    if (targets_[i].fd >= 0)
      ok = mappings_.open(i, target_names_[i]);
  attached_ = ok.has_value();
  return ok;
}

void Job::release_memory() {
  attached_ = false;
  for (unsigned i = 0; i < targets_.size(); i++)
    mappings_.close(i);
  mappings_.unregister();
  lane_.ring.drop_buffers();
  memory_.close_cpu();
  memory_.free();
}

void Job::resize_targets(size_t count) {
  targets_.resize(count);
  target_names_.resize(count);
  mappings_.resize(count);
  lane_.targets = targets_.data();
}

Result<void> Job::set_up_lane() {
  lane_.depth = config_.iodepth;
  lane_.pending = std::make_unique<void *[]>(config_.iodepth);
  lane_.ready = std::make_unique<void *[]>(config_.iodepth);
  lane_.tries = std::make_unique<uint16_t[]>(config_.iodepth);
  resize_targets(std::max(config_.file_count, 1U));
  // What O_DIRECT reads and writes is in no cache, as with engine io_uring.
  lane_.rw_flags =
      (config_.nowait ? RWF_NOWAIT : 0) | (config_.uncached && !config_.direct ? kDontCache : 0);
  if (config_.nowait) // EAGAIN is what was asked for
    lane_.max_tries = 0;
  lane_.force_async = config_.force_async;
  lane_.remap_every = config_.remap_every;
  if (config_.ranges > 1)
    lane_.packs.make(config_.iodepth, config_.ranges);
  lane_.syncs_wait = config_.hipri;
  lane_.fixed_buffers = config_.fixedbufs;
  lane_.session_fd = mappings_.session() ? mappings_.session()->fd() : -1;
  return config_.submit == Submit::uring ? open_ring() : Result<void>();
}

Result<void> Job::open_ring() {
  auto ok = lane_.ring.open({.depth = config_.iodepth,
                             .sqpoll = config_.sqpoll,
                             .sqpoll_cpu = config_.sqpoll_cpu,
                             .iopoll = config_.hipri,
                             .no_iowait = config_.no_iowait});
  if (!ok)
    return ok;
  // Slot 0 is the module's session, the targets follow.
  const bool may_premap = mappings_.by_target();
  if (may_premap || config_.registerfiles) {
    table_files_ = config_.registerfiles ? static_cast<unsigned>(targets_.size()) : 0U;
    if (ok = lane_.ring.reserve_files(1 + table_files_); !ok)
      return ok;
    if (may_premap)
      if (ok = lane_.ring.set_file(0, lane_.session_fd); !ok)
        return ok;
  }
  return {};
}

Result<void> Job::register_memory(const std::vector<void *> &buffers) {
  const DatapathTraits &can = traits(path());
  if (can.slot_buffers || (can.is_file && config_.fixedbufs))
    return start_fixed_buffers(buffers);
  return mappings_.start(buffers);
}

Result<void> Job::start_fixed_buffers(const std::vector<void *> &buffers) {
  std::vector<iovec> ranges(buffers.size());
  uint64_t slot_bytes = memory_.slot_bytes();
  const bool bounce = path() == Datapath::bounce;
  if (bounce) {
    slot_bytes = *round_up(slot_bytes, page_bytes());
    auto staging = memory_.allocate_staging(slot_bytes * buffers.size());
    if (!staging)
      return std::unexpected(std::move(staging.error()));
    lane_.staging = *staging;
    lane_.staging_slot = slot_bytes;
  }
  for (size_t i = 0; i < buffers.size(); i++) {
    ranges[i].iov_base = bounce ? lane_.staging + i * slot_bytes : buffers[i];
    ranges[i].iov_len = slot_bytes;
  }
  return lane_.ring.register_buffers(ranges);
}

Result<void> Job::make_file(unsigned number, uint64_t bytes) {
  const auto size = round_up(bytes, page_bytes());
  if (!size)
    return fail(EOVERFLOW, "the file is too large; lower size");
  return files_.make(number, buffer_request(config_, *size), mappings_.session(), config_.writes);
}

Result<UniqueFd> Job::open_file(unsigned number) { return files_.open(number); }

Result<void> Job::check_writable(int fd, const std::string &name) const {
  const int mode = fcntl(fd, F_GETFL);
  if (mode >= 0 && (mode & O_ACCMODE) == O_RDONLY)
    return fail(EBADF,
                strf("%s is open for reading only and this job writes; use a read workload, or "
                     "let fio open it for writing",
                     name.c_str()));

  // Some drivers let a read-only device be opened for writing and fail each write.
  int read_only = 0;
  if (ioctl(fd, BLKROGET, &read_only) == 0 && read_only)
    return fail(EROFS, strf("%s cannot be written: ", name.c_str()) +
                           reason_text(DMABUF_RW_REASON_READ_ONLY, EROFS));
  return {};
}

/// Whether trims of the file can be in flight together; if not, the error says why.
Result<void> Job::check_trims(int fd) const {
  if (config_.submit != Submit::uring)
    return fail(EOPNOTSUPP, strf("dmabuf_submit=%s waits for each", submit_name(config_.submit)));
  if (config_.resets_zones)
    return fail(EOPNOTSUPP,
                "with zonemode=zbd they are resets of zones, which io_uring does not do");
  if (config_.writes)
    return fail(EOPNOTSUPP, "this job also writes, and a write of what is being trimmed could be "
                            "lost");
  if (config_.hipri)
    return fail(EOPNOTSUPP, "the ring of hipri takes no discards");
  return check_discard(fd);
}

bool Job::queues_trims(int fd) {
  if (!config_.trims)
    return false;
  const auto ok = check_trims(fd);
  if (!ok && config_.iodepth > 1 && !std::exchange(trims_noted_, true))
    trims_note_ = ok.error().message;
  return ok.has_value();
}

Result<void> Job::open_target(unsigned number, int fd, const std::string &name) {
  if (number >= targets_.size())
    resize_targets(size_t{number} + 1);
  // A job that may write a file that is held has it open for reading only.
  if (config_.pin_file != PinFile::no) {
    if (auto ok = ready_to_hold(fd, name, config_.pin_file); !ok)
      return ok;
  } else if (config_.writes) {
    if (auto ok = check_writable(fd, name); !ok)
      return ok;
  }
  if (config_.direct)
    if (auto ok = check_steps(fd, name, config_.steps); !ok)
      return ok;
  if (config_.hipri)
    if (auto ok = check_polled(fd, name); !ok)
      return ok;
  if (config_.uncached && !config_.direct)
    if (auto ok = check_uncached(fd, name); !ok)
      return ok;
  if (config_.atomic)
    if (auto ok = check_atomic(fd, name, config_.max_bs); !ok)
      return ok;

  Target target;
  target.fd = target.sqe_fd = fd;
  target.queues_trims = queues_trims(fd);
  // One that fio adds while it runs is not in the table, and used by its descriptor.
  if (config_.registerfiles && number < table_files_) {
    if (auto ok = lane_.ring.set_file(1 + number, fd); !ok)
      return ok;
    target.sqe_fd = static_cast<int>(1 + number);
    target.sqe_flags = IOSQE_FIXED_FILE;
  }

  if (const DmaBuf *const file = files_.dmabuf(number)) {
    target.view = file->view.data();
    target.dmabuf_fd = file->fd.get();
  }
  targets_[number] = target;
  if (auto ok = mappings_.open(number, name); !ok)
    return ok;
  target_names_[number] = name;
  ran_ = true;
  return {};
}

void Job::close_target(unsigned number) {
  if (number >= targets_.size())
    return;
  mappings_.close(number);
  Target &target = targets_[number];
  if (target.sqe_flags & IOSQE_FIXED_FILE)
    (void)lane_.ring.set_file(static_cast<unsigned>(target.sqe_fd), -1);
  target = {};
}

Result<void> Job::remap() {
  lane_.since_remap = 0;
  lane_.counters.remaps++;
  return mappings_.remap(target_names_);
}

std::string Job::explain_failure(unsigned number, int error) {
  if (traits(path()).is_file && traits(config_.submit).by_module)
    return rw_error_text(error);
  std::string why = mappings_.explain(number);
  // Only a block device says of itself that it has nothing to poll.
  if (why.empty() && config_.hipri && error == EOPNOTSUPP)
    why = "it cannot be polled (EOPNOTSUPP), which is no fault of a drive; drop hipri";
  return why;
}

std::string Job::locate_failure(const Request &request, unsigned number) {
  std::string text =
      strf("libdmabuf: datapath %s, I/O slot %u", datapath_name(path()), request.index);
  if (attached_ && !memory_.dmabufs().empty())
    text += strf(", byte %llu of dma-buf %u",
                 static_cast<unsigned long long>(lane_.offset_in_buffer(request)),
                 lane_.buffer_number(request));
  if (const std::string status = mappings_.drive_status(number); !status.empty())
    text += strf("; the drive's last error was %s", status.c_str());
  return text;
}

void Job::stop() {
  started_ = attached_ = false;
  if (lane_.ring.is_open())
    unreaped_ = lane_.submitted();
  for (unsigned i = 0; i < targets_.size(); i++)
    close_target(i);
  mappings_.unregister();
  lane_.ring.close();
  files_.close();
  memory_.close_cpu();
  mappings_.end_session();
  memory_.free();
}

JobReport Job::report() const {
  const DatapathTraits &asked = traits(config_.datapath);
  JobReport report;
  report.job = config_.name;
  report.job_number = config_.number;
  report.requested = config_.datapath;
  report.submit = config_.submit;
  report.device = asked.is_file ? files_.device() : memory_.device();
  report.exported = memory_.exported();
  report.exporter = report.device.empty() ? ExporterKind::none : config_.exporter;
  for (const auto &name : target_names_) {
    if (name.empty())
      continue;
    if (!report.target.empty())
      report.target += ':';
    report.target += name;
  }
  if (asked.is_file && files_.bytes()) {
    report.route = "cpu";
    if (!files_.memory().empty())
      report.memory = files_.memory();
  } else if (!asked.dmabuf_memory && memory_.bytes()) {
    // Its memory is this process's own, reached by the drive without a peer.
    report.memory = memory_name(DMABUF_RW_MEM_SYSTEM);
    report.route = route_name(DMABUF_RW_ROUTE_MEMORY);
  }
  mappings_.report(report);
  report.buffers = memory_.count();
  report.buffer_bytes = memory_.bytes() + files_.bytes();
  report.issued = lane_.counters;
  report.longest = config_.max_bs;
  report.unreaped = unreaped_;
  report.atomic = config_.atomic;
  report.copies_up = lane_.copies_up;
  report.copies_down = lane_.copies_down;
  report.files = files_.evidence();
  report.proof = prove(report);
  return report;
}

Result<void> Job::write_report(const JobReport &report) const {
  if (!report_fd_)
    return {};
  const std::string line = to_json(report) + "\n";
  // One write() to a file open for appending: lines of jobs that end together do not mix.
  const ssize_t written = write(report_fd_.get(), line.data(), line.size());
  if (written != static_cast<ssize_t>(line.size()))
    return fail(written < 0 ? errno : ENOSPC,
                errno_text(strf("cannot write dmabuf_report=%s", config_.report.c_str()),
                           written < 0 ? errno : ENOSPC));
  return {};
}

} // namespace dmabuf
