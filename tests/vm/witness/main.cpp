// SPDX-License-Identifier: GPL-2.0-only
// Does what a dma-buf read or write moved, and nothing else, arrive? Each direction is
// tried alone against plain O_DIRECT pread and pwrite; every byte is compared.
#include "witness.hpp"

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <getopt.h>
#include <thread>

namespace {

using namespace vmtest;

struct Options {
  std::string device = "/dev/nvme0n1";
  std::vector<Exporter> exporters{all_exporters.begin(), all_exporters.end()};
  std::vector<Path> paths; // empty: all that QUERY offers
  std::uint64_t seed = std::random_device{}();
  unsigned fuzz = 200;
  double load_seconds = 4;
  bool quick = false;
  bool self_test = false;
  bool long_commands = false;
};

constexpr std::uint64_t mib = 1u << 20;
// 16 MiB and a bit, so that the last PRP-list page is a partial one.
constexpr std::size_t buffer_bytes = 16 * mib + 64 * 1024;
constexpr std::size_t huge_buffer_bytes = 18 * mib;
constexpr std::uint64_t region_bytes = 24 * mib;

const char usage[] =
    "usage: witness [--device PATH] [--exporters LIST] [--paths LIST] [--seed N]\n"
    "               [--fuzz CASES] [--load SECONDS] [--quick] [--self-test] [--verbose]\n"
    "               [--long] [--allow-skip NAME]...\n"
    "exporters: udmabuf,udmabuf-huge,udmabuf-scattered,heap,vgem,virtio-gpu\n"
    "paths: premapped,registered,bvec; all that the module offers if not given\n"
    "Destroys the data on the device. --self-test damages data behind the checks' back\n"
    "and fails unless they notice. --long: long commands instead; up to 2 MiB each.\n";

template <typename Item, typename Lookup>
std::vector<Item> parse_list(const char *text, Lookup lookup) {
  std::vector<Item> items;
  std::string list(text);
  for (char *name = std::strtok(list.data(), ","); name; name = std::strtok(nullptr, ",")) {
    const auto item = lookup(name);
    if (!item)
      die(std::format("unknown name '{}'\n{}", name, usage));
    items.push_back(*item);
  }
  return items;
}

Options parse(int argc, char **argv) {
  Options options;
  report().take_options(argc, argv);
  static const option names[] = {{"device", 1, nullptr, 'd'},
                                 {"exporters", 1, nullptr, 'e'},
                                 {"paths", 1, nullptr, 'p'},
                                 {"seed", 1, nullptr, 's'},
                                 {"fuzz", 1, nullptr, 'f'},
                                 {"load", 1, nullptr, 'l'},
                                 {"quick", 0, nullptr, 'q'},
                                 {"self-test", 0, nullptr, 't'},
                                 {"long", 0, nullptr, 'L'},
                                 {"verbose", 0, nullptr, 'v'},
                                 {}};
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    switch (c) {
    case 'd':
      options.device = optarg;
      break;
    case 'e':
      options.exporters = parse_list<Exporter>(optarg, exporter_by_name);
      break;
    case 'p':
      options.paths = parse_list<Path>(optarg, path_by_name);
      break;
    case 's':
      options.seed = std::strtoull(optarg, nullptr, 0);
      break;
    case 'f':
      options.fuzz = static_cast<unsigned>(std::atoi(optarg));
      break;
    case 'l':
      options.load_seconds = std::atof(optarg);
      break;
    case 'q':
      options.quick = true;
      break;
    case 't':
      options.self_test = true;
      break;
    case 'L':
      options.long_commands = true;
      break;
    case 'v':
      report().set_verbose(true);
      break;
    default:
      die(usage);
    }
  }
  if (optind != argc)
    die(usage);
  return options;
}

