// SPDX-License-Identifier: GPL-2.0-only
// Reads and writes: one loop for every datapath. A submission entry is made once per slot and
// copied; per I/O only its file offset changes. So only the datapath differs.
//
// io path=… memory=… bs=… depth=… [writes=1] [file=one|many] [polled=1] [hint=BYTES] [whole=1]
// [ranges=N]
//    [each=1] [batches=N] [free=1 [ios=N]]
//
// ranges: so many I/Os in one command; depth counts I/Os all the same.
// each: every entry is submitted by a call of its own, as a program does that waits for one I/O at
// a time. What waiting for each would cost is the same for all datapaths, and left out.
//
// Held, the default: all I/O of a batch is submitted with one call. The drive's interrupt is
// masked, as PCI functions can be, until the drive has had time to do all of it; then one interrupt
// completes the batch. So the figure does not depend on how fast the machine below the guest is.
// What the kernel's own threads do meanwhile counts; idle time does not, nor what passes when the
// same is done without any I/O. A batch that was not done in time is done again.
// Free: as a load generator does it, a new I/O for each that ends. The figure depends on how many
// completions an interrupt finds, and so on the machine below.
#include "datapath.hpp"
#include "marks.h"
#include "measure.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <random>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

namespace measure {

namespace {

constexpr std::uint64_t device_span = 512ul << 20; // of the drive, used by all

// The timer's tick comes every 4 ms. Up to this, what is measured fits between two of them, and
// there it begins right after one. A machine on which the drive is not done in that time so often
// has longer gaps, and ticks in its figures.
constexpr unsigned gap_between_ticks_us = 3000, longest_gap_us = 400000, often = 20;
// A task that slept after the interrupt was let through, with more idle time than this, in ticks,
// waited for I/O that came late. (The spinner also runs now and then while the task could, and the
// task also sleeps while a thread of the kernel completes what the interrupt found.)
constexpr std::uint64_t late = 3000;

long sleeps() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

Spinner &spinner() {
  static Spinner one;
  return one;
}

// Ticks that were not idle, from some moment on.
std::uint64_t busy() {
  const std::uint64_t idle = spinner().idle();
  return now() - idle;
}

// The mean of the middle half: what the kernel does now and then in the background is left out.
double middle(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t cut = values.size() / 4;
  const auto inner = std::span(values).subspan(cut, values.size() - 2 * cut);
  return std::accumulate(inner.begin(), inner.end(), 0.0) / static_cast<double>(inner.size());
}

// The clock that only the timer's tick sets.
timespec time_of_tick() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return time;
}

// Waits for the timer's next tick.
void after_tick() {
  const timespec before = time_of_tick();
  for (timespec here = before; here.tv_nsec == before.tv_nsec && here.tv_sec == before.tv_sec;)
    here = time_of_tick();
}

// Waits for completions that do not come, as long as the interrupt is held back. What an I/O leaves
// to its task is done meanwhile: ordinary I/O that has to be split comes back that way, to be
// issued again by a thread of the kernel.
void wait_in_vain(io_uring *ring, unsigned count, unsigned gap_us, bool polled) {
  if (polled) {
    ::usleep(gap_us); // a wait would look for completions all the time
    return;
  }
  __kernel_timespec time{.tv_sec = 0, .tv_nsec = 1000ll * gap_us};
  io_uring_cqe *cqe = nullptr;
  const int status = io_uring_wait_cqes(ring, &cqe, count, &time, nullptr);
  if (status < 0 && status != -ETIME && status != -EINTR)
    die("wait with a time-out: " + errno_name(status));
}

// Whether a cost is so close to the usual one that the kernel did nothing else besides.
bool usual(double cost, double usual) { return std::abs(cost - usual) < usual / 20; }

// What holding the interrupt back for a time costs without any I/O, in ticks.
double cost_of_gap(io_uring *ring, unsigned gap_us, bool polled) {
  static std::map<std::pair<unsigned, bool>, double> known;
  auto &cost = known[{gap_us, polled}];
  if (cost > 0)
    return cost;
  // A profile is of gaps, and of batches, of this length only.
  MARK(MARK_FORGET_BATCHES);
  MARK(MARK_FORGET_GAPS);
  const auto gap = [&] {
    after_tick();
    if (!polled)
      drive_interrupt().mask();
    const std::uint64_t start = busy();
    MARK(MARK_BEGIN);
    wait_in_vain(ring, 1, gap_us, polled);
    if (!polled)
      drive_interrupt().unmask();
    MARK(MARK_END);
    return static_cast<double>(busy() - start);
  };
  constexpr std::size_t count = 60;
  std::vector<double> costs(count);
  std::ranges::generate(costs, gap);
  std::ranges::sort(costs);
  // Of a profile are more of those that the mean below is of.
  const double least = costs[count / 4], most = costs[count - count / 4 - 1];
  double marked = 0;
  for (std::size_t nth = 0, tries = 0; nth < count; ++tries) {
    if (tries == 100 * count)
      die("time without I/O has no usual cost");
    const double other = gap();
    if (other < least || other > most)
      continue;
    MARK(MARK_GAP);
    marked += other;
    ++nth;
  }
  cost = middle(std::move(costs));
  if (!usual(marked / count, cost))
    die(std::format("the gaps of a profile cost {:.0f} ticks, and {:.0f} are subtracted",
                    marked / count, cost));
  return cost;
}

class Io : public Bench {
public:
  explicit Io(const Case &what)
      : depth_(static_cast<unsigned>(what.number("depth"))), bs_(what.number("bs")),
        batches_(static_cast<unsigned>(what.number("batches", 40))), ios_(what.number("ios", 4000)),
        polled_(what.number("polled", 0)), free_(what.number("free", 0)),
        each_(what.number("each", 0)), path_(make_datapath(what)), line_(what.line()) {
    depth_ /= path_->per_entry();
    if (free_)
      ios_ /= path_->per_entry();
    std::mt19937_64 random(7);
    const std::uint64_t step = std::max<std::uint64_t>(bs_, 4096);
    for (auto &offset : offsets_)
      offset = random() % ((what.has("file") ? file_bytes : device_span) / step) * step;
  }

