// SPDX-License-Identifier: GPL-2.0-only
// Calls the module with arguments that are mostly right, as an unprivileged user who was handed the
// device, and looks what breaks. See the usage below; destroys data on both scratch disks.
#include "coverage.hpp"
#include "fuzz.hpp"
#include "lib/report.hpp"
#include "worker.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <getopt.h>
#include <numeric>
#include <sys/mman.h>
#include <unistd.h>

namespace vmtest::fuzz {

namespace {

constexpr const char *usage =
    "usage: fuzz [OPTION]…\n"
    "  --seed N          of everything random (default: of the clock; it is printed)\n"
    "  --calls N         ends after so many calls\n"
    "  --seconds N       ends after this time, but not before every call has succeeded once\n"
    "                    (default: 10 without --calls)\n"
    "  --threads N       1 to 16 (default: 4); the calls of one thread are the same for one seed\n"
    "  --corpus PATH     programs to begin with, a file or a folder of files\n"
    "  --corpus-out FILE gets the programs that reached new code, those that reached most first\n"
    "  --trace FILE      gets every program before it runs\n"
    "  --replay FILE     runs the programs of a trace or corpus instead, once\n"
    "  --life N          calls after which the process is killed and begins anew\n"
    "                    (default: 100000)\n"
    "  --no-coverage     as on a kernel without KCOV: then one seed means one sequence of calls\n"
    "  --hang N          seconds after which a call hangs (default: 60)\n"
    "  --provoke WHAT    disk, buffer, hang or linger: makes that go wrong, which has to be\n"
    "                    noticed\n"
    "  --avoid-known     leaves out what is known to go wrong\n";

// How many programs --corpus-out writes.
constexpr std::size_t corpus_programs = 24;

std::vector<Program> programs_in(const std::string &path) {
  auto programs = read_programs(path);
  if (!programs)
    die(programs.error());
  if (programs->empty())
    die(path + " has no program");
  return std::move(*programs);
}

void write_corpus(const std::string &path, const Shared &shared) {
  std::vector<std::uint32_t> order(shared.kept());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater{},
                           [&](std::uint32_t i) { return shared.corpus[i].new_pcs; });
  std::ofstream file(path);
  file << "# Programs that reached code which none before them did.\n";
  for (const std::uint32_t i : std::span(order).first(std::min(order.size(), corpus_programs))) {
    if (!shared.corpus[i].ready)
      continue;
    Program program = shared.corpus[i].program;
    program.thread = 0;
    file << to_text(program);
  }
  if (!file.flush())
    die(path + " cannot be written");
}

std::uint64_t number(const char *text) {
  char *end = nullptr;
  const std::uint64_t value = std::strtoull(text, &end, 0);
  if (end == text || *end)
    die(std::format("{} is no number", text));
  return value;
}

Shared &make_shared() {
  void *memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    die("no memory to share");
  return *new (memory) Shared{};
}

// A descriptor that the pools do not reach; the child keeps it.
int open_trace(const char *path) {
  const int fd = ::open(path, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0 || ::dup3(fd, coverage_fds + static_cast<int>(max_threads), O_CLOEXEC) < 0)
    die(std::format("open {}: {}", path, std::strerror(errno)));
  ::close(fd);
  return coverage_fds + static_cast<int>(max_threads);
}

// What the command line says.
struct Words {
  Options options;
  std::string corpus_out;
};

constexpr option names[] = {
    {"seed", 1, nullptr, 's'},        {"calls", 1, nullptr, 'c'},   {"seconds", 1, nullptr, 't'},
    {"threads", 1, nullptr, 'n'},     {"corpus", 1, nullptr, 'i'},  {"corpus-out", 1, nullptr, 'o'},
    {"trace", 1, nullptr, 'r'},       {"replay", 1, nullptr, 'p'},  {"life", 1, nullptr, 'l'},
    {"no-coverage", 0, nullptr, 'x'}, {"hang", 1, nullptr, 'h'},    {"provoke", 1, nullptr, 'b'},
    {"avoid-known", 0, nullptr, 'k'}, {"verbose", 0, nullptr, 'v'}, {}};

void take(Words &words, int c) {
  Options &options = words.options;
  if (c == 's')
    options.seed = number(optarg);
  else if (c == 'c')
    options.calls = number(optarg);
  else if (c == 't')
    options.seconds = static_cast<double>(number(optarg));
  else if (c == 'n')
    options.threads = static_cast<unsigned>(number(optarg));
  else if (c == 'i')
    options.corpus = programs_in(optarg);
  else if (c == 'o')
    words.corpus_out = optarg;
  else if (c == 'r')
    options.trace = open_trace(optarg);
  else if (c == 'p')
    options.replay = programs_in(optarg);
  else if (c == 'l')
    options.epoch_calls = number(optarg);
  else if (c == 'x')
    options.coverage = false;
  else if (c == 'h')
    options.hang_seconds = static_cast<double>(number(optarg));
  else if (c == 'b')
    options.provoke = optarg;
  else if (c == 'k')
    options.taste.avoid_known = true;
  else if (c == 'v')
    report().set_verbose(true);
  else
    die(usage);
}

Words parse(int argc, char **argv) {
  Words words;
  Options &options = words.options;
  options.seed = static_cast<std::uint64_t>(now_s() * 1e6);
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;)
    take(words, c);
  if (optind != argc || options.threads < 1 || options.threads > max_threads ||
      options.epoch_calls < options.threads)
    die(usage);
  if (!options.provoke.empty() && options.provoke != "disk" && options.provoke != "buffer" &&
      options.provoke != "hang" && options.provoke != "linger")
    die(usage);
  if (!options.calls && !options.seconds && options.replay.empty())
    options.seconds = 10;
  return words;
}

} // namespace

} // namespace vmtest::fuzz

int main(int argc, char **argv) {
  using namespace vmtest;
  using namespace vmtest::fuzz;
  Words words = parse(argc, argv);
  Options &options = words.options;
  prepare_actions();
  Shared &shared = make_shared();
  const bool coverage = options.coverage && open_coverage(options.threads);
  options.coverage = coverage;
  if (!coverage)
    for (const Program &program : options.corpus)
      shared.keep(program, 0);
  dmabuf_rw_query query{};
  if (const int error = Session().query(query))
    die("QUERY: " + errno_name(error));
  report().note(std::format("seed {}, {} threads", options.seed, options.threads));
  double took = 0;
  {
    World world;
    const double begin = now_s();
    fuzz::fuzz(options, shared, world, coverage);
    took = now_s() - begin;
    world.check_strays();
  }
  summarize(options, shared, took, query.features);
  if (!words.corpus_out.empty())
    write_corpus(words.corpus_out, shared);
  return report().finish("fuzz");
}
