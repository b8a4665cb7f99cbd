// SPDX-License-Identifier: GPL-2.0-only
// Smaller things that one user's I/O once did to others.
#include "attacks.hpp"

#include <fcntl.h>
#include <sys/uio.h>
#include <thread>

namespace vmtest {

namespace {

constexpr std::uint32_t block = 16384;

// Is this page of the device in the page cache?
bool cached(int fd, std::uint64_t offset) {
  char byte = 0;
  const iovec piece{.iov_base = &byte, .iov_len = 1};
  return ::preadv2(fd, &piece, 1, static_cast<off_t>(offset), RWF_NOWAIT) == 1;
}

} // namespace

// A polled write takes its own range out of the page cache, and nobody else's.
void attack_polled_cache() {
  if (!report().check(has_poll_queues(), "drives have a queue that is polled"))
    return;
  const UniqueFd target = open_target(drive);
  const UniqueFd cache = open_target(drive, O_RDONLY | O_CLOEXEC);
  const DmaBuf buffer = make_buffer(block);
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), 3, attack_base);
  }
  Session session;
  Ring ring(8, IORING_SETUP_IOPOLL);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  // More pages than a CPU keeps to itself for a while, which would hold them in the cache.
  constexpr std::uint64_t beside = attack_base + (64u << 20);
  constexpr int pages = 1024;
  HostBuffer host(4096), want(4096);
  const auto count = [&] {
    int found = 0;
    for (int i = 0; i < pages; ++i)
      found += cached(cache.get(), beside + static_cast<std::uint64_t>(i) * 4096);
    return found;
  };
  for (int i = 0; i < pages; ++i)
    read_plain(cache.get(), host.words(), beside + static_cast<std::uint64_t>(i) * 4096);
  read_plain(cache.get(), host.words(), attack_base);
  if (count() != pages || !cached(cache.get(), attack_base))
    die("the page cache keeps nothing");
  const int written = mover.transfer(Direction::Write, 0, block, attack_base);
  report().check(written == static_cast<int>(block), "a polled WRITE", errno_name(written));
  const int left = count();
  report().check(left == pages, "what lies beside a polled WRITE stays in the page cache",
                 std::format("{} of {} pages", left, pages));
  read_plain(cache.get(), host.words(), attack_base);
  fill_pattern(want.words(), 3, attack_base);
  report().check(!compare_words(host.words(), want.words()), "and a reader sees what was written");
}

// What somebody reads while the drive is writing is old: it does not stay in the page cache.
void attack_stale_cache() {
  constexpr std::uint32_t most = 4u << 20;
  const UniqueFd target = open_target(drive);
  const UniqueFd cache = open_target(drive, O_RDONLY | O_CLOEXEC);
  const DmaBuf buffer = make_buffer(most);
  DiskRegion region(target.get(), attack_base, most);
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  const std::uint32_t several = 2 * mover.entry().max_command_bytes;
  if (several > most)
    die(std::format("a command of {} bytes", several / 2));
  HostBuffer host(block), want(block);
  std::uint32_t generation = 10;
  struct Way {
    const char *name;
    std::uint32_t length;
    bool waited;
  };
  for (const Way &way :
       {Way{"a WRITE of one command", block, false},
        Way{"a WRITE of several commands", several, false}, Way{"an IO", block, true}}) {
    region.lay_down_all(++generation);
    {
      const CpuAccess access(buffer, true);
      fill_pattern(buffer.words(), ++generation, attack_base);
    }
    dmabuf_rw_info before{}, info{};
    session.info(mover.entry().handle, before);
    Throttle throttle;
    throttle.stop_writes(attack_base + 2 * most);
    long written = 0;
    std::jthread writer([&] {
      if (way.waited)
        written = mover.waited(Direction::Write, 0, way.length, attack_base);
    });
    if (!way.waited) {
      mover.queue(Direction::Write, 0, way.length, attack_base);
      ring.submit();
    }
    if (!wait_for(
            [&] {
              session.info(mover.entry().handle, info);
              return info.commands > before.commands;
            },
            30))
      die("no command is sent");
    // Its first page, of which the drive has nothing yet.
    read_plain(cache.get(), host.words(), attack_base);
    fill_pattern(want.words(), generation - 1, attack_base);
    const auto early = compare_words(host.words(), want.words());
    session.info(mover.entry().handle, info);
    report().check(!early && info.writes == before.writes && cached(cache.get(), attack_base),
                   std::format("{} is under way, and its old bytes are cached", way.name),
                   early ? describe(*early, attack_base) : "it has ended");
    throttle.go();
    if (way.waited)
      writer.join();
    else if (ring.reap([&](std::uint64_t, int result) { written = result; }) < 0)
      die("io_uring_enter");
    report().check(written == static_cast<long>(way.length), way.name, errno_name(written));
    read_plain(cache.get(), host.words(), attack_base);
    fill_pattern(want.words(), generation, attack_base);
    const auto stale = compare_words(host.words(), want.words());
    report().check(!stale, std::format("a reader sees what {} has written", way.name),
                   stale ? describe(*stale, attack_base) : "");
  }
}