  Figures run() override {
    const Counts before = path_->counts();
    const double cost = free_ ? run_free() : run_held();
    const Counts after = path_->counts();
    Figures figures{{"instructions", cost},
                    {"redone", static_cast<double>(redone_)},
                    {"gap_us", static_cast<double>(gap_us_)}};
    if (after.ios > before.ios)
      figures.emplace_back("commands", static_cast<double>(after.commands - before.commands) /
                                           static_cast<double>(after.ios - before.ios));
    redone_ = 0;
    return figures;
  }

private:
  void queue(unsigned slot) {
    const unsigned ranges = path_->per_entry();
    if (ranges > 1)
      for (unsigned nth = 0; nth < ranges; ++nth)
        path_->place(slot, nth, offsets_[next_++ % offsets_.size()]);
    if (path_->prepare(slot, ranges > 1 ? 0 : offsets_[next_++ % offsets_.size()]))
      return;
    die("no room in the submission queue: " + line_);
  }

  unsigned reap() {
    io_uring *ring = path_->ring();
    io_uring_cqe *cqe = nullptr;
    unsigned head = 0, count = 0;
    io_uring_for_each_cqe(ring, head, cqe) {
      if (cqe->res != path_->expected()) [[unlikely]]
        die(std::format("{}: an I/O ended with {}", line_, errno_name(cqe->res)));
      path_->landed(static_cast<unsigned>(cqe->user_data));
      done_[count++] = static_cast<unsigned>(cqe->user_data);
    }
    io_uring_cq_advance(ring, count);
    return count;
  }

