// SPDX-License-Identifier: GPL-2.0-only
// The unprivileged process.
#include "coverage.hpp"
#include "fds.hpp"
#include "fuzz.hpp"
#include "lib/child.hpp"
#include "lib/report.hpp"
#include "worker.hpp"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <linux/dmabuf_rw.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

namespace vmtest::fuzz {

namespace {

constexpr rlim_t memlock_bytes = 32u << 20, file_bytes = 8u << 20;

void become_limited_nobody() {
  const auto limit = [](auto resource, rlim_t value) {
    const rlimit both{value, value};
    if (::setrlimit(resource, &both) != 0)
      die(std::format("setrlimit: {}", std::strerror(errno)));
  };
  limit(RLIMIT_MEMLOCK, memlock_bytes);
  limit(RLIMIT_FSIZE, file_bytes);
  limit(RLIMIT_NOFILE, 1024);
  limit(RLIMIT_CORE, 0);
  become_nobody();
  // As a process that was nobody's from the start; and gone with its parent.
  ::prctl(PR_SET_DUMPABLE, 1);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
}

void on_alarm(int) {}

void set_signals() {
  catch_faults();
  ::signal(SIGXFSZ, SIG_IGN);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGIO, SIG_IGN);
  struct sigaction action{}; // without SA_RESTART
  action.sa_handler = on_alarm;
  ::sigaction(SIGALRM, &action, nullptr);
}

void fill_pools() {
  const auto copy = [](int from, int to) {
    set_object_bytes(to, object_bytes(from));
    if (::dup3(from, to, 0) < 0)
      die(std::format("dup of {}: {}", from, std::strerror(errno)));
  };
  for (int i = 0; i < dmabufs.count; ++i)
    copy(dmabuf_masters + i, dmabufs.first + i);
  for (int i = 0; i < targets.count; ++i)
    copy(target_masters + i, targets.first + i);
  for (int i = 0; i < rw_master_count; ++i)
    copy(rw_masters + i, rw_files.first + i);
  for (int i = 0; i < sessions.count; ++i) {
    const int fd = ::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC);
    if (fd < 0)
      die(std::format("open {}: {}", DMABUF_RW_DEVICE, std::strerror(errno)));
    ::dup3(fd, sessions.first + i, 0);
    ::close(fd);
  }
  // The first session may open what the first dma-bufs are, but for those that it may not.
  for (int i = rw_master_count; i < rw_files.count; ++i) {
    dmabuf_rw_open open{};
    open.dmabuf_fd = static_cast<__u32>(dmabufs.first + i);
    open.flags = O_RDWR;
    if (::ioctl(sessions.first, DMABUF_RW_IOC_OPEN, &open) != 0)
      continue;
    set_object_bytes(rw_files.first + i, open.buffer_bytes);
    ::dup3(static_cast<int>(open.fd), rw_files.first + i, 0);
    ::close(static_cast<int>(open.fd));
  }
  for (int i = 0; i < pipes.count; i += 2) {
    int ends[2];
    if (::pipe2(ends, O_NONBLOCK) != 0)
      die("pipe");
    for (int end = 0; end < 2; ++end) {
      ::dup3(ends[end], pipes.first + i + end, 0);
      ::close(ends[end]);
    }
  }
  const int epoll = ::epoll_create1(0);
  ::dup3(epoll, epoll_file, 0);
  ::close(epoll);
}

// One thread's programs.
class Source {
public:
  Source(const Options &options, const Shared &shared, unsigned epoch, unsigned thread)
      : options_(options), shared_(shared), thread_(thread),
        generator_(
            Random(options.seed ^ (std::uint64_t{epoch} << 32 | thread) * 0x9E3779B97F4A7C15u)
                .next(),
            options.taste),
        fixed_(epoch == 0 ? options.corpus.size() : 0) {}

  Program next() {
    Program program;
    if (at_ < fixed_)
      program = options_.corpus[(at_++ + thread_ * fixed_ / options_.threads) % fixed_];
    else if (shared_.kept() && generator_.random().chance(options_.coverage ? 2 : 1, 3))
      program = generator_.mutate(kept(), kept());
    else
      program = generator_.make();
    program.thread = thread_;
    return program;
  }

private:
  const Program &kept() {
    // Half of them one of the newest: who finds something new leads to more.
    const std::uint32_t all = shared_.kept();
    const std::uint32_t from = generator_.random().chance(1, 2) && all > 32 ? all - 32 : 0;
    const Kept &one = shared_.corpus[from + generator_.random().below(all - from)];
    return one.ready ? one.program : shared_.corpus[0].program;
  }
  const Options &options_;
  const Shared &shared_;
  unsigned thread_;
  Generator generator_;
  std::size_t fixed_, at_ = 0;
};

void trace(const Options &options, const Program &program) {
  if (options.trace < 0)
    return;
  const std::string text = to_text(program);
  if (::write(options.trace, text.data(), text.size()) < 0)
    die("the trace cannot be written");
}

struct Life {
  const Options &options;
  Shared &shared;
  unsigned epoch;
  std::uint64_t calls;
  bool coverage;
};

// The process does not go when its threads have ended, which the parent has to notice.
bool lingers(const Options &options) { return options.provoke == "linger"; }

void run_thread(const Life &life, unsigned thread) {
  ThreadState &state = life.shared.threads[thread];
  Worker worker(life.shared, thread);
  Coverage coverage(life.coverage, thread);
  state.tid = ::gettid();
  const auto run = [&](const Program &program) {
    trace(life.options, program);
    coverage.begin();
    worker.run(program);
    if (const std::uint32_t added = coverage.end(life.shared))
      life.shared.keep(program, added);
  };
  if (!life.options.replay.empty()) {
    for (const Program &program : life.options.replay)
      if (program.thread % life.options.threads == thread && !life.shared.stop)
        run(program);
    state.tid = 0;
    return;
  }
  Source source(life.options, life.shared, life.epoch, thread);
  const std::uint64_t end = state.calls + life.calls;
  while (!life.shared.stop && state.calls < end)
    run(source.next());
  // With whatever is in flight, and the other threads in the middle of their calls.
  if (!life.shared.stop && !lingers(life.options))
    ::kill(::getpid(), SIGKILL);
  state.tid = 0;
}

} // namespace

void fuzz_process(const Options &options, Shared &shared, unsigned epoch, std::uint64_t calls,
                  bool coverage) {
  // The parent's own files, the ones that canaries are looked at through among them.
  ::close_range(3, static_cast<unsigned>(sessions.first) - 1, 0);
  become_limited_nobody();
  set_signals();
  reserve_places();
  set_avoid_known(options.taste.avoid_known);
  fill_pools();
  const Life life{options, shared, epoch, calls, coverage};
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < options.threads; ++thread)
    threads.emplace_back(run_thread, std::cref(life), thread);
  for (std::thread &thread : threads)
    thread.join();
  while (lingers(options))
    ::pause();
  ::_exit(0);
}

} // namespace vmtest::fuzz
