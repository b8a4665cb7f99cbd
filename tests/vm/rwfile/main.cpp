// SPDX-License-Identifier: GPL-2.0-only
// A dma-buf as a file (OPEN), and one READ or WRITE that is waited for (RW). The witnesses are the
// dma-buf's own mmap and plain pread and pwrite.
#include "rwfile.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <getopt.h>
#include <grp.h>
#include <random>
#include <sys/ioctl.h>
#include <sys/wait.h>

namespace vmtest {

long outcome(long result) { return result < 0 ? -errno : result; }

Opened open_rw(const Session &session, int dmabuf_fd, int flags) {
  Opened opened;
  opened.answer.dmabuf_fd = static_cast<__u32>(dmabuf_fd);
  opened.answer.flags = static_cast<__u32>(flags);
  opened.error =
      static_cast<int>(outcome(::ioctl(session.fd(), DMABUF_RW_IOC_OPEN, &opened.answer)));
  if (opened.error == 0)
    opened.fd = UniqueFd(static_cast<int>(opened.answer.fd));
  return opened;
}

UniqueFd must_open_rw(const Session &session, int dmabuf_fd, int flags) {
  Opened opened = open_rw(session, dmabuf_fd, flags);
  if (opened.error)
    die(std::format("OPEN: {}, {}", errno_name(opened.error), reason_name(opened.answer.reason)));
  return std::move(opened.fd);
}

Session session_with_timeout(std::uint32_t timeout_ms) {
  Session session;
  dmabuf_rw_config config{};
  config.timeout_ms = timeout_ms;
  if (const int error = session.config(config))
    die("CONFIG: " + errno_name(error));
  return session;
}

int rw(const Session &session, dmabuf_rw_io &io) {
  return static_cast<int>(outcome(::ioctl(session.fd(), DMABUF_RW_IOC_IO, &io)));
}

dmabuf_rw_io rw_io(std::uint32_t handle, Direction direction, std::uint64_t buffer_offset,
                   std::uint64_t length, std::uint64_t file_offset) {
  dmabuf_rw_io io{};
  io.handle = handle;
  io.direction = direction == Direction::Read ? DMABUF_RW_DIR_READ : DMABUF_RW_DIR_WRITE;
  io.buffer_offset = buffer_offset;
  io.file_offset = file_offset;
  io.length = length;
  return io;
}

bool expect_result(const std::string &name, long got, long wanted) {
  const auto text = [](long value) {
    return value < 0 ? errno_name(value) : std::format("{}", value);
  };
  return report().check(got == wanted, name,
                        std::format("{} instead of {}", text(got), text(wanted)));
}

std::string differ(std::span<const std::byte> found, std::span<const std::byte> wanted) {
  if (found.size() != wanted.size())
    return std::format("{} bytes instead of {}", found.size(), wanted.size());
  if (std::memcmp(found.data(), wanted.data(), found.size()) == 0)
    return "";
  std::size_t wrong = 0, first = found.size(), last = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] == wanted[i])
      continue;
    first = std::min(first, i);
    last = i;
    ++wrong;
  }
  return std::format("{} bytes of {} differ, from {} to {}", wrong, found.size(), first, last);
}

void fill_random(std::span<std::byte> bytes, std::uint64_t seed) {
  std::uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    std::memcpy(bytes.data() + i, &state, std::min<std::size_t>(8, bytes.size() - i));
  }
}

void in_child(const std::string &name, const std::function<int()> &body) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child < 0)
    die("fork failed");
  if (child == 0) {
    report().forget(); // the parent's failures are not the child's
    const int status = body();
    std::fflush(stdout);
    ::_exit(status);
  }
  const int status = wait_child(child, 60);
  if (status == -1) {
    ::kill(child, SIGKILL);
    wait_child(child, 10);
  }
  report().check(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0, name,
                 std::format("child ended with wait status 0x{:x}", status));
}

