// SPDX-License-Identifier: GPL-2.0-only
// fio's hooks that run for every I/O, a few lines each, and the tables of all hooks.
//
// fio finds the hooks through td->io_ops. There is one table per datapath and way to submit, and a
// job switches to its table once these are known, so that no I/O has to ask which they are.
#include "fio/api.hpp"

#include "datapath/hot_path.hpp"
#include "datapath/packed.hpp"
#include "datapath/policies.hpp"
#include "datapath/shadow.hpp"
#include "datapath/sync_path.hpp"
#include "fio/apart.hpp"
#include "fio/failure.hpp"
#include "fio/fio_job.hpp"
#include "fio/hooks.hpp"
#include "fio/io.hpp"
#include "fio/io_unit.hpp"
#include "fio/last_io.hpp"
#include "fio/options.hpp"
#include "fio/version.hpp"
#include "fio/watch.hpp"
#include "job/job.hpp"

#include <atomic>
#include <cstdio>
#include <dlfcn.h>

namespace dmabuf {
namespace {

// What submits by io_uring differs by datapath, the rest by the call that it makes; both by what
// fio's buffers are.
ioengine_ops ring_ops[kBufferKinds][kDatapaths];
ioengine_ops sync_ops[kBufferKinds][kSubmits];
// Of datapath host with atomic=1.
ioengine_ops atomic_ops;
// Of dmabuf_ranges: by what fio's buffers are, premapped and bvec.
ioengine_ops packed_ops[kBufferKinds][2];

ioengine_ops &packed(BufferKind buffers, Datapath path) {
  return packed_ops[static_cast<size_t>(buffers)][path == Datapath::bvec];
}

/// Whether the dma-buf has to be mapped anew before the next I/O.
bool remap_is_due(Lane &lane) { return lane.remap_every && lane.since_remap++ == lane.remap_every; }

// Here, not in a header: only of a template that no other file can name does the compiler put what
// is cold away from the rest.
template <class Path> struct Hooks {
  using Hot = HotPath<Path, FioIo>;

  static fio_q_status queue(thread_data *td, io_u *unit) {
    if (unit->ddir >= DDIR_TRIM) [[unlikely]]
      if (const fio_q_status status = apart(td, unit); status != FIO_Q_QUEUED)
        return status;
    if (remap_is_due(*of(td).lane)) [[unlikely]]
      if (const fio_q_status status = remap(td, unit); status != FIO_Q_QUEUED)
        return status;
    if (FioJob &state = of(td); state.priorities.mode != CMDPRIO_MODE_NONE && ddir_rw(unit->ddir))
        [[unlikely]]
      fio_cmdprio_set_ioprio(td, &state.priorities, unit);
    return Hot::prepare(*of(td).lane, *unit) ? FIO_Q_QUEUED : FIO_Q_BUSY;
  }

  static int getevents(thread_data *td, unsigned least, unsigned most, const timespec *) {
    FioJob &state = of(td);
    Lane &lane = *state.lane;
    const uint64_t errors = lane.counters.errors;
    unsigned done = 0;
    bool polled = false;
    int error = 0;
    if (lane.fatal) [[unlikely]]
      return after_fatal(lane, most);
    while (!error) {
      done += Hot::reap(lane, done, most - done);
      if (lane.again) [[unlikely]]
        if (error = resubmit(td, lane); error)
          break;
      if (done >= least && (done || polled || !most))
        break;
      // With nothing to wait for, run the completions that are due once and look again.
      polled = done >= least;
      int rc = 0;
      if (!lane.spins)
        rc = polled || lane.polls ? lane.ring.poll()
                                  : lane.ring.wait(Hot::completions(lane, least - done));
      if (rc < 0 && rc != -EINTR && rc != -EAGAIN) [[unlikely]]
        error = -rc;
    }
    if (lane.counters.errors != errors) [[unlikely]]
      explain_failed(state, done);
    if (!error)
      error = lane.fatal;
    if (!error && done)
      error = state.job->after_reap();
    if (error) [[unlikely]]
      return give_back(td, error, done);
    return static_cast<int>(done);
  }

  static void iomem_free(thread_data *td) {
    if (!td->io_ops_data)
      return;
    finish<Path>(td);
    free_memory(td);
  }

private:
  /// fio may wait until it has all units back, whatever it is told of the job.
  [[gnu::cold, gnu::noinline]] static int after_fatal(Lane &lane, unsigned most) {
    const unsigned done = Hot::hand_back(lane, most);
    return done ? static_cast<int>(done) : -lane.fatal;
  }

  /// Issues the requests that the last reap prepared again. Returns 0 or a positive errno.
  [[gnu::cold]] static int resubmit(thread_data *td, Lane &lane) {
    // What fio has queued goes along, so it has to be marked as issued.
    const int error = lane.pending_count ? -engine_commit(td) : submit_rest(lane);
    lane.again = 0;
    return error;
  }
};

template <class Call> fio_q_status sync_queue(thread_data *td, io_u *unit) {
  FioJob &state = of(td);
  Lane &lane = *state.lane;
  if (unit->ddir == DDIR_READ || unit->ddir == DDIR_WRITE) [[likely]] {
    if (remap_is_due(lane)) [[unlikely]]
      if (const fio_q_status status = remap(td, unit); status != FIO_Q_QUEUED)
        return status;
    int error = lane.fatal ? lane.fatal : state.job->before_submit();
    if (!error) {
      SyncPath<Call, FioIo>::run(lane, *unit);
      if (unit->error) [[unlikely]]
        explain(state, *unit);
      error = unit->ddir == DDIR_WRITE ? state.job->after_submit() : state.job->after_reap();
      if (!error) // what was read could not be copied
        error = lane.fatal;
    }
    if (error) [[unlikely]]
      unit->error = static_cast<unsigned>(-break_down(td, error, "libdmabuf: queue"));
  } else {
    unit->ddir == DDIR_TRIM ? trim_now(td, unit) : sync_now(td, unit);
  }
  return FIO_Q_COMPLETED;
}

/// The hook takes the job, too, from fio 3.36 on.
[[maybe_unused]] char *engine_errdetails(io_u *unit) { return error_details(unit); }
[[maybe_unused]] char *engine_errdetails(thread_data *, io_u *unit) { return error_details(unit); }

// What a fio has that knows it; a job that cannot have it is refused in words of ours.
constexpr int kMoreFlags =
    // FIO_ASYNCIO_SYNC_SYNCFS is the next of fio's flags: syncfs is done at once, and asked for.
    (kHasSyncfs ? FIO_ASYNCIO_SYNC_TRIM << 1 : 0) |
#ifdef FIO_HAVE_RWF_ATOMIC
    FIO_ATOMICWRITES |
#endif
    0;

/// The hook of a fio that knows Flexible Data Placement.
template <class Ops> void refuse_placement(Ops &ops) {
  if constexpr (requires { ops.fdp_fetch_ruhs; })
    ops.fdp_fetch_ruhs = [](thread_data *td, fio_file *, auto *) { return engine_fetch_ruhs(td); };
}

void fill_common(ioengine_ops &ops) {
  ops.name = "libdmabuf";
  ops.version = FIO_IOOPS_VERSION;
  // Offloaded submission is refused by init(): fio would say no more than that it cannot be.
  ops.flags = FIO_MEMALIGN | FIO_RAWIO | kMoreFlags;
  ops.init = engine_init;
  ops.post_init = engine_post_init;
  ops.cleanup = engine_cleanup;
  ops.errdetails = engine_errdetails;
  ops.open_file = engine_open_file;
  ops.close_file = engine_close_file;
  ops.unlink_file = engine_unlink_file;
  ops.get_file_size = engine_get_file_size;
  ops.iomem_alloc = engine_iomem_alloc;
  ops.iomem_free = engine_iomem_free;
  refuse_placement(ops);
  ops.option_struct_size = sizeof(FioOptions);
  ops.options = fio_option_table();
}

template <class Path> void fill_ring_ops(ioengine_ops &ops) {
  fill_common(ops);
  ops.flags |= FIO_ASYNCIO_SETS_ISSUE_TIME;
  if (traits(Path::kPath).is_file)
    ops.flags |= FIO_DISKLESSIO;
  ops.queue = Hooks<Path>::queue;
  ops.commit = engine_commit;
  ops.getevents = Hooks<Path>::getevents;
  ops.event = engine_event;
  ops.iomem_free = Hooks<Path>::iomem_free;
}

template <class Path> void fill_ring_ops(BufferKind buffers = BufferKind::view) {
  fill_ring_ops<Path>(ring_ops[static_cast<size_t>(buffers)][static_cast<size_t>(Path::kPath)]);
}

/// A datapath of memory that the CPU does not map.
template <class Path> void fill_device_ops() {
  fill_ring_ops<Path>(BufferKind::device);
  fill_ring_ops<Shadowed<Path>>(BufferKind::shadow);
}

/// A datapath of the module's commands, with several I/Os in one.
template <class Path> void fill_packed_ops() {
  fill_ring_ops<Packed<Path>>(packed(BufferKind::view, Path::kPath));
  fill_ring_ops<Packed<Path>>(packed(BufferKind::device, Path::kPath));
  fill_ring_ops<Packed<Shadowed<Path>>>(packed(BufferKind::shadow, Path::kPath));
}

template <class Call> void fill_sync_ops(Submit submit, BufferKind buffers = BufferKind::view) {
  ioengine_ops &ops = sync_ops[static_cast<size_t>(buffers)][static_cast<size_t>(submit)];
  fill_common(ops);
  ops.flags |= FIO_SYNCIO;
  if (traits(submit).needs_file)
    ops.flags |= FIO_DISKLESSIO;
  ops.queue = sync_queue<Call>;
}

} // namespace

void switch_to(thread_data *td, const Job &job) {
  const Submit submit = job.config().submit;
  // A job of trims alone has no buffers. That fio may all the same read what it has trimmed, to
  // verify it, is then an error, not a crash.
  const Datapath path = td_read(td) || td_write(td) ? job.path() : Datapath::automatic;
  const auto buffers = static_cast<size_t>(job.buffer_kind());
  const bool packs = job.config().ranges > 1 && traits(path).commands;
  ioengine_ops &ops = job.config().atomic       ? atomic_ops
                      : packs                   ? packed(job.buffer_kind(), path)
                      : submit == Submit::uring ? ring_ops[buffers][static_cast<size_t>(path)]
                                                : sync_ops[buffers][static_cast<size_t>(submit)];
  // Jobs that are threads share the tables; all of them store the one handle of this library.
  void *const handle = std::atomic_ref(td->io_ops->dlhandle).load(std::memory_order_relaxed);
  std::atomic_ref(ops.dlhandle).store(handle, std::memory_order_relaxed);
  td->io_ops = &ops;
  td_set_ioengine_flags(td);
}

} // namespace dmabuf

