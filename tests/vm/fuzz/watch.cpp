// SPDX-License-Identifier: GPL-2.0-only
// The parent: starts the unprivileged process again and again, and watches it.
#include "fuzz.hpp"
#include "lib/report.hpp"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vmtest::fuzz {

namespace {

// Calls before something is made to go wrong on purpose.
constexpr std::uint64_t provoke_after = 1000;
// Longer than `seconds` it does not go on for calls that have not succeeded yet.
constexpr double patience_s = 240, tell_every_s = 300;

class Watch {
public:
  Watch(const Options &options, Shared &shared, World &world, bool coverage)
      : options_(options), shared_(shared), world_(world), coverage_(coverage),
        provoke_(options.provoke) {
    dmabuf_rw_query query{};
    if (const int error = Session().query(query))
      die("QUERY: " + errno_name(error));
    features_ = query.features;
  }

  void run() {
    for (unsigned epoch = 0; !over(); ++epoch) {
      if (!live(epoch))
        return;
      world_.check(std::format("after life {}", epoch));
      if (report().failures() || !options_.replay.empty())
        return;
    }
  }

private:
  // What each thread may do in the next life.
  std::uint64_t quota() const {
    std::uint64_t calls = options_.epoch_calls;
    if (options_.calls)
      calls = std::min(calls, options_.calls - total_calls(shared_));
    return (calls + options_.threads - 1) / options_.threads;
  }
  bool over() const {
    if (options_.calls && total_calls(shared_) >= options_.calls)
      return true;
    if (!options_.seconds || watched_s_ < options_.seconds)
      return false;
    return options_.calls || watched_s_ > options_.seconds + patience_s ||
           all_succeeded(shared_, features_);
  }

  // False: it is no use to go on.
  bool live(unsigned epoch) {
    std::fflush(stdout);
    const std::uint64_t calls = quota();
    const pid_t child = ::fork();
    if (child < 0)
      die("fork failed");
    if (child == 0)
      fuzz_process(options_, shared_, epoch, calls, coverage_);
    seen_.assign(options_.threads, Seen{.since = watched_s_});
    moved_s_ = watched_s_;
    int status = 0;
    for (look(); ::waitpid(child, &status, WNOHANG) == 0; look()) {
      if (over())
        shared_.stop = true;
      if (total_calls(shared_) > provoke_after)
        provoke(child);
      if (hangs(child))
        return false;
    }
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    const bool ended = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return report().check(killed || ended, "the process runs",
                          std::format("it ended with wait status 0x{:x}", status));
  }

  // Shows that what must not happen would be noticed.
  void provoke(pid_t child) {
    const std::string what = std::exchange(provoke_, "");
    if (what == "disk")
      world_.spoil_disk();
    else if (what == "buffer")
      world_.spoil_buffer();
    else if (what == "hang")
      ::kill(child, SIGSTOP);
  }

  struct Seen {
    std::uint64_t calls = 0;
    std::uint32_t at = 0;
    double since = 0;
  };

  // Time passes only while this process looks, a second at most from one look to the next: a
  // machine that stood still for minutes is no call that hangs.
  void look() {
    ::usleep(50000);
    const double now = now_s();
    watched_s_ += std::min(now - looked_s_, 1.0);
    looked_s_ = now;
    world_.signal_fences();
    tell();
  }

  // A long run that is cut off has still said how far it came.
  void tell() {
    if (watched_s_ - told_s_ < tell_every_s)
      return;
    told_s_ = watched_s_;
    report().note(std::format("{} calls after {:.0f} s", total_calls(shared_), watched_s_));
    std::fflush(stdout);
  }

  // A call that does not return is a finding, and so is a process that does not go: by itself when
  // its threads have ended, or killed.
  bool hangs(pid_t child) {
    bool found = false, ended = true;
    for (unsigned thread = 0; thread < options_.threads; ++thread) {
      const ThreadState &state = shared_.threads[thread];
      Seen &seen = seen_[thread];
      if (state.calls != seen.calls || state.at != seen.at)
        moved_s_ = watched_s_;
      ended = ended && !state.tid;
      if (!state.tid || state.calls != seen.calls || state.at != seen.at)
        seen = {state.calls, state.at, watched_s_};
      if (watched_s_ - seen.since < options_.hang_seconds)
        continue;
      found = true;
      report().fail("every call returns", describe_hang(child, state));
    }
    if (!found && ended && watched_s_ - moved_s_ >= options_.hang_seconds) {
      found = true;
      report().fail("a process whose threads have ended goes", describe_process(child));
    }
    if (!found)
      return false;
    ::kill(child, SIGKILL);
    const double end = watched_s_ + options_.hang_seconds;
    int status = 0;
    while (::waitpid(child, &status, WNOHANG) == 0 && watched_s_ < end)
      look();
    if (!report().check(watched_s_ < end, "the process can be killed",
                        std::format("it is still there after {} s", options_.hang_seconds)))
      report().note(describe_process(child));
    return true;
  }

