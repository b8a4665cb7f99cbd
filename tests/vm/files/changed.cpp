// SPDX-License-Identifier: GPL-2.0-only
// What somebody makes of a file, of its mount or of its device while it is held counts from the
// next I/O on.
#include "files.hpp"
#include "talk.hpp"

#include "lib/hurt.hpp"
#include "lib/interrupt.hpp"

#include <fcntl.h>
#include <functional>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t file_bytes = 4u << 20;
constexpr std::uint32_t block = 4096;

void make_nobodys_file(const std::string &path) {
  make_file(path, file_bytes, 5);
  if (::chown(path.c_str(), 65534, 65534) != 0)
    die("chown: " + errno_name(errno));
}

// What root gives a file while it is held is taken off by its next write, as by any write. That of
// a ring is sent by a worker of io_uring.
void given_later(const FileSystem &fs, const DmaBuf &buffer, bool by_ring) {
  const std::string path = fs.path("given");
  make_nobodys_file(path);
  const Talk talk;
  const Session session;
  const pid_t child = ::fork();
  if (child == 0) {
    become_nobody();
    const HeldFile held(session, buffer.fd(), path);
    Ring ring(8, 0);
    if (held.error())
      ::_exit(exit_setup);
    talk.tell_parent();
    talk.wait_for_parent();
    ::_exit(held.move(by_ring ? &ring : nullptr, Direction::Write, 0, block, 0) ==
                    static_cast<int>(block)
                ? exit_pass
                : exit_fail);
  }
  talk.wait_for_child();
  if (::chmod(path.c_str(), 04755) != 0)
    die("chmod: " + errno_name(errno));
  talk.tell_child();
  int status = -1;
  ::waitpid(child, &status, 0);
  report().check(status == 0, fs.name() + ": a write of a file that became set-user-ID",
                 std::format("status {:#x}", status));
  struct stat after{};
  ::stat(path.c_str(), &after);
  report().check(!(after.st_mode & S_ISUID), fs.name() + ": it takes set-user-ID away");
}

// Who maps a file as root and then gives up root writes it with the rights that are left, as with
// write(2): set-user-ID goes.
void rights_given_up(const FileSystem &fs, const DmaBuf &buffer, bool by_ring) {
  const std::string path = fs.path("given-up");
  const std::string what = std::format("{}, by {}", fs.name(), by_ring ? "io_uring" : "the ioctl");
  make_file(path, file_bytes, 5);
  if (::chmod(path.c_str(), 04755) != 0)
    die("chmod: " + errno_name(errno));
  const auto is_set = [&] {
    struct stat now{};
    ::stat(path.c_str(), &now);
    return (now.st_mode & S_ISUID) != 0;
  };
  in_child(what + ": a process that gives up root", [&] {
    const Session session;
    const HeldFile held(session, buffer.fd(), path);
    Ring ring(8, 0);
    const auto write = [&](const char *who) {
      const int got = held.move(by_ring ? &ring : nullptr, Direction::Write, 0, block, 0);
      report().check(got == static_cast<int>(block), what + ": a write of " + who, errno_name(got));
    };
    write("root");
    report().check(is_set(), what + ": a write of root leaves set-user-ID");
    become_nobody();
    write("who was root");
    report().check(!is_set(), what + ": a write of who was root takes set-user-ID away");
    return report().failures() ? exit_fail : exit_pass;
  });
}

// What was seen of a write that the drive fails once.
struct Meanwhile {
  int before = 0, failed = 0; // commands that failed: before set-user-ID was given, and in all
  mode_t given = 0, after = 0;
  int status = -1; // of the process that writes
  bool as_wanted() const { return before == 0 && failed == 1 && (given & S_ISUID) && status == 0; }
};

