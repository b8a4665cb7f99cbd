// SPDX-License-Identifier: GPL-2.0-only
// --allow-skip allows the skips that it names, and fails the program if there is none. Each case is
// a report of its own, in a process of its own.
//
// usage: skips
#include "lib/report.hpp"
#include "lib/sysfs.hpp"
#include "lib/unique_fd.hpp"

#include <cstdio>
#include <functional>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace vmtest {

namespace {

struct Ended {
  int status;
  std::string said;
};

// What a program ends with and prints, that is given these --allow-skip and does `body`.
Ended program(const std::vector<std::string> &allowed, const std::function<void(Report &)> &body) {
  const UniqueFd output(::memfd_create("output", 0));
  if (!output)
    die("memfd_create");
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child < 0)
    die("fork");
  if (child == 0) {
    ::dup2(output.get(), STDOUT_FILENO);
    std::vector<std::string> words{"program"};
    for (const std::string &name : allowed)
      words.insert(words.end(), {"--allow-skip", name});
    std::vector<char *> argv;
    for (std::string &word : words)
      argv.push_back(word.data());
    argv.push_back(nullptr);
    int argc = static_cast<int>(words.size());
    Report own;
    own.take_options(argc, argv.data());
    own.pass("a check that holds");
    body(own);
    ::_exit(argc == 1 ? own.finish("program") : exit_setup);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  const std::string file = "/proc/self/fd/" + std::to_string(output.get());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(file)};
}

void ends(const std::string &name, const Ended &ended, int status, const std::string &with = "") {
  report().check(ended.status == status && ended.said.contains(with), name,
                 std::format("status {}, it said:\n{}", ended.status, ended.said));
}

void names() {
  const auto nothing = [](Report &) {};
  const auto skips = [](Report &own) { own.skip("slots on 6.12", "no such kernel"); };
  ends("nothing is allowed, and nothing skipped", program({}, nothing), exit_pass);
  ends("a skip that is not allowed", program({}, skips), exit_fail, "slots on 6.12: is skipped");
  ends("a skip that is allowed", program({"slots on 6.12"}, skips), exit_pass, "1 skipped");
  ends("a skip that a pattern allows", program({"slots*"}, skips), exit_pass, "1 skipped");
  ends("both are used by one skip", program({"slots*", "slots on 6.12"}, skips), exit_pass);
  ends("no check is skipped that is allowed", program({"slots"}, nothing), exit_fail,
       "FAIL  --allow-skip 'slots'");
  ends("nor by a pattern", program({"slots*"}, nothing), exit_fail, "FAIL  --allow-skip 'slots*'");
  const Ended one = program({"slots on 6.12", "windows"}, skips);
  ends("one is used and one is not", one, exit_fail, "FAIL  --allow-skip 'windows'");
  report().check(!one.said.contains("FAIL  --allow-skip 'slots"), "and what is used is not named",
                 one.said);
}

void groups() {
  const auto of = [](bool skipped, bool runs) {
    return [=](Report &own) {
      own.begin_group("first", true);
      if (skipped && !runs)
        own.skip("slots", "not here");
      own.begin_group("slow", runs);
      if (skipped && runs)
        own.skip("slots", "not here");
    };
  };
  const std::vector<std::string> allowed{"slow/slots"};
  ends("a group's skip", program(allowed, of(true, true)), exit_pass, "1 skipped");
  ends("a group that does not run", program(allowed, of(false, false)), exit_pass);
  ends("a group that runs and skips nothing", program(allowed, of(false, true)), exit_fail,
       "FAIL  --allow-skip 'slow/slots'");
  ends("the skip of another group", program(allowed, of(true, false)), exit_fail,
       "slots: is skipped");
  ends("without its group it is any group's", program({"slots"}, of(true, true)), exit_pass);
  ends("and is to be used", program({"slots"}, of(false, false)), exit_fail,
       "FAIL  --allow-skip 'slots'");
  ends("a group that there is not", program({"slots/slots"}, of(true, true)), exit_fail,
       "the program has no group slots");
}

} // namespace

} // namespace vmtest

int main() {
  using namespace vmtest;
  names();
  groups();
  return report().finish("skips");
}
