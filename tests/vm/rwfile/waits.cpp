// SPDX-License-Identifier: GPL-2.0-only
// What an rw fd waits for, how long, and who may interrupt it; memory that is taken away.
#include "rwfile.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <thread>

namespace vmtest {

namespace {

constexpr std::size_t bytes = 64u << 10;

struct Usage {
  const char *name;
  std::uint32_t usage;
  bool holds_read, holds_write;
};

// Here a read looks at the buffer and a write changes it.
constexpr Usage usages[] = {
    {"KERNEL", DMABUF_TESTEXP_USAGE_KERNEL, true, true},
    {"WRITE", DMABUF_TESTEXP_USAGE_WRITE, true, true},
    {"READ", DMABUF_TESTEXP_USAGE_READ, false, true},
    {"BOOKKEEP", DMABUF_TESTEXP_USAGE_BOOKKEEP, false, false},
};

void add_fence(const TestBuffer &buffer, std::uint32_t usage, std::uint32_t delay_ms,
               std::uint32_t flags = 0) {
  if (const int error = buffer.add_fence(usage, delay_ms, flags))
    die("FENCE_ADD: " + errno_name(error));
}

void never_signals(const TestBuffer &buffer, std::uint32_t usage) {
  add_fence(buffer, usage, 0, DMABUF_TESTEXP_FENCE_NEVER);
}

void signal_all(const TestBuffer &buffer) {
  if (const int error = buffer.signal())
    die("FENCE_SIGNAL: " + errno_name(error));
}

long transfer(int fd, bool write, int flags = 0) {
  static thread_local char data[512];
  const iovec one{data, sizeof(data)};
  return outcome(write ? ::pwritev2(fd, &one, 1, 0, flags) : ::preadv2(fd, &one, 1, 0, flags));
}

std::string_view direction(bool write) { return write ? "write" : "read"; }

// By usage and direction: waits for a late fence, or does not look at one that never signals.
void by_usage(const TestBuffer &buffer, int fd, const Usage &usage, bool write) {
  const std::string name = std::format("{} and a {} fence", direction(write), usage.name);
  const bool holds = write ? usage.holds_write : usage.holds_read;
  if (holds) {
    constexpr double delay = 0.15;
    const double begin = now_s();
    add_fence(buffer, usage.usage, static_cast<std::uint32_t>(delay * 1000));
    expect_result(name + ", at once", transfer(fd, write, RWF_NOWAIT), -EAGAIN);
    expect_result(name, transfer(fd, write), 512);
    report().check(waited(now_s() - begin, delay), name + ": waits",
                   std::format("{:.3f} s", now_s() - begin));
    return;
  }
  never_signals(buffer, usage.usage);
  expect_result(name + ", at once", transfer(fd, write, RWF_NOWAIT), 512);
  expect_result(name + " does not wait", transfer(fd, write), 512);
  report().check(buffer.must_stats().fences == 1, name + ": it has not signalled");
  signal_all(buffer);
}

void never(const TestBuffer &buffer, bool write) {
  constexpr double timeout = 0.4;
  const std::string name = std::format("{} and a fence that never signals", direction(write));
  const UniqueFd fd =
      must_open_rw(session_with_timeout(static_cast<std::uint32_t>(timeout * 1000)), buffer.fd());
  never_signals(buffer, DMABUF_TESTEXP_USAGE_WRITE);
  const double begin = now_s();
  expect_result(name, transfer(fd.get(), write), -ETIMEDOUT);
  const double took = now_s() - begin;
  report().check(waited(took, timeout) && took < timeout + 2, name + ": the time-out",
                 std::format("{:.3f} s", took));
  // Not waiting, in both ways of asking for it.
  expect_result(name + ", RWF_NOWAIT", transfer(fd.get(), write, RWF_NOWAIT), -EAGAIN);
  ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  expect_result(name + ", O_NONBLOCK", transfer(fd.get(), write), -EAGAIN);
  ::fcntl(fd.get(), F_SETFL, 0);
  const UniqueFd nonblocking = must_open_rw(Session(), buffer.fd(), O_RDWR | O_NONBLOCK);
  expect_result(name + ", OPEN with O_NONBLOCK", transfer(nonblocking.get(), write), -EAGAIN);
  report().check(now_s() - begin < took + 2, name + ": at once");
  signal_all(buffer);
  expect_result(name + ": works once it has", transfer(fd.get(), write), 512);
  expect_result(name + ": O_NONBLOCK, too", transfer(nonblocking.get(), write), 512);
}

// A child that waits in `call`, which must not return before it is killed.
void killed(const TestBuffer &buffer, const std::string &name, const std::function<void()> &call) {
  never_signals(buffer, DMABUF_TESTEXP_USAGE_KERNEL);
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    call();
    ::_exit(3);
  }
  report().check(wait_child(child, 0.4) == -1, name + ": it waits");
  const double begin = now_s();
  ::kill(child, SIGKILL);
  const int status = wait_child(child, 10);
  report().check(status != -1 && WIFSIGNALED(status), name + ": it ends when killed",
                 std::format("wait status 0x{:x}", status));
  report().check(now_s() - begin < 5, name + ": at once", std::format("{} s", now_s() - begin));
  report().check(buffer.must_stats().fences == 1, name + ": the fence is pending");
  signal_all(buffer);
}

// A signal with a handler: EINTR, or begun again with SA_RESTART.
void interrupted(const TestBuffer &buffer, bool restart) {
  const std::string name = restart ? "a signal with SA_RESTART" : "a signal";
  const UniqueFd fd = must_open_rw(Session(), buffer.fd());
  struct sigaction action{}, old{};
  action.sa_handler = [](int) {};
  action.sa_flags = restart ? SA_RESTART : 0;
  ::sigaction(SIGUSR1, &action, &old);
  never_signals(buffer, DMABUF_TESTEXP_USAGE_WRITE);
  std::atomic<long> result = 1;
  std::jthread waiter([&] { result = transfer(fd.get(), false); });
  // Again and again, as he may not be in the call yet. The fence is still pending: it is the
  // signal that ends the wait, however late on a busy machine, or nothing does.
  const double end = now_s() + (restart ? 0.4 : 10);
  while (result == 1 && now_s() < end) {
    ::usleep(50000);
    ::pthread_kill(waiter.native_handle(), SIGUSR1);
  }
  report().check(result == (restart ? 1 : -EINTR), name,
                 result == 1 ? "still waits" : errno_name(result));
  report().check(buffer.must_stats().fences == 1, name + ": the fence is pending");
  signal_all(buffer);
  waiter.join();
  expect_result(name + ": in the end", result, restart ? 512 : -EINTR);
  ::sigaction(SIGUSR1, &old, nullptr);
}

short polled(int fd, short events, int timeout_ms = 0) {
  pollfd one{.fd = fd, .events = events, .revents = 0};
  return ::poll(&one, 1, timeout_ms) < 0 ? static_cast<short>(-1) : one.revents;
}

void expect_poll(const std::string &name, int fd, short wanted) {
  const short got = polled(fd, POLLIN | POLLOUT);
  report().check(got == wanted, name, std::format("0x{:x} instead of 0x{:x}", got, wanted));
}

// A ring that is being torn down interrupts its task, which epoll_wait() tells.
int wait_epoll(int epoll, epoll_event &got, int timeout_ms) {
  int count = -1;
  for (int tries = 0; tries < 10 && count < 0; ++tries)
    if ((count = ::epoll_wait(epoll, &got, 1, timeout_ms)) < 0 && errno != EINTR)
      break;
  return count;
}

// Woken when the fence signals, and not before.
void epolled(const TestBuffer &buffer, int fd) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = 7}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    die("EPOLL_CTL_ADD");
  epoll_event got{};
  expect_result("epoll: readable at first", wait_epoll(epoll.get(), got, 1000), 1);
  for (int round = 0; round < 2; ++round) {
    never_signals(buffer, DMABUF_TESTEXP_USAGE_WRITE);
    ::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, fd, &event);
    expect_result("epoll: not while a fence is pending", wait_epoll(epoll.get(), got, 50), 0);
    const double begin = now_s();
    std::jthread other([&] {
      ::usleep(150000);
      signal_all(buffer);
    });
    expect_result("epoll: woken by the fence", wait_epoll(epoll.get(), got, 5000), 1);
    const double took = now_s() - begin;
    report().check((got.events & EPOLLIN) && got.data.u64 == 7, "epoll: EPOLLIN");
    report().check(waited(took, 0.15) && took < 3, "epoll: when it signals",
                   std::format("{:.3f} s", took));
  }
  // Closed while it is polled for.
  never_signals(buffer, DMABUF_TESTEXP_USAGE_WRITE);
  ::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, fd, &event);
}

