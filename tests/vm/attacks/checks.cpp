// SPDX-License-Identifier: GPL-2.0-only
// Checks that the kernel makes for read(2) and write(2) are made here, too: an active swap area is
// not written, and who watches a file with fanotify is asked first.
#include "attacks.hpp"

#include <atomic>
#include <fcntl.h>
#include <poll.h>
#include <sys/fanotify.h>
#include <sys/swap.h>
#include <thread>

namespace vmtest {

namespace {

constexpr std::uint32_t block = 4096;

void swap_area() {
  const UniqueFd target = open_target(drive);
  const std::uint64_t last = block_device_bytes(target.get()) - block; // the last page to be used
  const DmaBuf buffer = make_buffer(65536);
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), 8, last);
  }
  Session session;
  Ring ring(8);
  Mover premapped(session, ring, buffer.fd(), target.get(), Path::Premapped);
  Mover bvec(session, ring, buffer.fd(), target.get(), Path::Bvec);
  if (premapped.error() || bvec.error())
    die("MAP");
  shell(std::format("mkswap {} && swapon {}", drive, drive));
  HostBuffer before(block), after(block);
  read_plain(target.get(), before.words(), last);
  const int plain =
      ::pwrite(target.get(), before.words().data(), block, static_cast<off_t>(last)) < 0 ? -errno
                                                                                         : 0;
  report().check(plain == -ETXTBSY, "pwrite to a swap area, for comparison", errno_name(plain));
  for (Mover *mover : {&premapped, &bvec}) {
    const auto name = mover == &premapped ? "premapped" : "bvec";
    const int written = mover->transfer(Direction::Write, 0, block, last);
    report().check(written == -ETXTBSY, std::format("WRITE to a swap area by {}", name),
                   errno_name(written));
    const auto io = waited_io(session, mover->entry().handle, Direction::Write, 0, block, last);
    report().check(io.error == -ETXTBSY && io.reason == DMABUF_RW_REASON_SWAP,
                   std::format("IO to a swap area by {}", name),
                   std::format("{}, reason {}", errno_name(io.error), io.reason));
  }
  const int got = premapped.transfer(Direction::Read, 8192, block, last);
  report().check(got == static_cast<int>(block), "a swap area can be read", errno_name(got));
  auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  const int mapped = session.map_one(entry);
  report().check(mapped == 0 || (mapped == -ETXTBSY && entry.reason == DMABUF_RW_REASON_SWAP),
                 "MAP of a swap area", errno_name(mapped) + " " + std::to_string(entry.reason));
  read_plain(target.get(), after.words(), last);
  report().check(!compare_words(after.words(), before.words()), "the swap area is unchanged");
  shell(std::format("swapoff {} && wipefs -q -a {}", drive, drive));
  const int again = premapped.transfer(Direction::Write, 0, block, last);
  report().check(again == static_cast<int>(block), "WRITE when it is no swap area any more",
                 errno_name(again));
}

// Answers every permission event with no.
class Denier {
public:
  explicit Denier(const char *file)
      : group_(::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY)) {
    if (!group_ || ::fanotify_mark(group_.get(), FAN_MARK_ADD, FAN_ACCESS_PERM, AT_FDCWD, file))
      die(std::format("fanotify: {}", errno_name(errno)));
    thread_ = std::jthread([this](const std::stop_token &stop) {
      while (!stop.stop_requested())
        answer();
    });
  }
  unsigned asked() const { return asked_; }

private:
  void answer() {
    pollfd ready{.fd = group_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 100) <= 0)
      return;
    fanotify_event_metadata events[8];
    ssize_t length = ::read(group_.get(), events, sizeof(events));
    for (auto *event = events; length > 0 && FAN_EVENT_OK(event, length);
         event = FAN_EVENT_NEXT(event, length)) {
      const fanotify_response no{.fd = event->fd, .response = FAN_DENY};
      ++asked_;
      if (::write(group_.get(), &no, sizeof(no)) < 0)
        die("fanotify takes no answer");
      ::close(event->fd);
    }
  }
  UniqueFd group_;
  std::atomic<unsigned> asked_ = 0;
  std::jthread thread_;
};

void watched_file() {
  constexpr const char path[] = "/tmp/attacks.watched";
  {
    const UniqueFd made(::open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600));
    HostBuffer host(65536);
    fill_pattern(host.words(), 4, 0);
    write_plain(made.get(), host.words(), 0);
  }
  const Denier denier(path);
  const UniqueFd file = open_target(path, O_RDWR | O_CLOEXEC);
  char byte = 0;
  const int plain = ::pread(file.get(), &byte, 1, 0) < 0 ? -errno : 0;
  report().check(plain == -EPERM, "pread of a file that is watched, for comparison",
                 errno_name(plain));
  const DmaBuf buffer = make_buffer(65536);
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), buffer_poison, 0);
  }
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), file.get(), Path::Bvec);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  const unsigned asked = denier.asked();
  const int got = mover.transfer(Direction::Read, 0, block, 0);
  report().check(got == -EPERM, "READ of a file that is watched", errno_name(got));
  const auto io = waited_io(session, mover.entry().handle, Direction::Read, 0, block, 0);
  report().check(io.error == -EPERM, "IO of a file that is watched", errno_name(io.error));
  report().check(denier.asked() == asked + 2, "the watcher is asked once for each",
                 std::format("{} times", denier.asked() - asked));
  const CpuAccess access(buffer, false);
  HostBuffer want(65536);
  fill_pattern(want.words(), buffer_poison, 0);
  report().check(!compare_words(buffer.words(), want.words()), "nothing was read");
  ::unlink(path);
}

} // namespace

void attack_checks() {
  watched_file();
  swap_area();
}

} // namespace vmtest
