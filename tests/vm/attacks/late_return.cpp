// SPDX-License-Identifier: GPL-2.0-only
// An I/O ends while the thread that sent it is still on its way out of the file system: what the
// file system looks at then is still there, also when the mapping and the file are given up
// meanwhile.
//
// The thread is a worker of io_uring, so that the ring's own task is free to see the end. up_read()
// is made to come back late: ext4 lets go of its inode by it when the I/O is with the drive.
#include "attacks.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/mount.h>

namespace vmtest {

namespace {

constexpr const char device[] = "/dev/nullb0";
constexpr const char mount_point[] = "/tmp/attacks.late";
constexpr std::uint32_t length = 65536;
constexpr unsigned late_ms = 1000;
constexpr unsigned late_rounds = 3, most_rounds = 40;

// The ring's worker of this process, or 0.
pid_t worker() {
  for (const auto &task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name.starts_with("iou-wrk"))
      return static_cast<pid_t>(std::stol(task.path().filename()));
  }
  return 0;
}

// Is the thread held up by dmabuf_hurt.ko? An idle worker can be interrupted.
bool delayed(pid_t tid) {
  const std::string text = read_file(std::format("/proc/{}/stat", tid));
  const auto name_end = text.rfind(')');
  return name_end != std::string::npos && text.substr(name_end).starts_with(") D");
}

// A drive that takes its time, so that a READ seldom ends before its thread has left it behind.
class SlowDrive {
public:
  SlowDrive() {
    shell("modprobe null_blk nr_devices=1 queue_mode=2 irqmode=2 completion_nsec=30000000 "
          "memory_backed=1 gb=1");
    shell(std::format("mkfs.ext4 -q -E nodiscard {0} && mount {0} {1}", device, mount_point));
  }
  SlowDrive(const SlowDrive &) = delete;
  SlowDrive &operator=(const SlowDrive &) = delete;
  ~SlowDrive() {
    // The last worker may take a moment to leave.
    report().check(wait_for([] { return ::umount2(mount_point, 0) == 0; }, 20), "umount");
    shell("rmmod null_blk");
  }
};

// One READ by a worker, whose mapping and file are given up before the worker is back. False: it
// was over before the worker could be late.
bool one_round(const Hurt &hurt, const DmaBuf &buffer, const std::string &file, Ring &ring) {
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), buffer_poison, 0);
  }
  int got = 0;
  pid_t tid = 0;
  {
    const UniqueFd target = open_target(file);
    Session session;
    auto entry = map_entry(buffer.fd(), target.get(), Path::Bvec);
    if (const int error = session.map_one(entry))
      die("MAP: " + errno_name(error));
    // Brings the worker to life, or keeps it there.
    const dmabuf_rw_uring_io io{0, entry.handle, 0};
    ring.command(session.fd(), DMABUF_RW_URING_READ, 0, 4096, io, IOSQE_ASYNC);
    tid = worker();
    if (!tid)
      die("the ring has no worker");
    hurt.slow_thread("up_read", late_ms, tid);
    got = ring.command(session.fd(), DMABUF_RW_URING_READ, 0, length, io, IOSQE_ASYNC);
    report().check(session.unmap_one(entry.handle) == 0, "UNMAP");
  }
  // Nobody has the file open any more but the worker, for as long as it is there.
  unsigned tries = 0;
  bool gone = false;
  for (; delayed(tid); ++tries) {
    if (::umount2(mount_point, 0) == 0) {
      gone = delayed(tid);
      // The worker came back just before: this round is over.
      if (!gone)
        shell(std::format("mount {} {}", device, mount_point));
      break;
    }
    ::usleep(20000);
  }
  hurt.slow_off();
  if (!report().check(!gone, "the file stays as long as a READ of it is inside the file system"))
    die("the file system was unmounted under a READ");
  report().check(got == static_cast<int>(length), "READ by a worker", errno_name(got));
  const CpuAccess access(buffer, false);
  HostBuffer want(length);
  fill_pattern(want.words(), 6, 0);
  const auto wrong = compare_words(buffer.words(), want.words());
  report().check(!wrong, "READ by a worker: every byte", wrong ? describe(*wrong, 0) : "");
  return tries > 0;
}

} // namespace

void attack_late_return() {
  const std::string file = std::string(mount_point) + "/file";
  std::filesystem::create_directories(mount_point);
  const SlowDrive slow;
  {
    const UniqueFd made(::open(file.c_str(), O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
    HostBuffer host(length);
    fill_pattern(host.words(), 6, 0);
    write_plain(made.get(), host.words(), 0);
  }
  const Hurt hurt;
  const DmaBuf buffer = make_buffer(length);
  unsigned late = 0;
  for (unsigned round = 0; round < most_rounds && late < late_rounds; ++round) {
    Ring ring(8);
    // One worker, so that it is known which one takes the READ.
    unsigned most[] = {1, 1};
    if (io_uring_register_iowq_max_workers(ring.raw(), most) != 0)
      die("the number of workers cannot be set");
    late += one_round(hurt, buffer, file, ring);
  }
  report().check(late == late_rounds, "READs that ended before their worker was back",
                 std::format("{} of {}", late, late_rounds));
}

} // namespace vmtest