int wait_child(int pid, double seconds) {
  const double end = now_s() + seconds;
  int status = 0;
  do {
    if (::waitpid(pid, &status, WNOHANG) == pid)
      return status;
    ::usleep(2000);
  } while (now_s() < end);
  return -1;
}

void become_nobody() {
  if (::setgroups(0, nullptr) != 0 || ::setresgid(65534, 65534, 65534) != 0 ||
      ::setresuid(65534, 65534, 65534) != 0)
    die("cannot give up root");
}

DmaBuf must_make(Exporter exporter, std::size_t bytes, Access access) {
  auto buffer = DmaBuf::create(exporter, bytes, access);
  if (!buffer)
    die(std::format("{}: {}", name_of(exporter), buffer.error()));
  return std::move(*buffer);
}

TestBuffer cpu_buffer(const Testexp &testexp, std::uint64_t bytes, std::uint32_t flags) {
  return testexp.make(gpu_buffer(bytes, 7, flags));
}

bool older_kernel() { return pages_path() != Path::Registered; }

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  RwOptions options;
  report().take_options(argc, argv);
  static const option names[] = {{"nvme", 1, nullptr, 'n'},    {"seconds", 1, nullptr, 't'},
                                 {"kills", 1, nullptr, 'k'},   {"seed", 1, nullptr, 's'},
                                 {"verbose", 0, nullptr, 'v'}, {}};
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    if (c == 'n')
      options.nvme = optarg;
    else if (c == 't')
      options.seconds = std::atof(optarg);
    else if (c == 'k')
      options.kills = std::atoi(optarg);
    else if (c == 's')
      options.seed = std::strtoull(optarg, nullptr, 0);
    else if (c == 'v')
      report().set_verbose(true);
    else
      die("usage: rwfile [--nvme PATH] [--seconds S] [--kills N] [--seed N] [--verbose] [PART]…\n"
          "Destroys data on the device.");
  }
  struct Part {
    const char *name;
    void (*run)(const RwOptions &);
  };
  static constexpr std::array parts = {
      Part{"calls", test_calls},           Part{"io-memory", test_io_memory},
      Part{"arguments", test_arguments},   Part{"modes", test_modes},
      Part{"offsets", test_offsets},       Part{"faults", test_faults},
      Part{"limits", test_limits},         Part{"fences", test_fences},
      Part{"polling", test_polling},       Part{"revocation", test_revocation},
      Part{"sharing", test_sharing},       Part{"lifetime", test_lifetime},
      Part{"throughput", test_throughput}, Part{"rw", test_rw},
      Part{"rw-waits", test_rw_waits}};
  for (int i = optind; i < argc; ++i)
    if (std::ranges::none_of(parts, [&](const Part &part) { return !strcmp(part.name, argv[i]); }))
      die(std::format("there is no part {}", argv[i]));
  const auto before = live_dmabufs();
  for (const Part &part : parts) {
    const bool wanted = optind == argc || std::any_of(argv + optind, argv + argc, [&](char *name) {
                          return !std::strcmp(part.name, name);
                        });
    if (!wanted)
      continue;
    const double begin = now_s();
    const auto passes = report().passes();
    part.run(options);
    // Each part must leave the system as it found it.
    std::optional<long> now = live_dmabufs();
    for (int tries = 0; tries < 150 && now != before; ++tries) {
      ::usleep(20000);
      now = live_dmabufs();
    }
    if (before && now)
      report().check(*now == *before, std::string(part.name) + ": no dma-buf left",
                     std::format("{} instead of {}", *now, *before));
    report().note(std::format("{}: {} checks held, {:.1f} s", part.name, report().passes() - passes,
                              now_s() - begin));
  }
  const int unloaded = module_loaded("dmabuf_testexp") ? unload_module("dmabuf_testexp", 10) : 0;
  report().check(unloaded == 0, "dmabuf_testexp can be removed at the end", errno_name(unloaded));
  return report().finish("rwfile");
}