  std::string describe_hang(pid_t child, const ThreadState &state) {
    return std::format("call {} of\n{}{}", state.at.load() + 1, to_text(state.running),
                       describe_process(child));
  }

  // All tasks: the one that a call hangs in may be gone, and another of the process be what holds
  // it.
  static std::string describe_process(pid_t process) {
    std::stringstream text;
    std::error_code gone;
    std::filesystem::directory_iterator task(std::format("/proc/{}/task", process), gone);
    for (; !gone && task != std::filesystem::directory_iterator(); task.increment(gone))
      for (const char *file : {"comm", "stat", "stack", "syscall", "wchan"})
        text << std::ifstream(task->path() / file).rdbuf() << '\n';
    return text.str();
  }

  const Options &options_;
  Shared &shared_;
  World &world_;
  bool coverage_;
  // How long this process has looked, and when it did so last.
  double watched_s_ = 0, looked_s_ = now_s(), told_s_ = 0;
  std::uint64_t features_ = 0;
  std::string provoke_;
  std::vector<Seen> seen_;
  // When a thread of the process last did something.
  double moved_s_ = 0;
};

Tally total(const Shared &shared, std::size_t type) {
  Tally sum{};
  for (const ThreadState &thread : shared.threads) {
    const Tally &one = thread.tallies[type];
    sum.started += one.started;
    sum.succeeded += one.succeeded;
    sum.seconds += one.seconds;
    for (std::size_t i = 0; i < max_errno; ++i)
      sum.errors[i] += one.errors[i];
  }
  return sum;
}

// "started, succeeded; EINVAL 12, …", the most frequent first.
std::string describe(const Tally &tally) {
  std::vector<std::pair<std::uint64_t, int>> errors;
  for (std::size_t i = 0; i < max_errno; ++i)
    if (tally.errors[i])
      errors.emplace_back(tally.errors[i], static_cast<int>(i));
  std::ranges::sort(errors, std::greater{});
  std::string text =
      std::format("{:9} {:9} {:8.1f}", tally.started, tally.succeeded, tally.seconds);
  for (const auto &[count, number] : errors) {
    const char *name = number == max_errno - 1 ? nullptr : ::strerrorname_np(number);
    text += std::format("  {} {}", name ? name : "other", count);
  }
  return text;
}

} // namespace

void fuzz(const Options &options, Shared &shared, World &world, bool coverage) {
  Watch(options, shared, world, coverage).run();
}

std::uint64_t total_calls(const Shared &shared) {
  std::uint64_t sum = 0;
  for (const ThreadState &thread : shared.threads)
    sum += thread.calls;
  return sum;
}

bool all_succeeded(const Shared &shared, std::uint64_t features) {
  for (std::size_t i = 0; i < types().size(); ++i)
    if (types()[i].success == Success::Must && possible(types()[i], features) &&
        total(shared, i).succeeded == 0)
      return false;
  return true;
}

void summarize(const Options &options, const Shared &shared, double seconds,
               std::uint64_t features) {
  std::uint64_t programs = 0;
  for (const ThreadState &thread : shared.threads)
    programs += thread.programs;
  report().note(
      std::format("{:18} {:>9} {:>9} {:>8}  errors", "call", "started", "succeeded", "seconds"));
  for (std::size_t i = 0; i < types().size(); ++i) {
    const Type &type = types()[i];
    const Tally sum = total(shared, i);
    report().note(std::format("{:18} {}", type.name, describe(sum)));
    report().check(sum.errors[max_errno - 1] == 0,
                   std::format("{}: every error has a name", type.name),
                   std::format("{} have none", sum.errors[max_errno - 1]));
    if (type.success == Success::Never)
      report().check(sum.succeeded == 0, std::format("{} is refused", type.name),
                     std::format("it succeeded {} times", sum.succeeded));
    else if (type.success == Success::Must && possible(type, features) && options.replay.empty())
      report().check(sum.succeeded > 0, std::format("{} succeeds", type.name),
                     std::format("none of {} did", sum.started));
  }
  report().check(shared.kernel_addresses == 0, "no answer holds an address of the kernel",
                 std::format("{} do", shared.kernel_addresses.load()));
  const double calls = static_cast<double>(total_calls(shared));
  rusage used{};
  ::getrusage(RUSAGE_CHILDREN, &used);
  report().note(std::format("{} s of CPU in the program, {} s in the kernel", used.ru_utime.tv_sec,
                            used.ru_stime.tv_sec));
  report().note(std::format("{} calls in {} programs, {:.1f} s, {:.0f} calls a second; {}",
                            total_calls(shared), programs, seconds, calls / seconds,
                            options.coverage
                                ? std::format("{} places of code reached, {} programs kept",
                                              shared.pcs_count.load(), shared.kept())
                                : "no coverage on this kernel"));
}

} // namespace vmtest::fuzz
