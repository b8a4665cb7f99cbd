// SPDX-License-Identifier: GPL-2.0-only
#include "fio/watch.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

namespace dmabuf {

struct WatchedJob {
  std::atomic<bool> runs;
  bool is_thread;
  pid_t process; ///< the job's
  pid_t parent;  ///< fio's, unless the job is a thread of it
  char name[48];
};

namespace {

struct Jobs {
  static constexpr unsigned kMost = 8192; // fio has 4096 at most
  std::atomic<unsigned> count;
  WatchedJob all[kMost];
};

Jobs *jobs = nullptr;

void at_exit(int status, void *) {
  const pid_t self = getpid();
  bool lost = false;
  bool says_it_all = false; // fio, which has something to print
  const unsigned count = std::min<unsigned>(jobs->count, Jobs::kMost);
  for (unsigned i = 0; i < count; i++) {
    const WatchedJob &job = jobs->all[i];
    if (!job.runs || (job.process != self && job.parent != self))
      continue;
    lost = true;
    says_it_all |= job.is_thread || job.parent == self;
    std::fprintf(stderr,
                 "libdmabuf: job %s did not come to its end: its process was killed, or called "
                 "exit(); fio's numbers count for nothing\n",
                 job.name);
  }
  if (!lost || status)
    return;
  if (says_it_all)
    std::fflush(stdout);
  _exit(EXIT_FAILURE);
}

} // namespace

void watch_jobs() {
  void *const shared = mmap(nullptr, sizeof(Jobs), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (shared == MAP_FAILED || on_exit(at_exit, nullptr))
    return;
  jobs = static_cast<Jobs *>(shared);
}

WatchedJob *job_begins(const thread_data &td) {
  const unsigned number = jobs ? jobs->count++ : Jobs::kMost;
  if (number >= Jobs::kMost)
    return nullptr;
  WatchedJob &job = jobs->all[number];
  job.is_thread = td.o.use_thread;
  job.process = getpid();
  job.parent = job.is_thread ? 0 : getppid();
  std::snprintf(job.name, sizeof(job.name), "%s", td.o.name ? td.o.name : "");
  job.runs = true;
  return &job;
}

void job_ended(WatchedJob *job) { job->runs = false; }

} // namespace dmabuf
