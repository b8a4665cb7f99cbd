// SPDX-License-Identifier: GPL-2.0-only
// Runs the cases of a plan, interleaved: all of them once, then all again, and prints one line of
// JSON for each repeat of each.
//
// usage: measure PLAN REPEATS          (a file; a line per case, see docs/performance.md, and
//                                       before them "drive scheduler=NAME")
//        measure busy COMMAND…         (what the command costs, the kernel's part included)
//        measure jobs REPEATS CASE     (one job and several, see jobs.cpp)
//
// Reads from the device only, unless a case says rw=write: that destroys its data.
#include "marks.h"
#include "measure.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <random>
#include <unistd.h>

namespace {

using namespace measure;

// Linux gives a drive with one queue, as in a guest with one CPU, another scheduler than a drive
// with several. What is measured is as the plan says.
void set_up_drive(const Case &drive) {
  const std::string name = drive.text("scheduler");
  const char *const path = "/sys/block/nvme0n1/queue/scheduler";
  std::ofstream(path) << name << std::flush;
  std::string now;
  std::getline(std::ifstream(path), now);
  if (now != name && !now.contains(std::format("[{}]", name)))
    die(std::format("the drive has the schedulers {}, and does not take {}", now, name));
}

std::vector<Case> read_plan(const char *path) {
  std::ifstream file(path);
  if (!file)
    die(std::format("cannot read the plan {}", path));
  std::vector<Case> cases;
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("drive "))
      set_up_drive(Case(line));
    else if (!line.empty() && line[0] != '#')
      cases.emplace_back(line);
  if (cases.empty())
    die("the plan has no case");
  return cases;
}

std::unique_ptr<Bench> make(const Case &what) {
  if (what.kind() == "io")
    return make_io(what);
  if (what.kind() == "map")
    return make_map(what);
  die("a case begins with io or map, not " + what.kind());
}

void print(std::size_t number, unsigned repeat, const Figures &figures) {
  std::string line = std::format("{{\"case\": {}, \"repeat\": {}", number, repeat);
  for (const auto &[name, value] : figures)
    line += std::format(", \"{}\": {}", name, value);
  std::printf("%s}\n", line.c_str());
  std::fflush(stdout);
}

// The largest buffer of each kind first, so that all cases share it.
void make_memory(const std::vector<Case> &cases) {
  std::map<std::string, std::size_t> most;
  for (const Case &what : cases)
    if (what.kind() == "io") {
      auto &bytes = most[what.text("memory")];
      const std::uint64_t slot = (what.number("bs") + 4095) & ~4095ull;
      bytes = std::max<std::size_t>(bytes, what.number("depth") * slot);
    }
  for (const auto &[kind, bytes] : most)
    memory_of(kind, bytes);
}

// The clock counts the instructions of all CPUs, and one of them is kept from going idle.
void need_one_cpu() {
  if (::sysconf(_SC_NPROCESSORS_ONLN) != 1)
    die("this measures on one CPU");
}

} // namespace

int main(int argc, char **argv) {
  if (argc >= 3 && std::strcmp(argv[1], "busy") == 0)
    return run_busy(argv + 2);
  if (argc == 4 && std::strcmp(argv[1], "jobs") == 0) {
    const Case what(argv[3]);
    set_up_drive(Case("drive scheduler=none"));
    return run_jobs(what, static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)));
  }
  if (argc != 3)
    die("usage: measure PLAN REPEATS | measure busy COMMAND... | measure jobs REPEATS CASE");
  need_one_cpu();
  const auto cases = read_plan(argv[1]);
  const auto repeats = static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10));
  make_memory(cases);
  std::vector<std::unique_ptr<Bench>> benches;
  for (const Case &what : cases) {
    const double start = now_s();
    benches.push_back(make(what));
    std::fprintf(stderr, "set up in %.2f s: %s\n", now_s() - start, what.line().c_str());
  }

  // The first round warms up and is not reported. Each round has its own order.
  std::mt19937 random(1);
  std::vector<std::size_t> order(cases.size());
  std::iota(order.begin(), order.end(), 0);
  for (unsigned repeat = 0; repeat <= repeats; ++repeat) {
    std::ranges::shuffle(order, random);
    for (const std::size_t number : order) {
      const Figures figures = benches[number]->run();
      if (repeat)
        print(number, repeat, figures);
    }
    if (!repeat)
      MARK(MARK_FORGET_BATCHES);
  }
  MARK(MARK_WRITE);
  return 0;
}