// Whether the drive's DMA addresses are the IOMMU's, so that scattered pages can look
// contiguous to it.
bool behind_iommu() {
  for (const auto &entry : std::filesystem::directory_iterator("/sys/class/nvme")) {
    std::string type;
    std::ifstream(entry.path() / "device/iommu_group/type") >> type;
    if (!type.empty() && type != "identity")
      return true;
  }
  return false;
}

// What MAP and INFO say of the buffer must fit what it is.
void check_facts(const std::string &name, Exporter exporter, Path path, Bench &bench,
                 const Session &session) {
  const dmabuf_rw_map_entry &entry = bench.mover().entry();
  const std::size_t bytes = bench.buffer().size();
  report().check(
      entry.buffer_bytes == bytes, name + " buffer_bytes",
      std::format("{} instead of {}", static_cast<std::uint64_t>(entry.buffer_bytes), bytes));
  report().check(entry.path == static_cast<std::uint32_t>(path), name + " path");
  report().check(
      entry.buffer_align != 0 && 512 % entry.buffer_align == 0, name + " buffer_align",
      std::format("{}: buffer offsets of 512 bytes must be possible", entry.buffer_align));
  // Only premapped takes its alignment from the drive; elsewhere the target itself checks.
  report().check(entry.length_align != 0 && 512 % entry.length_align == 0 &&
                     (entry.length_align == 512 || path != Path::Premapped),
                 name + " length_align",
                 std::format("{}: the drive has 512-byte blocks", entry.length_align));
  report().check(entry.segments >= 1 && entry.segments <= bytes / 4096, name + " segments",
                 std::format("{}", entry.segments));
  report().note(std::format("{}: {} segments, buffer_align {}, length_align {}, max command {}",
                            name, entry.segments, entry.buffer_align, entry.length_align,
                            entry.max_command_bytes));
  if (exporter == Exporter::UdmabufScattered && (path != Path::Premapped || !behind_iommu()))
    report().check(
        entry.segments > bytes / static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / 4,
        name + " scattered",
        std::format("only {} segments: nothing crosses segment boundaries", entry.segments));
  dmabuf_rw_info info{};
  const int status = session.info(entry.handle, info);
  if (!report().check(status == 0, name + " INFO", errno_name(status)))
    return;
  report().check(info.path == entry.path && info.segments == entry.segments &&
                     info.buffer_bytes == bytes && info.directions == both_directions &&
                     info.state == DMABUF_RW_STATE_LIVE,
                 name + " INFO agrees with MAP");
  report().check(info.memory == DMABUF_RW_MEM_SYSTEM, name + " INFO memory",
                 std::format("{}", info.memory));
  report().check(info.route == DMABUF_RW_ROUTE_MEMORY ||
                     (path != Path::Premapped && info.route == DMABUF_RW_ROUTE_UNKNOWN),
                 name + " INFO route", std::format("{}", info.route));
  report().check(info.smallest_segment >= 4096 && info.smallest_segment <= info.largest_segment &&
                     info.largest_segment <= bytes && info.largest_segment * info.segments >= bytes,
                 name + " INFO segment lengths",
                 std::format("smallest {}, largest {}, {} segments of {} bytes",
                             static_cast<std::uint64_t>(info.smallest_segment),
                             static_cast<std::uint64_t>(info.largest_segment), info.segments,
                             bytes));
}

