// SPDX-License-Identifier: GPL-2.0-only
// CONFIG.timeout_ms is a user's own patience. It neither makes the driver abort commands and reset
// a drive that others use, nor keeps it from doing so when the drive is stuck.
#include "attacks.hpp"

#include <sys/wait.h>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint32_t block = 65536;
constexpr unsigned depth = 8;
constexpr const char trouble[] = "timeout, (aborting|reset|disable|completion polled)|Abort status";

void set_timeout(const Session &session, std::uint32_t ms) {
  dmabuf_rw_config config{};
  config.timeout_ms = ms;
  if (session.config(config) != 0)
    die("CONFIG");
}

// A user without any right, and with the shortest patience there is: reads, all at once.
int impatient(Session &session, const DmaBuf &buffer, int target) {
  if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
    return 2;
  set_timeout(session, 1);
  Ring ring(depth);
  Mover mover(session, ring, buffer.fd(), target, Path::Premapped);
  if (mover.error())
    return 3;
  unsigned queued = 0, failed = 0, ended = 0;
  for (; queued < depth; ++queued)
    mover.queue(Direction::Read, queued * block, block, attack_base + queued * block);
  while (ended < queued) {
    const int count = ring.reap([&](std::uint64_t, int result) {
      ++ended;
      failed += result != static_cast<int>(block);
      if (queued < 3 * depth)
        mover.queue(Direction::Read, (queued % depth) * block, block, attack_base), ++queued;
    });
    if (count < 0)
      return 4;
  }
  return failed ? 1 : 0;
}

void shortest() {
  KernelLog log;
  const DmaBuf buffer = make_buffer(depth * block);
  const UniqueFd target = open_target(drive);
  Throttle throttle;
  Session session;
  throttle.slow(4);
  const pid_t child = ::fork();
  if (child == 0)
    ::_exit(impatient(session, buffer, target.get()));
  // Meanwhile somebody else uses the drive.
  HostBuffer host(4096);
  double longest = 0;
  int status = 0;
  unsigned others = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    const double begin = now_s();
    read_plain(target.get(), host.words(), attack_base);
    longest = std::max(longest, now_s() - begin);
    ++others;
    if (log.count(trouble) > 3) // it has been shown
      throttle.go();
  }
  report().check(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                 "reads with timeout_ms = 1 are waited for", std::format("{:#x}", status));
  report().check(log.count(trouble) == 0, "timeout_ms = 1 makes the driver abort and reset nothing",
                 std::format("{} messages of the driver", log.count(trouble)));
  report().note(
      std::format("{} plain reads beside it, the longest took {:.1f} s", others, longest));
}

void longest() {
  const std::string file = std::format("/sys/class/block/{}/queue/io_timeout", path_disk());
  const std::string before = read_file(file);
  if (before.empty() || write_file(file, "1000") != 0)
    die(file + " cannot be set");
  const DmaBuf buffer = make_buffer(depth * block);
  const UniqueFd target = open_target(drive);
  {
    KernelLog log;
    Throttle throttle;
    Session session;
    Ring ring(depth);
    set_timeout(session, 3600000);
    Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
    if (mover.error())
      die("MAP: " + errno_name(mover.error()));
    // One command a second: the last of them waits for longer than the queue allows.
    throttle.slow(1);
    for (unsigned i = 0; i < depth; ++i)
      mover.queue(Direction::Read, i * block, block, attack_base + i * block);
    unsigned ended = 0;
    while (ended < depth && ring.reap([&](std::uint64_t, int) { ++ended; }) >= 0) {
    }
    throttle.go();
    report().check(log.count(trouble) > 0,
                   "timeout_ms = 3600000: the driver finds out a drive that is stuck, as ever",
                   std::format("no message of it in {} reads, a second each", ended));
    report().check(ended == depth, "and every read ends", std::format("{} of {}", ended, depth));
  }
  write_file(file, before);
}

} // namespace

void attack_timeouts() {
  shortest();
  longest();
}

} // namespace vmtest
