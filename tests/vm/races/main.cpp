// SPDX-License-Identifier: GPL-2.0-only
// Races on purpose: threads that map, do I/O and end in every way, on a drive that is unbound,
// removed, reset, frozen and formatted meanwhile, with memory that moves and is revoked. Whatever
// is reported good is good, nothing beside it changes, everything ends, and nothing is left.
//
// usage: races [--seed N] [--seconds S] [--limit S] [--threads N] [--polled] [--only NAME]…
//        NAME: memory unmap unload freeze format unbind remove path reset
// Runs for S seconds, and on until each kind of event has happened. Destroys the data on the first
// drive and, with dmabuf-lab run --formats, on a namespace of the second.
#include "races.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <getopt.h>
#include <iostream>

namespace vmtest {

namespace {

constexpr double stuck_s = 150; // no single step takes so long
constexpr unsigned loose_threads = 2;

constexpr const char *kind_names[] = {
    "mapped",
    "MAP refused",
    "unmapped",
    "reads",
    "writes",
    "I/O failed",
    "by ioctl",
    "of several commands",
    "sessions closed with I/O in flight",
    "unmapped with I/O in flight",
    "rings ended with I/O in flight",
    "unmapped by another thread",
    "forks",
    "children killed",
    "moves",
    "revocations",
    "unbinds",
    "removals",
    "losses of one of two paths",
    "resets",
    "freezes",
    "attempts to unload",
    "formats to 512 bytes",
    "formats to 4096 bytes",
    "formats with protection information",
};
static_assert(std::size(kind_names) == static_cast<std::size_t>(Kind::Count));

// What must have happened before the run may end.
std::vector<Kind> required(const World &world) {
  std::vector<Kind> kinds = {Kind::Map,    Kind::Unmap,       Kind::Read,        Kind::Write,
                             Kind::Waited, Kind::CloseFlying, Kind::UnmapFlying, Kind::RingFlying,
                             Kind::Fork,   Kind::Kill};
  if (std::ranges::contains(world.paths, Path::Premapped))
    kinds.push_back(Kind::Several);
  const auto want = [&](std::string_view name, std::initializer_list<Kind> more, bool here = true) {
    if (here && world.wanted(std::string(name)))
      kinds.insert(kinds.end(), more);
  };
  want("memory", {Kind::Move, Kind::Revoke}, world.can_move);
  want("unmap", {Kind::UnmapOther});
  want("unload", {Kind::Unload});
  want("freeze", {Kind::Freeze});
  want("format", {Kind::Format512, Kind::Format4096, Kind::FormatPi}, world.second);
  want("unbind", {Kind::Unbind, Kind::Failed});
  want("remove", {Kind::Remove, Kind::Failed});
  want("path", {Kind::PathLoss}, world.functions.size() > 1);
  want("reset", {Kind::Reset});
  return kinds;
}

std::string missing(const World &world) {
  std::string names;
  for (const Kind kind : required(world))
    if (world.counted(kind) == 0)
      names += std::format("{}{}", names.empty() ? "" : ", ", name_of(kind));
  return names;
}

void lay_down(int plain, unsigned threads) {
  DiskRegion(plain, Layout::base, Layout::read_only).lay_down_all(Layout::fresh);
  for (unsigned worker = 0; worker < threads; ++worker) {
    const std::uint64_t at = Layout::stripe_of(worker);
    DiskRegion(plain, at, Layout::stripe).lay_down_all(Layout::fresh);
    for (const std::uint64_t canary : {at, at + Layout::stripe - Layout::canary})
      DiskRegion(plain, canary, Layout::canary).lay_down_all(disk_poison);
  }
}

// A thread that stands still is what these races are about: says where, and ends the program.
[[noreturn]] void stuck(unsigned thread) {
  report().fail("everything goes on",
                std::format("thread {} stands still for {:.0f} s", thread, stuck_s));
  for (const auto &task : std::filesystem::directory_iterator("/proc/self/task"))
    std::cout << task.path().filename() << '\n' << read_file(task.path() / "stack") << std::flush;
  std::_Exit(report().finish("races"));
}

void wait_for_end(World &world, unsigned threads) {
  for (unsigned thread = 0; thread < threads; ++thread)
    world.alive(thread);
  const double begin = now_s();
  for (;;) {
    ::usleep(100000);
    const double now = now_s();
    for (unsigned thread = 0; thread < threads; ++thread)
      if (now - world.stamps[thread] > stuck_s)
        stuck(thread);
    if (now - begin > world.options.limit || report().failures() > 20 ||
        (now - begin > world.options.seconds && missing(world).empty()))
      return;
  }
}

void check_nothing_left(World &world, long dmabufs) {
  const auto sessions_gone = [] { return number_in("/sys/module/dmabuf_rw/refcnt") == 0; };
  report().check(wait_for(sessions_gone, 60), "nobody uses the module afterwards",
                 std::format("{} users", number_in("/sys/module/dmabuf_rw/refcnt")));
  const std::string mappings = read_file("/sys/kernel/debug/dmabuf_rw/mappings");
  report().check(std::ranges::count(mappings, '\n') == 1, "no mapping is left", mappings);
  report().check(wait_for([&] { return live_dmabufs() == dmabufs; }, 60), "no dma-buf is left",
                 std::format("{} before, {} after", dmabufs, live_dmabufs().value_or(-1)));
  dmabuf_testexp_query query{};
  report().check(world.testexp.query(query) == 0 && query.live_buffers == 0,
                 "nor one of the test exporter", std::format("{} left", query.live_buffers));
  const int unloaded = unload_module("dmabuf_rw", 20);
  report().check(unloaded == 0, "the module can be removed", errno_name(unloaded));
  const char *file = std::getenv("DMABUF_RW_KO");
  if (unloaded == 0 && file) {
    const int loaded = load_module(file);
    report().check(loaded == 0, "and loaded again", errno_name(loaded));
  }
}

void run(const RacesOptions &options) {
  const long dmabufs = live_dmabufs().value_or(-1);
  World world(options);
  const unsigned workers = options.threads + (world.second ? loose_threads : 0);
  {
    const UniqueFd plain = open_target(first_drive());
    lay_down(plain.get(), options.threads);
  }
  std::vector<std::unique_ptr<Worker>> work;
  for (unsigned number = 0; number < workers; ++number) {
    world.shown.push_back(std::make_unique<Shown>());
    work.push_back(std::make_unique<Worker>(world, number, number >= options.threads));
  }
  {
    const Session held; // the module is in use all the time
    std::vector<std::jthread> disturbers = disturb(world, workers);
    std::vector<std::jthread> threads;
    for (const auto &worker : work)
      threads.emplace_back([&worker = *worker] { worker.run(); });
    const auto all = static_cast<unsigned>(workers + disturbers.size());
    wait_for_end(world, all);
    world.stop = true;
    // The last steps, too, have an end.
    std::atomic<bool> joined = false;
    const std::jthread watch([&] {
      if (!wait_for([&] { return joined.load(); }, stuck_s))
        stuck(all);
    });
    threads.clear();
    disturbers.clear();
    joined = true;
  }
  report().check(missing(world).empty(), "each kind of event has happened",
                 "never: " + missing(world));
  for (std::size_t i = 0; i < std::size(kind_names); ++i)
    report().note(std::format("{:10} {}", world.counts[i].load(), kind_names[i]));
  for (const auto &[what, count] : world.errors)
    report().note(std::format("{:10} {}", count, what));

  const UniqueFd plain = open_target(first_drive());
  for (unsigned number = 0; number < options.threads; ++number)
    work[number]->check_blocks(plain.get());
  HostBuffer host(Layout::read_only);
  read_plain(plain.get(), host.words(), Layout::base);
  const std::uint32_t fresh[] = {Layout::fresh};
  const std::string wrong = wrong_sectors(host.words(), Layout::base, fresh);
  report().check(wrong.empty(), "what was only read is as it was", wrong);
  check_nothing_left(world, dmabufs);
}

} // namespace

std::string_view name_of(Kind kind) { return kind_names[static_cast<std::size_t>(kind)]; }

World::World(const RacesOptions &chosen)
    : options(chosen), can_move(testexp.can_move()), paths(paths_here()) {
  for (const auto &entry : std::filesystem::directory_iterator("/sys/class/nvme"))
    if (read_file(entry.path() / "serial").starts_with("lab-nvme"))
      functions.push_back(pci_function(entry.path().filename()));
  if (functions.empty() || first_drive().empty())
    die("no drive with the lab's serial number");
  second = !second_drive().empty();
}

void World::ended(const std::string &what, int error, bool allowed) {
  const std::string text =
      std::format("{}: {}", what, error < 0 ? errno_name(error) : std::to_string(error));
  if (!allowed)
    report().fail("an error is one that says why", text);
  if (error == 0)
    return;
  const std::lock_guard guarded(errors_lock);
  ++errors[text];
}

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  static constexpr const char *names[] = {"memory", "unmap",  "unload", "freeze", "format",
                                          "unbind", "remove", "path",   "reset"};
  RacesOptions options;
  static const option long_options[] = {{"seed", 1, nullptr, 's'},
                                        {"seconds", 1, nullptr, 't'},
                                        {"limit", 1, nullptr, 'l'},
                                        {"threads", 1, nullptr, 'n'},
                                        {"polled", 0, nullptr, 'p'},
                                        {"only", 1, nullptr, 'o'},
                                        {}};
  bool good = true;
  for (int c; (c = getopt_long(argc, argv, "", long_options, nullptr)) != -1;) {
    if (c == 's')
      options.seed = std::strtoull(optarg, nullptr, 0);
    else if (c == 't')
      options.seconds = std::atof(optarg);
    else if (c == 'l')
      options.limit = std::atof(optarg);
    else if (c == 'n')
      options.threads = static_cast<unsigned>(std::atoi(optarg));
    else if (c == 'p')
      options.polled = true;
    else if (c == 'o' && std::ranges::contains(names, std::string_view(optarg)))
      options.only.insert(optarg);
    else
      good = false;
  }
  if (!good || optind != argc || options.threads == 0 || options.threads > 24)
    die("usage: races [--seed N] [--seconds S] [--limit S] [--threads N] [--polled] [--only "
        "NAME]…");
  if (options.polled && !has_poll_queues())
    die("--polled needs a drive with a queue that is polled: nvme.poll_queues=1");
  options.limit = std::max(options.limit, options.seconds);
  report().note(std::format("seed {}", options.seed));
  run(options);
  return report().finish("races");
}