void by_ring(const TestBuffer &buffer, int fd) {
  Ring ring(4, 0);
  char data[512];
  const auto queue = [&](unsigned opcode, std::uint64_t user_data) {
    io_uring_sqe *sqe = ring.sqe();
    sqe->opcode = static_cast<__u8>(opcode);
    sqe->fd = fd;
    sqe->addr = reinterpret_cast<std::uintptr_t>(data);
    sqe->len = sizeof(data);
    sqe->user_data = user_data;
  };
  for (const unsigned opcode : {unsigned{IORING_OP_READ}, unsigned{IORING_OP_WRITE}}) {
    const std::string name =
        opcode == IORING_OP_READ ? "io_uring READ and a fence" : "io_uring WRITE and a fence";
    const double begin = now_s();
    add_fence(buffer, DMABUF_TESTEXP_USAGE_WRITE, 150);
    queue(opcode, 1);
    expect_result(name, ring.run_one(), 512);
    report().check(waited(now_s() - begin, 0.15), name + ": waits",
                   std::format("{:.4f} s", now_s() - begin));
    // One that never signals: it can be cancelled.
    never_signals(buffer, DMABUF_TESTEXP_USAGE_WRITE);
    queue(opcode, 2);
    ring.submit();
    ::usleep(50000);
    io_uring_sqe *sqe = ring.sqe();
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->addr = 2;
    sqe->user_data = 3;
    int left = 2, result = 1;
    const double end = now_s() + 10;
    while (left > 0 && now_s() < end)
      ring.reap([&](std::uint64_t user_data, int value) {
        --left;
        if (user_data == 2)
          result = value;
      });
    report().check(result == -ECANCELED || result == -EINTR, name + ": cancelled",
                   errno_name(result));
    // A linked time-out ends it; the wait itself has none.
    constexpr double timeout = 0.3;
    __kernel_timespec time{.tv_sec = 0, .tv_nsec = static_cast<long long>(timeout * 1e9)};
    queue(opcode, 4);
    // The one before, the last that was queued.
    io_uring *raw = ring.raw();
    raw->sq.sqes[(raw->sq.sqe_tail - 1) & raw->sq.ring_mask].flags |= IOSQE_IO_LINK;
    sqe = ring.sqe();
    sqe->opcode = IORING_OP_LINK_TIMEOUT;
    sqe->addr = reinterpret_cast<std::uintptr_t>(&time);
    sqe->len = 1;
    sqe->user_data = 5;
    const double started = now_s();
    int expired = 1;
    left = 2, result = 1;
    for (const double limit = now_s() + 30; left > 0 && now_s() < limit;)
      ring.reap([&](std::uint64_t user_data, int value) {
        --left;
        (user_data == 4 ? result : expired) = value;
      });
    const double took = now_s() - started;
    report().check(left == 0 && (result == -ECANCELED || result == -EINTR),
                   name + ": a linked time-out ends it", errno_name(result));
    // EALREADY: it came while the request was being ended.
    report().check(expired == -ETIME || expired == -EALREADY, name + ": the time-out expired",
                   errno_name(expired));
    report().check(waited(took, timeout) && took < 25, name + ": when it expired",
                   std::format("{:.3f} s", took));
    report().check(buffer.must_stats().fences == 1, name + ": the fence is pending");
    signal_all(buffer);
  }
}

