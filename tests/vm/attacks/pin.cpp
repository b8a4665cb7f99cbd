// SPDX-License-Identifier: GPL-2.0-only
// An exporter whose kernel mapping does not keep the memory where it is: only a pin does. Whoever
// works on the pages, or reads and writes a dma-buf as a file, must hold one, or go without.
#include "attacks.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>

namespace vmtest {

namespace {

constexpr std::size_t bytes = 256u << 10;
constexpr std::uint32_t loose = DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_LOOSE_VMAP;

// OPEN: the rw fd, or a negative errno.
int open_file(const Session &session, int dmabuf_fd, std::uint32_t *reason = nullptr) {
  dmabuf_rw_open open{};
  open.dmabuf_fd = static_cast<__u32>(dmabuf_fd);
  open.flags = O_RDWR | O_CLOEXEC;
  const int status = ::ioctl(session.fd(), DMABUF_RW_IOC_OPEN, &open) < 0 ? -errno : 0;
  if (reason)
    *reason = open.reason;
  return status < 0 ? status : static_cast<int>(open.fd);
}

// The memory may only move if what comes afterwards goes along.
template <typename Transfer>
void move_and_check(const TestBuffer &buffer, const std::string &name, std::uint32_t generation,
                    Transfer transfer) {
  const int moved = buffer.move();
  report().check(moved == 0 || moved == -EBUSY, name + ": MOVE", errno_name(moved));
  const long got = transfer();
  report().check(got == static_cast<long>(bytes), name + ": I/O after a MOVE", errno_name(got));
  HostBuffer found(bytes), want(bytes);
  buffer.must_read(found.words(), 0);
  fill_pattern(want.words(), generation, attack_base);
  const auto wrong = compare_words(found.words(), want.words());
  report().check(!wrong,
                 std::format("{}: what is read is in the buffer ({})", name,
                             moved ? "which was pinned" : "which had moved"),
                 wrong ? describe(*wrong, 0) : "");
}

// A request that one of io_uring's workers sent is freed, and lets go of the slot that it used,
// once that worker is done with it and the ring's task enters the ring: on a busy machine after its
// completion was seen.
void check_let_go(const TestBuffer &buffer, const std::string &name, Ring *ring = nullptr) {
  const auto let_go = [&] {
    if (ring)
      io_uring_get_events(ring->raw());
    return buffer.must_stats().pins == 0;
  };
  wait_for(let_go, 30);
  for (int i = 0; i < 6; ++i)
    if (const int error = buffer.move())
      report().fail(name + ": the buffer can move in the end", errno_name(error));
  const auto stats = buffer.must_stats();
  report().check(stats.stray_words == 0, name + ": nobody wrote to memory that was left",
                 std::format("{} words", std::uint64_t{stats.stray_words}));
  report().check(stats.pins == 0 && stats.vmaps == 0 && stats.attachments == 0,
                 name + ": nothing is held any more",
                 std::format("{} pins, {} mappings, {} attachments", std::uint32_t{stats.pins},
                             std::uint32_t{stats.vmaps}, std::uint32_t{stats.attachments}));
}

void one_path(const Testexp &testexp, int target, Path path) {
  const std::string name(name_of(path));
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, 3, loose));
  Session session;
  Ring ring(8);
  ring.make_buffer_table(1);
  {
    Mover mover(session, ring, buffer.fd(), target, path);
    if (!report().check(mover.error() == 0, name + ": MAP", errno_name(mover.error())))
      return;
    move_and_check(buffer, name, 9,
                   [&] { return mover.transfer(Direction::Read, 0, bytes, attack_base); });
    const int released = mover.release();
    report().check(released == 0, name + ": UNREGISTER and UNMAP", errno_name(released));
  }
  // bvec sends no request of io_uring's own: it has let go with nobody entering the ring.
  check_let_go(buffer, name, path == Path::Registered ? &ring : nullptr);
}

void one_file(const Testexp &testexp) {
  const std::string name = "rw fd";
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, 4, loose));
  {
    Session session;
    const UniqueFd file(open_file(session, buffer.fd()));
    if (!report().check(static_cast<bool>(file), name + ": OPEN"))
      return;
    HostBuffer host(bytes);
    fill_pattern(host.words(), 9, attack_base);
    move_and_check(buffer, name, 9, [&] {
      const ssize_t got = ::pwrite(file.get(), host.words().data(), bytes, 0);
      return got < 0 ? -errno : got;
    });
  }
  check_let_go(buffer, name);
}

