// SPDX-License-Identifier: GPL-2.0-only
// An I/O that waits before it is with the drive, for a queue that is frozen or for a free command,
// holds nobody up: neither the exporter that wants to move the buffer, nor the thread that submits.
#include "attacks.hpp"

#include <thread>

namespace vmtest {

namespace {

constexpr unsigned frozen_ms = 6000;
constexpr double limit_s = 1;
constexpr std::uint32_t hint = 65536, length = 4 * hint;

// Moves the buffer while `io` waits for the frozen queue. On a kernel that lets no buffer move
// while it is mapped, the exporter is told so at once.
template <typename Io>
void move_meanwhile(const Hurt &hurt, const TestBuffer &buffer, std::string_view name, Io io) {
  std::jthread freezer([&] { hurt.freeze("nvme0n1", frozen_ms); });
  if (!wait_for([&] { return hurt.frozen() == 1; }, 20))
    die("the queue does not freeze");
  const double begin = now_s();
  const std::jthread waiting = io();
  const double before = now_s();
  const int moved = buffer.move();
  const double took = now_s() - before;
  report().check(moved == (Testexp().can_move() ? 0 : -EBUSY) && took < limit_s,
                 std::format("MOVE while {} waits for a frozen queue", name),
                 std::format("{}, {:.1f} s", errno_name(moved), took));
  report().check(before - begin < frozen_ms / 1000.0 - 2, "the queue was frozen all the while");
}

} // namespace

void attack_frozen() {
  const Testexp testexp;
  const Hurt hurt;
  const UniqueFd target = open_target(drive);
  DiskRegion disk(target.get(), attack_base, length);
  disk.lay_down_all(6);
  const TestBuffer buffer = testexp.make(gpu_buffer(1u << 20, 1));
  Session session;
  Ring ring(8);
  auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  entry.max_command_hint = hint;
  if (const int error = session.map_one(entry))
    die("MAP: " + errno_name(error));
  const auto check_data = [&](std::string_view name) {
    HostBuffer found(length);
    buffer.must_read(found.words(), 0);
    const auto wrong = compare_words(found.words(), disk.expected(attack_base, length));
    report().check(!wrong, std::format("{}: its data is right", name),
                   wrong ? describe(*wrong, 0) : "");
    buffer.put_pattern(0, length, buffer_poison, 0);
  };

  for (const std::uint32_t bytes : {hint, length}) {
    const auto name = bytes == hint ? "an IO" : "an IO of several commands";
    move_meanwhile(hurt, buffer, name, [&] {
      std::atomic<pid_t> tid = 0;
      std::jthread thread([&session, &entry, &tid, bytes, name] {
        tid = ::gettid();
        const auto io = waited_io(session, entry.handle, Direction::Read, 0, bytes, attack_base);
        report().check(io.moved == bytes, std::format("{} goes on", name), errno_name(io.error));
      });
      wait_for([&] { return tid != 0 && asleep(tid); }, 5);
      return thread;
    });
    if (bytes == length)
      check_data(name);
  }
  for (const std::uint32_t bytes : {hint, length}) {
    const auto name = bytes == hint ? "a READ" : "a READ of several commands";
    move_meanwhile(hurt, buffer, name, [&] {
      const double begin = now_s();
      ring.queue_command(session.fd(), DMABUF_RW_URING_READ, 0, bytes,
                         {.file_offset = attack_base, .handle = entry.handle, .flags = 0});
      ring.submit();
      report().check(now_s() - begin < limit_s, std::format("{} is submitted at once", name));
      // The worker that it is left to gets as far as it gets.
      ::usleep(500000);
      return std::jthread([] {});
    });
    const int got = ring.run_one();
    report().check(got == static_cast<int>(bytes), std::format("{} goes on", name),
                   errno_name(got));
    if (bytes == length)
      check_data(name);
  }
  const int unmapped = session.unmap_one(entry.handle);
  report().check(unmapped == 0, "UNMAP", errno_name(unmapped));
}

void attack_long_submit() {
  constexpr std::uint32_t bytes = 8u << 20, command = 4096;
  const DmaBuf buffer = make_buffer(bytes);
  const UniqueFd target = open_target(drive);
  Session session;
  Ring ring(8, 0);
  auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  entry.max_command_hint = command;
  if (const int error = session.map_one(entry))
    die("MAP: " + errno_name(error));
  DiskRegion disk(target.get(), attack_base, bytes);
  disk.lay_down_all(7);
  Throttle throttle;
  throttle.stop();
  ring.queue_command(session.fd(), DMABUF_RW_URING_READ, 0, bytes,
                     {.file_offset = attack_base, .handle = entry.handle, .flags = 0});
  std::atomic<double> took = -1;
  std::jthread submitter([&] {
    const double begin = now_s();
    ring.submit();
    took = now_s() - begin;
  });
  wait_for([&] { return took >= 0; }, 10);
  report().check(took >= 0 && took < 5,
                 "a READ of more commands than the drive takes is submitted at once",
                 took < 0 ? "io_uring_enter() sleeps as long as the drive does"
                          : std::format("{:.1f} s", took.load()));
  throttle.go();
  submitter.join();
  const int got = ring.run_one();
  report().check(got == static_cast<int>(bytes), "it goes on with the drive", errno_name(got));
  const CpuAccess access(buffer, false);
  const auto wrong = compare_words(buffer.words(), disk.expected(attack_base, bytes));
  report().check(!wrong, "its data is right", wrong ? describe(*wrong, 0) : "");
}

} // namespace vmtest
