// SPDX-License-Identifier: GPL-2.0-only
#include "fio/io.hpp"

#include "fio/failure.hpp"
#include "fio/fio_job.hpp"
#include "fio/last_io.hpp"

#include <algorithm>

namespace dmabuf {
namespace {

/// Tells fio when the first `count` pending units were issued.
[[gnu::always_inline]] inline void mark_issued(thread_data *td, io_u **units, unsigned count) {
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

/// Of a batch of which the kernel may have taken a part: what it took has a time, too. Those that
/// are to be tried again are behind what fio has queued.
[[gnu::cold, gnu::noinline]] int commit_failed(thread_data *td, int error) {
  Lane &lane = *of(td).lane;
  const unsigned taken =
      lane.pending_count + lane.again - lane.ring.unsubmitted() - lane.unsubmitted_more();
  if (const unsigned count = std::min(taken, lane.pending_count))
    mark_issued(td, reinterpret_cast<io_u **>(lane.pending.get()), count);
  return break_down(td, error, "libdmabuf: commit");
}

} // namespace

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
  return error ? commit_failed(td, error) : 0;
}

io_u *engine_event(thread_data *td, int number) {
  return static_cast<io_u *>(of(td).lane->ready[static_cast<unsigned>(number)]);
}

fio_q_status remap(thread_data *td, io_u *unit) {
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

int submit_rest(Lane &lane) { return lane.ring.submit(lane.counters.retries); }

int give_back(thread_data *td, int error, unsigned count) {
  const int told = break_down(td, error, "libdmabuf: getevents");
  for (unsigned i = 0; i < count; i++)
    if (auto *unit = static_cast<io_u *>(of(td).lane->ready[i]); !unit->error)
      unit->error = static_cast<unsigned>(error);
  return count ? static_cast<int>(count) : told;
}

} // namespace dmabuf