// The module must have counted what this side did.
void check_counters(const std::string &name, Path path, Bench &bench, const Session &session) {
  dmabuf_rw_info info{};
  if (const int status = session.info(bench.mover().entry().handle, info); status != 0) {
    report().fail(name + " INFO after I/O", errno_name(status));
    return;
  }
  const Bench::Tally &tally = bench.tally();
  if (path == Path::Registered) {
    report().check(info.registrations == 1 && info.registered == 1, name + " registrations",
                   std::format("{} made, {} live", static_cast<std::uint64_t>(info.registrations),
                               static_cast<std::uint64_t>(info.registered)));
    report().check(info.reads == 0 && info.writes == 0 && info.commands == 0,
                   name + " no premapped I/O");
    return;
  }
  report().check(info.reads == tally.reads && info.writes == tally.writes &&
                     info.read_bytes == tally.read_bytes && info.write_bytes == tally.write_bytes,
                 name + " counters",
                 std::format("module {} reads {} bytes, {} writes {} bytes; here {} {}, {} {}",
                             static_cast<std::uint64_t>(info.reads),
                             static_cast<std::uint64_t>(info.read_bytes),
                             static_cast<std::uint64_t>(info.writes),
                             static_cast<std::uint64_t>(info.write_bytes), tally.reads,
                             tally.read_bytes, tally.writes, tally.write_bytes));
  report().check(info.errors == 0, name + " errors",
                 std::format("{}", static_cast<std::uint64_t>(info.errors)));
  // SEGMENT_SPLIT: no more commands than the lengths need. A bvec call that would have had
  // to sleep is made once more by a worker.
  const std::uint64_t most = tally.commands * (path == Path::Bvec ? 2 : 1);
  report().check(info.commands >= tally.commands && info.commands <= most, name + " commands",
                 std::format("{} instead of {} to {}", static_cast<std::uint64_t>(info.commands),
                             tally.commands, most));
  report().check(info.deferred <= tally.reads + tally.writes, name + " deferred",
                 std::format("{} of {} I/Os", static_cast<std::uint64_t>(info.deferred),
                             tally.reads + tally.writes));
}

void report_case(const std::string &name, const Case &c, const std::optional<std::string> &wrong) {
  if (!wrong)
    report().pass(name);
  else
    report().fail(name, std::format("{} bytes, buffer offset {} (page {} + {}), file offset {}: {}",
                                    c.length, c.buffer_offset, c.buffer_offset / 4096,
                                    c.buffer_offset % 4096, c.file_offset, *wrong));
}

void run_self_test(Bench &bench, const std::string &name) {
  // Buffer and file offsets differ, and neither is at an edge.
  const Case c{5 * mib + 1536, 64 * 1024 + 512, bench.region().base() + 3 * mib + 2048};
  std::uint32_t generation = 100;
  for (const Direction direction : {Direction::Read, Direction::Write})
    for (const Fault fault : all_faults) {
      bench.begin(direction, ++generation);
      ++generation;
      const auto clean = direction == Direction::Read ? bench.read_case(c, true)
                                                      : bench.write_case(c, generation, true);
      report_case(std::format("{} {} before damage", name, name_of(direction)), c, clean);
      ++generation;
      const auto wrong = direction == Direction::Read
                             ? bench.read_case(c, true, fault)
                             : bench.write_case(c, generation, true, fault);
      const std::string what =
          std::format("{} {} self-test: {}", name, name_of(direction), name_of(fault));
      if (report().check(wrong.has_value(), what, "the damage was not noticed"))
        report().note(what + ": noticed, " + *wrong);
    }
}

