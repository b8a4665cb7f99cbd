// SPDX-License-Identifier: GPL-2.0-only
// What a write of a file that is held does beside moving bytes: it sets the file's time, takes its
// set-user-ID away, and is told to who watches the file.
#include "files.hpp"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t file_bytes = 4u << 20;
constexpr std::uint32_t block = 4096;

bool newer(const timespec &a, const timespec &b) {
  return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

// What a write does beside moving bytes.
void times(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("times");
  make_file(path, file_bytes, 5);
  struct stat before{}, after{};
  ::stat(path.c_str(), &before);
  ::usleep(50000);
  if (::chown(path.c_str(), 65534, 65534) != 0 || ::chmod(path.c_str(), 04755) != 0)
    die("chown, chmod: " + errno_name(errno));
  const Session session;
  in_child(fs.name() + ": a write", [&] {
    become_nobody(); // root keeps set-user-ID
    const HeldFile held(session, buffer.fd(), path);
    struct stat mapped{};
    ::stat(path.c_str(), &mapped);
    report().check(!(mapped.st_mode & S_ISUID), fs.name() + ": MAP takes set-user-ID away");
    const int got = held.move(nullptr, Direction::Write, 0, block, 0);
    report().check(got == static_cast<int>(block), fs.name() + ": a write", errno_name(got));
    return report().failures() ? exit_fail : exit_pass;
  });
  ::stat(path.c_str(), &after);
  report().check(newer(after.st_mtim, before.st_mtim),
                 fs.name() + ": a write sets the file's time");
  report().check(!(after.st_mode & S_ISUID), fs.name() + ": a write takes set-user-ID away");
  report().check(after.st_size == before.st_size, fs.name() + ": and leaves its size");
}

// The time is due every second. Who sets it sets it for all that follow, which need no worker. The
// second time nothing of the file is in the page cache, which would need a worker by itself.
void times_later(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("later");
  make_file(path, file_bytes, 5);
  const Session session;
  Ring ring(8, 0);
  const HeldFile held(session, buffer.fd(), path);
  const auto write = [&] {
    const int got = held.move(&ring, Direction::Write, 0, block, 0);
    report().check(got == static_cast<int>(block), fs.name() + ": a late write", errno_name(got));
  };
  for (const std::string round : {", first", ", again"}) {
    struct stat before{}, after{};
    ::stat(path.c_str(), &before);
    ::usleep(1600000);
    const std::uint64_t deferred = held.info().deferred;
    write();
    ::stat(path.c_str(), &after);
    report().check(newer(after.st_mtim, before.st_mtim),
                   fs.name() + ": a write after a second sets the file's time, before UNMAP" +
                       round);
    report().check(held.info().deferred > deferred, fs.name() + ": a worker sets it" + round);
    // At once: a machine that stood still for a second has the time set once more.
    bool at_once = false;
    for (int tries = 0; tries < 20 && !at_once; ++tries) {
      const std::uint64_t until = held.info().deferred;
      write();
      at_once = held.info().deferred == until;
    }
    report().check(at_once, fs.name() + ": the next write needs none" + round);
  }
}

// What was written since the time was set last is told at the end.
void told_at_the_end(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("told");
  make_file(path, file_bytes, 5);
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  // The lab's debug kernel has none; the file's time is looked at all the same.
  const bool watched = watch || errno != ENOSYS;
  if (!watched)
    report().skip("inotify", errno_name(errno));
  else if (::inotify_add_watch(watch.get(), path.c_str(), IN_MODIFY) < 0)
    die("inotify_add_watch: " + errno_name(errno));
  const auto told = [&] {
    char events[4096];
    return ::read(watch.get(), events, sizeof(events)) > 0;
  };
  const Session session;
  for (const bool writes : {true, false}) {
    HeldFile held(session, buffer.fd(), path);
    told();
    struct stat before{}, after{};
    ::stat(path.c_str(), &before);
    ::usleep(50000);
    const int got = held.move(nullptr, writes ? Direction::Write : Direction::Read, 0, block, 0);
    report().check(got == static_cast<int>(block), fs.name() + ": an I/O before UNMAP",
                   errno_name(got));
    held.release();
    const std::string what =
        fs.name() + (writes ? ": UNMAP after a write" : ": UNMAP after a read");
    const auto timed = [&] {
      ::stat(path.c_str(), &after);
      return newer(after.st_mtim, before.st_mtim);
    };
    // The mapping may go a moment after UNMAP.
    const bool now = wait_for([&] { return watched ? told() : timed(); }, writes ? 30 : 0.3);
    ::stat(path.c_str(), &after);
    if (watched)
      report().check(now == writes, what + ", inotify");
    report().check(newer(after.st_mtim, before.st_mtim) == writes, what + ", the file's time");
  }
}

} // namespace

void test_times(const FileSystem &fs, const DmaBuf &buffer) {
  times(fs, buffer);
  times_later(fs, buffer);
  told_at_the_end(fs, buffer);
}

} // namespace vmtest
