// SPDX-License-Identifier: GPL-2.0-only
// The parts of the hooks for every I/O that are the same for all datapaths.
#pragma once

#include "fio/api.hpp"

#include "datapath/lane.hpp"

namespace dmabuf {

int engine_commit(thread_data *td);
io_u *engine_event(thread_data *td, int number);

/// Maps it anew as soon as nothing is in flight, which fio sees to when it is told that the engine
/// is busy. What to answer fio, FIO_Q_QUEUED when the I/O can go on.
[[gnu::cold]] fio_q_status remap(thread_data *td, io_u *unit);

} // namespace dmabuf
