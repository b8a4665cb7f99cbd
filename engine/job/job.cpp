// SPDX-License-Identifier: GPL-2.0-only
#include "job/job.hpp"

#include "base/sizes.hpp"
#include "datapath/upstream.hpp"
#include "job/polling.hpp"
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

Result<void> check_features(const Session &session, Datapath path, Submit submit, bool hipri) {
  const auto missing = [](const char *feature) {
    return fail(EOPNOTSUPP,
                strf("the loaded dmabuf_rw module does not have datapath %s on this kernel; "
                     "use a newer module or kernel, or another dmabuf_datapath",
                     feature));
  };
  if (!session.has(traits(path).feature))
    return missing(datapath_name(path));
  if (submit == Submit::ioctl && !session.has(DMABUF_RW_FEAT_IO))
    return fail(EOPNOTSUPP, "the loaded dmabuf_rw module does not have the ioctl IO; use a newer "
                            "module, or dmabuf_submit=uring");
  if (path == Datapath::premapped && hipri && !session.has(DMABUF_RW_FEAT_IOPOLL))
    return fail(EOPNOTSUPP, "the loaded dmabuf_rw module cannot be polled (feature IOPOLL); drop "
                            "hipri, or use a newer module");
  if (path == Datapath::automatic && !session.has(DMABUF_RW_FEAT_PREMAPPED) &&
      !session.has(DMABUF_RW_FEAT_REGISTERED) && !session.has(DMABUF_RW_FEAT_BVEC))
    return missing("premapped, registered or bvec");
  return {};
}

} // namespace

Result<std::unique_ptr<Job>> Job::create(JobConfig config) {
  if (auto ok = check_config(config); !ok)
    return std::unexpected(std::move(ok.error()));
  std::unique_ptr<Job> job(new Job(std::move(config)));
  const JobConfig &cfg = job->config_;
  job->path_ = cfg.datapath;

  if (!cfg.report.empty()) {
    auto report = open_report(cfg.report);
    if (!report)
      return std::unexpected(std::move(report.error()));
    job->report_fd_ = std::move(*report);
  }
  if (moves_data(cfg) && needs_module(cfg.datapath, cfg.submit)) {
    auto session = Session::open();
    if (!session)
      return std::unexpected(std::move(session.error()));
    job->session_ = std::move(*session);
    if (auto ok = check_features(*job->session_, cfg.datapath, cfg.submit, cfg.hipri); !ok)
      return std::unexpected(std::move(ok.error()));
    if (auto ok = job->check_length(cfg.datapath); !ok)
      return std::unexpected(std::move(ok.error()));
    if (cfg.timeout_ms)
      if (auto ok = job->session_->configure(cfg.timeout_ms); !ok)
        return std::unexpected(std::move(ok.error()));
  }
  return job;
}

Result<void> Job::check_length(Datapath path) const {
  const uint64_t most = session_->query().max_io_bytes;
  if (traits(path).commands && config_.max_bs > most)
    return fail(EINVAL, strf("bs=%llu is more than the module moves at once on %s (%llu bytes); "
                             "lower bs",
                             static_cast<unsigned long long>(config_.max_bs), datapath_name(path),
                             static_cast<unsigned long long>(most)));
  return {};
}

Result<void> Job::start(const std::vector<void *> &buffers) {
  auto ok = make_ring();
  if (ok && !buffers.empty())
    ok = register_memory(buffers);
  if (ok)
    ok = first_fill();
  started_ = ok.has_value();
  return ok;
}