  // Returns ticks, or nothing when the batch has to be done again.
  std::optional<double> batch() {
    io_uring *ring = path_->ring();
    const double gap_cost = cost_of_gap(ring, gap_us_, polled_);
    after_tick();
    if (!polled_)
      drive_interrupt().mask();
    const std::uint64_t start = busy();
    MARK(MARK_BEGIN);
    const unsigned entries = each_ ? 1 : depth_;
    for (unsigned slot = 0; slot < depth_; ++slot) {
      queue(slot);
      if ((slot + 1) % entries)
        continue;
      const int submitted = io_uring_submit(ring);
      if (submitted != static_cast<int>(entries))
        die(std::format("{}: submission: {}", line_, errno_name(submitted)));
    }
    wait_in_vain(ring, depth_, gap_us_, polled_);
    const std::uint64_t idle = spinner().idle();
    const long slept = sleeps();
    if (!polled_)
      drive_interrupt().unmask();
    unsigned left = depth_;
    // A wait of a polled ring looks for completions until they are there. One look finds all, or
    // the drive was not done in time.
    bool in_time = true;
    if (polled_) {
      if (const int status = io_uring_get_events(ring); status < 0 && status != -EINTR)
        die(std::format("{}: polling: {}", line_, errno_name(status)));
      in_time = io_uring_cq_ready(ring) == depth_;
    }
    while (left) {
      io_uring_cqe *cqe = nullptr;
      const int status = io_uring_wait_cqe_nr(ring, &cqe, left);
      if (status < 0 && status != -EINTR)
        die(std::format("{}: wait: {}", line_, errno_name(status)));
      left -= reap();
    }
    MARK(MARK_END);
    const std::uint64_t spent = busy() - start;
    if (in_time && (sleeps() == slept || spinner().idle() - idle <= late)) {
      const double cost = static_cast<double>(spent) - gap_cost;
      if (usual(cost, usual_))
        MARK(MARK_BATCH);
      return cost;
    }
    ++redone_;
    gap_us_ = std::min(gap_us_ * 2,
                       redone_ < often ? std::max(gap_us_, gap_between_ticks_us) : longest_gap_us);
    return std::nullopt;
  }

  double run_held() {
    std::vector<double> costs;
    while (costs.size() < batches_) {
      if (redone_ > batches_ + 2 * often)
        die("the drive does not get a batch done in time: " + line_);
      if (const auto spent = batch())
        costs.push_back(*spent);
    }
    usual_ = middle(std::move(costs));
    return usual_ / ticks_per_instruction / depth_ / path_->per_entry();
  }

  double run_free() {
    io_uring *ring = path_->ring();
    const std::uint64_t start = busy();
    std::uint64_t issued = 0, ended = 0;
    for (; issued < depth_; ++issued)
      queue(static_cast<unsigned>(issued));
    while (ended < ios_) {
      const int status = io_uring_submit_and_wait(ring, 1);
      if (status < 0 && status != -EINTR)
        die(std::format("{}: submission: {}", line_, errno_name(status)));
      const unsigned count = reap();
      ended += count;
      for (unsigned i = 0; i < count && issued < ios_; ++i, ++issued)
        queue(done_[i]);
    }
    return static_cast<double>(busy() - start) / ticks_per_instruction / double(ios_) /
           path_->per_entry();
  }

  unsigned depth_;
  std::uint64_t bs_;
  unsigned batches_;
  std::uint64_t ios_;
  bool polled_, free_, each_;
  std::unique_ptr<Datapath> path_;
  std::string line_;
  std::array<std::uint64_t, 1024> offsets_{};
  std::array<unsigned, 4096> done_{};
  std::size_t next_ = 0;
  unsigned gap_us_ = 1000, redone_ = 0;
  // Ticks of a batch in the repeat before. Profiles leave out those in which the kernel did
  // something else besides.
  double usual_ = 0;
};

} // namespace

std::unique_ptr<Bench> make_io(const Case &what) { return std::make_unique<Io>(what); }

} // namespace measure