void expect_open(const std::string &name, const TestBuffer &buffer, int error,
                 std::uint32_t reason) {
  const Session session;
  const Opened opened = open_rw(session, buffer.fd());
  expect_result(name, opened.error, error);
  report().check(opened.answer.reason == reason, name + ": reason",
                 reason_name(opened.answer.reason));
}

} // namespace

void test_fences(const RwOptions &) {
  const Testexp testexp;
  const TestBuffer buffer = cpu_buffer(testexp, bytes);
  {
    const UniqueFd fd = must_open_rw(session_with_timeout(10000), buffer.fd());
    for (const Usage &usage : usages)
      for (const bool write : {false, true})
        by_usage(buffer, fd.get(), usage, write);
  }
  never(buffer, false);
  never(buffer, true);
  for (const bool write : {false, true})
    killed(buffer, std::format("kill -9 of a {} that waits for a fence", direction(write)), [&] {
      const UniqueFd fd = must_open_rw(Session(), buffer.fd());
      transfer(fd.get(), write);
    });
  interrupted(buffer, false);
  interrupted(buffer, true);

  // OPEN itself waits for nobody.
  never_signals(buffer, DMABUF_TESTEXP_USAGE_KERNEL);
  const double begin = now_s();
  expect_open("OPEN while a fence is pending", buffer, 0, DMABUF_RW_REASON_NONE);
  report().check(now_s() - begin < 2, "OPEN does not wait for it");
  signal_all(buffer);

  // What the exporter says to CPU access is what the caller gets; EAGAIN means again.
  const UniqueFd fd = must_open_rw(Session(), buffer.fd());
  for (const int error : {EIO, ENOMEM, EBUSY}) {
    buffer.fail(DMABUF_TESTEXP_OP_CPU, error, 0, 2);
    for (const bool write : {false, true})
      expect_result(
          std::format("{} of memory that refuses with {}", direction(write), errno_name(error)),
          transfer(fd.get(), write), -error);
    expect_result("and afterwards", transfer(fd.get(), false), 512);
  }
  const auto before = buffer.must_stats().refused[DMABUF_TESTEXP_OP_CPU];
  buffer.fail(DMABUF_TESTEXP_OP_CPU, EAGAIN, 0, 3);
  expect_result("read of memory that says EAGAIN, at once", transfer(fd.get(), false, RWF_NOWAIT),
                -EAGAIN);
  expect_result("read of memory that says EAGAIN", transfer(fd.get(), false), 512);
  expect_result("EAGAIN was said",
                static_cast<long>(buffer.must_stats().refused[DMABUF_TESTEXP_OP_CPU] - before), 3);
  buffer.fail(DMABUF_TESTEXP_OP_CPU, EAGAIN);
  const UniqueFd hasty = must_open_rw(Session(), cpu_buffer(testexp, bytes).fd());
  expect_open("OPEN of memory that refuses the CPU", buffer, -EOPNOTSUPP,
              DMABUF_RW_REASON_NO_CPU_VIEW);
  buffer.fail(DMABUF_TESTEXP_OP_CPU, 0);
  expect_result("it outlives its dma-buf's descriptor", transfer(hasty.get(), true), 512);
}

