// SPDX-License-Identifier: GPL-2.0-only
// What is still in flight when a job breaks down, or when fio is done with it.
#pragma once

#include "fio/api.hpp"

#include "datapath/hot_path.hpp"
#include "fio/failure.hpp"
#include "fio/fio_job.hpp"
#include "fio/io_unit.hpp"

#include <utility>

namespace dmabuf {

/// For places where speed does not matter.
[[gnu::cold]] int submit_rest(Lane &lane);

/// fio may wait for all units even after the job has failed: those of the last reap go back with
/// the error.
[[gnu::cold]] int give_back(thread_data *td, int error, unsigned count);

/// Has what is in flight end and counts it: at the end of a log that it replays fio 3.33 and 3.41
/// no longer ask for it. What fio has queued is issued, as fio counts it, unless the job failed.
template <class Path> [[gnu::cold, gnu::noinline]] void finish(thread_data *td) {
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

} // namespace dmabuf
