// SPDX-License-Identifier: GPL-2.0-only
// dmabuf-integrity: one check of a drive with a dma-buf, for dmabuf-qual. It prints one JSON
// object. All cases except `query`, `probe`, `paths` and `check` destroy the data in the region of
// the drive that they are given. These get the drive as a descriptor that dmabuf-guard opened;
// given the drive's name, the program starts dmabuf-guard first.
#include "bench.hpp"
#include "datapath/kinds.hpp"
#include "exporter/exporter.hpp"

#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <getopt.h>
#include <optional>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

namespace integrity {

namespace {

constexpr int kExitFindings = 1, kExitError = 2, kExitSkip = 77;

struct Case {
  const char *name;
  dmabuf::Result<Outcome> (*run)(const Options &);
  bool writes; ///< overwrites data, or may
  const char *what;
};

constexpr Case kCases[] = {
    {"query", run_query, false, "what the module can do; touches no drive"},
    {"probe", run_probe, false, "map a buffer for reading and say where it is; moves no data"},
    {"paths", run_paths, false,
     "the same on each datapath; without a drive, does the exporter make a buffer"},
    {"lay", run_lay, true, "plain writes of the pattern over the region"},
    {"check", run_check, false, "plain reads of what lay put there"},
    {"read", run_read, true, "plain writes, reads through the dma-buf, every byte"},
    {"write", run_write, true, "writes through the dma-buf over poison, plain reads, every byte"},
    {"segments", run_segments, true, "the same on memory in many pieces"},
    {"roundtrip", run_roundtrip, true,
     "both ways through the dma-buf, to see what that would hide"},
    {"load", run_load, true, "many in flight, each direction alone"},
    {"geometry", run_geometry, true, "commands a read of each length takes"},
    {"size", run_size, true, "does a buffer of --buffer bytes work"},
    {"close", run_close, true, "close everything with I/O in flight"},
    {"liar", run_liar, true, "test exporter: buffers that lie are refused"},
    {"fence", run_fence, true, "test exporter: a fence that never signals"},
    {"invalidate", run_invalidate, true,
     "memory that moves under load: the test exporter's, or that of a plug-in that moves it"},
    {"revoke", run_revoke, true,
     "memory that is taken away under load: the test exporter's, or that of such a plug-in"},
};

void print(const Options &options, const dmabuf::Result<Outcome> &outcome) {
  const auto out = [](const std::string &text) { std::fputs(text.c_str(), stdout); };
  out("{\"case\":");
  out(quoted(options.test));
  if (!outcome) {
    std::printf(",\"error\":%s,\"errno\":%d}\n", quoted(outcome.error().message).c_str(),
                outcome.error().code);
    return;
  }
  std::printf(",\"compared_bytes\":%llu,\"transfers\":%llu,\"facts\":{",
              static_cast<unsigned long long>(outcome->compared),
              static_cast<unsigned long long>(outcome->transfers));
  const char *comma = "";
  for (const auto &[name, value] : outcome->facts) {
    std::printf("%s%s:%s", comma, quoted(name).c_str(), value.c_str());
    comma = ",";
  }
  out("},\"findings\":[");
  comma = "";
  for (const Finding &f : outcome->findings) {
    std::printf("%s{\"name\":%s,\"text\":%s,\"count\":%llu}", comma, quoted(f.name).c_str(),
                quoted(f.text).c_str(), static_cast<unsigned long long>(f.count));
    comma = ",";
  }
  out("]");
  if (!outcome->not_applicable.empty())
    std::printf(",\"not_applicable\":%s", quoted(outcome->not_applicable).c_str());
  if (!outcome->missing.empty())
    std::printf(",\"missing\":%s", quoted(outcome->missing).c_str());
  out("}\n");
}

void help(std::FILE *to) {
  std::fputs("usage: dmabuf-integrity CASE [--device DEV [--serial S] [--wwid W] [--nsid N]\n"
             "  [--overwrite-signature TYPE ...] | --device-fd N] [--exporter KIND]\n"
             "  [--exporter-device D] [--datapath premapped|registered|bvec] [--offset BYTES]\n"
             "  [--bytes BYTES] [--buffer BYTES] [--load BYTES] [--depth N] [--max-command BYTES]\n"
             "  [--generation N] [--seed N] [--limit-ms N]\n"
             "KIND: ",
             to);
  const char *comma = "";
  for (const dmabuf::Exporter &row : dmabuf::kExporters) {
    std::fprintf(to, "%s%s", comma, row.name);
    comma = ", ";
  }
  std::fputs(
      "\n"
      "All cases but query, probe, paths and check DESTROY the data in the region of DEV. They\n"
      "start dmabuf-guard, which holds the drive while they run. It refuses one that --serial\n"
      "(with --wwid or --nsid where that is not enough) does not name, that is in use by any\n"
      "name of the same namespace, partitions included, or that holds anything but what each\n"
      "--overwrite-signature names: dmabuf-guard --help. The others start it where one of these\n"
      "options is given, to be sure which drive they read. --device-fd N is a descriptor that was\n"
      "inherited; to write it has to be the one that claims the drive (O_EXCL).\n"
      "exit status: 0 nothing found, 1 something found, 2 an error, or a drive that is refused,\n"
      "77 not applicable\n"
      "cases:\n",
      to);
  for (const Case &c : kCases)
    std::fprintf(to, "  %-11s %s\n", c.name, c.what);
}

[[noreturn]] void usage(const char *why) {
  std::fprintf(stderr, "dmabuf-integrity: %s\n", why);
  help(stderr);
  std::exit(kExitError);
}

uint64_t number(const char *text) {
  char *end = nullptr;
  errno = 0;
  const unsigned long long value = std::strtoull(text, &end, 0);
  if (errno || end == text || *end || *text == '-')
    usage("a number is expected");
  return value;
}

int descriptor(const char *text) {
  const uint64_t value = number(text);
  if (value > INT_MAX)
    usage("--device-fd is no descriptor");
  return static_cast<int>(value);
}

/// The engine's exporter of that name.
dmabuf::ExporterKind exporter_kind(const char *name) {
  const auto kind = dmabuf::exporter_by_name(name);
  if (!kind)
    usage("no such exporter or datapath");
  return *kind;
}

/// The module's datapath of that name, in the module's numbers.
uint32_t module_path(const char *name) {
  for (const dmabuf::DatapathTraits &row : dmabuf::kDatapathTraits)
    if (dmabuf::datapath_of_module(row.module_path) == row.path &&
        row.name == std::string_view(name))
      return row.module_path;
  usage("no such exporter or datapath");
}

/// What the command line says.
struct Words {
  Options options;
  std::vector<std::string> guard; ///< for dmabuf-guard: which drive, and what on it may be lost
  std::vector<std::string> rest;  ///< all except these and the drive
};

enum {
  dev = 1,
  dev_fd,
  for_guard,
  exporter,
  exporter_dev,
  path,
  offset,
  bytes,
  buffer,
  moves,
  depth,
  command,
  generation,
  seed,
  limit,
  asked
};

constexpr option kOptions[] = {{"help", 0, nullptr, asked},
                               {"device", 1, nullptr, dev},
                               {"device-fd", 1, nullptr, dev_fd},
                               {"serial", 1, nullptr, for_guard},
                               {"wwid", 1, nullptr, for_guard},
                               {"nsid", 1, nullptr, for_guard},
                               {"overwrite-signature", 1, nullptr, for_guard},
                               {"exporter", 1, nullptr, exporter},
                               {"exporter-device", 1, nullptr, exporter_dev},
                               {"datapath", 1, nullptr, path},
                               {"offset", 1, nullptr, offset},
                               {"bytes", 1, nullptr, bytes},
                               {"buffer", 1, nullptr, buffer},
                               {"load", 1, nullptr, moves},
                               {"depth", 1, nullptr, depth},
                               {"max-command", 1, nullptr, command},
                               {"generation", 1, nullptr, generation},
                               {"seed", 1, nullptr, seed},
                               {"limit-ms", 1, nullptr, limit},
                               {nullptr, 0, nullptr, 0}};

/// What one option says.
void take(Options &o, int c) {
  switch (c) {
  case dev:
    o.device = optarg;
    break;
  case dev_fd:
    o.device_fd = descriptor(optarg);
    break;
  case for_guard:
    break;
  case exporter:
    o.exporter = exporter_kind(optarg);
    break;
  case exporter_dev:
    o.exporter_device = optarg;
    break;
  case path:
    o.path = module_path(optarg);
    break;
  case offset:
    o.offset = number(optarg);
    break;
  case bytes:
    o.bytes = number(optarg);
    break;
  case buffer:
    o.buffer_bytes = number(optarg);
    break;
  case moves:
    o.load_bytes = number(optarg);
    break;
  case depth:
    o.depth = static_cast<unsigned>(number(optarg));
    break;
  case command:
    o.max_command = number(optarg);
    break;
  case generation:
    o.generation = static_cast<uint32_t>(number(optarg));
    break;
  case seed:
    o.seed = static_cast<uint32_t>(number(optarg));
    break;
  case limit:
    o.limit_ms = static_cast<unsigned>(number(optarg));
    break;
  case asked:
    help(stdout);
    std::exit(0);
  default:
    usage("unknown option");
  }
}

Words parse(int argc, char **argv) {
  Words words;
  Options &o = words.options;
  int which = 0;
  for (int c; (c = getopt_long(argc, argv, "", kOptions, &which)) != -1;) {
    if (c != '?' && c != dev && c != dev_fd && c != asked)
      (c == for_guard ? words.guard : words.rest)
          .push_back(dmabuf::strf("--%s=%s", kOptions[which].name, optarg));
    take(o, c);
  }
  if (optind + 1 != argc)
    usage("one case is expected");
  o.test = argv[optind];
  words.rest.insert(words.rest.begin(), o.test);
  if (!words.guard.empty() && o.device.empty())
    usage("--serial and the like go with --device");
  if (o.device_fd >= 0) {
    if (!o.device.empty())
      usage("either --device or --device-fd is expected");
    o.device = dmabuf::strf("/proc/self/fd/%d", o.device_fd);
  }
  if (!o.depth || o.depth > 1024 || o.bytes < 1u << 20 || o.bytes % 4096 || o.offset % 4096 ||
      o.buffer_bytes < 1u << 20 || o.buffer_bytes % 4096)
    usage("depth is 1 to 1024; offset, bytes and buffer are multiples of 4096, the last two at "
          "least 1 MiB");
  return words;
}

/// Becomes dmabuf-guard, which opens the drive and becomes this program again. Returns only where
/// that cannot be started.
dmabuf::Error let_guard_open(const Words &words) {
  std::array<char, PATH_MAX> self = {};
  if (readlink("/proc/self/exe", self.data(), self.size() - 1) < 0)
    return {errno, dmabuf::errno_text("cannot tell where this program is", errno)};
  struct stat own = {};
  if (stat("/proc/self/exe", &own))
    return {errno, dmabuf::errno_text("cannot look at this program", errno)};
  return become(guard_command(self.data(), words.guard, words.options.writes, words.options.device,
                              words.rest),
                own.st_uid);
}

} // namespace
} // namespace integrity

int main(int argc, char **argv) {
  using namespace integrity;
  Words words = parse(argc, argv);
  Options &options = words.options;
  for (const Case &c : kCases) {
    if (options.test != c.name)
      continue;
    if (options.device.empty() && options.test != "query" && options.test != "paths")
      usage("--device is missing");
    options.writes = c.writes;
    if (options.device_fd < 0 && !options.device.empty() && (c.writes || !words.guard.empty())) {
      print(options, std::unexpected(let_guard_open(words)));
      return kExitError;
    }
    const auto outcome = c.run(options);
    print(options, outcome);
    if (!outcome)
      return kExitError;
    if (!outcome->not_applicable.empty() || !outcome->missing.empty())
      return kExitSkip;
    return outcome->findings.empty() ? 0 : kExitFindings;
  }
  usage("no such case");
}
