// SPDX-License-Identifier: GPL-2.0-only
// A premapped I/O ends while the thread that sent it is still on its way out of the block layer,
// which looks at the hardware queue then: UNMAP, with which the last hold of the drive may go,
// waits for it.
//
// __blk_flush_plug() is made to come back late, for this thread alone. One command for each
// submission, so that the plug is the module's own.
#include "attacks.hpp"

#include <sched.h>
#include <thread>

namespace vmtest {

namespace {

constexpr std::uint32_t block = 4096;
constexpr unsigned late_ms = 3000;

// Both go by way of one hardware queue then, however many there are.
void stay_on_one_cpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  if (::sched_setaffinity(0, sizeof(set), &set) != 0)
    die("sched_setaffinity");
}

void one_round(const Hurt &hurt, const DmaBuf &buffer, const DmaBuf &other) {
  const UniqueFd target = open_target(drive);
  const Session session, second;
  auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  auto another = map_entry(other.fd(), target.get(), Path::Premapped);
  if (session.map_one(entry) || second.map_one(another))
    die("MAP");
  std::atomic<bool> armed = false, sent = false;
  int result = 0;
  std::jthread sender([&] {
    stay_on_one_cpu();
    Ring ring(8);
    const dmabuf_rw_uring_io io{0, entry.handle, 0};
    ring.queue_command(session.fd(), DMABUF_RW_URING_READ, 0, block, io);
    hurt.slow("__blk_flush_plug", late_ms);
    armed = true;
    ring.submit();
    sent = true;
    ring.reap([&](std::uint64_t, int value) { result = value; });
  });
  if (!wait_for([&] { return armed && hurt.slowed() > 0; }, 20))
    die("the sender is not late");
  const auto io = waited_io(second, another.handle, Direction::Read, 0, block, 0);
  report().check(io.error == 0, "another READ", errno_name(io.error));
  const bool early = sent;
  report().check(session.unmap_one(entry.handle) == 0, "UNMAP");
  report().check(!early, "the sender was inside the block layer");
  // It has left the block layer by then, but may not have run since. One that UNMAP did not wait
  // for sleeps there for most of late_ms more.
  report().check(wait_for([&] { return sent.load(); }, late_ms / 2000.0),
                 "UNMAP waits for the sender");
  sender.join();
  hurt.slow_off();
  report().check(result == static_cast<int>(block), "READ by a sender that is late",
                 errno_name(result));
  report().check(second.unmap_one(another.handle) == 0, "UNMAP of the other one");
}

} // namespace

void attack_late_send() {
  const Hurt hurt;
  const DmaBuf buffer = make_buffer(65536), other = make_buffer(65536);
  std::jthread([&] {
    stay_on_one_cpu();
    for (int round = 0; round < 3; ++round)
      one_round(hurt, buffer, other);
  }).join();
}

} // namespace vmtest
