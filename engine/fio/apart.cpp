// SPDX-License-Identifier: GPL-2.0-only
#include "fio/apart.hpp"

#include "fio/failure.hpp"
#include "fio/fio_job.hpp"
#include "fio/options.hpp"

namespace dmabuf {
namespace {

/// A range in which nothing was written since the last sync, which fio's own call leaves alone. To
/// io_uring it would be one up to the file's end, or before its start.
bool syncs_nothing(const io_u &unit) {
  return unit.ddir == DDIR_SYNC_FILE_RANGE && unit.file->first_write == unit.file->last_write;
}

} // namespace

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

fio_q_status apart(thread_data *td, io_u *unit) {
  Lane &lane = *of(td).lane;
  const bool is_trim = unit->ddir == DDIR_TRIM;
  const bool is_syncfs = static_cast<int>(unit->ddir) == kSyncfs;
  const bool is_nothing = syncs_nothing(*unit);
  if (!is_trim && lane.syncs_last && lane.in_flight && !lane.fatal)
    return FIO_Q_BUSY;
  if (is_trim ? lane.targets[unit->file->fileno].queues_trims
              : !is_syncfs && !lane.syncs_wait && !is_nothing)
    return FIO_Q_QUEUED;
  if (lane.fatal) {
    unit->error = static_cast<unsigned>(lane.fatal);
    return FIO_Q_COMPLETED;
  }
  if (lane.pending_count && !is_nothing)
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

} // namespace dmabuf
