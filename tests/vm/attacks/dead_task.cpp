// SPDX-License-Identifier: GPL-2.0-only
// A process ends while writes of it wait for their second try: nobody makes them in its place, as
// the kernel and with the kernel's rights. And a write that ends otherwise than by the target is
// counted and traced as every other. Nor does a process that is killed go on with what it has
// begun.
//
// But for that last one, the drive is null_blk with one tag: the first write takes it, those behind
// it find none without waiting, and have to be tried again in the ring's task.
#include "attacks.hpp"

#include <csignal>
#include <functional>
#include <sys/stat.h>
#include <sys/wait.h>

namespace vmtest {

namespace {

constexpr const char device[] = "/dev/nullb0";
constexpr std::uint32_t block = 4096;
constexpr unsigned writes = 4;
constexpr std::uint64_t apart = 1u << 20; // neighbours would become one command

// One device with one tag, whose commands take a while.
class OneTag {
public:
  OneTag() {
    shell("modprobe null_blk nr_devices=1 queue_mode=2 submit_queues=1 poll_queues=0 "
          "hw_queue_depth=1 irqmode=2 completion_nsec=400000000 memory_backed=1 gb=1");
    shell("echo none > /sys/block/nullb0/queue/scheduler");
    if (!wait_for([] { return ::access(device, F_OK) == 0; }, 10))
      die("null_blk makes no device");
  }
  OneTag(const OneTag &) = delete;
  OneTag &operator=(const OneTag &) = delete;
  ~OneTag() { shell("rmmod null_blk"); }
};

struct Job {
  Job() : buffer(make_buffer(65536)), target(open_target(device)) {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), 5, 0);
  }
  // Hands all writes in; nothing is reaped, and no task work runs.
  void submit(Mover &mover) {
    for (unsigned i = 0; i < writes; ++i)
      mover.queue(Direction::Write, i * block, block, i * apart, i);
    ring.submit();
  }
  DmaBuf buffer;
  UniqueFd target;
  Session session;
  Ring ring{8};
};

// Blocks that hold what was to be written.
unsigned written() {
  const UniqueFd plain = open_target(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
  HostBuffer found(block), want(block);
  unsigned count = 0;
  for (unsigned i = 0; i < writes; ++i) {
    read_plain(plain.get(), found.words(), i * apart);
    fill_pattern(want.words(), 5, i * block);
    count += !compare_words(found.words(), want.words());
  }
  return count;
}

} // namespace

void attack_dead_task() {
  const OneTag drive_with_one_tag;
  const std::optional<long> before = live_dmabufs();
  {
    const UniqueFd plain = open_target(device);
    HostBuffer poison(block);
    fill_pattern(poison.words(), disk_poison, 0);
    for (unsigned i = 0; i < writes; ++i)
      write_plain(plain.get(), poison.words(), i * apart);
  }
  const Trace trace{"block/block_bio_queue", "block/block_bio_complete"};
  const pid_t child = ::fork();
  if (child == 0) {
    Job job;
    Mover mover(job.session, job.ring, job.buffer.fd(), job.target.get(), Path::Bvec);
    if (mover.error())
      ::_exit(2);
    job.submit(mover);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  report().check(status == 0, "a process hands writes in and ends", std::format("{:#x}", status));
  report().check(wait_for([&] { return live_dmabufs() == before; }, 30),
                 "its dma-buf is let go of");
  const std::size_t again = trace.count({"block_bio_complete", "[-11]"});
  report().check(again > 0, "there were writes that had to be tried again", std::to_string(again));
  const std::size_t by_kernel = trace.count({"block_bio_queue", "kworker", " WS "}) +
                                trace.count({"block_bio_queue", "kworker", " W "});
  report().check(by_kernel == 0, "no worker of the kernel writes for a process that is gone",
                 std::format("{} writes by a kworker", by_kernel));
  const unsigned landed = written();
  report().check(landed + again <= writes, "what it did not live to try again is not written",
                 std::format("{} of {} writes landed", landed, writes));
}

namespace {

// In a child process: makes READs wait for the fence of a buffer, and ends without unmapping. The
// exit status is 0, or which step failed.
[[noreturn]] void have_reads_wait(const TestBuffer &buffer, unsigned reads, int target,
                                  const std::function<void()> &then) {
  const Session session;
  Ring ring(2048, 0);
  unsigned workers[2] = {1, 1};
  if (::io_uring_register_iowq_max_workers(ring.raw(), workers) != 0)
    ::_exit(2);
  auto entry = map_entry(buffer.fd(), target, Path::Premapped);
  if (session.map_one(entry))
    ::_exit(3);
  for (unsigned i = 0; i < reads; ++i)
    ring.queue_command(session.fd(), DMABUF_RW_URING_READ, 0, block,
                       {.file_offset = attack_base, .handle = entry.handle, .flags = 0}, i);
  if (ring.submit() != static_cast<int>(reads))
    ::_exit(4);
  dmabuf_rw_info info{};
  if (session.info(entry.handle, info) != 0 || info.deferred != reads)
    ::_exit(5);
  then();
  ::_exit(0);
}

} // namespace

// Nobody sends what a process that is gone has left waiting, but for what was being seen to
// already.
void attack_heirless() {
  constexpr unsigned reads = 2000, at_once = 1000; // a workqueue does 512 of them at once
  const Testexp testexp;
  const TestBuffer buffer = testexp.make(gpu_buffer(1u << 20, 1));
  const UniqueFd target = open_target(drive);
  if (buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER) != 0)
    die("FENCE_ADD");
  const int mappings = mappings_alive();
  const Trace trace{"nvme/nvme_setup_cmd"};
  const pid_t child = ::fork();
  if (child == 0)
    have_reads_wait(buffer, reads, target.get(), [] {});
  int status = 0;
  ::waitpid(child, &status, 0);
  report().check(status == 0, "a process has READs wait, and ends", std::format("{:#x}", status));
  if (buffer.signal() != 0)
    die("SIGNAL");
  report().check(wait_for([&] { return mappings_alive() == mappings; }, 60),
                 "its session is gone, what waited has ended");
  const std::size_t sent = trace.count({"nvme_cmd_read"});
  report().check(sent <= at_once, "what nobody had begun to wait for is not sent",
                 std::format("{} of {} sent", sent, reads));
}

