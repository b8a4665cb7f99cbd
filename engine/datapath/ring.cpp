// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/ring.hpp"

#include "base/sizes.hpp"
#include "base/system.hpp"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace dmabuf {

namespace {

constexpr const char *kDisabled = "/proc/sys/kernel/io_uring_disabled";
constexpr const char *kWithoutRing =
    "use what needs no io_uring: dmabuf_submit=ioctl with premapped and bvec, dmabuf_submit=sync "
    "with syscall";

/// What forbids a ring, by EPERM or ENOSYS.
std::string forbidden_text(int code, std::optional<uint64_t> disabled) {
  const std::string name = errno_name(code);
  if (disabled && *disabled && code == EPERM)
    return strf("io_uring is switched off for this user (EPERM): %s is %llu; set it to 0, or %s",
                kDisabled, static_cast<unsigned long long>(*disabled), kWithoutRing);
  const char *const filter = "a seccomp filter, as containers have it (Docker, Podman, Kubernetes)";
  const char *const allow = "allow io_uring_setup, io_uring_enter and io_uring_register there "
                            "(docs/engine.md, In a container)";
  if (!disabled && code == ENOSYS) // the sysctl is there since Linux 6.6
    return strf("this kernel has no io_uring, or %s, hides it (ENOSYS); use a kernel that has it, "
                "%s, or %s",
                filter, allow, kWithoutRing);
  const std::string but =
      disabled && !*disabled ? strf(" although %s is 0", kDisabled) : std::string();
  return strf("io_uring is forbidden here (%s)%s: by %s; %s, or %s", name.c_str(), but.c_str(),
              filter, allow, kWithoutRing);
}

} // namespace

std::string ring_error_text(int code, std::optional<uint64_t> disabled) {
  switch (code) {
  case ENOSYS:
  case EPERM:
    return forbidden_text(code, disabled);
  case ENOMEM:
    return "the kernel gave no memory for an io_uring (ENOMEM); raise RLIMIT_MEMLOCK (ulimit -l) "
           "or "
           "lower iodepth";
  default:
    return errno_text("cannot make an io_uring", code);
  }
}

std::string register_error_text(int code, uint64_t bytes, uint64_t limit) {
  const auto need = static_cast<unsigned long long>(bytes);
  if (code == ENOMEM && limit < bytes)
    return strf(
        "MEMLOCK: registering %llu bytes of buffers needs them pinned, and RLIMIT_MEMLOCK is "
        "%llu bytes; raise it (ulimit -l), run as root, or lower iodepth or bs",
        need, static_cast<unsigned long long>(limit));
  return errno_text(
      strf("cannot register %llu bytes of buffers with io_uring; lower iodepth or bs", need), code);
}

Result<void> Ring::open(const RingOptions &options) {
  const auto entries = ring_entries(options.depth);
  if (!entries)
    return fail(EINVAL, strf("an io_uring holds at most %u requests", kMaxRingEntries));

  unsigned base = options.iopoll ? IORING_SETUP_IOPOLL : 0U;
  // Newest first. The last attempt asks for none of them.
  constexpr unsigned kSteps[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
                                 IORING_SETUP_COOP_TASKRUN, IORING_SETUP_CQSIZE};
  unsigned wanted = kSteps[0] | kSteps[1] | kSteps[2];
  if (options.sqpoll) {
    base |= IORING_SETUP_SQPOLL | (options.sqpoll_cpu >= 0 ? IORING_SETUP_SQ_AFF : 0U);
    wanted = IORING_SETUP_CQSIZE; // the others are about completions run by the submitter
  }
  size_t step = 0;
  for (;;) {
    io_uring_params params = {};
    params.flags = base | wanted;
    params.cq_entries = wanted & IORING_SETUP_CQSIZE ? *entries : 0;
    params.sq_thread_cpu = options.sqpoll_cpu >= 0 ? static_cast<uint32_t>(options.sqpoll_cpu) : 0;
    const int rc = io_uring_queue_init_params(*entries, &ring_, &params);
    if (rc == 0)
      break;
    while (step < std::size(kSteps) && !(wanted & kSteps[step]))
      step++;
    if (rc != -EINVAL || step == std::size(kSteps))
      return fail(-rc, ring_error_text(-rc, read_number(kDisabled)));
    wanted &= ~kSteps[step++];
  }
  open_ = true;
  // Saves a file lookup per system call; kernels before 5.18 cannot, which only costs that.
  const bool registered = io_uring_register_ring_fd(&ring_) == 1;
  // Linux 6.15; liburing has it from 2.10 on.
  constexpr unsigned kFeature = 1U << 17;
  constexpr unsigned kNoIowait = 1U << 7;
  wait_flags_ = 0;
  if (options.no_iowait && (ring_.features & kFeature))
    wait_flags_ =
        IORING_ENTER_GETEVENTS | kNoIowait | (registered ? IORING_ENTER_REGISTERED_RING : 0U);
  return {};
}

