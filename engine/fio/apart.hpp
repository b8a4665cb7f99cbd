// SPDX-License-Identifier: GPL-2.0-only
// I/O that is a call of its own: what the job's datapath has no part in, and what no ring takes.
#pragma once

#include "fio/api.hpp"

namespace dmabuf {

/// fio's own call for a trim. A dma-buf that is the file has nothing to trim; fio may come to that
/// by a log that it replays.
void trim_now(thread_data *td, io_u *unit);

void sync_now(thread_data *td, io_u *unit);

/// What does not go by the ring: trims that it does not take, syncfs, and the syncs of a ring that
/// takes none. Nothing else may be queued, then fio's own call does it. FIO_Q_QUEUED for what does
/// go by the ring. What fio notes of the time for FIO_ASYNCIO_SYNC_TRIM, which is about all trims
/// of a job or none, is noted here.
[[gnu::noinline, gnu::cold]] fio_q_status apart(thread_data *td, io_u *unit);

} // namespace dmabuf
