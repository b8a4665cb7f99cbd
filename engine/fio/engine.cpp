// SPDX-License-Identifier: GPL-2.0-only
// fio's hooks: a few lines each, from fio's structures to the job and back.
//
// fio finds the hooks through td->io_ops. There is one table per datapath and way to submit, and a
// job switches to its table once these are known, so that no I/O has to ask which they are.
#include "fio/api.hpp"

#include "base/system.hpp"
#include "base/unique_fd.hpp"
#include "datapath/discard.hpp"
#include "datapath/hot_path.hpp"
#include "datapath/policies.hpp"
#include "datapath/shadow.hpp"
#include "datapath/sync_path.hpp"
#include "fio/options.hpp"
#include "fio/version.hpp"
#include "job/job.hpp"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#include <utility>

namespace dmabuf {
namespace {

static_assert(static_cast<int>(Kind::read) == DDIR_READ &&
              static_cast<int>(Kind::write) == DDIR_WRITE &&
              static_cast<int>(Kind::trim) == DDIR_TRIM &&
              static_cast<int>(Kind::sync) == DDIR_SYNC &&
              static_cast<int>(Kind::datasync) == DDIR_DATASYNC &&
              static_cast<int>(Kind::sync_range) == DDIR_SYNC_FILE_RANGE);

// What submits by io_uring differs by datapath, the rest by the call that it makes; both by what
// fio's buffers are.
ioengine_ops ring_ops[kBufferKinds][kDatapaths];
ioengine_ops sync_ops[kBufferKinds][kSubmits];
// Of datapath host with atomic=1.
ioengine_ops atomic_ops;

/// What td->io_ops_data points to.
struct FioJob {
  std::unique_ptr<Job> job;
  Lane *lane = nullptr;
  int allocation_error = 0; ///< errno; fio 3.33 goes on after a failed iomem_alloc
  unsigned explained = 0;   ///< kinds of I/O whose first failure was explained, by bit
  cmdprio priorities = {};
  ioengine_ops renewed = {}; ///< the job's table while its memory is not attached, or it failed
  bool begun = false;        ///< post_init was there
  MappedRange stand_in;      ///< what fio has for memory that could not be allocated
};

// The job of this thread: the hook errdetails of fio 3.33 is not told whose I/O it is about.
thread_local FioJob *this_job = nullptr;

FioJob &of(thread_data *td) { return *static_cast<FioJob *>(td->io_ops_data); }

/// Says what went wrong, on stderr, and makes the job fail. Always 1.
int give_up(thread_data *td, const Error &error) {
  log_err("libdmabuf: job %s: %s\n", td->o.name ? td->o.name : "", error.message.c_str());
  td_verror(td, static_cast<unsigned>(error.code), "libdmabuf");
  return 1;
}

void switch_to(thread_data *td, const Job &job) {
  const Submit submit = job.config().submit;
  // A job of trims alone has no buffers. That fio may all the same read what it has trimmed, to
  // verify it, is then an error, not a crash.
  const Datapath path = td_read(td) || td_write(td) ? job.path() : Datapath::automatic;
  const auto buffers = static_cast<size_t>(job.buffer_kind());
  ioengine_ops &ops = job.config().atomic       ? atomic_ops
                      : submit == Submit::uring ? ring_ops[buffers][static_cast<size_t>(path)]
                                                : sync_ops[buffers][static_cast<size_t>(submit)];
  // Jobs that are threads share the tables; all of them store the one handle of this library.
  void *const handle = std::atomic_ref(td->io_ops->dlhandle).load(std::memory_order_relaxed);
  std::atomic_ref(ops.dlhandle).store(handle, std::memory_order_relaxed);
  td->io_ops = &ops;
  td_set_ioengine_flags(td);
}

/// Bits of fio's engine flags, for this job alone.
void set_flags(thread_data *td, unsigned flags) {
  td->flags |= static_cast<unsigned long long>(flags) << TD_ENG_FLAG_SHIFT;
}

void clear_flags(thread_data *td, unsigned flags) {
  td->flags &= ~(static_cast<unsigned long long>(flags) << TD_ENG_FLAG_SHIFT);
}

/// Adapter of the hot path to fio's unit of I/O.
struct FioIo {
  using Unit = io_u;
  static Kind kind(const io_u &unit) { return static_cast<Kind>(unit.ddir); }
  static unsigned index(const io_u &unit) { return unit.index; }
  static uint64_t length(const io_u &unit) { return unit.xfer_buflen; }
  static Request request(const Lane &lane, io_u &unit) {
    return {.kind = kind(unit),
            .index = unit.index,
            .file_offset = unit.offset,
            .buffer = static_cast<std::byte *>(unit.xfer_buf),
            .length = static_cast<uint32_t>(unit.xfer_buflen),
            .target = &lane.targets[unit.file->fileno],
            .ioprio = unit.ioprio};
  }
  [[gnu::noinline]] static void fill_sync(const Lane &lane, io_uring_sqe &sqe, io_u &unit) {
    const fio_file &file = *unit.file;
    const Target &target = lane.targets[file.fileno];
    if (unit.ddir == DDIR_TRIM)
      return fill_discard(sqe, target, unit.offset, unit.xfer_buflen);
    // In no order with what is in flight, as with engine io_uring: it makes durable what has
    // completed. (Drained, it would stall the queue, and a wait for several completions at once
    // may then sleep for ever on kernel 7.3.4: a wake-up gets lost.)
    sqe.flags = target.sqe_flags;
    sqe.fd = target.sqe_fd;
    sqe.opcode = IORING_OP_FSYNC;
    if (unit.ddir == DDIR_DATASYNC)
      sqe.fsync_flags = IORING_FSYNC_DATASYNC;
    if (unit.ddir == DDIR_SYNC_FILE_RANGE) {
      sqe.opcode = IORING_OP_SYNC_FILE_RANGE;
      sqe.off = file.first_write;
      sqe.len = static_cast<uint32_t>(file.last_write - file.first_write);
      sqe.sync_range_flags = static_cast<uint32_t>(lane.sync_range_flags);
    }
  }
  static void done(io_u &unit, int error, uint64_t missing) {
    unit.error = static_cast<unsigned>(error);
    unit.resid = missing;
  }
};

/// The same for what is in flight when fio is done with its files: it frees them before the memory.
/// Such a unit is not issued again.
struct LateIo : FioIo {
  static Request request(const Lane &, io_u &unit) {
    return {.kind = kind(unit),
            .index = unit.index,
            .file_offset = unit.offset,
            .buffer = static_cast<std::byte *>(unit.xfer_buf),
            .length = static_cast<uint32_t>(unit.xfer_buflen),
            .target = nullptr,
            .ioprio = unit.ioprio};
  }
  static void fill_sync(const Lane &, io_uring_sqe &, io_u &) {}
};

std::vector<void *> slot_buffers(const thread_data &td) {
  std::vector<void *> buffers;
  if (td_read(&td) || td_write(&td)) {
    buffers.resize(td.o.iodepth);
    for (unsigned i = 0; i < td.o.iodepth; i++) {
      const io_u *unit = td.io_u_all.io_us[i];
      buffers[unit->index] = unit->buf;
    }
  }
  return buffers;
}

int engine_init(thread_data *td) {
  auto job = Job::create(job_config(*td));
  if (!job)
    return give_up(td, job.error());
  auto *state = new FioJob;
  state->job = std::move(*job);
  state->lane = &state->job->lane();
  state->lane->sync_range_flags = td->o.sync_file_range;
  state->lane->spins = state->job->config().sqpoll;
  state->lane->polls = !td->o.iodepth_batch_complete_min;
  if (state->lane->spins) // the time until the kernel's thread was told is none of an I/O's
    td->o.disable_slat = 1;
  td->io_ops_data = state;
  this_job = state;
  // The drive's command then has FUA, of whatever datapath; fio opens the files after this.
  if (state->job->config().force_writes)
    td->o.sync_io |= O_DSYNC;
  auto *options = static_cast<FioOptions *>(td->eo);
  if (fio_cmdprio_init(td, &state->priorities, &options->priorities))
    return give_up(td,
                   {EINVAL, "cmdprio_percentage and cmdprio_bssplit exclude each other, and the "
                            "percentages of a block size add up to at most 100; correct them"});
  switch_to(td, *state->job);
  return 0;
}

/// The block device of a namespace whose character device (ng0n1) the file is; empty for others.
std::string block_device_of(const fio_file &file) {
  const std::string name = file.file_name;
  const size_t at = name.find_last_of('/') + 1;
  int controller = 0;
  int number = 0;
  if (file.filetype != FIO_TYPE_CHAR ||
      std::sscanf(name.c_str() + at, "ng%dn%d", &controller, &number) != 2)
    return {};
  return name.substr(0, at) + "nvme" + name.substr(at + 2);
}

/// Asked before there is a job, by the job's own options. Where the files are dma-bufs fio is not
/// to look at the disk: it is told of an empty file that an engine without disk and without data
/// (FAKEIO) makes as long as the job wants. engine_open_file() takes the latter back, as fio
/// verifies nothing while it is set.
int engine_get_file_size(thread_data *td, fio_file *file) {
  if (const std::string device = block_device_of(*file); !device.empty())
    return give_up(td, {EINVAL, strf("%s takes NVMe commands, as of fio's engine io_uring_cmd, and "
                                     "no reads and writes; give %s as filename",
                                     file->file_name, device.c_str())});
  if (!files_are_buffers(*td))
    return generic_get_file_size(td, file);
  if (file->filetype != FIO_TYPE_FILE)
    return give_up(td, {EINVAL, strf("dmabuf_datapath=syscall reads and writes the dma-buf itself "
                                     "and would leave %s alone; drop filename",
                                     file->file_name)});
  if (access(file->file_name, F_OK) == 0)
    log_err("libdmabuf: job %s: dmabuf_datapath=syscall reads and writes a dma-buf of that size; "
            "the file %s is left alone\n",
            td->o.name ? td->o.name : "", file->file_name);
  set_flags(td, FIO_DISKLESSIO | FIO_FAKEIO);
  file->real_file_size = 0;
  fio_file_set_size_known(file);
  return 0;
}

/// A file that never was on a disk is not removed from it.
int engine_unlink_file(thread_data *td, fio_file *file) {
  if (files_are_buffers(*td))
    return 0;
  return unlink(file->file_name) < 0 ? errno : 0;
}

/// Makes the dma-buf that is this file.
int make_buffer_file(thread_data *td, const fio_file &file) {
  auto ok = of(td).job->make_file(static_cast<unsigned>(file.fileno), file.real_file_size);
  return ok ? 0 : give_up(td, ok.error());
}

/// The CPU does not map the memory: what fio does with its buffers costs copies.
void use_device_memory(thread_data *td) {
  const Job &job = *of(td).job;
  switch_to(td, job);
  if (!job.config().cpu_fills || job.config().refills)
    return;
  td->flags &= ~static_cast<unsigned long long>(TD_F_SCRAMBLE_BUFFERS);
  log_err("libdmabuf: job %s: fio's default scrambling of write buffers is left out, because each "
          "write to memory that the CPU does not map would cost a copy; scramble_buffers=1 has it "
          "done\n",
          job.config().name.c_str());
}

/// Attaches the memory that fio got in the middle of the job, once its buffers are in it. Returns 0
/// or a positive errno.
[[gnu::cold]] int renew(thread_data *td) {
  FioJob &state = of(td);
  int &fatal = state.lane->fatal;
  if (!fatal)
    fatal = state.allocation_error;
  if (fatal)
    return fatal;
  if (auto ok = state.job->attach(slot_buffers(*td)); !ok) {
    give_up(td, ok.error());
    fatal = ok.error().code;
    return fatal;
  }
  switch_to(td, *state.job);
  return 0;
}

fio_q_status queue_renewed(thread_data *td, io_u *unit) {
  if (const int error = renew(td)) {
    unit->error = static_cast<unsigned>(error);
    return FIO_Q_COMPLETED;
  }
  return td->io_ops->queue(td, unit);
}

bool attaches_later(thread_data *td) { return td->io_ops == &of(td).renewed; }

/// Has the next hook that needs the memory attach it: fio puts its buffers there after this. After
/// an error that ends the job's I/O that hook fails. Costs the other jobs nothing.
void attach_later(thread_data *td) {
  FioJob &state = of(td);
  if (attaches_later(td))
    return;
  state.renewed = *td->io_ops;
  state.renewed.queue = queue_renewed;
  // Nothing is queued, or it will never be submitted: getevents() hands that back.
  if (state.renewed.commit)
    state.renewed.commit = [](thread_data *) { return 0; };
  td->io_ops = &state.renewed;
}

/// After a chunk of a replayed log fio does not look whether there was memory: it gets some that it
/// may fill, and the next I/O fails.
int fail_later(thread_data *td, const Error &error, size_t bytes) {
  FioJob &state = of(td);
  give_up(td, error);
  state.allocation_error = error.code;
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return 1;
  state.stand_in = MappedRange(memory, bytes);
  td->orig_buffer = static_cast<char *>(memory);
  attach_later(td);
  return 0;
}

/// Bytes from one of fio's buffers to the next, from how much it wants for all of them.
uint64_t slot_stride(const thread_data &td) {
  return (td.orig_buffer_size - (page_bytes() - 1) - td.o.mem_align) / td.o.iodepth;
}

int engine_iomem_alloc(thread_data *td, size_t bytes) {
  const bool again = of(td).begun;
  auto memory = of(td).job->allocate(bytes, slot_stride(*td));
  if (!memory && again)
    return fail_later(td, memory.error(), bytes);
  if (!memory) {
    of(td).allocation_error = memory.error().code;
    return give_up(td, memory.error());
  }
  td->orig_buffer = static_cast<char *>(*memory);
  if (again) {
    attach_later(td);
    return 0;
  }
  if (const std::string note = of(td).job->memory_note(); !note.empty())
    log_err("libdmabuf: job %s: %s\n", of(td).job->config().name.c_str(), note.c_str());
  if (of(td).job->buffer_kind() != BufferKind::view)
    use_device_memory(td);
  return 0;
}

/// fio frees the memory at the end, after every kind of failure, and in the middle when the next
/// chunk of a log that it replays has longer I/Os: it then allocates anew.
void free_memory(thread_data *td) {
  FioJob &state = of(td);
  if (state.lane->in_flight) // after an error: what the kernel has goes with the ring
    state.job->stop();
  else
    state.job->release_memory();
  state.stand_in.reset();
  td->orig_buffer = nullptr;
}

void engine_iomem_free(thread_data *td) {
  if (td->io_ops_data)
    free_memory(td);
}

int engine_post_init(thread_data *td) {
  FioJob &state = of(td);
  if (state.allocation_error) // already said; some fio versions come here all the same
    return 1;
  if (auto ok = state.job->start(slot_buffers(*td)); !ok)
    return give_up(td, ok.error());
  state.begun = true;
  // fio 3.33 with create_serialize=0 learns the sizes later: such files are made when opened.
  if (files_are_buffers(*td))
    for (unsigned i = 0; i < td->files_index && i < td->o.nr_files; i++)
      if (td->files[i]->io_size && make_buffer_file(td, *td->files[i]))
        return 1;
  return 0;
}

/// Opens a file that is a dma-buf.
int open_buffer_file(thread_data *td, fio_file *file) {
  clear_flags(td, FIO_FAKEIO);
  if (make_buffer_file(td, *file))
    return 1;
  auto fd = of(td).job->open_file(static_cast<unsigned>(file->fileno));
  if (!fd)
    return give_up(td, fd.error());
  file->fd = fd->release();
  return 0;
}

int engine_open_file(thread_data *td, fio_file *file) {
  if (files_are_buffers(*td)) {
    if (open_buffer_file(td, file))
      return 1;
  } else if (generic_open_file(td, file)) {
    if (td_write(td) && (td->error == EACCES || td->error == EROFS || td->error == EPERM))
      log_err(
          "libdmabuf: job %s: %s cannot be opened for writing (%s) and this job writes; check its "
          "permissions (blockdev --getro for a device), or use a read workload\n",
          td->o.name ? td->o.name : "", file->file_name, errno_name(td->error).c_str());
    return 1;
  }
  // fio also opens files to learn their size: in the parent before there is a job, or before
  // post_init.
  if (!td->io_ops_data || !of(td).job->started())
    return 0;
  if (attaches_later(td) && renew(td)) {
    [[maybe_unused]] const int closed = generic_close_file(td, file);
    return 1;
  }
  Job &job = *of(td).job;
  const bool open_question = job.path() == Datapath::automatic;
  if (auto ok = job.open_target(static_cast<unsigned>(file->fileno), file->fd, file->file_name);
      !ok) {
    // fio blames O_DIRECT for any EINVAL of an open.
    give_up(td, {ok.error().code == EINVAL ? EOPNOTSUPP : ok.error().code, ok.error().message});
    job.close_target(static_cast<unsigned>(file->fileno));
    [[maybe_unused]] const int closed = generic_close_file(td, file);
    return 1;
  }
  if (const std::string why = job.trims_note(); !why.empty())
    log_err("libdmabuf: job %s: trims of %s are done one at a time: %s\n",
            job.config().name.c_str(), file->file_name, why.c_str());
  if (open_question && job.path() != Datapath::automatic) {
    if (!job.passed_over().empty())
      log_err("libdmabuf: job %s: auto took %s for %s; passed over: %s\n",
              job.config().name.c_str(), datapath_name(job.path()), file->file_name,
              job.passed_over().c_str());
    switch_to(td, job);
  }
  return 0;
}

int engine_close_file(thread_data *td, fio_file *file) {
  if (td->io_ops_data)
    of(td).job->close_target(static_cast<unsigned>(file->fileno));
  return generic_close_file(td, file);
}

/// io_uring has no such request.
constexpr int kSyncfs = kHasSyncfs ? DDIR_SYNC_FILE_RANGE + 1 : DDIR_INVAL;

const char *call_name(const io_u &unit) {
  if (static_cast<int>(unit.ddir) == kSyncfs)
    return "syncfs";
  switch (static_cast<Kind>(unit.ddir)) {
  case Kind::read:
    return "read";
  case Kind::write:
    return "write";
  case Kind::trim:
    return "trim";
  case Kind::sync:
    return "fsync";
  case Kind::datasync:
    return "fdatasync";
  case Kind::sync_range:
    return "sync_file_range";
  }
  return "I/O";
}

/// Says once per job and kind what is known about a failed I/O: of a read or write what the module
/// says, of the rest, in which it has no part, what the call answered.
[[gnu::cold]] void explain(FioJob &state, const io_u &unit) {
  const unsigned kind = 1U << static_cast<unsigned>(unit.ddir);
  const bool data = unit.ddir == DDIR_READ || unit.ddir == DDIR_WRITE;
  if (state.explained & kind)
    return;
  state.explained |= kind;
  const auto error = static_cast<int>(unit.error);
  const char *name = state.job->config().name.c_str();
  if (!data && unit.ddir != DDIR_TRIM) {
    log_err("libdmabuf: job %s: %s of %s failed: %s (%s)\n", name, call_name(unit),
            unit.file->file_name, std::strerror(error), errno_name(error).c_str());
    return;
  }
  const std::string why =
      data ? state.job->explain_failure(static_cast<unsigned>(unit.file->fileno), error)
           : strf("%s (%s)", std::strerror(error), errno_name(error).c_str());
  if (!why.empty())
    log_err("libdmabuf: job %s: %s at offset %llu of %s: %s\n", name, call_name(unit), unit.offset,
            unit.file->file_name, why.c_str());
}

/// fio's own call for a trim. A dma-buf that is the file has nothing to trim; fio may come to that
/// by a log that it replays.
void trim_now(thread_data *td, io_u *unit) {
  FioJob &state = of(td);
  if (files_are_buffers(*td)) {
    const unsigned kind = 1U << static_cast<unsigned>(Kind::trim);
    if (!(state.explained & kind))
      log_err("libdmabuf: job %s: dmabuf_datapath=syscall has nothing to trim: a dma-buf has no "
              "blocks to give back; drop the trims\n",
              state.job->config().name.c_str());
    state.explained |= kind;
    unit->error = EOPNOTSUPP;
  } else {
    do_io_u_trim(td, unit);
    if (unit->error) [[unlikely]]
      explain(state, *unit);
  }
  state.lane->counters.trims += !unit->error;
  state.lane->counters.errors += unit->error != 0;
}

void sync_now(thread_data *td, io_u *unit) {
  FioJob &state = of(td);
  if (!files_are_buffers(*td)) // a dma-buf has nothing to make durable
    do_io_u_sync(td, unit);
  if (unit->error) [[unlikely]]
    explain(state, *unit);
  state.lane->counters.syncs += !unit->error;
  state.lane->counters.errors += unit->error != 0;
}

/// What does not go by the ring: trims that it does not take, syncfs, and the syncs of a ring that
/// takes none. Nothing else may be queued, then fio's own call does it. FIO_Q_QUEUED for what does
/// go by the ring. What fio notes of the time for FIO_ASYNCIO_SYNC_TRIM, which is about all trims
/// of a job or none, is noted here.
[[gnu::noinline, gnu::cold]] fio_q_status apart(thread_data *td, io_u *unit) {
  Lane &lane = *of(td).lane;
  const bool is_trim = unit->ddir == DDIR_TRIM;
  const bool is_syncfs = static_cast<int>(unit->ddir) == kSyncfs;
  if (is_trim ? lane.targets[unit->file->fileno].queues_trims : !is_syncfs && !lane.syncs_wait)
    return FIO_Q_QUEUED;
  if (lane.fatal) {
    unit->error = static_cast<unsigned>(lane.fatal);
    return FIO_Q_COMPLETED;
  }
  if (lane.pending_count)
    return FIO_Q_BUSY;
  if (fio_fill_issue_time(td)) {
    fio_gettime(&unit->issue_time, nullptr);
    if (td->o.read_iolog_file)
      td->last_issue = unit->issue_time;
  }
  is_trim ? trim_now(td, unit) : sync_now(td, unit);
  io_u_mark_submit(td, 1);
  io_u_mark_complete(td, 1);
  return FIO_Q_COMPLETED;
}

/// Tells fio when the first `count` pending units were issued.
void mark_issued(thread_data *td, io_u **units, unsigned count) {
  io_u_mark_submit(td, count);
  if (!fio_fill_issue_time(td))
    return;
  timespec now;
  fio_gettime(&now, nullptr);
  for (unsigned i = 0; i < count; i++) {
    units[i]->issue_time = now;
    io_u_queued(td, units[i]);
  }
  if (td->o.read_iolog_file)
    td->last_issue = now;
}

/// Makes the job fail after an error that leaves it unable to do more I/O. Always a negative errno.
[[gnu::cold]] int break_down(thread_data *td, int error, const char *where) {
  of(td).lane->fatal = error;
  td_verror(td, static_cast<unsigned>(error), where);
  attach_later(td);
  return -error;
}

int engine_commit(thread_data *td) {
  FioJob &state = of(td);
  Lane &lane = *state.lane;
  const unsigned count = lane.pending_count;
  if (!count)
    return 0;
  int error = lane.fatal;
  if (!error)
    error = state.job->before_submit();
  if (!error)
    error = lane.ring.submit(lane.counters.retries);
  if (!error) {
    lane.pending_count = 0;
    mark_issued(td, reinterpret_cast<io_u **>(lane.pending.get()), count);
    error = state.job->after_submit();
  }
  return error ? break_down(td, error, "libdmabuf: commit") : 0;
}

/// Those that failed of the units that the last reap handed out.
[[gnu::cold]] void explain_failed(FioJob &state, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    if (const auto *unit = static_cast<const io_u *>(state.lane->ready[i]); unit->error)
      explain(state, *unit);
}

/// Whether the dma-buf has to be mapped anew before the next I/O.
bool remap_is_due(Lane &lane) { return lane.remap_every && lane.since_remap++ == lane.remap_every; }

/// Maps it anew as soon as nothing is in flight, which fio sees to when it is told that the engine
/// is busy. What to answer fio, FIO_Q_QUEUED when the I/O can go on.
[[gnu::cold]] fio_q_status remap(thread_data *td, io_u *unit) {
  FioJob &state = of(td);
  state.lane->since_remap = state.lane->remap_every; // still due
  if (state.lane->in_flight)
    return FIO_Q_BUSY;
  if (auto ok = state.job->remap(); !ok) {
    give_up(td, ok.error());
    state.lane->fatal = ok.error().code;
    attach_later(td);
    unit->error = static_cast<unsigned>(ok.error().code);
    return FIO_Q_COMPLETED;
  }
  state.lane->since_remap = 1; // this I/O
  return FIO_Q_QUEUED;
}

/// Where it is no matter of speed.
[[gnu::cold, gnu::noinline]] int submit_rest(Lane &lane) {
  return lane.ring.submit(lane.counters.retries);
}

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
      return hand_back(lane, most);
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
        rc = polled || lane.polls ? lane.ring.poll() : lane.ring.wait(least - done);
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
    finish(td);
    free_memory(td);
  }

private:
  /// fio may wait until it has all units back, whatever it is told of the job: those of the last
  /// reap go back with the error.
  [[gnu::cold, gnu::noinline]] static int give_back(thread_data *td, int error, unsigned count) {
    const int told = break_down(td, error, "libdmabuf: getevents");
    for (unsigned i = 0; i < count; i++)
      if (auto *unit = static_cast<io_u *>(of(td).lane->ready[i]); !unit->error)
        unit->error = static_cast<unsigned>(error);
    return count ? static_cast<int>(count) : told;
  }