// Memory that moves and cannot be pinned is refused, and the reason says so.
void no_pin(const Testexp &testexp, int target) {
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, 5, loose));
  if (buffer.fail(DMABUF_TESTEXP_OP_PIN, EBUSY) != 0)
    die("FAIL");
  Session session;
  for (const Path path : {Path::Registered, Path::Bvec}) {
    auto entry = map_entry(buffer.fd(), target, path);
    const int error = session.map_one(entry);
    report().check(error == -EOPNOTSUPP && entry.reason != DMABUF_RW_REASON_NONE,
                   std::format("{}: memory that cannot be pinned is refused", name_of(path)),
                   errno_name(error) + " " + reason_name(entry.reason));
  }
  std::uint32_t reason = 0;
  const UniqueFd file(open_file(session, buffer.fd(), &reason));
  report().check(!file && reason != DMABUF_RW_REASON_NONE,
                 "OPEN: memory that cannot be pinned is refused", reason_name(reason));
}

// Memory that was pinned and is taken all the same: what is asked of it fails by its name, on the
// disk nothing changes, and nothing works by the pages that were left.
void taken(const Testexp &testexp, int target, DiskRegion &disk, Path path) {
  const std::string name = std::format("{}, the memory is taken for good", name_of(path));
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, 6, loose));
  Session session;
  Ring ring(8);
  ring.make_buffer_table(2);
  {
    Mover mover(session, ring, buffer.fd(), target, path);
    if (!report().check(mover.error() == 0, name + ": MAP", errno_name(mover.error())))
      return;
    const int before = mover.transfer(Direction::Read, 0, bytes, attack_base);
    report().check(before == static_cast<int>(bytes), name + ": I/O before", errno_name(before));
    const int taken = buffer.revoke();
    report().check(taken == 0, name + ": REVOKE", errno_name(taken));
    dmabuf_rw_info info{};
    const int asked = session.info(mover.entry().handle, info);
    report().check(asked == 0 && info.state == DMABUF_RW_STATE_REVOKED, name + ": INFO says so",
                   std::format("{}, state {}", errno_name(asked), std::uint32_t{info.state}));
    if (path == Path::Bvec) {
      for (const Direction direction : {Direction::Read, Direction::Write}) {
        const int got = mover.transfer(direction, 0, bytes, attack_base);
        report().check(got == -ENODEV, std::format("{}: {}", name, name_of(direction)),
                       errno_name(got));
      }
    } else {
      // What a ring took before, it keeps, and its pages stay; no other slot gets them.
      const int again = ring.enroll(session.fd(), mover.entry().handle, 1);
      report().check(again == -ENODEV, name + ": REGISTER", errno_name(again));
    }
    buffer.unrevoke();
  }
  const auto wrong = disk.check_all();
  report().check(!wrong, name + ": the disk is as it was", wrong.value_or(""));
}

// A kernel mapping that says that it is a device's: not even where pages lie behind it are they
// taken for the buffer's.
void io_view(const Testexp &testexp, int target) {
  const TestBuffer buffer =
      testexp.make(gpu_buffer(bytes, 7, DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_IO_VIEW));
  Session session;
  for (const Path path : {Path::Registered, Path::Bvec}) {
    auto entry = map_entry(buffer.fd(), target, path);
    const int error = session.map_one(entry);
    report().check(error == -EOPNOTSUPP && entry.reason == DMABUF_RW_REASON_NOT_PAGES,
                   std::format("{}: a device's memory is refused by NOT_PAGES", name_of(path)),
                   errno_name(error) + " " + reason_name(entry.reason));
  }
  report().check(buffer.must_stats().pins == 0 && buffer.must_stats().vmaps == 0,
                 "and nothing is held of it");
}

} // namespace

void attack_pin() {
  if (!buffers_move("pin"))
    return;
  const Testexp testexp;
  if (!testexp.has(DMABUF_TESTEXP_FEAT_LOOSE_VMAP | DMABUF_TESTEXP_FEAT_MOVE))
    die("the test exporter has no kernel mapping that does not pin");
  const UniqueFd target = open_target(drive);
  DiskRegion disk(target.get(), attack_base, bytes);
  disk.lay_down_all(9);
  for (const Path path : {Path::Registered, Path::Bvec})
    one_path(testexp, target.get(), path);
  one_file(testexp);
  no_pin(testexp, target.get());
  for (const Path path : {Path::Registered, Path::Bvec})
    taken(testexp, target.get(), disk, path);
  io_view(testexp, target.get());
}

} // namespace vmtest