Result<void> Job::make_ring() {
  lane_.depth = config_.iodepth;
  lane_.pending = std::make_unique<void *[]>(config_.iodepth);
  lane_.ready = std::make_unique<void *[]>(config_.iodepth);
  lane_.tries = std::make_unique<uint16_t[]>(config_.iodepth);
  targets_.resize(std::max(config_.file_count, 1U));
  mapped_.resize(targets_.size());
  target_names_.resize(targets_.size());
  lane_.targets = targets_.data();
  lane_.rw_flags = config_.nowait ? RWF_NOWAIT : 0;
  if (config_.nowait) // EAGAIN is what was asked for
    lane_.max_tries = 0;
  lane_.force_async = config_.force_async;
  lane_.remap_every = config_.remap_every;
  lane_.fixed_buffers = config_.fixedbufs;
  lane_.session_fd = session_ ? session_->fd() : -1;
  return config_.submit == Submit::uring ? open_ring() : Result<void>();
}

Result<void> Job::open_ring() {
  auto ok = lane_.ring.open({.depth = config_.iodepth,
                             .sqpoll = config_.sqpoll,
                             .sqpoll_cpu = config_.sqpoll_cpu,
                             .iopoll = config_.hipri});
  if (!ok)
    return ok;
  // Slot 0 is the module's session, the targets follow.
  const bool may_premap = session_ && path_ != Datapath::registered && path_ != Datapath::syscall;
  if (may_premap || config_.registerfiles) {
    const auto files = 1 + (config_.registerfiles ? static_cast<unsigned>(targets_.size()) : 0U);
    if (ok = lane_.ring.reserve_files(files); !ok)
      return ok;
    if (may_premap)
      if (ok = lane_.ring.set_file(0, session_->fd()); !ok)
        return ok;
  }
  return {};
}

Result<void> Job::register_memory(const std::vector<void *> &buffers) {
  if (path_ == Datapath::host || path_ == Datapath::bounce ||
      (path_ == Datapath::syscall && config_.fixedbufs))
    return start_fixed_buffers(buffers);
  if (path_ == Datapath::automatic || path_ == Datapath::registered) {
    windows_ = windows_fit(buffers);
    if (auto ok = lane_.ring.reserve_buffers(table_slots()); !ok)
      return ok;
  }
  if (path_ == Datapath::upstream) {
    // Each target has the dma-bufs in slots of its own; fio may add files, which then do not fit.
    if (auto ok =
            lane_.ring.reserve_buffers(static_cast<unsigned>(buffers_.size() * targets_.size()));
        !ok)
      return ok;
    return check_upstream(lane_.ring.fd());
  }
  return path_ == Datapath::registered ? map_registered() : Result<void>();
}

Result<void> Job::start_fixed_buffers(const std::vector<void *> &buffers) {
  std::vector<iovec> ranges(buffers.size());
  uint64_t slot_bytes = config_.max_bs;
  if (path_ == Datapath::bounce) {
    slot_bytes = *round_up(config_.max_bs, page_bytes());
    if (auto ok = allocate_host(slot_bytes * buffers.size()); !ok)
      return ok;
    lane_.staging = host_memory_.data();
    lane_.staging_slot = slot_bytes;
  }
  for (size_t i = 0; i < buffers.size(); i++) {
    ranges[i].iov_base = path_ == Datapath::bounce ? lane_.staging + i * slot_bytes : buffers[i];
    ranges[i].iov_len = slot_bytes;
  }
  return lane_.ring.register_buffers(ranges);
}

Result<void> Job::make_file(unsigned number, uint64_t bytes) {
  if (number >= files_.size())
    files_.resize(number + 1);
  if (files_[number])
    return {};
  const auto size = round_up(bytes, page_bytes());
  if (!size)
    return fail(EOVERFLOW, "the file is too large; lower size");
  auto file = BufferFile::make(request(*size), session_ ? &*session_ : nullptr, config_.writes);
  if (!file)
    return std::unexpected(std::move(file.error()));
  device_ = file->buffer().device;
  buffer_bytes_ += file->buffer().bytes;
  if (file->by_fd()) {
    memory_ = view_memory_name(file->view());
    evidence_.files++;
    evidence_.bytes += file->buffer().bytes;
  }
  route_ = "cpu";
  files_[number] = std::move(*file);
  return {};
}

Result<UniqueFd> Job::open_file(unsigned number) {
  if (number >= files_.size() || !files_[number])
    return fail(EINVAL, "fio opens a file it did not tell the size of");
  return files_[number]->open();
}