  /// After an error: what the kernel has is waited for, then what it never got goes back as failed.
  [[gnu::cold, gnu::noinline]] static int hand_back(Lane &lane, unsigned most) {
    unsigned done = 0;
    lane.max_tries = 0;
    while (lane.submitted() && done < most) {
      const unsigned reaped = Hot::reap(lane, done, most - done);
      done += reaped;
      const int rc = reaped ? 0 : lane.ring.wait(1);
      if (rc < 0 && rc != -EINTR && rc != -EAGAIN)
        break;
    }
    // Whether the kernel took a part of them is known where it took none.
    if (!lane.submitted() && lane.pending_count == lane.in_flight)
      for (; lane.pending_count && done < most; done++, lane.in_flight--, lane.dropped++) {
        auto *unit = static_cast<io_u *>(lane.pending[--lane.pending_count]);
        unit->error = static_cast<unsigned>(lane.fatal);
        lane.ready[done] = unit;
      }
    return done ? static_cast<int>(done) : -lane.fatal;
  }

  /// Has what is in flight end and counts it: at the end of a log that it replays fio 3.33 and 3.41
  /// no longer ask for it. What fio has queued is issued, as fio counts it, unless the job failed.
  [[gnu::cold, gnu::noinline]] static void finish(thread_data *td) {
    Lane &lane = *of(td).lane;
    const unsigned tries = std::exchange(lane.max_tries, 0);
    int error = lane.fatal;
    if (lane.in_flight && !error && !td->error) {
      error = of(td).job->before_submit();
      if (!error)
        error = submit_rest(lane);
      if (!error)
        lane.pending_count = 0;
      lane.fatal = error;
    }
    while (lane.submitted()) {
      if (const unsigned done = HotPath<Path, LateIo>::reap(lane, 0, lane.depth)) {
        const int failed = late_error(td, done);
        error = error ? error : failed;
        continue;
      }
      const int rc = lane.ring.wait(1);
      if (rc < 0 && rc != -EINTR && rc != -EAGAIN)
        break;
    }
    lane.max_tries = tries;
    if (!error) // what was read could not be copied
      error = lane.fatal;
    if (error)
      td_verror(td, static_cast<unsigned>(error), "libdmabuf: the last I/Os");
  }

