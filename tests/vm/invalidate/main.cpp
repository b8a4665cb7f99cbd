// SPDX-License-Identifier: GPL-2.0-only
// What an exporter may do to the memory that the drive is using: move it, take it away,
// refuse it, put a fence on it. Uses the test exporter, dmabuf_testexp.ko.
#include "invalidate.hpp"

#include <cstdlib>
#include <cstring>
#include <getopt.h>
#include <iterator>
#include <vector>

namespace vmtest {

void check_nothing_left(const TestBuffer &buffer, const std::string &name) {
  dmabuf_testexp_stats stats = buffer.must_stats();
  for (int tries = 0; tries < 250 && (stats.attachments || stats.mappings); ++tries) {
    ::usleep(20000);
    stats = buffer.must_stats();
  }
  report().check(stats.attachments == 0, name + ": no attachment left",
                 std::format("{} left", stats.attachments));
  report().check(
      stats.mappings == 0 && stats.maps == stats.unmaps, name + ": no mapping left",
      std::format("{} left, {} maps, {} unmaps", stats.mappings, stats.maps, stats.unmaps));
  report().check(stats.pins == 0 && stats.vmaps == 0, name + ": no pin or kernel mapping left",
                 std::format("{} pins, {} vmaps", stats.pins, stats.vmaps));
  // Pushes everything out of quarantine, so that all poison has been looked at.
  for (int i = 0; i < 5; ++i)
    if (const int error = buffer.move()) {
      report().fail(name + ": the buffer can still be moved", errno_name(error));
      return;
    }
  stats = buffer.must_stats();
  report().check(stats.stray_words == 0, name + ": nobody wrote to memory that was taken away",
                 std::format("{} words", stats.stray_words));
  report().check(stats.lingering == 0, name + ": every mapping was given back when told",
                 std::format("{} mappings lingered", stats.lingering));
}

std::string check_transfer(const TestBuffer &buffer, Mover &mover, DiskRegion &region,
                           std::uint32_t generation) {
  const std::size_t bytes = std::min<std::size_t>(buffer.size(), region.size());
  std::vector<Word> words(bytes / 8);
  // Into the buffer.
  region.lay_down(generation, region.base(), bytes);
  buffer.put_pattern(0, bytes, buffer_poison, 0);
  int result = mover.transfer(Direction::Read, 0, static_cast<std::uint32_t>(bytes), region.base());
  if (result != static_cast<int>(bytes))
    return "read: " + errno_name(result);
  buffer.must_read(words, 0);
  if (const auto wrong = compare_words(words, region.expected(region.base(), bytes)))
    return "in the buffer, " + describe(*wrong, 0);
  // Out of it.
  buffer.put_pattern(0, bytes, generation + 1, region.base());
  result = mover.transfer(Direction::Write, 0, static_cast<std::uint32_t>(bytes), region.base());
  if (result != static_cast<int>(bytes))
    return "write: " + errno_name(result);
  fill_pattern(region.expected(region.base(), bytes), generation + 1, region.base());
  return region.check(region.base(), bytes, 0).value_or("");
}

} // namespace vmtest

namespace {

using namespace vmtest;

struct Part {
  const char *name;
  void (*run)(const InvalidateOptions &, const Testexp &);
  bool moves; // needs a kernel that lets mapped buffers move
};

constexpr Part parts[] = {
    {"exporter", test_exporter, false},    {"load", test_moves_under_load, true},
    {"kill", test_kill_under_load, false}, {"revoke", test_revoke_under_load, false},
    {"fences", test_fences, false},        {"refusals", test_refusals, false},
    {"sharing", test_sharing, false},      {"twins", test_twins, true},
};

[[noreturn]] void usage() {
  die("usage: invalidate [--nvme PATH] [--quick] [--seconds N] [--kills N] [--seed N] [--verbose]\n"
      "                  [--interval-us N] [--allow-skip NAME]…\n"
      "                  [exporter|load|kill|revoke|fences|refusals|sharing|twins]…\n"
      "Destroys data on the device. --quick: 10 s of load and 2 kills instead of 60 s and 5.");
}

} // namespace

int main(int argc, char **argv) {
  InvalidateOptions options;
  report().take_options(argc, argv);
  static const option names[] = {{"nvme", 1, nullptr, 'n'},    {"quick", 0, nullptr, 'q'},
                                 {"seconds", 1, nullptr, 't'}, {"kills", 1, nullptr, 'k'},
                                 {"seed", 1, nullptr, 's'},    {"interval-us", 1, nullptr, 'i'},
                                 {"verbose", 0, nullptr, 'v'}, {}};
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    if (c == 'n')
      options.nvme = optarg;
    else if (c == 'q')
      options.seconds = 10, options.moves = 100, options.kills = 2;
    else if (c == 't')
      options.seconds = std::atof(optarg);
    else if (c == 'k')
      options.kills = std::atoi(optarg);
    else if (c == 's')
      options.seed = std::strtoull(optarg, nullptr, 0);
    else if (c == 'i')
      options.interval_us = static_cast<unsigned>(std::atoi(optarg));
    else if (c == 'v')
      report().set_verbose(true);
    else
      usage();
  }
  for (int i = optind; i < argc; ++i)
    if (std::none_of(std::begin(parts), std::end(parts),
                     [&](const Part &part) { return !std::strcmp(part.name, argv[i]); }))
      usage();
  report().note(std::format("seed {}", options.seed));
  {
    const Testexp testexp;
    for (const Part &part : parts) {
      bool wanted = optind == argc;
      for (int i = optind; i < argc; ++i)
        wanted |= !std::strcmp(part.name, argv[i]);
      if (!wanted)
        continue;
      if (part.moves && !testexp.can_move()) {
        report().skip(part.name, "this kernel pins mapped buffers, they cannot move");
        continue;
      }
      const double begin = now_s();
      part.run(options, testexp);
      report().note(std::format("{}: {:.1f} s", part.name, now_s() - begin));
    }
    dmabuf_testexp_query query{};
    if (const int error = testexp.query(query))
      die("QUERY of the test exporter: " + errno_name(error));
    report().check(query.live_buffers == 0, "no buffer of the test exporter left",
                   std::format("{} left", query.live_buffers));
  }
  const int unloaded = unload_module("dmabuf_testexp", 10);
  report().check(unloaded == 0, "dmabuf_testexp can be removed at the end", errno_name(unloaded));
  report().note(std::format("{} bytes compared", compared_bytes()));
  return report().finish("invalidate");
}
