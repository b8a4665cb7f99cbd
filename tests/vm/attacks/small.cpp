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
  constexpr std::uint64_t beside = attack_base + (64u << 20);
  HostBuffer host(4096), want(4096);
  read_plain(cache.get(), host.words(), beside);
  read_plain(cache.get(), host.words(), attack_base);
  if (!cached(cache.get(), beside) || !cached(cache.get(), attack_base))
    die("the page cache keeps nothing");
  const int written = mover.transfer(Direction::Write, 0, block, attack_base);
  report().check(written == static_cast<int>(block), "a polled WRITE", errno_name(written));
  report().check(cached(cache.get(), beside), "what lies beside it stays in the page cache");
  read_plain(cache.get(), host.words(), attack_base);
  fill_pattern(want.words(), 3, attack_base);
  report().check(!compare_words(host.words(), want.words()), "and a reader sees what was written");
}

// A list in debugfs that waits for a buffer somebody holds keeps nobody else waiting.
void attack_debugfs() {
  constexpr unsigned held_ms = 6000;
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
  for (int i = 0; i < 3; ++i) {
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
  report().check(unknown < known + known / 4 + 2000000,
                 "an invalidation takes as long as giving the addresses back",
                 std::format("{:.1f} ms, and {:.1f} ms where INFO was asked before",
                             static_cast<double>(unknown) / 1e6, static_cast<double>(known) / 1e6));
}

} // namespace vmtest