int Ring::wait_by_flags(unsigned count) {
  // Not by liburing, which has no call for it.
  return ::syscall(__NR_io_uring_enter, ring_.enter_ring_fd, 0, count, wait_flags_, nullptr, 0) < 0
             ? -errno
             : 0;
}

void Ring::close() {
  if (open_)
    io_uring_queue_exit(&ring_);
  open_ = buffers_ = false;
}

int Ring::submit_rest(int rc, uint64_t &retries) {
  constexpr int kTries = 1000;
  constexpr useconds_t kPauseUs = 100;
  for (int tries = 0;;) {
    if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
      return -rc;
    if (io_uring_sq_ready(&ring_) == 0 || (rc >= 0 && sqpoll()))
      return 0;
    if (rc == 0 || rc == -EAGAIN || rc == -EBUSY) {
      if (++tries == kTries)
        return EAGAIN;
      retries++;
      usleep(kPauseUs);
    } else {
      tries = 0; // some were taken, or a signal arrived
    }
    rc = submit_once();
  }
}

uint64_t Ring::take_back() {
  io_uring_sq &sq = ring_.sq;
  const unsigned tail = sq.sqe_tail--;
  // liburing may have put it where the kernel finds it. Without sqpoll that looks when it is
  // called, and with sqpoll such an entry is submitted.
  if (sq.sqe_head == tail) {
    sq.sqe_head--;
    std::atomic_ref<unsigned>(*sq.ktail).store(sq.sqe_tail, std::memory_order_release);
  }
  return sq.sqes[sq.sqe_tail & *sq.kring_mask].user_data;
}

int Ring::run_one() {
  int rc;
  if (unsubmitted() != 1)
    return -EBUSY;
  do
    rc = io_uring_submit(&ring_);
  while (rc == -EINTR || rc == -EAGAIN);
  if (rc < 0)
    return rc;
  io_uring_cqe *cqe = nullptr;
  do
    rc = io_uring_wait_cqe(&ring_, &cqe);
  while (rc == -EINTR || rc == -EAGAIN);
  if (rc < 0)
    return rc;
  const int result = cqe->res;
  io_uring_cqe_seen(&ring_, cqe);
  return result;
}

Result<void> Ring::register_buffers(std::span<const iovec> ranges) {
  const int rc =
      io_uring_register_buffers(&ring_, ranges.data(), static_cast<unsigned>(ranges.size()));
  buffers_ = rc == 0;
  if (buffers_)
    return {};
  uint64_t bytes = 0;
  for (const iovec &range : ranges)
    bytes += range.iov_len;
  rlimit limit = {};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  return fail(-rc, register_error_text(-rc, bytes, limit.rlim_cur));
}

Result<void> Ring::reserve_buffers(unsigned slots) {
  const int rc = io_uring_register_buffers_sparse(&ring_, slots);
  if (rc)
    return fail(-rc, errno_text("cannot make a registered-buffer table (needs Linux 5.19)", -rc));
  buffers_ = true;
  return {};
}

void Ring::drop_buffers() {
  if (buffers_)
    (void)io_uring_unregister_buffers(&ring_);
  buffers_ = false;
}

Result<void> Ring::reserve_files(unsigned slots) {
  const int rc = io_uring_register_files_sparse(&ring_, slots);
  if (rc)
    return fail(-rc, errno_text("cannot make a registered-file table (needs Linux 5.19)", -rc));
  return {};
}

Result<void> Ring::set_file(unsigned slot, int fd) {
  const int rc = io_uring_register_files_update(&ring_, slot, &fd, 1);
  if (rc < 0)
    return fail(-rc, errno_text("cannot register a file with io_uring", -rc));
  return {};
}

} // namespace dmabuf
