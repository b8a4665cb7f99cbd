// SPDX-License-Identifier: GPL-2.0-only
// The part of a job that maps its dma-bufs for the targets, and asks the module about them.
#include "job/job.hpp"

#include "datapath/upstream.hpp"
#include "job/drive.hpp"
#include "module/reasons.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

namespace dmabuf {

Result<dmabuf_rw_map_entry> Job::map_one(const DmaBuf &buffer, int target_fd, uint32_t path,
                                         const std::string &what) {
  MapRequest request;
  request.dmabuf_fd = buffer.fd.get();
  request.target_fd = target_fd;
  request.path = path;
  request.directions =
      (config_.reads ? DMABUF_RW_DIR_READ : 0U) | (config_.writes ? DMABUF_RW_DIR_WRITE : 0U);
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

Result<uint32_t> Job::map(Handles &handles, int target_fd, uint32_t path, const std::string &what) {
  segments_ = 0;
  for (const DmaBuf &buffer : buffers_) {
    auto entry = map_one(buffer, target_fd, path, what);
    if (!entry)
      return std::unexpected(std::move(entry.error()));
    handles.push_back(entry->handle);
    segments_ += entry->segments;
    if (path == DMABUF_RW_PATH_AUTO) // what is good for the first is good for all
      passed_over_ = refused_text(*entry);
    path = entry->path;
  }
  return path;
}

Result<void> Job::unmap(Handles &handles) {
  Result<void> ok;
  for (const uint32_t handle : handles) {
    count_mapping(handle);
    if (auto gone = session_->unmap(handle); !gone)
      ok = std::move(gone);
  }
  handles.clear();
  return ok;
}

int Job::command_ring(uint32_t command, uint32_t handle, uint32_t index, uint64_t offset,
                      uint32_t length) {
  io_uring_sqe *sqe = lane_.ring.sqe();
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

bool Job::windows_fit(const std::vector<void *> &buffers) const {
  constexpr size_t kMostSlots = 1U << 14; // of a ring's table
  if (!session_->has(DMABUF_RW_FEAT_WINDOW) || config_.buffer_per_slot ||
      buffers.size() != config_.iodepth || buffers.size() > kMostSlots ||
      config_.max_bs > std::numeric_limits<uint32_t>::max())
    return false;
  for (size_t i = 0; i < buffers.size(); i++)
    if (buffers[i] != lane_.base + i * config_.max_bs)
      return false;
  return true;
}

Result<void> Job::register_dmabufs() {
  if (windows_) {
    lane_.slot_mask = ~0U;
    lane_.slot_bytes = config_.max_bs;
  }
  for (uint32_t index = 0; index < table_slots(); index++) {
    const int rc = windows_
                       ? command_ring(DMABUF_RW_URING_REGISTER, registered_[0], index,
                                      index * config_.max_bs, static_cast<uint32_t>(config_.max_bs))
                       : command_ring(DMABUF_RW_URING_REGISTER, registered_[index], index);
    if (rc < 0)
      return fail(-rc,
                  errno_text("the module did not put the dma-buf in the ring's buffer table", -rc));
  }
  return {};
}

void Job::unregister_dmabufs() {
  for (const uint32_t handle : registered_)
    count_mapping(handle);
  for (uint32_t index = 0; index < table_slots() && !registered_.empty() && lane_.ring.is_open();
       index++)
    command_ring(DMABUF_RW_URING_UNREGISTER, 0, index);
  // What fails here fails because it is gone already; closing the session takes the rest.
  for (const uint32_t handle : registered_)
    (void)session_->unmap(handle);
  registered_.clear();
}

Result<void> Job::map_registered() {
  auto path = map(registered_, -1, DMABUF_RW_PATH_REGISTERED, "the dma-buf");
  if (!path)
    return std::unexpected(std::move(path.error()));
  return register_dmabufs();
}

Result<void> Job::map_target(unsigned number, const std::string &name) {
  const uint32_t ask = path_ == Datapath::premapped ? DMABUF_RW_PATH_PREMAPPED
                       : path_ == Datapath::bvec    ? DMABUF_RW_PATH_BVEC
                                                    : DMABUF_RW_PATH_AUTO;
  Handles &handles = mapped_[number];
  auto path = map(handles, targets_[number].fd, ask, name);
  if (!path)
    return std::unexpected(std::move(path.error()));
  switch (*path) {
  case DMABUF_RW_PATH_PREMAPPED:
  case DMABUF_RW_PATH_BVEC:
    path_ = *path == DMABUF_RW_PATH_BVEC ? Datapath::bvec : Datapath::premapped;
    targets_[number].handles = handles.data();
    if (auto ok = check_path(config_, path_); !ok)
      return ok;
    return check_length(path_);
  case DMABUF_RW_PATH_REGISTERED:
    path_ = Datapath::registered;
    registered_ = std::move(handles);
    handles.clear();
    return register_dmabufs();
  default:
    return fail(EPROTO,
                strf("the module chose datapath number %u for %s, which this engine does not "
                     "know; use a module and an engine of the same release",
                     *path, name.c_str()));
  }
}

Result<void> Job::map_upstream(unsigned number, const std::string &name) {
  upstream_.resize(std::max(upstream_.size(), size_t{number} + 1));
  const auto count = static_cast<unsigned>(buffers_.size());
  Target &target = targets_[number];
  target.buffer_slot = number * count;
  upstream_[number] = true;
  for (unsigned i = 0; i < count; i++, upstream_count_++)
    if (auto ok = register_upstream(lane_.ring.fd(), target.buffer_slot + i, buffer_fds_[i],
                                    target.fd, name);
        !ok)
      return ok;
  return {};
}

void Job::unmap_upstream(unsigned number) {
  if (number >= upstream_.size() || !upstream_[number])
    return;
  upstream_[number] = false;
  for (unsigned i = 0; i < buffers_.size(); i++)
    unregister_upstream(lane_.ring.fd(), targets_[number].buffer_slot + i);
}

void Job::close_target(unsigned number) {
  if (number >= targets_.size())
    return;
  Target &target = targets_[number];
  unmap_upstream(number);
  (void)unmap(mapped_[number]);
  asked_fd_ = -1;
  if (target.sqe_flags & IOSQE_FIXED_FILE)
    (void)lane_.ring.set_file(static_cast<unsigned>(target.sqe_fd), -1);
  target = {};
}

Result<void> Job::remap() {
  lane_.since_remap = 0;
  lane_.counters.remaps++;
  if (!registered_.empty()) {
    unregister_dmabufs();
    return map_registered();
  }
  for (unsigned i = 0; i < targets_.size(); i++) {
    if (i < upstream_.size() && upstream_[i]) {
      unmap_upstream(i);
      if (auto ok = map_upstream(i, target_names_[i]); !ok)
        return ok;
    }
    if (mapped_[i].empty())
      continue;
    if (auto ok = unmap(mapped_[i]); !ok)
      return ok;
    if (auto ok = map_target(i, target_names_[i]); !ok)
      return ok;
  }
  return {};
}

void Job::count_mapping(uint32_t handle) {
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
  memory_ = memory_name(info->memory);
  route_ = route_name(info->route);
}

std::string Job::explain_failure(unsigned number, int error) {
  if (path_ == Datapath::syscall && config_.submit != Submit::mmap)
    return rw_error_text(error);
  if (number >= targets_.size())
    return {};
  for (const uint32_t handle : mapped_[number]) {
    const auto info = session_->info(handle);
    if (info && info->last_error)
      return reason_text(info->last_reason, static_cast<int>(info->last_error));
  }
  return {};
}

} // namespace dmabuf
