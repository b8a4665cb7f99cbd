// SPDX-License-Identifier: GPL-2.0-only
// The options of fio's engine io_uring, of any fio: followed, without effect, or refused, so that a
// job of that engine runs here or says why it does not.
#include "fio/options.hpp"

#include <array>

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

/// An option that is accepted with the value it has by default in engine io_uring.
struct Refused {
  const char *name;
  fio_opt_type type;
  const char *help;
  std::array<const char *, 4> values; ///< by number; the first is the default
};

constexpr Refused kRefused[] = {
    {"uncached", FIO_OPT_INT, "Only 0: there are no uncached buffered reads and writes", {}},
    {"md_per_io_size", FIO_OPT_INT, "Only 0: there is no separate metadata", {}},
    {"readfua", FIO_OPT_BOOL, "Only 0: reads are not forced to the medium", {}},
    {"writefua", FIO_OPT_BOOL, "Only 0: writes are not forced to the medium; see fio's sync=", {}},
    {"deac", FIO_OPT_BOOL, "Only 0: there are no write-zeroes commands", {}},
    {"write_mode",
     FIO_OPT_STR,
     "Only write: there are no other commands",
     {"write", "uncor", "zeroes", "verify"}},
    {"verify_mode", FIO_OPT_STR, "Only read: there are no other commands", {"read", "compare"}},
};
static_assert(std::size(kRefused) == std::size(FioOptions{}.refused));

/// Without metadata engine io_uring makes nothing of these, nor does this one.
constexpr struct {
  const char *name;
  fio_opt_type type;
} kNoEffect[] = {
    {"nonvectored", FIO_OPT_INT}, {"pi_act", FIO_OPT_BOOL},     {"pi_chk", FIO_OPT_STR_STORE},
    {"apptag", FIO_OPT_INT},      {"apptag_mask", FIO_OPT_INT},
};

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
                         "Every so manieth request is issued by a kernel worker"));
  add_priorities(table);

  for (size_t i = 0; i < std::size(kRefused); i++) {
    const Refused &refused = kRefused[i];
    auto &entry =
        table.emplace_back(option(refused.name, refused.name, refused.type,
                                  offsetof(FioOptions, refused) + i * sizeof(unsigned),
                                  refused.values[0] ? refused.values[0] : "0", refused.help));
    for (size_t value = 0; value < refused.values.size() && refused.values[value]; value++)
      entry.posval[value] = choice(refused.values[value], value, "As with engine io_uring");
  }
  for (const auto &[name, type] : kNoEffect)
    table.push_back(option(name, name, type,
                           type == FIO_OPT_STR_STORE ? offsetof(FioOptions, no_effect_text)
                                                     : offsetof(FioOptions, no_effect),
                           nullptr, "Accepted and without effect, there being no metadata"));
  auto &type = table.emplace_back(option("cmd_type", "cmd_type", FIO_OPT_STR,
                                         offsetof(FioOptions, no_effect), nullptr,
                                         "Accepted and without effect, as with engine io_uring"));
  type.posval[0] = choice("nvme", 0, "As with engine io_uring");
}

std::string foreign_option(const FioOptions &options) {
  for (size_t i = 0; i < std::size(kRefused); i++) {
    const unsigned value = options.refused[i];
    if (!value)
      continue;
    const auto &values = kRefused[i].values;
    return values[0] ? strf("%s=%s", kRefused[i].name, values[value])
                     : strf("%s=%u", kRefused[i].name, value);
  }
  return {};
}

} // namespace dmabuf
