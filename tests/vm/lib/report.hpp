// SPDX-License-Identifier: GPL-2.0-only
// Counts what was checked and says so: every program ends with Report::finish().
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <format>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace vmtest {

// Exit statuses, the same for every test program here.
inline constexpr int exit_pass = 0;
inline constexpr int exit_fail = 1;
inline constexpr int exit_setup = 2;
inline constexpr int exit_skip = 77;

// The tally of one program. Safe to use from several threads.
class Report {
public:
  // Counts a check that held. Quiet, unless set_verbose(true).
  void pass(std::string_view name);
  // Counts a check that did not hold, and prints it.
  void fail(std::string_view name, std::string_view what);
  // Counts and prints a check that could not be made here. A failure, unless it is allowed.
  void skip(std::string_view name, std::string_view why);
  // One check: passes when `ok`, else fails with `what`. Returns `ok`.
  bool check(bool ok, std::string_view name, std::string_view what = "does not hold");
  // A line of information.
  void note(std::string_view text);

  // Takes each "--allow-skip NAME" out of the arguments: this check may be skipped here. With a '*'
  // at the end of NAME, every check that begins so. finish() fails if the run skipped no such
  // check, and names the option: its reason is gone, or the check has another name now.
  //
  // A run of some groups does not come to the checks of the others, and this class cannot tell the
  // group of a check that it never heard of. So the run must use each NAME, whichever groups it
  // has. "GROUP/NAME" allows checks of that group only, and only a run of that group must use it.
  void take_options(int &argc, char **argv);
  // The checks that follow are of the group `name`, if it `runs`. A program that takes "GROUP/NAME"
  // calls this for each of its groups, also for those that do not run.
  void begin_group(std::string_view name, bool runs);

  void set_verbose(bool verbose) { verbose_ = verbose; }
  // Starts counting again, in a child process.
  void forget() { passed_ = failed_ = skipped_ = 0; }
  std::uint64_t failures() const { return failed_; }
  std::uint64_t passes() const { return passed_; }
  // Prints the totals and gives the exit status. No check at all is a failure, and so is an
  // --allow-skip that the run did not use.
  int finish(std::string_view program);

private:
  // One --allow-skip; `group` is empty where it names none.
  struct Allowed {
    std::string given, group, name;
    bool used = false, group_known = false, group_ran = false;
  };
  bool is_allowed(std::string_view name);
  void check_allowed();

  std::mutex lock_;
  std::vector<Allowed> allowed_;
  std::string group_;
  std::atomic<std::uint64_t> passed_ = 0, failed_ = 0, skipped_ = 0;
  bool verbose_ = false;
};

// The program's one report.
Report &report();

// Something the test needs is missing: prints why and ends the program with exit_setup.
[[noreturn]] void die(std::string_view why);

// "ENODEV (19)" for 19 or -19; "0" for 0; a plain number for what is no errno.
std::string errno_name(long value);

// Seconds since some fixed moment, for time limits and measurements.
double now_s();

} // namespace vmtest
