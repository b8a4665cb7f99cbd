// SPDX-License-Identifier: GPL-2.0-only
// The entry of the submission queue that an I/O was asked for with is the user's again when the
// call returns. An I/O that waits for a worker of io_uring by then is still the one that was asked
// for: Linux 6.12 kept a pointer to the entry.
#include "attacks.hpp"

namespace vmtest {

namespace {

constexpr std::uint32_t block = 4096;
constexpr unsigned depth = 4;

} // namespace

void attack_stale_sqe() {
  const UniqueFd target = open_target(drive);
  HostBuffer wanted(2 * block);
  fill_pattern(wanted.words(), 31, attack_base);
  write_plain(target.get(), wanted.words(), attack_base);
  const Testexp testexp;
  const TestBuffer buffer = testexp.make(gpu_buffer(1u << 20, 1));
  const Session session;
  Ring ring(depth, 0);
  // One worker, which the first I/O keeps: the second waits until it is its turn.
  unsigned workers[2] = {1, 1};
  if (const int error = ::io_uring_register_iowq_max_workers(ring.raw(), workers))
    die("io_uring_register_iowq_max_workers: " + errno_name(error));
  auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  if (const int error = session.map_one(entry))
    die("MAP: " + errno_name(error) + " " + reason_name(entry.reason));
  buffer.put_pattern(0, 2 * block, buffer_poison, 0);
  if (buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER) != 0)
    die("FENCE_ADD");
  const auto deferred = [&](std::uint64_t count) {
    return wait_for(
        [&] {
          dmabuf_rw_info info{};
          return session.info(entry.handle, info) == 0 && info.deferred >= count;
        },
        30);
  };
  for (unsigned i = 0; i < 2; ++i) {
    ring.queue_command(session.fd(), DMABUF_RW_URING_READ, std::uint64_t{i} * block, block,
                       {.file_offset = attack_base + i * block, .handle = entry.handle, .flags = 0},
                       i);
    if (ring.submit() != 1 || !deferred(i + 1))
      die("a READ that waits for a fence");
    ::usleep(200000); // the first is with the worker
  }
  // Every entry of the queue is used for something else.
  for (unsigned i = 0; i < depth; ++i) {
    io_uring_sqe *const sqe = ring.sqe();
    ::io_uring_prep_nop(sqe);
    sqe->user_data = 100 + i;
    if (ring.submit() != 1)
      die("NOP");
  }
  if (buffer.signal() != 0)
    die("SIGNAL");
  std::vector<int> results(2, 1);
  unsigned nops = 0, more = 0, reaped = 0;
  while (reaped < depth + 2) {
    const int count = ring.reap([&](std::uint64_t which, int result) {
      ++reaped;
      if (which < 2)
        results[which] = result;
      else
        ++(which >= 100 && result == 0 ? nops : more);
    });
    if (count < 0)
      die("io_uring_enter: " + errno_name(count));
  }
  for (unsigned i = 0; i < 2; ++i)
    report().check(results[i] == static_cast<int>(block),
                   std::format("a READ whose entry is used again while it waits ({})", i),
                   errno_name(results[i]));
  report().check(nops == depth && more == 0, "and what its entry was used for");
  HostBuffer found(2 * block);
  buffer.must_read(found.words(), 0);
  const auto bad = compare_words(found.words(), wanted.words());
  report().check(!bad, "each has moved what it was asked for",
                 bad ? describe(*bad, attack_base) : "");
}

// The head of a link with a drained member goes to a worker without having been tried. Linux 6.12
// made no copy of its entry then: what lies where the copy would be is that of an earlier command.
void attack_stale_copy() {
  const UniqueFd target = open_target(drive);
  HostBuffer wanted(2 * block);
  fill_pattern(wanted.words(), 32, attack_base);
  write_plain(target.get(), wanted.words(), attack_base);
  const Testexp testexp;
  const TestBuffer buffer = testexp.make(gpu_buffer(1u << 20, 1));
  const Session session;
  Ring ring(depth, 0);
  auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  if (const int error = session.map_one(entry))
    die("MAP: " + errno_name(error) + " " + reason_name(entry.reason));
  const auto queue = [&](unsigned which, unsigned flags) {
    ring.queue_command(
        session.fd(), DMABUF_RW_URING_READ, std::uint64_t{which} * block, block,
        {.file_offset = attack_base + which * block, .handle = entry.handle, .flags = 0}, 7, flags);
  };
  constexpr unsigned rounds = 8;
  unsigned moved = 0, refused = 0, wrong = 0, other = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    // A worker's, which leaves its copy behind. It has ended: its user_data may be used again.
    queue(0, IOSQE_ASYNC);
    const int first = ring.run_one();
    if (first != static_cast<int>(block) && first != -EOPNOTSUPP)
      die("a READ of a worker: " + errno_name(first));
    buffer.put_pattern(0, 2 * block, buffer_poison, 0);
    HostBuffer before(2 * block), found(2 * block);
    buffer.must_read(before.words(), 0);
    queue(1, IOSQE_IO_LINK);
    io_uring_sqe *const nop = ring.sqe();
    ::io_uring_prep_nop(nop);
    nop->flags |= IOSQE_IO_DRAIN;
    nop->user_data = 100;
    int result = 1;
    for (unsigned reaped = 0; reaped < 2;) {
      const int count = ring.reap([&](std::uint64_t which, int value) {
        ++reaped;
        if (which == 7)
          result = value;
      });
      if (count < 0)
        die("io_uring_enter: " + errno_name(count));
    }
    buffer.must_read(found.words(), 0);
    const bool same =
        !compare_words(found.words().first(block / 8), before.words().first(block / 8));
    const auto second = found.words().subspan(block / 8);
    if (result == static_cast<int>(block) && same &&
        !compare_words(second, wanted.words().subspan(block / 8)))
      ++moved;
    else if (result == -EOPNOTSUPP && same &&
             !compare_words(second, before.words().subspan(block / 8)))
      ++refused;
    else
      ++(result == static_cast<int>(block) ? wrong : other);
  }
  report().check(wrong == 0 && other == 0 && moved + refused == rounds,
                 "the head of a drained link moves what it was asked for, or is refused",
                 std::format("{} moved, {} refused, {} moved something else, {} ended otherwise",
                             moved, refused, wrong, other));
}

} // namespace vmtest