void Job::close_files() {
  for (const auto &file : files_)
    evidence_.same += file && file->by_fd() && file->check_same();
  files_.clear();
}

Result<void> Job::open_target(unsigned number, int fd, const std::string &name) {
  if (number >= targets_.size()) {
    targets_.resize(number + 1);
    mapped_.resize(targets_.size());
    target_names_.resize(targets_.size());
    lane_.targets = targets_.data();
  }
  const int mode = fcntl(fd, F_GETFL);
  if (config_.writes && mode >= 0 && (mode & O_ACCMODE) == O_RDONLY)
    return fail(EBADF,
                strf("%s is open for reading only and this job writes; use a read workload, or "
                     "let fio open it for writing",
                     name.c_str()));

  // Some drivers let a read-only device be opened for writing and fail each write.
  int read_only = 0;
  if (config_.writes && ioctl(fd, BLKROGET, &read_only) == 0 && read_only)
    return fail(EROFS, strf("%s cannot be written: ", name.c_str()) +
                           reason_text(DMABUF_RW_REASON_READ_ONLY, EROFS));

  if (config_.hipri)
    if (auto ok = check_polled(fd, name); !ok)
      return ok;

  Target target;
  target.fd = target.sqe_fd = fd;
  if (config_.registerfiles) {
    if (auto ok = lane_.ring.set_file(1 + number, fd); !ok)
      return ok;
    target.sqe_fd = static_cast<int>(1 + number);
    target.sqe_flags = IOSQE_FIXED_FILE;
  }

  targets_[number] = target;
  if (path_ == Datapath::syscall && number < files_.size() && files_[number]) {
    targets_[number].view = files_[number]->buffer().view.data();
    targets_[number].dmabuf_fd = files_[number]->buffer().fd.get();
  }
  if (path_ == Datapath::upstream)
    if (auto ok = map_upstream(number, name); !ok)
      return ok;
  // registered needs nothing per target, once it is chosen; syscall moves nothing in or out of it.
  if (session_ && path_ != Datapath::registered && path_ != Datapath::syscall)
    if (auto ok = map_target(number, name); !ok)
      return ok;
  target_names_[number] = name;
  ran_ = true;
  return {};
}

void Job::stop() {
  started_ = false;
  for (unsigned i = 0; i < targets_.size(); i++)
    close_target(i);
  unregister_dmabufs();
  lane_.ring.close();
  close_files();
  if (cpu_open_)
    (void)end_cpu();
  if (session_) {
    map_ns_ = session_->map_ns();
    unmap_ns_ = session_->unmap_ns();
    session_.reset();
  }
  slots_.reset();
  shadow_.reset();
  memories_.clear();
  lane_.memories = nullptr;
  buffers_.clear();
  buffer_fds_.clear();
  host_memory_.reset();
  lane_.base = lane_.staging = nullptr;
  lane_.dmabuf_fds = nullptr;
}

JobReport Job::report() const {
  JobReport report;
  report.job = config_.name;
  report.job_number = config_.number;
  report.path = path_;
  report.requested = config_.datapath;
  report.submit = config_.submit;
  report.exporter = device_.empty() ? ExporterKind::none : config_.exporter;
  report.device = device_;
  for (const auto &name : target_names_) {
    if (name.empty())
      continue;
    if (!report.target.empty())
      report.target += ':';
    report.target += name;
  }
  report.memory = memory_;
  report.route = route_;
  report.segments = segments_;
  report.buffers = buffer_count_;
  report.buffer_bytes = buffer_bytes_;
  report.issued = lane_.counters;
  report.copies_up = lane_.copies_up;
  report.copies_down = lane_.copies_down;
  report.module = counts_;
  report.module.known = counts_.known && !counts_lost_;
  report.map_ns = map_ns_;
  report.unmap_ns = unmap_ns_;
  report.upstream = upstream_count_;
  report.files = evidence_;
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