void test_polling(const RwOptions &) {
  const Testexp testexp;
  const TestBuffer buffer = cpu_buffer(testexp, bytes);
  UniqueFd fd = must_open_rw(Session(), buffer.fd());
  constexpr short both = POLLIN | POLLOUT;
  expect_poll("poll without a fence", fd.get(), both);
  for (const Usage &usage : usages) {
    never_signals(buffer, usage.usage);
    expect_poll(
        std::format("poll with a {} fence", usage.name), fd.get(),
        static_cast<short>((usage.holds_read ? 0 : POLLIN) | (usage.holds_write ? 0 : POLLOUT)));
    signal_all(buffer);
    expect_poll("poll once it has signalled", fd.get(), both);
  }
  add_fence(buffer, DMABUF_TESTEXP_USAGE_WRITE, 150);
  const double begin = now_s();
  const short got = polled(fd.get(), POLLIN, 5000);
  report().check(got == POLLIN && waited(now_s() - begin, 0.15), "poll waits for a fence",
                 std::format("0x{:x} after {:.3f} s", got, now_s() - begin));
  by_ring(buffer, fd.get());
  epolled(buffer, fd.get());
  fd.reset();
  signal_all(buffer);
}

void test_revocation(const RwOptions &) {
  const Testexp testexp;
  for (const std::uint32_t flags : {0u, DMABUF_TESTEXP_IO_VIEW}) {
    const TestBuffer buffer = cpu_buffer(testexp, bytes, DMABUF_TESTEXP_DYNAMIC | flags);
    const UniqueFd fd = must_open_rw(Session(), buffer.fd());
    Bytes wanted(bytes), found(bytes);
    fill_random(wanted, 9);
    expect_result("write before", ::pwrite(fd.get(), wanted.data(), bytes, 0), bytes);
    expect_result("memory with a kernel view does not move", buffer.move(), -EBUSY);
    for (int round = 0; round < 2; ++round) {
      expect_result("REVOKE", buffer.revoke(), 0);
      for (const bool write : {false, true})
        for (const int nowait : {0, RWF_NOWAIT})
          expect_result(std::format("{} of revoked memory", direction(write)),
                        transfer(fd.get(), write, nowait), -ENODEV);
      expect_open("OPEN of revoked memory, with a view", buffer, -ENODEV, DMABUF_RW_REASON_REVOKED);
      expect_result("size of revoked memory", ::lseek(fd.get(), 0, SEEK_END), bytes);
      expect_result("UNREVOKE", buffer.unrevoke(), 0);
      expect_result("read of what came back", ::pread(fd.get(), found.data(), bytes, 0), bytes);
      const std::string wrong = differ(found, wanted);
      report().check(wrong.empty(), "its contents", wrong);
    }
  }
  const TestBuffer buffer = cpu_buffer(testexp, bytes, DMABUF_TESTEXP_DYNAMIC);
  buffer.revoke();
  expect_open("OPEN of revoked memory", buffer, -ENODEV, DMABUF_RW_REASON_REVOKED);
  report().check(buffer.must_stats().vmaps == 0, "and no view is made");
  buffer.unrevoke();
  {
    const UniqueFd one = must_open_rw(Session(), buffer.fd());
    const UniqueFd two = must_open_rw(Session(), buffer.fd(), O_RDONLY);
    report().check(buffer.must_stats().vmaps == 1, "two rw fds share one view",
                   std::format("{}", buffer.must_stats().vmaps));
  }
  for (int tries = 0; tries < 100 && buffer.must_stats().vmaps; ++tries)
    ::usleep(10000);
  report().check(buffer.must_stats().vmaps == 0, "none is left without them");
  expect_result("memory moves again", buffer.move(), 0);
}

} // namespace vmtest
