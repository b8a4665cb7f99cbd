// SPDX-License-Identifier: GPL-2.0-only
// What a hostile or careless program can ask of /dev/dmabuf_rw: every refusal must be the
// documented one, and nothing may be left behind or have moved.
#include "isolation.hpp"

#include <array>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <getopt.h>

namespace vmtest {

namespace {

DmaBuf make_or_die(Exporter exporter, std::size_t bytes) {
  auto buffer = DmaBuf::create(exporter, bytes);
  if (!buffer)
    die(std::format("{}: {}", name_of(exporter), buffer.error()));
  return std::move(*buffer);
}

std::string list(std::initializer_list<int> errnos) {
  std::string text;
  for (const int number : errnos)
    text += (text.empty() ? "" : " or ") + (number ? errno_name(number) : std::string("success"));
  return text;
}

bool contains(std::initializer_list<int> errnos, long got) {
  for (const int number : errnos)
    if (got == -number)
      return true;
  return false;
}

} // namespace

Bed::Bed(const IsolationOptions &options, std::size_t bytes)
    : buffer(make_or_die(options.exporter, bytes)), target(open_target(options.nvme)),
      plain(open_target(options.nvme)) {
  const CpuAccess access(buffer, true);
  fill_pattern(buffer.words(), buffer_poison, 0);
}

bool expect(const std::string &name, long got, std::initializer_list<int> allowed) {
  return report().check(contains(allowed, got), name,
                        std::format("{} instead of {}",
                                    got < 0 ? errno_name(got) : std::format("success ({})", got),
                                    list(allowed)));
}

bool expect_bytes(const std::string &name, long got, std::uint64_t bytes) {
  return report().check(got == static_cast<long>(bytes), name,
                        std::format("{} instead of {} bytes",
                                    got < 0 ? errno_name(got) : std::to_string(got), bytes));
}

bool expect_refused(const std::string &name, const Session &session, dmabuf_rw_map_entry entry,
                    std::initializer_list<int> errnos,
                    std::initializer_list<std::uint32_t> reasons) {
  entry.handle = 0;
  const int result = session.map({&entry, 1});
  if (result == 0 && entry.error == 0) {
    session.unmap_one(entry.handle);
    report().fail(name, std::format("was mapped instead of {}", list(errnos)));
    return false;
  }
  const long got = result ? result : -static_cast<long>(entry.error);
  if (!expect(name, got, errnos))
    return false;
  // A call that fails as a whole writes no reason, and is about its arguments, not about an entry.
  if (!report().check(result == 0, name + ", refused by its entry",
                      "the call itself failed: " + errno_name(result)))
    return false;
  bool known = false;
  std::string wanted;
  for (const std::uint32_t reason : reasons) {
    known = known || entry.reason == reason;
    wanted += (wanted.empty() ? "" : " or ") + reason_name(reason);
  }
  return report().check(known, name + ", reason",
                        std::format("{} instead of {}", reason_name(entry.reason), wanted));
}

int premapped(Bed &bed, Direction direction, std::uint32_t handle, std::uint64_t buffer_offset,
              std::uint32_t length, std::uint64_t file_offset, std::uint32_t flags,
              unsigned sqe_flags) {
  return bed.ring.command(
      bed.session.fd(), direction == Direction::Read ? DMABUF_RW_URING_READ : DMABUF_RW_URING_WRITE,
      buffer_offset, length, {.file_offset = file_offset, .handle = handle, .flags = flags},
      sqe_flags);
}

int sharing(Bed &bed) {
  Session session;
  auto entry = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  if (const int error = session.map_one(entry))
    return error;
  dmabuf_rw_info info{};
  const int error = session.info(entry.handle, info);
  return error ? error : static_cast<int>(info.shared);
}

void expect_live_dmabufs(const std::string &name, long expected) {
  std::optional<long> now = live_dmabufs();
  for (int tries = 0; tries < 150 && now && *now != expected; ++tries) {
    ::usleep(20000);
    now = live_dmabufs();
  }
  if (!now)
    report().skip(name, "no bufinfo in debugfs");
  else
    report().check(*now == expected, name,
                   std::format("{} dma-bufs in the system instead of {}", *now, expected));
}

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  IsolationOptions options;
  std::string only;
  static const option names[] = {{"nvme", 1, nullptr, 'n'},     {"other", 1, nullptr, 'o'},
                                 {"exporter", 1, nullptr, 'e'}, {"seconds", 1, nullptr, 's'},
                                 {"seed", 1, nullptr, 'r'},     {"only", 1, nullptr, 'g'},
                                 {"verbose", 0, nullptr, 'v'},  {}};
  report().take_options(argc, argv);
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    if (c == 'n')
      options.nvme = optarg;
    else if (c == 'o')
      options.other = optarg;
    else if (c == 'e') {
      if (const auto exporter = exporter_by_name(optarg))
        options.exporter = *exporter;
      else
        die("isolation: there is no exporter of that name");
    } else if (c == 's')
      options.thread_seconds = std::atof(optarg);
    else if (c == 'r')
      options.seed = std::strtoull(optarg, nullptr, 0);
    else if (c == 'g')
      only = optarg;
    else if (c == 'v')
      report().set_verbose(true);
    else
      die("usage: isolation [--nvme PATH] [--other PATH] [--exporter NAME] [--seconds S] "
          "[--seed N] [--only GROUP]");
  }
  struct Group {
    const char *name;
    void (*run)(const IsolationOptions &);
    bool only_by_name = false; // takes minutes
  };
  static constexpr std::array groups = {Group{"calls", test_calls},
                                        Group{"map", test_map_arguments},
                                        Group{"modes", test_modes},
                                        Group{"batches", test_batches},
                                        Group{"handles", test_handles},
                                        Group{"ranges", test_io_ranges},
                                        Group{"commands", test_commands},
                                        Group{"slots", test_slots},
                                        Group{"partition", test_partition},
                                        Group{"page_cache", test_page_cache},
                                        Group{"files", test_files},
                                        Group{"limits", test_limits},
                                        Group{"privileges", test_privileges},
                                        Group{"threads", test_threads},
                                        Group{"generations", test_generations, true}};
  const auto before = live_dmabufs();
  for (const Group &group : groups) {
    const bool wanted = only.empty() ? !group.only_by_name : only == group.name;
    report().begin_group(group.name, wanted);
    if (!wanted)
      continue;
    const double begin = now_s();
    const auto passes = report().passes();
    group.run(options);
    // Each group must leave the system as it found it.
    if (before)
      expect_live_dmabufs(std::string(group.name) + ": no dma-buf left", *before);
    report().note(std::format("{}: {} checks held, {:.1f} s", group.name,
                              report().passes() - passes, now_s() - begin));
  }
  return report().finish("isolation");
}
