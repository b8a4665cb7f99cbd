// SPDX-License-Identifier: GPL-2.0-only
// Jobs that do not come to their end: fio 3.33 and 3.41 end with status 0 where a job's process was
// killed, or left by itself.
#pragma once

#include "fio/api.hpp"

namespace dmabuf {

/// What fio's process and those of its jobs share about one job.
struct WatchedJob;

/// To be called once in fio's own process, before there are jobs. If it then ends with status 0 and
/// not all jobs have come to their ends, it says which, and ends with status 1.
void watch_jobs();

/// In the job's process or thread, before it does anything. nullptr: there is no room for more.
WatchedJob *job_begins(const thread_data &td);

/// After everything, the job's report included.
void job_ended(WatchedJob *job);

} // namespace dmabuf