  /// Of what the last reap handed out: the first error that ends the job, said; 0 if there is none.
  /// The others are counted, as fio does with errors that it is to go on after.
  static int late_error(thread_data *td, unsigned count) {
    int error = 0;
    for (unsigned i = 0; i < count; i++) {
      const auto &unit = *static_cast<const io_u *>(of(td).lane->ready[i]);
      const auto code = static_cast<int>(unit.error);
      if (!code || error)
        continue;
      if (td_non_fatal_error(td, td_error_type(unit.ddir, code), code)) {
        update_error_count(td, code);
        continue;
      }
      error = code;
      log_err("libdmabuf: job %s: one of the last I/Os, a %s at offset %llu, failed: %s (%s)\n",
              of(td).job->config().name.c_str(), call_name(unit), unit.offset, std::strerror(code),
              errno_name(code).c_str());
    }
    return error;
  }

  /// Issues the requests that the last reap prepared again. Returns 0 or a positive errno.
  [[gnu::cold]] static int resubmit(thread_data *td, Lane &lane) {
    lane.again = 0;
    // What fio has queued goes along, so it has to be marked as issued.
    return lane.pending_count ? -engine_commit(td) : submit_rest(lane);
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

/// What fio adds to its message about a failed I/O, and frees. Never nullptr, which it would print.
char *error_details(io_u *unit) {
  if (!this_job || !unit->file || !this_job->job->started())
    return strdup("libdmabuf: the job was stopped after an error");
  if (unit->ddir != DDIR_READ && unit->ddir != DDIR_WRITE)
    return strdup(
        strf("libdmabuf: a %s moves no data, so the dma-buf has no part in it", call_name(*unit))
            .c_str());
  return strdup(this_job->job
                    ->locate_failure(FioIo::request(*this_job->lane, *unit),
                                     static_cast<unsigned>(unit->file->fileno))
                    .c_str());
}

/// The hook takes the job, too, from fio 3.36 on.
[[maybe_unused]] char *engine_errdetails(io_u *unit) { return error_details(unit); }
[[maybe_unused]] char *engine_errdetails(thread_data *, io_u *unit) { return error_details(unit); }

io_u *engine_event(thread_data *td, int number) {
  return static_cast<io_u *>(of(td).lane->ready[static_cast<unsigned>(number)]);
}

void engine_cleanup(thread_data *td) {
  std::unique_ptr<FioJob> state(static_cast<FioJob *>(td->io_ops_data));
  td->io_ops_data = nullptr;
  this_job = nullptr;
  if (!state)
    return;
  if (state->priorities.options)
    fio_cmdprio_cleanup(&state->priorities);
  Job &job = *state->job;
  switch_to(td, job); // from a table that ends with the state
  job.stop();
  if (!job.ran())
    return;
  const JobReport report = job.report();
  log_err("%s\n", summary_line(report).c_str());
  if (auto ok = job.write_report(report); !ok)
    give_up(td, ok.error());
  // fio takes td->error after this hook for its exit status and its JSON.
  if (!report.proof.proven)
    give_up(td, {EPROTO, strf("datapath %s is not proven, so its numbers count for nothing: %s",
                              datapath_name(report.path), report.proof.text.c_str())});
}

// What a fio has that knows it; a job that cannot have it is refused in words of ours.
constexpr int kMoreFlags =
    // FIO_ASYNCIO_SYNC_SYNCFS is the next of fio's flags: syncfs is done at once, and asked for.
    (kHasSyncfs ? FIO_ASYNCIO_SYNC_TRIM << 1 : 0) |
#ifdef FIO_HAVE_RWF_ATOMIC
    FIO_ATOMICWRITES |
#endif
    0;

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

template <class Call> void fill_sync_ops(Submit submit, BufferKind buffers = BufferKind::view) {
  ioengine_ops &ops = sync_ops[static_cast<size_t>(buffers)][static_cast<size_t>(submit)];
  fill_common(ops);
  ops.flags |= FIO_SYNCIO;
  if (traits(submit).needs_file)
    ops.flags |= FIO_DISKLESSIO;
  ops.queue = sync_queue<Call>;
}

} // namespace
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
