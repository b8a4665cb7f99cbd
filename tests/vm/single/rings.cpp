// SPDX-License-Identifier: GPL-2.0-only
// Rings of every kind on the module's commands: polled, with a submission thread, registered
// files, linked requests, cancellation, rings that go away. Data is checked against plain I/O.
//
// usage: rings [--polled]   --polled: also polled rings; boot with nvme.poll_queues=1
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/sysfs.hpp"
#include "lib/target.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <future>
#include <string_view>
#include <unistd.h>
#include <vector>

namespace vmtest {

namespace {

constexpr std::size_t buffer_bytes = 4u << 20;
constexpr std::uint64_t disk_base = 128u << 20;
constexpr std::uint32_t block = 16384;
constexpr unsigned depth = 32;

struct Bench {
  Bench()
      : target(open_target("/dev/nvme0n1")), disk(target.get(), disk_base, buffer_bytes),
        buffer(DmaBuf::create(Exporter::UdmabufScattered, buffer_bytes)) {
    if (!buffer)
      die(buffer.error());
    disk.lay_down_all(1);
  }
  void poison() {
    const CpuAccess access(*buffer, true);
    std::ranges::fill(buffer->words(), pattern_word(buffer_poison, 0));
  }
  // The buffer as it is against what the drive holds.
  void check_buffer(std::string_view name) {
    const CpuAccess access(*buffer, false);
    const auto wrong = compare_words(buffer->words(), disk.expected(disk.base(), buffer_bytes));
    report().check(!wrong, name, wrong ? describe(*wrong, disk.base()) : "");
  }

