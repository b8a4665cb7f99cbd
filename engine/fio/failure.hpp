// SPDX-License-Identifier: GPL-2.0-only
// What is said of an I/O that failed.
#pragma once

#include "fio/api.hpp"

#include "fio/fio_job.hpp"
#include "fio/options.hpp"

namespace dmabuf {

/// io_uring has no such request.
constexpr int kSyncfs = kHasSyncfs ? DDIR_SYNC_FILE_RANGE + 1 : DDIR_INVAL;

/// What users call the I/O.
const char *call_name(const io_u &unit);

/// Says once per job and kind what is known about a failed I/O: of a read or write what the module
/// says, of the rest, in which it has no part, what the call answered.
[[gnu::cold]] void explain(FioJob &state, const io_u &unit);

/// Those that failed of the units that the last reap handed out.
[[gnu::cold]] void explain_failed(FioJob &state, unsigned count);

/// Of what the last reap handed out: the first error that ends the job, said; 0 if there is none.
/// The others are counted, as fio does with errors that it is to go on after.
int late_error(thread_data *td, unsigned count);

/// The job of this thread: the hook errdetails of fio 3.33 is not told whose I/O it is about.
void set_this_job(FioJob *job);

/// What fio adds to its message about a failed I/O, and frees. Never nullptr, which it would print.
char *error_details(io_u *unit);

} // namespace dmabuf
