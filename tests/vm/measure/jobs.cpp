// SPDX-License-Identifier: GPL-2.0-only
// The same I/O by one job and by several at once, each on a CPU and with a ring and a mapping of
// its own. What the kernel executes on all CPUs is counted by count.c: the clock that stands for
// instructions runs while CPUs are idle.
//
// As in io.cpp, the drive's interrupts are held back until it has had time to do all of it. A batch
// counts only if each job had one interrupt. A gap is a job's sleep of that length.
//
// The jobs have all CPUs but the last, from which they are told what to do. Every one of those CPUs
// is kept from going idle, also where one job runs.
#include "datapath.hpp"
#include "marks.h"
#include "measure.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sched.h>
#include <semaphore>
#include <sstream>
#include <thread>
#include <unistd.h>

namespace measure {

namespace {

constexpr unsigned gap_us = 4000, batches = 30;
constexpr std::uint64_t device_span = 512ul << 20; // of the drive, used by all

void stay_on(unsigned cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  if (::sched_setaffinity(0, sizeof(one), &one) != 0)
    die(std::format("cannot stay on CPU {}", cpu));
}

// Of the drive's queues for I/O, on all CPUs.
std::uint64_t interrupts() {
  std::ifstream file("/proc/interrupts");
  std::uint64_t all = 0;
  for (std::string line; std::getline(file, line);) {
    const auto name = line.find("nvme0q");
    if (name == std::string::npos || line.substr(name) == "nvme0q0")
      continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::uint64_t count; words >> count;)
      all += count;
  }
  return all;
}

class Job {
public:
  Job(const Case &what, unsigned cpu) : cpu_(cpu), thread_([this, &what] { work(what); }) {
    wait();
  }
  Job(const Job &) = delete;
  Job &operator=(const Job &) = delete;
  ~Job() {
    tell(Order::leave);
    thread_.join();
  }

  enum class Order { batch, gap, leave };
  void tell(Order order) {
    order_ = order;
    told_.release();
  }
  void wait() { done_.acquire(); }

private:
  void work(const Case &what) {
    stay_on(cpu_);
    // The ring is of the thread that makes it.
    const auto path = make_datapath(what);
    const auto depth = static_cast<unsigned>(what.number("depth"));
    const std::uint64_t step = std::max<std::uint64_t>(what.number("bs"), 4096);
    std::mt19937_64 random(7 + cpu_);
    const Spinner spinner;
    for (;;) {
      done_.release();
      told_.acquire();
      if (order_ == Order::leave)
        return;
      if (order_ == Order::gap)
        ::usleep(gap_us);
      else
        batch(*path, depth, [&] { return random() % (device_span / step) * step; });
    }
  }

  static void batch(Datapath &path, unsigned depth, const auto &offset) {
    io_uring *ring = path.ring();
    for (unsigned slot = 0; slot < depth; ++slot)
      if (!path.prepare(slot, offset()))
        die("no room in the submission queue");
    int status = io_uring_submit(ring);
    if (status != static_cast<int>(depth))
      die("submission: " + errno_name(status));
    io_uring_cqe *cqe = nullptr;
    do
      status = io_uring_wait_cqe_nr(ring, &cqe, depth);
    while (status == -EINTR);
    if (status < 0)
      die("wait: " + errno_name(status));
    unsigned head = 0;
    io_uring_for_each_cqe(ring, head, cqe) {
      if (cqe->res != path.expected()) [[unlikely]]
        die("an I/O ended with " + errno_name(cqe->res));
    }
    io_uring_cq_advance(ring, depth);
  }

  unsigned cpu_;
  std::atomic<Order> order_ = Order::batch;
  std::binary_semaphore told_{0}, done_{0};
  std::thread thread_;
};

using Jobs = std::span<const std::unique_ptr<Job>>;

// A batch of each job, or the same time without.
void round_of(Jobs jobs, Job::Order order) {
  drive_interrupt().mask();
  MARK(MARK_BEGIN);
  for (const auto &job : jobs)
    job->tell(order);
  ::usleep(gap_us);
  drive_interrupt().unmask();
  for (const auto &job : jobs)
    job->wait();
  MARK(MARK_END);
}

// One repeat, which the plug-in writes.
void repeat(Jobs jobs) {
  unsigned redone = 0;
  MARK(MARK_FORGET_BATCHES);
  MARK(MARK_FORGET_GAPS);
  for (unsigned kept = 0; kept < batches;) {
    const std::uint64_t before = interrupts();
    round_of(jobs, Job::Order::batch);
    if (interrupts() - before != jobs.size()) {
      // Somebody's I/O was not done in time.
      if (++redone > 2 * batches)
        die("the drive does not get a batch done in time");
      continue;
    }
    MARK(MARK_BATCH);
    ++kept;
    round_of(jobs, Job::Order::gap);
    MARK(MARK_GAP);
  }
  MARK(MARK_WRITE);
  std::printf("{\"jobs\": %zu, \"redone\": %u}\n", jobs.size(), redone);
  std::fflush(stdout);
}

} // namespace

int run_jobs(const Case &what, unsigned repeats) {
  const long cpus = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (cpus < 3)
    die("several jobs need three CPUs or more");
  const auto most = static_cast<unsigned>(cpus) - 1;
  stay_on(most);
  memory_of(what.text("memory"), what.number("depth") * ((what.number("bs") + 4095) & ~4095ull));
  std::vector<std::unique_ptr<Job>> jobs;
  for (unsigned cpu = 0; cpu < most; ++cpu)
    jobs.push_back(std::make_unique<Job>(what, cpu));
  // The first of each warms up, and is not asked for.
  for (unsigned nth = 0; nth <= repeats; ++nth) {
    repeat(Jobs(jobs).first(1));
    repeat(jobs);
  }
  return 0;
}

} // namespace measure
