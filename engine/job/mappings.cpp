// SPDX-License-Identifier: GPL-2.0-only
#include "job/mappings.hpp"

#include "datapath/upstream.hpp"
#include "job/drive.hpp"
#include "module/reasons.hpp"

#include <cerrno>
#include <cstring>
#include <limits>

namespace dmabuf {
namespace {

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

Result<void> Mappings::open_session() {
  auto session = Session::open();
  if (!session)
    return std::unexpected(std::move(session.error()));
  session_ = std::move(*session);
  if (auto ok = check_features(*session_, path_, config_.submit, config_.hipri); !ok)
    return ok;
  if (config_.force_reads && !session_->has(DMABUF_RW_FEAT_READ_FUA))
    return fail(EOPNOTSUPP,
                "the loaded dmabuf_rw module cannot set FUA in reads (feature READ_FUA); "
                "drop readfua, or use a newer module");
  if (config_.pin_file != PinFile::no && !session_->has(DMABUF_RW_FEAT_HOLD_FILE))
    return fail(EOPNOTSUPP,
                "the loaded dmabuf_rw module cannot hold files still on this kernel (feature "
                "HOLD_FILE); drop dmabuf_pin_file, or use a newer module or kernel");
  if (config_.force_async && config_.submit == Submit::uring &&
      !session_->has(DMABUF_RW_FEAT_ASYNC))
    return fail(EOPNOTSUPP,
                "this kernel keeps no request of io_uring for its workers, or the dmabuf_rw module "
                "is older (feature ASYNC); drop force_async");
  if (config_.ranges > 1 && config_.ranges > session_->query().max_ranges)
    return fail(EOPNOTSUPP,
                strf("the dmabuf_rw module takes %llu ranges in a command on this kernel, and "
                     "dmabuf_ranges=%u asks for more; lower it, or drop it",
                     static_cast<unsigned long long>(session_->query().max_ranges),
                     config_.ranges));
  if (auto ok = check_length(path_); !ok)
    return ok;
  return config_.timeout_ms ? session_->configure(config_.timeout_ms) : Result<void>();
}

Result<void> Mappings::check_length(Datapath path) const {
  const uint64_t most = session_->query().max_io_bytes;
  if (traits(path).commands && config_.max_bs > most)
    return fail(EINVAL, strf("bs=%llu is more than the module moves at once on %s (%llu bytes); "
                             "lower bs",
                             static_cast<unsigned long long>(config_.max_bs), datapath_name(path),
                             static_cast<unsigned long long>(most)));
  return {};
}

void Mappings::resize(size_t count) {
  mapped_.resize(count);
  upstream_.resize(count);
}

Result<void> Mappings::start(const std::vector<void *> &buffers) {
  if (path_ == Datapath::automatic || path_ == Datapath::registered) {
    windows_ = windows_fit(buffers);
    if (auto ok = lane_.ring.reserve_buffers(table_slots()); !ok)
      return ok;
  }
  if (path_ == Datapath::upstream) {
    // Each target has the dma-bufs in slots of its own; fio may add files, which then do not fit.
    if (auto ok = lane_.ring.reserve_buffers(
            static_cast<unsigned>(memory_.dmabufs().size() * mapped_.size()));
        !ok)
      return ok;
    return check_upstream(lane_.ring.fd());
  }
  return path_ == Datapath::registered ? map_registered() : Result<void>();
}

Result<void> Mappings::open(unsigned number, const std::string &name) {
  if (path_ == Datapath::upstream)
    return map_upstream(number, name);
  // registered needs nothing per target, once it is chosen; syscall moves nothing in or out of it.
  return by_target() ? map_target(number, name) : Result<void>();
}

Result<dmabuf_rw_map_entry> Mappings::map_one(const DmaBuf &buffer, int target_fd, uint32_t path,
                                              const std::string &what) {
  MapRequest request;
  request.dmabuf_fd = buffer.fd.get();
  request.target_fd = target_fd;
  request.path = path;
  request.no_room = buffer.no_room.c_str();
  request.directions =
      (config_.reads ? DMABUF_RW_DIR_READ : 0U) | (config_.writes ? DMABUF_RW_DIR_WRITE : 0U);
  if (config_.force_reads)
    request.flags |= DMABUF_RW_MAP_READ_FUA;
  if (config_.pin_file != PinFile::no)
    request.flags |= DMABUF_RW_MAP_HOLD_FILE;
  if (path != DMABUF_RW_PATH_REGISTERED)
    request.max_command_hint = config_.max_command_kb * 1024;
  if ((path == DMABUF_RW_PATH_PREMAPPED || path == DMABUF_RW_PATH_AUTO) &&
      !config_.max_command_kb) {
    // Asked once per target, not for each of its dma-bufs.
    if (asked_fd_ != target_fd)
      longest_ = longest_command(target_fd);
    asked_fd_ = target_fd;
    request.max_command_hint = longest_;
  }
  return session_->map(request, what);
}

Result<uint32_t> Mappings::map(Handles &handles, int target_fd, uint32_t path,
                               const std::string &what) {
  segments_ = 0;
  for (const DmaBuf &buffer : memory_.dmabufs()) {
    auto entry = map_one(buffer, target_fd, path, what);
    if (!entry)
      return std::unexpected(std::move(entry.error()));
    handles.push_back(entry->handle);
    segments_ += entry->segments;
    if (path == DMABUF_RW_PATH_AUTO) { // what is good for the first is good for all
      passed_over_ = refused_text(*entry);
      if (const std::string target = made_of(*entry, target_fd); !target.empty())
        passed_over_ += "; " + target;
    }
    path = entry->path;
  }
  return path;
}

Result<void> Mappings::unmap(Handles &handles) {
  Result<void> ok;
  for (const uint32_t handle : handles) {
    count_mapping(handle);
    if (auto gone = session_->unmap(handle); !gone)
      ok = std::move(gone);
  }
  handles.clear();
  return ok;
}

int Mappings::command_ring(uint32_t command, uint32_t handle, uint32_t index, uint64_t offset,
                           uint32_t length) {
  io_uring_sqe *sqe = lane_.ring.sqe();
  if (!sqe)
    return -EBUSY;
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = session_->fd();
  sqe->cmd_op = command;
  sqe->addr = offset;
  sqe->len = length;
  const dmabuf_rw_uring_reg words = {
      .handle = handle, .index = index, .flags = length ? DMABUF_RW_REG_WINDOW : 0U, .reserved = 0};
  std::memcpy(&sqe->addr3, &words, sizeof(words));
  return lane_.ring.run_one();
}

bool Mappings::windows_fit(const std::vector<void *> &buffers) const {
  constexpr size_t kMostSlots = 1U << 14; // of a ring's table
  if (!session_->has(DMABUF_RW_FEAT_WINDOW) || config_.buffer_per_slot ||
      buffers.size() != config_.iodepth || buffers.size() > kMostSlots ||
      memory_.slot_bytes() > std::numeric_limits<uint32_t>::max())
    return false;
  for (size_t i = 0; i < buffers.size(); i++)
    if (buffers[i] != lane_.base + i * memory_.slot_bytes())
      return false;
  return true;
}

Result<void> Mappings::register_dmabufs() {
  const uint64_t slot_bytes = memory_.slot_bytes();
  if (windows_) {
    lane_.slot_mask = ~0U;
    lane_.slot_bytes = slot_bytes;
  }
  for (uint32_t index = 0; index < table_slots(); index++) {
    const int rc = windows_ ? command_ring(DMABUF_RW_URING_REGISTER, registered_[0], index,
                                           index * slot_bytes, static_cast<uint32_t>(slot_bytes))
                            : command_ring(DMABUF_RW_URING_REGISTER, registered_[index], index);
    if (rc < 0)
      return fail(-rc,
                  errno_text("the module did not put the dma-buf in the ring's buffer table", -rc));
  }
  return {};
}

void Mappings::unregister() {
  for (const uint32_t handle : registered_)
    count_mapping(handle);
  const bool usable = lane_.ring.is_open() && !lane_.in_flight;
  for (uint32_t index = 0; index < table_slots() && !registered_.empty() && usable; index++)
    command_ring(DMABUF_RW_URING_UNREGISTER, 0, index);
  // What fails here fails because it is gone already; closing the session takes the rest.
  for (const uint32_t handle : registered_)
    if (usable)
      (void)session_->unmap(handle);
  registered_.clear();
  if (windows_) // of the next memory each slot may be elsewhere
    lane_.slot_mask = 0;
}

Result<void> Mappings::map_registered() {
  auto path = map(registered_, -1, DMABUF_RW_PATH_REGISTERED, "the dma-buf");
  if (!path)
    return std::unexpected(std::move(path.error()));
  return register_dmabufs();
}

Result<void> Mappings::map_target(unsigned number, const std::string &name) {
  Target &target = lane_.targets[number];
  Handles &handles = mapped_[number];
  auto path = map(handles, target.fd, traits(path_).module_path, name);
  if (!path)
    return std::unexpected(std::move(path.error()));
  const auto got = datapath_of_module(*path);
  if (!got)
    return fail(EPROTO,
                strf("the module chose datapath number %u for %s, which this engine does not "
                     "know; use a module and an engine of the same release",
                     *path, name.c_str()));
  path_ = *got;
  if (path_ == Datapath::registered) {
    registered_ = std::move(handles);
    handles.clear();
  } else {
    target.handles = handles.data();
  }
  // What auto took may not do what the job asks for.
  if (auto ok = check_path(config_, path_); !ok)
    return ok;
  return path_ == Datapath::registered ? register_dmabufs() : check_length(path_);
}

Result<void> Mappings::map_upstream(unsigned number, const std::string &name) {
  const auto count = static_cast<unsigned>(memory_.dmabufs().size());
  Target &target = lane_.targets[number];
  target.buffer_slot = number * count;
  upstream_[number] = true;
  for (unsigned i = 0; i < count; i++, upstream_count_++)
    if (auto ok = register_upstream(lane_.ring.fd(), target.buffer_slot + i, lane_.dmabuf_fds[i],
                                    target.fd, name);
        !ok)
      return ok;
  return {};
}

void Mappings::unmap_upstream(unsigned number) {
  if (!upstream_[number])
    return;
  upstream_[number] = false;
  for (unsigned i = 0; i < memory_.dmabufs().size(); i++)
    unregister_upstream(lane_.ring.fd(), lane_.targets[number].buffer_slot + i);
}

void Mappings::close(unsigned number) {
  unmap_upstream(number);
  (void)unmap(mapped_[number]);
  asked_fd_ = -1;
}

Result<void> Mappings::remap(std::span<const std::string> names) {
  if (!registered_.empty()) {
    unregister();
    return map_registered();
  }
  for (unsigned i = 0; i < mapped_.size(); i++) {
    if (upstream_[i]) {
      unmap_upstream(i);
      if (auto ok = map_upstream(i, names[i]); !ok)
        return ok;
    }
    if (mapped_[i].empty())
      continue;
    if (auto ok = unmap(mapped_[i]); !ok)
      return ok;
    if (auto ok = map_target(i, names[i]); !ok)
      return ok;
  }
  return {};
}

void Mappings::count_mapping(uint32_t handle) {
  const auto info = session_->info(handle);
  if (!info) {
    counts_lost_ = true;
    return;
  }
  counts_.known = true;
  counts_.reads += info->reads;
  counts_.writes += info->writes;
  counts_.read_bytes += info->read_bytes;
  counts_.write_bytes += info->write_bytes;
  counts_.commands += info->commands;
  counts_.errors += info->errors;
  counts_.deferred += info->deferred;
  counts_.invalidations += info->invalidations;
  counts_.registrations += info->registrations;
  counts_.map_ns += info->map_ns;
  if (info->max_command_bytes &&
      (!counts_.command_bytes || info->max_command_bytes < counts_.command_bytes))
    counts_.command_bytes = info->max_command_bytes;
  place_ = {memory_name(info->memory), route_name(info->route)};
}

std::string Mappings::drive_status(unsigned number) {
  if (number >= mapped_.size())
    return {};
  for (const uint32_t handle : mapped_[number]) {
    const auto info = session_->info(handle);
    if (info && info->last_status)
      return strf("sct=0x%02x, sc=0x%02x", info->last_status >> 8, info->last_status & 0xff);
  }
  return {};
}

std::string Mappings::explain(unsigned number) {
  if (number >= mapped_.size())
    return {};
  for (const uint32_t handle : mapped_[number]) {
    const auto info = session_->info(handle);
    if (info && info->last_error)
      return reason_text(info->last_reason, static_cast<int>(info->last_error));
  }
  return {};
}

void Mappings::end_session() {
  if (!session_)
    return;
  map_ns_ = session_->map_ns();
  unmap_ns_ = session_->unmap_ns();
  session_.reset();
}

void Mappings::report(JobReport &report) const {
  report.path = path_;
  if (place_) {
    report.memory = place_->memory;
    report.route = place_->route;
  }
  report.segments = segments_;
  report.module = counts_;
  report.module.known = counts_.known && !counts_lost_;
  report.map_ns = map_ns_;
  report.unmap_ns = unmap_ns_;
  report.upstream = upstream_count_;
}

} // namespace dmabuf
