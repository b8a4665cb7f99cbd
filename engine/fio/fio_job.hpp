// SPDX-License-Identifier: GPL-2.0-only
// What the hooks share: the job behind fio's thread_data, and its state between them.
#pragma once

#include "fio/api.hpp"

#include "base/unique_fd.hpp"
#include "fio/watch.hpp"
#include "job/job.hpp"

namespace dmabuf {

/// What td->io_ops_data points to.
struct FioJob {
  std::unique_ptr<Job> job;
  Lane *lane = nullptr;
  int allocation_error = 0; ///< errno; fio 3.33 goes on after a failed iomem_alloc
  unsigned explained = 0;   ///< kinds of I/O whose first failure was explained, by bit
  cmdprio priorities = {};
  ioengine_ops renewed = {}; ///< the job's table while its memory is not attached, or it failed
  bool begun = false;        ///< post_init was there
  WatchedJob *watched = nullptr;
  MappedRange stand_in; ///< what fio has for memory that could not be allocated
};

inline FioJob &of(thread_data *td) { return *static_cast<FioJob *>(td->io_ops_data); }

/// Bits of fio's engine flags, for this job alone.
inline void set_flags(thread_data *td, unsigned flags) {
  td->flags |= static_cast<unsigned long long>(flags) << TD_ENG_FLAG_SHIFT;
}

inline void clear_flags(thread_data *td, unsigned flags) {
  td->flags &= ~(static_cast<unsigned long long>(flags) << TD_ENG_FLAG_SHIFT);
}

/// Says what went wrong, on stderr, and makes the job fail. Always 1.
int give_up(thread_data *td, const Error &error);

/// Makes the job fail after an error that leaves it unable to do more I/O. Always a negative errno.
[[gnu::cold]] int break_down(thread_data *td, int error, const char *where);

/// Has fio use the table of hooks for what the job's datapath, submission and buffers are by now.
void switch_to(thread_data *td, const Job &job);

/// Has the next hook that needs the memory attach it: fio puts its buffers there after this. After
/// an error that ends the job's I/O that hook fails. Costs the other jobs nothing.
void attach_later(thread_data *td);

/// Whether that was asked for and did not happen yet.
bool attaches_later(thread_data *td);

/// Attaches the memory that fio got in the middle of the job, once its buffers are in it. Returns 0
/// or a positive errno.
[[gnu::cold]] int renew(thread_data *td);

/// Makes the dma-buf that is this file. 0, or 1 after it has said what went wrong.
int make_buffer_file(thread_data *td, const fio_file &file);

/// fio frees the memory at the end, after every kind of failure, and in the middle when the next
/// chunk of a log that it replays has longer I/Os: it then allocates anew.
void free_memory(thread_data *td);

} // namespace dmabuf