Meanwhile given_meanwhile_once(const std::string &path, const DmaBuf &buffer, const Hurt &hurt) {
  constexpr unsigned medium_error = 0x281; // and it may be sent again
  Meanwhile seen;
  const Talk talk;
  const Session session;
  const pid_t child = ::fork();
  if (child == 0) {
    become_nobody();
    const HeldFile held(session, buffer.fd(), path);
    Ring ring(8, 0);
    // What is due at the first write is done.
    if (held.error() || held.move(&ring, Direction::Write, 0, block, 0) != static_cast<int>(block))
      ::_exit(exit_setup);
    talk.tell_parent();
    talk.wait_for_parent();
    const int got = held.move(&ring, Direction::Write, 0, block, 0);
    ::_exit(got == static_cast<int>(block) ? exit_pass : exit_fail);
  }
  talk.wait_for_child();
  hurt.lie("dmabuf_rw:single_file_write_end", medium_error, 1);
  drive_interrupt().mask();
  talk.tell_child();
  ::usleep(300000);
  seen.before = hurt.lies();
  if (::chmod(path.c_str(), 04755) != 0)
    die("chmod: " + errno_name(errno));
  ::usleep(100000);
  struct stat now{};
  ::stat(path.c_str(), &now);
  seen.given = now.st_mode;
  drive_interrupt().unmask();
  ::waitpid(child, &seen.status, 0);
  seen.failed = hurt.lies();
  hurt.lie_off();
  ::stat(path.c_str(), &now);
  seen.after = now.st_mode;
  return seen;
}

// The same while a write is with the drive, which then fails it once: the thread of the kernel that
// sends it again has the rights to leave set-user-ID where it is, and the user has not.
void given_meanwhile(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("meanwhile");
  make_nobodys_file(path);
  const Hurt hurt;
  Meanwhile seen;
  // On a slow machine the write is late for what is to happen to it, or its time is due again, so
  // that it goes another way.
  for (int tries = 0; tries < 8 && !seen.as_wanted(); ++tries) {
    if (::chmod(path.c_str(), 0644) != 0)
      die("chmod: " + errno_name(errno));
    seen = given_meanwhile_once(path, buffer, hurt);
  }
  report().check(seen.as_wanted(),
                 fs.name() + ": a write fails once, of a file that has become set-user-ID",
                 std::format("{} and {} commands failed, mode {:o}, status {:#x}", seen.before,
                             seen.failed, seen.given, seen.status));
  report().check(!(seen.after & S_ISUID), fs.name() + ": it takes set-user-ID away");
}

void set_flag(const std::string &path, unsigned flag, bool on) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  unsigned flags = 0;
  if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0)
    die("FS_IOC_GETFLAGS: " + errno_name(errno));
  flags = on ? flags | flag : flags & ~flag;
  if (::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) != 0)
    die("FS_IOC_SETFLAGS: " + errno_name(errno));
}

// Nothing is left that the file system would want to write meanwhile.
void set_read_only(const std::string &node, bool on) {
  if (on)
    ::sync();
  const UniqueFd fd(::open(node.c_str(), O_RDONLY | O_CLOEXEC));
  const int value = on;
  if (::ioctl(fd.get(), BLKROSET, &value) != 0)
    die("BLKROSET: " + errno_name(errno));
}