// What one user makes wait keeps no other user waiting.
void attack_crowd() {
  constexpr unsigned reads = 2000;
  const Testexp testexp;
  const TestBuffer theirs = testexp.make(gpu_buffer(1u << 20, 1)),
                   ours = testexp.make(gpu_buffer(1u << 20, 1));
  const UniqueFd target = open_target(drive);
  if (theirs.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER) != 0 ||
      ours.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER) != 0)
    die("FENCE_ADD");
  const int mappings = mappings_alive();
  int ready[2], done[2];
  if (::pipe(ready) != 0 || ::pipe(done) != 0 || ::chmod(DMABUF_RW_DEVICE, 0666) != 0)
    die("pipe, chmod");
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(done[1]);
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
      ::_exit(6);
    have_reads_wait(theirs, reads, target.get(), [&] {
      char byte = 0;
      if (::write(ready[1], &byte, 1) != 1 || ::read(done[0], &byte, 1) != 0)
        ::_exit(7);
    });
  }
  ::close(ready[1]);
  char byte;
  const bool waiting = ::read(ready[0], &byte, 1) == 1;
  ::chmod(DMABUF_RW_DEVICE, 0600);
  if (waiting) {
    const Session session;
    Ring ring(8, 0);
    auto entry = map_entry(ours.fd(), target.get(), Path::Premapped);
    if (const int error = session.map_one(entry))
      die("MAP: " + errno_name(error));
    ring.queue_command(session.fd(), DMABUF_RW_URING_READ, 0, block,
                       {.file_offset = attack_base, .handle = entry.handle, .flags = 0});
    if (ring.submit() != 1 || ours.signal() != 0)
      die("a READ that waits for a fence");
    __kernel_timespec limit{.tv_sec = 20, .tv_nsec = 0}; // the others' READs wait for 30 s
    io_uring_cqe *cqe = nullptr;
    const int error = io_uring_wait_cqe_timeout(ring.raw(), &cqe, &limit);
    report().check(error == 0 && cqe->res == static_cast<int>(block),
                   "a READ ends while another user's wait", errno_name(error ?: cqe->res));
  }
  // That other user must not be let go of before: then his wait no longer.
  ::close(done[1]);
  int status = 0;
  ::waitpid(child, &status, 0);
  report().check(waiting && status == 0, "another user has READs wait",
                 std::format("{:#x}", status));
  if (theirs.signal() != 0)
    die("SIGNAL");
  report().check(wait_for([&] { return mappings_alive() == mappings; }, 60),
                 "all sessions are gone");
}

// Of an I/O that a killed process waits for, the drive gets no more commands than it has already.
void attack_killed() {
  constexpr std::uint32_t bytes = 16u << 20, command = 262144;
  const Hurt hurt;
  const UniqueFd target = open_target(drive);
  const DmaBuf buffer = make_buffer(bytes);
  const Session session;
  auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  entry.max_command_hint = command;
  if (const int error = session.map_one(entry))
    die("MAP: " + errno_name(error));
  const pid_t child = ::fork();
  if (child == 0) {
    // Each command takes so long that there is time to be killed between two.
    hurt.slow("blk_mq_alloc_request", 100);
    waited_io(session, entry.handle, Direction::Read, 0, bytes, attack_base);
    ::_exit(0);
  }
  const bool began = wait_for([&] { return hurt.slowed() >= 3; }, 60);
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  hurt.slow_off();
  dmabuf_rw_info info{};
  session.info(entry.handle, info);
  report().check(began && WIFSIGNALED(status), "a process is killed in the middle of an IO",
                 std::format("{:#x}", status));
  report().check(info.commands > 0 && info.commands < bytes / command,
                 "no more commands are sent for it",
                 std::format("{} of {}", std::uint64_t{info.commands}, bytes / command));
}

void attack_uncounted() {
  const OneTag drive_with_one_tag;
  const Trace trace{"dmabuf_rw/dmabuf_rw_submit", "dmabuf_rw/dmabuf_rw_complete"};
  Job job;
  Mover mover(job.session, job.ring, job.buffer.fd(), job.target.get(), Path::Bvec);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  job.submit(mover);
  const int unmapped = mover.release();
  report().check(unmapped == 0, "UNMAP", errno_name(unmapped));
  unsigned ended = 0, gone = 0;
  while (ended < writes && job.ring.reap([&](std::uint64_t, int result) {
    ++ended;
    gone += result == -ENOENT;
  }) >= 0) {
  }
  report().check(gone > 0, "writes whose mapping went before their second try end with ENOENT",
                 std::format("{} of {}", gone, ended));
  const std::size_t submitted = trace.count({"dmabuf_rw_submit:"});
  const std::size_t completed = trace.count({"dmabuf_rw_complete:"});
  report().check(submitted == writes && completed == writes,
                 "every I/O that was submitted is accounted for when it ends",
                 std::format("{} submitted, {} accounted for", submitted, completed));
}

} // namespace vmtest
