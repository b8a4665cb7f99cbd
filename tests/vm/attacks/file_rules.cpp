// SPDX-License-Identifier: GPL-2.0-only
// What read(2) and write(2) do for a file beside moving its bytes, bvec does too: who watches the
// file is told, and a file system that is frozen, as for a snapshot, is not written until it thaws.
#include "attacks.hpp"

#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <linux/fs.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <thread>

namespace vmtest {

namespace {

constexpr const char mount_point[] = "/tmp/attacks.rules";
constexpr std::uint32_t block = 4096;
constexpr std::size_t bytes = 65536;

// ext4 on a drive, with one file, whose blocks are there and hold generation 4.
class MountedFile {
public:
  explicit MountedFile(std::string_view device) : device_(device) {
    std::filesystem::create_directories(mount_point);
    shell(std::format("mkfs.ext4 -q -F {0} && mount {0} {1}", device_, mount_point));
    const UniqueFd made(::open(path().c_str(), O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
    HostBuffer host(bytes);
    fill_pattern(host.words(), 4, 0);
    write_plain(made.get(), host.words(), 0);
    ::fsync(made.get());
  }
  MountedFile(const MountedFile &) = delete;
  MountedFile &operator=(const MountedFile &) = delete;
  ~MountedFile() {
    report().check(wait_for([] { return ::umount2(mount_point, 0) == 0; }, 20), "umount");
    shell(std::format("wipefs -q -a {}", device_));
  }
  std::string path() const { return std::string(mount_point) + "/file"; }

private:
  std::string device_;
};

// Memory as a drive, which ends each I/O within the call.
class MemoryDrive {
public:
  static constexpr const char device[] = "/dev/ram0";

  MemoryDrive() { shell("modprobe brd rd_nr=1 rd_size=65536"); }
  MemoryDrive(const MemoryDrive &) = delete;
  MemoryDrive &operator=(const MemoryDrive &) = delete;
  ~MemoryDrive() { shell("rmmod brd"); }
};

// The events of one file since the last question.
class Watch {
public:
  explicit Watch(const std::string &path) : group_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    if (!group_ || ::inotify_add_watch(group_.get(), path.c_str(), IN_ACCESS | IN_MODIFY) < 0)
      die("inotify: " + errno_name(errno));
  }
  // Equal events that follow each other are one for inotify.
  std::uint32_t seen() {
    std::uint32_t mask = 0;
    alignas(inotify_event) char events[4096];
    pollfd ready{.fd = group_.get(), .events = POLLIN, .revents = 0};
    while (::poll(&ready, 1, 0) > 0) {
      const ssize_t length = ::read(group_.get(), events, sizeof(events));
      for (ssize_t at = 0; at < length;) {
        const auto *event = reinterpret_cast<const inotify_event *>(events + at);
        mask |= event->mask;
        at += static_cast<ssize_t>(sizeof(*event) + event->len);
      }
    }
    return mask;
  }

private:
  UniqueFd group_;
};

void told_of_io(const std::string &path) {
  const UniqueFd target = open_target(path);
  const DmaBuf buffer = make_buffer(bytes);
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Bvec);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  Watch watch(path);
  char byte = 0;
  const UniqueFd plain = open_target(path, O_RDONLY | O_CLOEXEC);
  if (::pread(plain.get(), &byte, 1, 0) != 1)
    die("pread");
  report().check(watch.seen() == IN_ACCESS, "who watches is told of pread, for comparison");
  const auto told = [&](std::string_view how, Direction direction, int moved) {
    const std::uint32_t want = direction == Direction::Read ? IN_ACCESS : IN_MODIFY;
    report().check(moved == static_cast<int>(block),
                   std::format("{} of a file by {}", name_of(direction), how), errno_name(moved));
    const std::uint32_t seen = watch.seen();
    report().check(seen == want,
                   std::format("who watches is told of a {} by {}", name_of(direction), how),
                   std::format("told {:#x}, not {:#x}", seen, want));
  };
  for (const Direction direction : {Direction::Read, Direction::Write}) {
    told("io_uring", direction, mover.transfer(direction, 0, block, 0));
    told("the ioctl", direction, mover.waited(direction, 0, block, 0));
  }
  const int past = mover.transfer(Direction::Read, 0, block, bytes);
  report().check(past == 0 && watch.seen() == 0, "nobody is told of a read of nothing",
                 errno_name(past));
}

// The file system is frozen as long as the object lives.
class Frozen {
public:
  Frozen() : root_(::open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (!root_ || ::ioctl(root_.get(), FIFREEZE, 0) != 0)
      die("FIFREEZE: " + errno_name(errno));
  }
  Frozen(const Frozen &) = delete;
  Frozen &operator=(const Frozen &) = delete;
  ~Frozen() {
    if (::ioctl(root_.get(), FITHAW, 0) != 0)
      die("FITHAW: " + errno_name(errno));
  }

private:
  UniqueFd root_;
};

// `generation` is what the buffer holds, and the file does not.
void not_while_frozen(const std::string &path, bool by_ring, std::uint32_t generation) {
  const auto how = by_ring ? "io_uring" : "the ioctl";
  const UniqueFd target = open_target(path);
  const DmaBuf buffer = make_buffer(bytes);
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), generation, 0);
  }
  std::atomic<bool> done = false;
  std::atomic<int> written = 0;
  std::atomic<pid_t> tid = 0;
  HostBuffer before(block), during(block), after(block), want(block);
  read_plain(target.get(), before.words(), 0);
  std::jthread writer;
  bool waited = false;
  {
    const Frozen frozen;
    writer = std::jthread([&] {
      Session session;
      Ring ring(8);
      Mover mover(session, ring, buffer.fd(), target.get(), Path::Bvec);
      if (mover.error())
        die("MAP: " + errno_name(mover.error()));
      tid = ::gettid();
      written = by_ring ? mover.transfer(Direction::Write, 0, block, 0)
                        : mover.waited(Direction::Write, 0, block, 0);
      done = true;
    });
    // Of the ring the thread only waits for the end; its worker is the one that is kept.
    wait_for([&] { return done || (tid && asleep(tid)); }, 30);
    ::usleep(300000);
    waited = !done;
    read_plain(target.get(), during.words(), 0);
  }
  writer.join();
  read_plain(target.get(), after.words(), 0);
  fill_pattern(want.words(), generation, 0);
  report().check(waited, std::format("a write by {} waits for a frozen file system", how));
  report().check(!compare_words(during.words(), before.words()),
                 std::format("a frozen file system is not written by {}", how));
  report().check(written == static_cast<int>(block),
                 std::format("the write by {} is made when it thaws", how), errno_name(written));
  report().check(!compare_words(after.words(), want.words()),
                 std::format("the write by {} is there then", how));
}

