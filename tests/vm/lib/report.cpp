// SPDX-License-Identifier: GPL-2.0-only
#include "report.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

namespace vmtest {

namespace {
// A test that fails everywhere should not bury the lab in output.
constexpr std::uint64_t max_printed_failures = 60;
} // namespace

void Report::pass(std::string_view name) {
  ++passed_;
  if (verbose_) {
    std::lock_guard guard(lock_);
    std::printf("ok    %.*s\n", static_cast<int>(name.size()), name.data());
  }
}

void Report::fail(std::string_view name, std::string_view what) {
  const auto count = ++failed_;
  std::lock_guard guard(lock_);
  if (count <= max_printed_failures)
    std::printf("FAIL  %.*s: %.*s\n", static_cast<int>(name.size()), name.data(),
                static_cast<int>(what.size()), what.data());
  else if (count == max_printed_failures + 1)
    std::printf("FAIL  … more failures, counted but not printed\n");
  std::fflush(stdout);
}

void Report::take_options(int &argc, char **argv) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) != "--allow-skip") {
      argv[kept++] = argv[i];
      continue;
    }
    if (++i == argc)
      die("--allow-skip: which?");
    const std::string given = argv[i];
    const auto slash = given.find('/');
    allowed_.push_back({.given = given,
                        .group = slash == given.npos ? "" : given.substr(0, slash),
                        .name = slash == given.npos ? given : given.substr(slash + 1)});
  }
  argc = kept;
  argv[argc] = nullptr;
}

void Report::begin_group(std::string_view name, bool runs) {
  std::lock_guard guard(lock_);
  if (runs)
    group_ = name;
  for (Allowed &allowed : allowed_)
    if (allowed.group == name) {
      allowed.group_known = true;
      allowed.group_ran |= runs;
    }
}

bool Report::is_allowed(std::string_view name) {
  std::lock_guard guard(lock_);
  bool found = false;
  for (Allowed &allowed : allowed_) {
    const std::string_view pattern = allowed.name;
    const bool fits = pattern.ends_with('*')
                          ? name.starts_with(pattern.substr(0, pattern.size() - 1))
                          : name == pattern;
    if (fits && (allowed.group.empty() || allowed.group == group_))
      found = allowed.used = true;
  }
  return found;
}

void Report::check_allowed() {
  for (const Allowed &allowed : allowed_) {
    const std::string option = std::format("--allow-skip '{}'", allowed.given);
    if (!allowed.group.empty() && !allowed.group_known)
      fail(option, std::format("the program has no group {}", allowed.group));
    else if (!allowed.used && (allowed.group.empty() || allowed.group_ran))
      fail(option, "the run skipped no such check; remove the option");
  }
}

void Report::skip(std::string_view name, std::string_view why) {
  if (!is_allowed(name))
    return fail(name, std::format("is skipped, which is not allowed here: {}", why));
  ++skipped_;
  std::lock_guard guard(lock_);
  std::printf("skip  %.*s: %.*s\n", static_cast<int>(name.size()), name.data(),
              static_cast<int>(why.size()), why.data());
}

bool Report::check(bool ok, std::string_view name, std::string_view what) {
  if (ok)
    pass(name);
  else
    fail(name, what);
  return ok;
}

void Report::note(std::string_view text) {
  std::lock_guard guard(lock_);
  std::printf("      %.*s\n", static_cast<int>(text.size()), text.data());
  std::fflush(stdout);
}

int Report::finish(std::string_view program) {
  check_allowed();
  const bool bad = failed_ != 0 || passed_ == 0;
  std::printf("%s %.*s: %llu checks held, %llu failed, %llu skipped\n", bad ? "FAIL" : "PASS",
              static_cast<int>(program.size()), program.data(),
              static_cast<unsigned long long>(passed_), static_cast<unsigned long long>(failed_),
              static_cast<unsigned long long>(skipped_));
  std::fflush(stdout);
  return bad ? exit_fail : exit_pass;
}

Report &report() {
  static Report instance;
  return instance;
}

void die(std::string_view why) {
  std::fflush(stdout);
  std::fprintf(stderr, "setup: %.*s\n", static_cast<int>(why.size()), why.data());
  std::_Exit(exit_setup);
}

std::string errno_name(long value) {
  const int number = static_cast<int>(value < 0 ? -value : value);
  if (number == 0)
    return "0";
  if (const char *name = ::strerrorname_np(number))
    return std::format("{} ({})", name, number);
  return std::to_string(value);
}

double now_s() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

} // namespace vmtest