/// What fio looks for after loading the library; called for every job.
extern "C" [[gnu::visibility("default")]] void get_ioengine(ioengine_ops **ops) {
  const auto *running = static_cast<const char *>(dlsym(RTLD_DEFAULT, "fio_version_string"));
  if (auto why = dmabuf::version_refusal(running, DMABUF_FIO_VERSION)) {
    // Not through fio: nothing about it is known to fit.
    std::fprintf(stderr, "%s\n", why->c_str());
    *ops = nullptr;
    return;
  }
  static const bool filled = [] {
    dmabuf::watch_jobs();
    dmabuf::fill_ring_ops<dmabuf::Unresolved>();
    dmabuf::fill_ring_ops<dmabuf::Premapped>();
    dmabuf::fill_ring_ops<dmabuf::Registered>();
    dmabuf::fill_ring_ops<dmabuf::Bvec>();
    dmabuf::fill_ring_ops<dmabuf::Bounce>();
    dmabuf::fill_ring_ops<dmabuf::Host>();
    dmabuf::fill_ring_ops<dmabuf::HostAtomic>(dmabuf::atomic_ops);
    dmabuf::fill_ring_ops<dmabuf::Syscall>();
    dmabuf::fill_ring_ops<dmabuf::Upstream>();
    dmabuf::fill_sync_ops<dmabuf::RwFdCall>(dmabuf::Submit::sync);
    dmabuf::fill_sync_ops<dmabuf::ModuleCall>(dmabuf::Submit::ioctl);
    dmabuf::fill_sync_ops<dmabuf::MmapCopy>(dmabuf::Submit::mmap);
    dmabuf::fill_packed_ops<dmabuf::Premapped>();
    dmabuf::fill_packed_ops<dmabuf::Bvec>();
    dmabuf::fill_device_ops<dmabuf::Unresolved>();
    dmabuf::fill_device_ops<dmabuf::Premapped>();
    dmabuf::fill_device_ops<dmabuf::Registered>();
    dmabuf::fill_device_ops<dmabuf::Bvec>();
    dmabuf::fill_device_ops<dmabuf::DeviceBounce>();
    dmabuf::fill_device_ops<dmabuf::Upstream>();
    using dmabuf::BufferKind;
    dmabuf::fill_sync_ops<dmabuf::ModuleCall>(dmabuf::Submit::ioctl, BufferKind::device);
    dmabuf::fill_sync_ops<dmabuf::ShadowedCall<dmabuf::ModuleCall>>(dmabuf::Submit::ioctl,
                                                                    BufferKind::shadow);
    return true;
  }();
  (void)filled;
  *ops = &dmabuf::ring_ops[static_cast<size_t>(dmabuf::BufferKind::view)]
                          [static_cast<size_t>(dmabuf::Datapath::automatic)];
}