volatile std::sig_atomic_t too_large = 0;

// A write that goes over the limit of the process ends short, as write(2) does; the signal SIGXFSZ
// is for one that begins behind it. Whether the file system has all of it when its call returns is
// a race with the drive: many times, and on a drive that always has.
void short_at_the_limit(const std::string &path) {
  constexpr std::size_t most = bytes / 2;
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  too_large = 0;
  std::signal(SIGXFSZ, [](int) { too_large = too_large + 1; });
  const UniqueFd target = open_target(path);
  const DmaBuf buffer = make_buffer(bytes);
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), 13, 0);
  }
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Bvec);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  const rlimit limit{.rlim_cur = most, .rlim_max = before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  unsigned as_write = 0;
  int got = 0;
  for (int i = 0; i < 300; ++i) {
    got = mover.transfer(Direction::Write, 0, bytes, 0);
    as_write += got == static_cast<int>(most);
  }
  const int signals = too_large;
  got = mover.transfer(Direction::Write, 0, block, most);
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_DFL);
  report().check(as_write == 300, "a write over the limit of the process ends short",
                 std::to_string(as_write));
  report().check(signals == 0, "and brings no signal", std::to_string(signals));
  report().check(got == -EFBIG && too_large == 1, "a write behind the limit does", errno_name(got));
}

} // namespace

void attack_file_rules() {
  {
    const MemoryDrive memory;
    const MountedFile file(MemoryDrive::device);
    short_at_the_limit(file.path());
  }
  const MountedFile file(drive);
  short_at_the_limit(file.path());
  told_of_io(file.path());
  not_while_frozen(file.path(), true, 11);
  not_while_frozen(file.path(), false, 12);
}

} // namespace vmtest