// A fence that comes when an I/O has waited for all there were: it is waited for, and the mapping
// becomes idle afterwards.
void attack_late_fence() {
  const Hurt hurt;
  const Testexp testexp;
  const TestBuffer buffer = testexp.make(gpu_buffer(1u << 20, 1));
  const UniqueFd target = open_target(drive);
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  if (buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 200) != 0)
    die("FENCE_ADD");
  std::atomic<bool> ended = false;
  int got = 0;
  std::jthread io([&] {
    hurt.slow("dmabuf_rw_wait_fences", 2000);
    got = mover.waited(Direction::Read, 0, block, attack_base);
    ended = true;
  });
  if (!wait_for([&] { return hurt.slowed() > 0; }, 30))
    die("no I/O waits for the fence");
  if (buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER) != 0)
    die("FENCE_ADD");
  wait_for([&] { return ended.load(); }, 3);
  report().check(!ended, "an I/O waits for the fence that came last", errno_name(got));
  buffer.signal();
  io.join();
  hurt.slow_off();
  report().check(got == static_cast<int>(block), "and goes on after it", errno_name(got));
  const int unmapped = mover.release();
  report().check(unmapped == 0, "UNMAP", errno_name(unmapped));
}

// A list in debugfs that waits for a buffer somebody holds keeps nobody else waiting.
void attack_debugfs() {
  constexpr unsigned held_ms = 6000;
  if (!buffers_move("debugfs"))
    return;
  const Testexp testexp;
  const TestBuffer buffer = testexp.make(gpu_buffer(1u << 20, 1));
  const UniqueFd target = open_target(drive);
  Session session;
  auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  if (const int error = session.map_one(entry))
    die("MAP: " + errno_name(error));
  if (buffer.add_fence(DMABUF_TESTEXP_USAGE_BOOKKEEP, 0, DMABUF_TESTEXP_FENCE_NEVER) != 0)
    die("FENCE_ADD");
  std::atomic<pid_t> mover_tid = 0, reader_tid = 0;
  std::atomic<bool> read = false;
  std::jthread mover([&] {
    mover_tid = ::gettid();
    buffer.move(held_ms);
  });
  if (!wait_for([&] { return mover_tid && asleep(mover_tid); }, 5))
    die("MOVE does not wait for the fence");
  const double begin = now_s();
  std::jthread reader([&] {
    reader_tid = ::gettid();
    mappings_alive();
    read = true;
  });
  wait_for([&] { return read || (reader_tid && asleep(reader_tid)); }, 5);
  const double before = now_s();
  {
    Session another;
    another.close();
  }
  const double took = now_s() - before;
  report().check(took < 1, "a session is opened and closed while debugfs is being read",
                 std::format("{:.1f} s", took));
  report().check(before - begin < held_ms / 1000.0 - 2, "the buffer was held all the while");
  reader.join();
  mover.join();
  buffer.signal();
}

// Taking addresses back does not look every page up again.
void attack_classify() {
  constexpr std::uint64_t bytes = 256u << 20;
  if (!buffers_move("classify"))
    return;
  const Testexp testexp;
  auto create = gpu_buffer(bytes, 1);
  create.segment_max = create.segment_min;
  create.quarantine = 0;
  const TestBuffer buffer = testexp.make(create);
  const UniqueFd target = open_target(drive);
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  std::uint64_t known = ~0ull, unknown = ~0ull;
  // The shortest of several: again where other work on the machine may be in all of one kind.
  const auto alike = [&] { return unknown < known + known / 4 + 2000000; };
  for (int i = 0; i < 3 || (i < 20 && !alike()); ++i) {
    std::uint64_t ns = 0;
    // Maps again; nobody asks where the memory is.
    if (mover.transfer(Direction::Read, 0, 4096, attack_base) != 4096 || buffer.move(0, &ns) != 0)
      die("MOVE");
    unknown = std::min(unknown, ns);
    dmabuf_rw_info info{};
    if (mover.transfer(Direction::Read, 0, 4096, attack_base) != 4096 ||
        session.info(mover.entry().handle, info) != 0 || buffer.move(0, &ns) != 0)
      die("MOVE");
    known = std::min(known, ns);
  }
  report().check(alike(), "an invalidation takes as long as giving the addresses back",
                 std::format("{:.1f} ms, and {:.1f} ms where INFO was asked before",
                             static_cast<double>(unknown) / 1e6, static_cast<double>(known) / 1e6));
}

} // namespace vmtest