void run_pair(const Options &options, Exporter exporter, Path path) {
  const std::string name = std::format("{} {}", name_of(exporter), name_of(path));
  const double begin = now_s();
  const std::uint64_t bytes_before = compared_bytes();
  auto buffer = DmaBuf::create(exporter, exporter == Exporter::UdmabufHuge ? huge_buffer_bytes
                                                                           : buffer_bytes);
  if (!buffer) {
    report().fail(name, buffer.error());
    return;
  }
  Session session;
  Ring ring(8);
  if (path == Path::Registered)
    if (const int status = ring.make_buffer_table(4); status < 0)
      die("no table of registered buffers: " + errno_name(status));
  UniqueFd target = open_target(options.device), plain = open_target(options.device);
  const std::uint64_t device_bytes = block_device_bytes(plain.get());
  DiskRegion region(plain.get(), 64 * mib + 4096 + 512, region_bytes);
  const std::uint64_t limit = path == Path::Premapped ? block_layer_limit(options.device) : 0;
  Bench bench(session, ring, std::move(*buffer), target.get(), path, 2, region, limit);
  if (const int error = bench.mover().error()) {
    report().fail(name, std::format("MAP: {}, reason {}", errno_name(error),
                                    reason_name(bench.mover().entry().reason)));
    return;
  }
  check_facts(name, exporter, path, bench, session);
  if (options.self_test) {
    run_self_test(bench, name);
    return;
  }

  std::mt19937_64 random(options.seed);
  const auto step = std::max<std::uint32_t>(8, bench.mover().entry().buffer_align);
  const std::uint64_t size = bench.buffer().size();
  std::vector<Case> cases = directed_cases(size, region, random, options.quick);
  for (unsigned i = 0; i < options.fuzz; ++i)
    cases.push_back(random_case(size, region, i % 2 ? 512 : step, random));
  std::uint32_t generation = 1;
  for (const Direction direction : {Direction::Read, Direction::Write}) {
    bench.begin(direction, ++generation);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const bool whole = i % 16 == 15 || i + 1 == cases.size();
      const auto wrong = direction == Direction::Read
                             ? bench.read_case(cases[i], whole)
                             : bench.write_case(cases[i], ++generation, whole);
      report_case(std::format("{} {}", name, name_of(direction)), cases[i], wrong);
    }
  }

  // The drive's very last sectors.
  DiskRegion tail(plain.get(), device_bytes - 4 * mib, 4 * mib);
  {
    auto small = DmaBuf::create(exporter, 4 * mib);
    Bench last(session, ring, std::move(*small), target.get(), path, 3, tail, limit);
    for (const Direction direction : {Direction::Read, Direction::Write}) {
      last.begin(direction, ++generation);
      for (const std::uint64_t length : {512ul, 4096ul, 1 * mib + 512, 4 * mib}) {
        const Case c{4 * mib - length, length, device_bytes - length};
        report_case(std::format("{} {} at the end of the drive", name, name_of(direction)), c,
                    direction == Direction::Read ? last.read_case(c, true)
                                                 : last.write_case(c, ++generation, true));
      }
    }
  }
  check_counters(name, path, bench, session);
  const int released = bench.mover().release();
  report().check(released == 0, name + " release", errno_name(released));

  if (options.load_seconds > 0) {
    // Two threads, each with a session, a ring and two dma-bufs of its own.
    std::thread other([&] {
      run_load(exporter, path, options.device, 256 * mib, 8, options.load_seconds,
               options.seed + 1);
    });
    run_load(exporter, path, options.device, 192 * mib, 32, options.load_seconds, options.seed);
    other.join();
  }
  report().note(std::format("{}: {} directed and random cases each way, {} MiB compared, {:.1f} s",
                            name, cases.size(), (compared_bytes() - bytes_before) / mib,
                            now_s() - begin));
}

} // namespace

int main(int argc, char **argv) {
  const Options options = parse(argc, argv);
  report().note(std::format("seed {}", options.seed));
  const auto before = live_dmabufs();
  const std::vector<Path> paths = options.paths.empty() ? paths_here() : options.paths;
  if (options.long_commands) {
    run_long(options.device);
  } else {
    for (const Exporter exporter : options.exporters)
      for (const Path path : paths)
        run_pair(options, exporter, path);
    const Exporter first = options.exporters.front();
    if (!options.self_test)
      run_over_limit(options.device, is_there(Exporter::Heap) ? Exporter::Heap : first,
                     is_there(Exporter::Udmabuf) ? Exporter::UdmabufScattered : first);
  }
  if (before) {
    long now = -1;
    for (int tries = 0; tries < 100 && now != *before; ++tries) {
      now = live_dmabufs().value_or(-1);
      ::usleep(20000);
    }
    report().check(now == *before, "no dma-buf left",
                   std::format("{} before, {} after", *before, now));
  } else {
    report().skip("no dma-buf left", "no bufinfo in debugfs");
  }
  report().note(std::format("{} MiB compared in all", compared_bytes() / mib));
  return report().finish("witness");
}