void enable_verity(const std::string &path) {
  const UniqueFd reader(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  fsverity_enable_arg arg{};
  arg.version = 1;
  arg.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
  arg.block_size = block;
  if (::ioctl(reader.get(), FS_IOC_ENABLE_VERITY, &arg) != 0)
    die("fs-verity: " + errno_name(errno));
}

// A file that is held, as seen by the I/Os on it.
class Changing {
public:
  Changing(const FileSystem &fs, const DmaBuf &buffer, const std::string &path)
      : fs_(fs), held_(session_, buffer.fd(), path) {}

  // Writes until a write needs no worker: its time was set lately.
  void written(const std::string &what) {
    bool at_once = false;
    int got = 0;
    for (int tries = 0; tries < 20 && !at_once; ++tries) {
      const std::uint64_t until = held_.info().deferred;
      last_write_ = now_s();
      got = held_.move(&ring_, Direction::Write, 0, block, 0);
      at_once = got == static_cast<int>(block) && held_.info().deferred == until;
    }
    report().check(at_once, fs_.name() + ": a write " + what + ", without a worker",
                   errno_name(got));
  }
  // By the ring first: whether no time has to be set meanwhile, which would be looked at with the
  // rest.
  bool refused(const std::string &what, Direction direction, std::uint32_t reason) {
    bool in_time = true;
    for (Ring *const way : {&ring_, static_cast<Ring *>(nullptr)}) {
      const int got = held_.move(way, direction, 0, block, 0);
      if (way)
        in_time = now_s() - last_write_ < time_is_set_every / 2;
      report().check(got == -EPERM && held_.info().last_reason == reason,
                     std::format("{}: {} of {} is refused", fs_.name(), name_of(direction), what),
                     std::format("{}, {}", errno_name(got), reason_name(held_.info().last_reason)));
    }
    return in_time;
  }
  void read(const std::string &what) {
    const int got = held_.move(&ring_, Direction::Read, 0, block, 0);
    report().check(got == static_cast<int>(block), fs_.name() + ": a read of " + what,
                   errno_name(got));
  }

private:
  static constexpr double time_is_set_every = 1; // s, the module's
  const FileSystem &fs_;
  Session session_;
  Ring ring_{8, 0};
  HeldFile held_;
  double last_write_ = 0;
};

// What becomes of the file, of its mount and of its device while it is held counts from the next
// I/O on, which needs nothing else to be done first.
void changed_meanwhile(const FileSystem &fs, const DmaBuf &buffer) {
  constexpr int most_tries = 10;
  const std::string path = fs.path("changed");
  make_file(path, file_bytes, 5);
  struct Turn {
    std::string what;
    std::function<void(bool on)> turn;
    std::uint32_t reason;
  };
  const Turn turns[] = {
      {"an immutable file", [&](bool on) { set_flag(path, FS_IMMUTABLE_FL, on); },
       DMABUF_RW_REASON_FILE_KIND},
      {"a file to append to", [&](bool on) { set_flag(path, FS_APPEND_FL, on); },
       DMABUF_RW_REASON_FILE_KIND},
      {"a device that is read-only", [&](bool on) { set_read_only(fs.node(), on); },
       DMABUF_RW_REASON_READ_ONLY},
  };
  {
    Changing file(fs, buffer, path);
    for (const Turn &turn : turns) {
      bool in_time = false;
      for (int tries = 0; tries < most_tries && !in_time; ++tries) {
        file.written("before " + turn.what);
        turn.turn(true);
        in_time = file.refused(turn.what, Direction::Write, turn.reason);
        file.read(turn.what);
        turn.turn(false);
      }
      file.written("after " + turn.what);
      report().check(in_time, fs.name() + ": no time had to be set with " + turn.what,
                     std::format("{} tries", most_tries));
    }
  }
  if (fs.name().starts_with("xfs") || !ext4_has_verity()) {
    report().note(fs.name() + ": fs-verity is not tried");
    return;
  }
  bool in_time = false;
  for (int tries = 0; tries < most_tries && !in_time; ++tries) {
    const std::string sealed = fs.path(std::format("sealed{}", tries));
    make_file(sealed, 16 * block, 5);
    Changing file(fs, buffer, sealed);
    file.written("before fs-verity");
    enable_verity(sealed);
    in_time = file.refused("a file with fs-verity", Direction::Write, DMABUF_RW_REASON_FILE_KIND);
    file.refused("a file with fs-verity", Direction::Read, DMABUF_RW_REASON_FILE_KIND);
  }
  report().check(in_time, fs.name() + ": no time had to be set with fs-verity",
                 std::format("{} tries", most_tries));
}

} // namespace

void test_changed(const FileSystem &fs, const DmaBuf &buffer) {
  for (const bool by_ring : {true, false}) {
    given_later(fs, buffer, by_ring);
    rights_given_up(fs, buffer, by_ring);
  }
  given_meanwhile(fs, buffer);
  changed_meanwhile(fs, buffer);
}

} // namespace vmtest