  UniqueFd target;
  DiskRegion disk;
  std::expected<DmaBuf, std::string> buffer;
};

// The whole buffer, `depth` blocks at a time, in one direction. Counts wrong results.
unsigned move_all(Mover &mover, Ring &ring, Direction direction) {
  unsigned queued = 0, done = 0, wrong = 0;
  constexpr unsigned blocks = buffer_bytes / block;
  while (done < blocks) {
    for (; queued < blocks && queued - done < depth; ++queued)
      mover.queue(direction, std::uint64_t{queued} * block, block,
                  disk_base + std::uint64_t{queued} * block);
    const int count =
        ring.reap([&](std::uint64_t, int result) { wrong += result != static_cast<int>(block); });
    if (count < 0)
      return blocks;
    done += static_cast<unsigned>(count);
  }
  return wrong;
}

// A ring of this kind moves every byte, both ways.
void check_ring_kind(Bench &bench, std::string_view name, unsigned flags, Path path) {
  Session session;
  Ring ring(depth, flags);
  Mover mover(session, ring, bench.buffer->fd(), bench.target.get(), path);
  if (!report().check(mover.error() == 0, std::format("{}: map", name), errno_name(mover.error())))
    return;
  bench.poison();
  unsigned wrong = move_all(mover, ring, Direction::Read);
  report().check(wrong == 0, std::format("{}: read results", name), std::format("{} wrong", wrong));
  bench.check_buffer(std::format("{}: every byte read", name));

  {
    const CpuAccess access(*bench.buffer, true);
    fill_pattern(bench.buffer->words(), 7, disk_base);
  }
  fill_pattern(bench.disk.expected(disk_base, buffer_bytes), 7, disk_base);
  wrong = move_all(mover, ring, Direction::Write);
  report().check(wrong == 0, std::format("{}: write results", name),
                 std::format("{} wrong", wrong));
  const auto bad = bench.disk.check_all();
  report().check(!bad, std::format("{}: every byte written", name), bad.value_or(""));
  bench.disk.lay_down_all(1);

  dmabuf_rw_info info = {};
  session.info(mover.entry().handle, info);
  report().check(
      info.reads == buffer_bytes / block && info.writes == buffer_bytes / block && info.errors == 0,
      std::format("{}: counters", name),
      std::format("{} reads, {} writes, {} errors", info.reads, info.writes, info.errors));
}

dmabuf_rw_uring_io command_at(const Mover &mover, std::uint64_t position) {
  return {.file_offset = position, .handle = mover.entry().handle, .flags = 0};
}

// The session's file as a registered file of the ring.
void check_registered_file(Bench &bench) {
  Session session;
  Ring ring(depth);
  Mover mover(session, ring, bench.buffer->fd(), bench.target.get(), Path::Premapped);
  const int file = session.fd();
  if (!report().check(io_uring_register_files(ring.raw(), &file, 1) == 0, "register files"))
    return;
  bench.poison();
  unsigned wrong = 0;
  for (std::uint64_t at = 0; at < buffer_bytes; at += 1u << 20)
    wrong += ring.command(0, DMABUF_RW_URING_READ, at, 1u << 20, command_at(mover, disk_base + at),
                          IOSQE_FIXED_FILE) != 1 << 20;
  report().check(wrong == 0, "registered file: results");
  bench.check_buffer("registered file: every byte");
}

// A copy on the drive by a read and a write that depends on it; and a chain that breaks.
void check_links(Bench &bench) {
  Session session;
  Ring ring(depth);
  Mover mover(session, ring, bench.buffer->fd(), bench.target.get(), Path::Premapped);
  bench.poison();
  const std::uint64_t half = buffer_bytes / 2;
  ring.queue_command(session.fd(), DMABUF_RW_URING_READ, 0, half, command_at(mover, disk_base), 1,
                     IOSQE_IO_LINK);
  ring.queue_command(session.fd(), DMABUF_RW_URING_WRITE, 0, half,
                     command_at(mover, disk_base + half), 2);
  int results[3] = {};
  for (int done = 0; done < 2;) {
    const int count = ring.reap([&](std::uint64_t which, int result) { results[which] = result; });
    if (count < 0)
      die("io_uring_enter");
    done += count;
  }
  report().check(results[1] == static_cast<int>(half) && results[2] == static_cast<int>(half),
                 "linked read and write: results");
  const auto from = bench.disk.expected(disk_base, half);
  std::ranges::copy(from, bench.disk.expected(disk_base + half, half).begin());
  const auto bad = bench.disk.check_all();
  report().check(!bad, "linked read and write: a copy on the drive", bad.value_or(""));

  ring.queue_command(session.fd(), DMABUF_RW_URING_READ, 0, 1, command_at(mover, disk_base), 1,
                     IOSQE_IO_LINK);
  ring.queue_command(session.fd(), DMABUF_RW_URING_WRITE, 0, block, command_at(mover, disk_base),
                     2);
  for (int done = 0; done < 2;)
    done +=
        std::max(0, ring.reap([&](std::uint64_t which, int result) { results[which] = result; }));
  report().check(results[1] == -EINVAL && results[2] == -ECANCELED, "a broken chain does not write",
                 std::format("{} {}", errno_name(results[1]), errno_name(results[2])));
  const auto touched = bench.disk.check_all();
  report().check(!touched, "nor touch the drive", touched.value_or(""));
  bench.disk.lay_down_all(1);
}

// Cancelling what the drive has is refused, and the I/O ends by itself.
void check_cancel(Bench &bench) {
  Session session;
  Ring ring(depth);
  Mover mover(session, ring, bench.buffer->fd(), bench.target.get(), Path::Premapped);
  bench.poison();
  unsigned read_done = 0, cancels = 0, odd = 0;
  constexpr unsigned rounds = buffer_bytes / block;
  for (unsigned i = 0; i < rounds; ++i) {
    const std::uint64_t at = std::uint64_t{i} * block;
    ring.queue_command(session.fd(), DMABUF_RW_URING_READ, at, block,
                       command_at(mover, disk_base + at), 1000 + i);
    io_uring_prep_cancel64(ring.sqe(), 1000 + i, 0);
    for (unsigned done = 0; done < 2;) {
      const int count = ring.reap([&](std::uint64_t which, int result) {
        if (which >= 1000) {
          ++read_done;
          odd += result != static_cast<int>(block);
        } else {
          ++cancels;
          odd += result != -EALREADY && result != -ENOENT;
        }
      });
      if (count < 0)
        die("io_uring_enter");
      done += static_cast<unsigned>(count);
    }
  }
  report().check(read_done == rounds && cancels == rounds && odd == 0,
                 "cancel: every I/O ends once",
                 std::format("{} reads, {} cancels, {} odd results", read_done, cancels, odd));
  bench.check_buffer("cancel: every byte");
}

std::uint64_t ended(const Session &session, std::uint32_t handle) {
  dmabuf_rw_info info{};
  session.info(handle, info);
  return info.reads + info.writes + info.errors;
}

// Rings that go away with I/O in flight: what was asked for still happens, all of it, and nothing
// else. The mapping outlives its ring, so that its counters tell.
void check_ring_exit(Bench &bench, unsigned flags, std::string_view name) {
  constexpr std::uint32_t part = buffer_bytes / depth;
  constexpr int rounds = 20;
  unsigned in_flight = 0;
  bool all = true;
  for (int round = 0; round < rounds; ++round) {
    const bool reads = round % 2 == 0;
    const auto generation = 100 + static_cast<std::uint32_t>(round);
    Session session;
    auto entry = map_entry(bench.buffer->fd(), bench.target.get(), Path::Premapped);
    if (session.map_one(entry) != 0)
      die("MAP");
    if (reads) {
      bench.disk.lay_down_all(generation);
      bench.poison();
    } else {
      const CpuAccess access(*bench.buffer, true);
      fill_pattern(bench.buffer->words(), generation, disk_base);
      fill_pattern(bench.disk.expected(disk_base, buffer_bytes), generation, disk_base);
    }
    {
      Ring ring(depth, flags);
      for (unsigned i = 0; i < depth; ++i)
        ring.queue_command(session.fd(), reads ? DMABUF_RW_URING_READ : DMABUF_RW_URING_WRITE,
                           std::uint64_t{i} * part, part,
                           {.file_offset = disk_base + std::uint64_t{i} * part,
                            .handle = entry.handle,
                            .flags = 0});
      ring.submit();
      if (flags & IORING_SETUP_SQPOLL) // the thread takes them; not so fast that none is left
        for (const double end = now_s() + 20;
             io_uring_sq_ready(ring.raw()) == depth && now_s() < end;)
          ;
      in_flight += ended(session, entry.handle) < depth;
    }
    // UNMAP waits for what the drive has; a ring that is closed may still hand something over.
    for (const double end = now_s() + 20; ended(session, entry.handle) < depth && now_s() < end;)
      ::usleep(1000);
    dmabuf_rw_info info{};
    session.info(entry.handle, info);
    all &= info.errors == 0 && (reads ? info.reads : info.writes) == depth;
    session.unmap_one(entry.handle);
    if (reads)
      bench.check_buffer(std::format("{}: a ring closed with reads in flight", name));
    const auto bad = bench.disk.check_all();
    report().check(!bad, std::format("{}: a ring closed with I/O in flight, the drive", name),
                   bad.value_or(""));
  }
  report().check(all, std::format("{}: all that was asked for has happened", name));
  report().check(in_flight > 0, std::format("{}: I/O was in flight when a ring was closed", name),
                 std::format("in {} rounds of {}", in_flight, rounds));
  report().note(std::format("{}: I/O in flight in {} rounds of {}", name, in_flight, rounds));
  bench.disk.lay_down_all(1);
}

// UNMAP by the task that has not reaped: it must not wait for itself.
void check_unmap_unreaped(Bench &bench, Path path, unsigned flags, std::string_view name) {
  auto work = std::async(std::launch::async, [&] {
    Session session;
    Ring ring(depth, flags);
    Mover mover(session, ring, bench.buffer->fd(), bench.target.get(), path);
    for (unsigned i = 0; i < depth; ++i)
      mover.queue(Direction::Read, std::uint64_t{i} * block, block,
                  disk_base + std::uint64_t{i} * block);
    ring.submit();
    const int status = session.unmap_one(mover.entry().handle);
    unsigned done = 0, wrong = 0;
    while (done < depth)
      done += static_cast<unsigned>(std::max(0, ring.reap([&](std::uint64_t, int result) {
        wrong += result != static_cast<int>(block);
      })));
    return status == 0 && wrong == 0;
  });
  const bool ended = work.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  if (!report().check(ended, std::format("{}: UNMAP before reaping returns", name)))
    die("the UNMAP hangs; the rest cannot run");
  report().check(work.get(), std::format("{}: and the I/O ended well", name));
}

void run(bool polled) {
  Bench bench;
  constexpr unsigned plain = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  for (const Path path : {Path::Premapped, Path::Bvec}) {
    const auto name = name_of(path);
    check_ring_kind(bench, std::format("{}, no flags", name), 0, path);
    check_ring_kind(bench, std::format("{}, deferred task work", name), plain, path);
    check_ring_kind(bench, std::format("{}, cooperative task work", name),
                    IORING_SETUP_COOP_TASKRUN, path);
    check_ring_kind(bench, std::format("{}, submission thread", name), IORING_SETUP_SQPOLL, path);
    check_unmap_unreaped(bench, path, plain, name);
  }
  check_registered_file(bench);
  check_links(bench);
  check_cancel(bench);
  check_ring_exit(bench, plain, "deferred task work");
  check_ring_exit(bench, IORING_SETUP_SQPOLL, "submission thread");
  if (!polled)
    return;
  if (!report().check(has_poll_queues(), "the nvme driver has polled queues"))
    return;
  check_ring_kind(bench, "premapped, polled", IORING_SETUP_IOPOLL, Path::Premapped);
  check_ring_kind(bench, "premapped, polled and deferred", IORING_SETUP_IOPOLL | plain,
                  Path::Premapped);
  check_unmap_unreaped(bench, Path::Premapped, IORING_SETUP_IOPOLL, "polled");
  check_ring_exit(bench, IORING_SETUP_IOPOLL, "polled");
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  const bool polled = argc == 2 && std::string_view(argv[1]) == "--polled";
  if (argc > 1 && !polled)
    die("usage: rings [--polled]");
  run(polled);
  report().note(std::format("{} MiB compared", compared_bytes() >> 20));
  return report().finish("rings");
}
