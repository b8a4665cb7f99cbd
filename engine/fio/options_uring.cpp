// SPDX-License-Identifier: GPL-2.0-only
// The options of fio's engine io_uring, of any fio: followed, without effect, or refused, so that a
// job of that engine runs here or says why it does not.
#include "fio/options.hpp"

#include <array>
#include <cstdlib>
#include <string_view>

namespace dmabuf {
namespace {

int set_sqpoll_cpu(void *data, unsigned long long *value) {
  auto *options = static_cast<FioOptions *>(data);
  options->sqpoll_cpu = static_cast<unsigned>(*value);
  options->sqpoll_cpu_set = 1;
  return 0;
}

/// cmdprio_options has this member from fio 3.34 or so on.
template <class T> constexpr bool has_hint = requires(T options) { options.hint; };

template <class T> void add_hint(std::vector<fio_option> &table) {
  if constexpr (has_hint<T>) {
    auto &hint =
        table.emplace_back(option("cmdprio_hint", "I/O priority hint", FIO_OPT_INT,
                                  offsetof(FioOptions, priorities) + offsetof(T, hint), nullptr,
                                  "Priority hint of I/Os with a priority of their own"));
    hint.off2 = hint.off1 + static_cast<unsigned>(sizeof(unsigned));
    hint.maxval = 1023;
  }
}

void add_priorities(std::vector<fio_option> &table) {
  const auto add = [&](const char *name, const char *lname, size_t offset, unsigned least,
                       unsigned most, const char *help) {
    auto &entry = table.emplace_back(
        option(name, lname, FIO_OPT_INT, offsetof(FioOptions, priorities) + offset, nullptr, help));
    entry.off2 = entry.off1 + static_cast<unsigned>(sizeof(unsigned)); // reads, then writes
    entry.minval = static_cast<int>(least);
    entry.maxval = most;
  };
  add("cmdprio_percentage", "I/Os with a priority", offsetof(cmdprio_options, percentage), 0, 100,
      "Percentage of I/Os that have a priority of their own; reads,writes");
  add("cmdprio_class", "I/O priority class", offsetof(cmdprio_options, class_), 1, 3,
      "Class of that priority: 1 realtime, 2 best effort, 3 idle; default: realtime");
  add("cmdprio", "I/O priority level", offsetof(cmdprio_options, level), 0, 7,
      "Level of that priority, 0 being the highest");
  add_hint<cmdprio_options>(table);
  table.push_back(option("cmdprio_bssplit", "I/O priorities by block size", FIO_OPT_STR_STORE,
                         offsetof(FioOptions, priorities) + offsetof(cmdprio_options, bssplit_str),
                         nullptr, "Percentage, and priority, by block size"));
}

constexpr char kCommands[] = "only reads and writes of data are sent, and no other commands";
constexpr char kMetadata[] = "a dma-buf holds data and no metadata; what the drive can make and "
                             "check itself, premapped lets "
                             "it make and check";
constexpr char kScsi[] = "it is about SCSI devices by bsg, which take no dma-buf";

/// An option that is accepted with the value it has by default in fio's engine. A job of that
/// engine then runs here, or is told why it does not.
struct Refused {
  const char *name;
  fio_opt_type type;
  const char *why;                    ///< it is refused with any other value; a clause
  std::array<const char *, 5> values; ///< by number; the first is the default
  const char *otherwise = "0";        ///< the default, where there are no values
};

constexpr Refused kRefused[] = {
    {"md_per_io_size", FIO_OPT_INT, kMetadata, {}},
    {"pi_act", FIO_OPT_BOOL, kMetadata, {}, "1"},
    {"pi_chk", FIO_OPT_STR_STORE, kMetadata, {}, ""},
    {"apptag", FIO_OPT_INT, kMetadata, {}, "0x1234"},
    {"apptag_mask", FIO_OPT_INT, kMetadata, {}, "0xffff"},
    {"deac", FIO_OPT_BOOL, kCommands, {}},
    {"write_mode", FIO_OPT_STR_STORE, kCommands, {}, "write"},
    {"verify_mode", FIO_OPT_STR, kCommands, {"read", "compare"}},
    {"read_mode", FIO_OPT_STR, kScsi, {"read", "prefetch"}},
    {"cmd_type", FIO_OPT_STR, kScsi, {"nvme", "bsg"}},
    {"cdb_len", FIO_OPT_STR, kScsi, {"0", "10", "16", "32"}},
    {"verify_bytchk", FIO_OPT_STR, kScsi, {"0", "1", "3"}},
};
static_assert(std::size(kRefused) == std::size(FioOptions{}.refused));

const char *default_of(const Refused &refused) {
  return refused.values[0] ? refused.values[0] : refused.otherwise;
}

/// What is refused of it, if its value is not the default; else empty.
std::string refusal(const Refused &refused, const FioOptions::Value &value) {
  if (refused.type == FIO_OPT_STR_STORE) {
    const std::string_view text = value.text ? value.text : "";
    return text == refused.otherwise ? std::string()
                                     : strf("%s=%s: %s", refused.name, value.text, refused.why);
  }
  if (refused.values[0])
    return value.number ? strf("%s=%s: %s", refused.name, refused.values[value.number], refused.why)
                        : std::string();
  return value.number == std::strtoul(refused.otherwise, nullptr, 0)
             ? std::string()
             : strf("%s=%u: %s", refused.name, value.number, refused.why);
}

void add_refused(std::vector<fio_option> &table) {
  for (size_t i = 0; i < std::size(kRefused); i++) {
    const Refused &refused = kRefused[i];
    const bool text = refused.type == FIO_OPT_STR_STORE;
    const size_t offset = offsetof(FioOptions, refused) + i * sizeof(FioOptions::Value) +
                          (text ? offsetof(FioOptions::Value, text) : 0);
    const char *const otherwise = default_of(refused);
    // Never freed, like the table.
    const auto *help = new std::string(*otherwise ? strf("Only %s: %s", otherwise, refused.why)
                                                  : strf("Only when empty: %s", refused.why));
    auto &entry = table.emplace_back(option(refused.name, refused.name, refused.type, offset,
                                            *otherwise ? otherwise : nullptr, help->c_str()));
    for (size_t value = 0; value < refused.values.size() && refused.values[value]; value++)
      entry.posval[value] = choice(refused.values[value], value, "As with engine io_uring_cmd");
  }
}

} // namespace

void add_uring_options(std::vector<fio_option> &table) {
  const auto flag = [&](const char *name, const char *lname, size_t offset, const char *help) {
    table.push_back(option(name, lname, FIO_OPT_STR_SET, offset, nullptr, help));
  };
  flag("hipri", "Polling", offsetof(FioOptions, hipri),
       "Poll the drive for completions; needs direct=1 and a driver with polled queues");
  flag("fixedbufs", "Fixed buffers", offsetof(FioOptions, fixedbufs),
       "Register the I/O memory; every datapath but syscall does anyway");
  flag("registerfiles", "Register files", offsetof(FioOptions, registerfiles),
       "Register the target files with io_uring, as engine io_uring does");
  flag("sqthread_poll", "Submission thread", offsetof(FioOptions, sqpoll),
       "A kernel thread polls for submissions, as with engine io_uring");
  auto &cpu =
      table.emplace_back(option("sqthread_poll_cpu", "Submission thread's CPU", FIO_OPT_INT, 0,
                                nullptr, "CPU of the submission thread; needs sqthread_poll=1"));
  cpu.cb = reinterpret_cast<void *>(set_sqpoll_cpu);
  table.push_back(option("nowait", "RWF_NOWAIT", FIO_OPT_BOOL, offsetof(FioOptions, nowait), "0",
                         "An I/O that would have to wait fails with EAGAIN instead"));
  table.push_back(option("force_async", "Force async", FIO_OPT_INT,
                         offsetof(FioOptions, force_async), "0",
                         "Every Nth request is issued by a kernel worker"));
  table.push_back(
      option("uncached", "Uncached", FIO_OPT_INT, offsetof(FioOptions, uncached), "0",
             "Buffered reads and writes do not stay in the page cache (RWF_DONTCACHE)"));
  table.push_back(
      option("writefua", "Writes with FUA", FIO_OPT_BOOL, offsetof(FioOptions, force_writes), "0",
             "Each write is in the medium when it ends: targets are opened with O_DSYNC"));
  table.push_back(option("readfua", "Reads with FUA", FIO_OPT_BOOL,
                         offsetof(FioOptions, force_reads), "0",
                         "Each read comes from the medium; for datapath premapped"));
  table.push_back(option("nonvectored", "Non-vectored", FIO_OPT_INT,
                         offsetof(FioOptions, no_effect), "-1",
                         "Without effect: I/O is never vectored, as with fixedbufs=1 in engine "
                         "io_uring"));
  add_priorities(table);
  add_refused(table);
}

std::string foreign_option(const FioOptions &options) {
  for (size_t i = 0; i < std::size(kRefused); i++)
    if (std::string why = refusal(kRefused[i], options.refused[i]); !why.empty())
      return why;
  return {};
}

} // namespace dmabuf
