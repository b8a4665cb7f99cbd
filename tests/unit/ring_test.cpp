// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/ring.hpp"

#include "base/sizes.hpp"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <optional>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace dmabuf {
namespace {

TEST(Ring, OpensAtAnyDepthItPromises) {
  for (const unsigned depth : {1U, 3U, 128U, 1000U}) {
    Ring ring;
    ASSERT_TRUE(ring.open({.depth = depth})) << depth;
    unsigned entries = 0;
    while (ring.sqe())
      entries++;
    EXPECT_GE(entries, depth);
  }
}

TEST(Ring, RefusesDepthsBeyondTheKernelsLimit) {
  Ring ring;
  const auto opened = ring.open({.depth = kMaxRingEntries + 1});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, EINVAL);
  EXPECT_FALSE(ring.is_open());
}

TEST(Ring, AsksForDeferredTaskWorkWhereThereIsSuch) {
  Ring ring;
  ASSERT_TRUE(ring.open({.depth = 4}));
  io_uring probe = {};
  const int rc =
      io_uring_queue_init(4, &probe, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  if (rc == 0)
    io_uring_queue_exit(&probe);
  EXPECT_EQ((ring.setup_flags() & IORING_SETUP_DEFER_TASKRUN) != 0, rc == 0);
}

TEST(Ring, AnImpossibleCpuForTheSubmissionThreadIsAnError) {
  Ring ring;
  const auto opened = ring.open({.depth = 4, .sqpoll = true, .sqpoll_cpu = 1 << 20});
  EXPECT_FALSE(opened);
}

TEST(Ring, RunsOneRequestToItsResult) {
  Ring ring;
  ASSERT_TRUE(ring.open({.depth = 4}));
  io_uring_sqe *sqe = ring.sqe();
  sqe->opcode = IORING_OP_NOP;
  EXPECT_EQ(ring.run_one(), 0);
  sqe = ring.sqe();
  sqe->opcode = IORING_OP_FSYNC;
  sqe->fd = -1;
  EXPECT_EQ(ring.run_one(), -EBADF);
}

TEST(Ring, RunsNothingElseAlong) {
  Ring ring;
  ASSERT_TRUE(ring.open({.depth = 4}));
  EXPECT_EQ(ring.unsubmitted(), 0U);
  for (unsigned i = 1; i <= 2; i++) {
    ring.sqe()->opcode = IORING_OP_NOP;
    EXPECT_EQ(ring.unsubmitted(), i);
  }
  EXPECT_EQ(ring.run_one(), -EBUSY) << "which of the two?";
  EXPECT_EQ(ring.unsubmitted(), 2U) << "both are still nobody's";
  EXPECT_EQ(ring.reap(4, [](const io_uring_cqe &) {}), 0U);
}

TEST(Ring, ItsTableOfBuffersCanBeMadeAnew) {
  Ring ring;
  ASSERT_TRUE(ring.open({.depth = 4}));
  ring.drop_buffers(); // there is none
  for (const unsigned slots : {4U, 1U, 16U}) {
    ASSERT_TRUE(ring.reserve_buffers(slots));
    EXPECT_FALSE(ring.reserve_buffers(slots)) << "there is one";
    ring.drop_buffers();
  }
  alignas(4096) static std::byte memory[4096];
  const iovec range = {memory, sizeof(memory)};
  ASSERT_TRUE(ring.register_buffers({&range, 1}));
  ring.drop_buffers();
  EXPECT_TRUE(ring.register_buffers({&range, 1}));
}

TEST(Ring, ReapsAtMostWhatIsAsked) {
  Ring ring;
  ASSERT_TRUE(ring.open({.depth = 8}));
  for (uint64_t i = 0; i < 5; i++) {
    io_uring_sqe *sqe = ring.sqe();
    sqe->opcode = IORING_OP_NOP;
    sqe->user_data = i;
  }
  uint64_t retries = 0;
  ASSERT_EQ(ring.submit(retries), 0);
  ASSERT_GE(ring.wait(5), 0);
  std::vector<uint64_t> seen;
  const auto note = [&](const io_uring_cqe &cqe) { seen.push_back(cqe.user_data); };
  EXPECT_EQ(ring.reap(3, note), 3U);
  EXPECT_EQ(ring.reap(8, note), 2U);
  EXPECT_EQ(ring.reap(8, note), 0U);
  EXPECT_EQ(seen, (std::vector<uint64_t>{0, 1, 2, 3, 4}));
}

TEST(Ring, RegistersMemoryAndFiles) {
  Ring ring;
  ASSERT_TRUE(ring.open({.depth = 2}));
  void *memory = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const iovec ranges[] = {{memory, 4096}, {static_cast<char *>(memory) + 4096, 4096}};
  EXPECT_TRUE(ring.register_buffers(ranges));
  ASSERT_TRUE(ring.reserve_files(2));
  const int fd = open("/dev/null", O_RDWR);
  EXPECT_TRUE(ring.set_file(1, fd));
  EXPECT_TRUE(ring.set_file(1, -1));
  EXPECT_FALSE(ring.set_file(2, fd)) << "there is no slot 2";
  close(fd);
  munmap(memory, 8192);
}

TEST(Ring, MemoryThatIsNotThereCannotBeRegistered) {
  Ring ring;
  ASSERT_TRUE(ring.open({.depth = 2}));
  const iovec range = {reinterpret_cast<void *>(4096), 4096};
  const auto registered = ring.register_buffers({&range, 1});
  ASSERT_FALSE(registered);
  EXPECT_EQ(registered.error().code, EFAULT);
}

/// The flags of the calls of io_uring_enter() with which `body` waits for completions, seen from
/// outside; nothing where no process may look at another.
std::optional<std::vector<uint64_t>> waits_of(void (*body)()) {
  const pid_t child = fork();
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) < 0)
      _exit(77);
    raise(SIGSTOP);
    body();
    _exit(0);
  }
  std::vector<uint64_t> flags;
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status))
    return std::nullopt;
  EXPECT_EQ(ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL),
            0);
  while (ptrace(PTRACE_SYSCALL, child, nullptr, nullptr) == 0 &&
         waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
    __ptrace_syscall_info info = {};
    ptrace(PTRACE_GET_SYSCALL_INFO, child, reinterpret_cast<void *>(sizeof(info)), &info);
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == __NR_io_uring_enter &&
        info.entry.args[2])
      flags.push_back(info.entry.args[3]);
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  return flags;
}

template <bool no_iowait> void wait_for_a_timeout() {
  Ring ring;
  if (!ring.open({.depth = 2, .no_iowait = no_iowait}))
    _exit(1);
  __kernel_timespec soon = {.tv_sec = 0, .tv_nsec = 20'000'000};
  io_uring_sqe *sqe = ring.sqe();
  io_uring_prep_timeout(sqe, &soon, 0, 0);
  uint64_t retries = 0;
  if (ring.submit(retries) || ring.wait(1) < 0 || ring.reap(1, [](const io_uring_cqe &) {}) != 1)
    _exit(2);
}

TEST(Ring, AWaitIsNoIowaitWhereThatIsAskedFor) {
  constexpr uint64_t kNoIowait = 1U << 7;
  const auto usual = waits_of(wait_for_a_timeout<false>);
  const auto quiet = waits_of(wait_for_a_timeout<true>);
  if (!usual || !quiet)
    GTEST_SKIP() << "no process may look at another here";
  ASSERT_FALSE(usual->empty());
  for (const uint64_t flags : *usual)
    EXPECT_EQ(flags & kNoIowait, 0U);
  io_uring probe = {};
  ASSERT_EQ(io_uring_queue_init(1, &probe, 0), 0);
  const bool can = probe.features & (1U << 17); // Linux 6.15
  io_uring_queue_exit(&probe);
  ASSERT_FALSE(quiet->empty());
  for (const uint64_t flags : *quiet) {
    EXPECT_EQ((flags & kNoIowait) != 0, can);
    EXPECT_NE(flags & IORING_ENTER_GETEVENTS, 0U);
  }
}

TEST(RingErrors, SayWhatToDo) {
  EXPECT_NE(ring_error_text(ENOMEM, 0).find("RLIMIT_MEMLOCK"), std::string::npos);
  EXPECT_NE(ring_error_text(EINVAL, 0).find("EINVAL"), std::string::npos);
}

bool has(const std::string &text, const char *word) { return text.find(word) != std::string::npos; }

TEST(RingErrors, WhoForbidsARingIsNamed) {
  for (const int code : {EPERM, ENOSYS}) {
    const std::string container = ring_error_text(code, 0);
    EXPECT_TRUE(has(container, "io_uring_disabled is 0")) << container;
    EXPECT_TRUE(has(container, "seccomp") && has(container, "containers")) << container;
    EXPECT_TRUE(has(container, code == EPERM ? "(EPERM)" : "(ENOSYS)")) << container;
  }
  for (const uint64_t value : {1, 2}) {
    const std::string sysctl = ring_error_text(EPERM, value);
    EXPECT_TRUE(has(sysctl, value == 1 ? "io_uring_disabled is 1" : "io_uring_disabled is 2"))
        << sysctl;
    EXPECT_FALSE(has(sysctl, "seccomp")) << sysctl;
    // ENOSYS is not the sysctl's, and what it is set to is not said to be 0.
    const std::string hidden = ring_error_text(ENOSYS, value);
    EXPECT_TRUE(has(hidden, "seccomp") && !has(hidden, "is 0")) << hidden;
  }
}

TEST(RingErrors, OnAKernelWithoutTheSysctlBothCausesAreNamed) {
  const std::string missing = ring_error_text(ENOSYS, {});
  EXPECT_TRUE(has(missing, "this kernel has no io_uring") && has(missing, "seccomp")) << missing;
  const std::string forbidden = ring_error_text(EPERM, {});
  EXPECT_TRUE(has(forbidden, "seccomp") && !has(forbidden, "io_uring_disabled")) << forbidden;
}

TEST(RingErrors, TheWayOutIsNamedWhoeverForbidsIt) {
  for (const int code : {EPERM, ENOSYS})
    for (const std::optional<uint64_t> value : {std::optional<uint64_t>{}, {0}, {1}, {2}}) {
      const std::string text = ring_error_text(code, value);
      EXPECT_TRUE(has(text, "dmabuf_submit=ioctl") && has(text, "dmabuf_submit=sync")) << text;
    }
}

TEST(RingErrors, MemlockIsNamedOnlyWhereItIsTheCause) {
  const std::string over = register_error_text(ENOMEM, 1 << 20, 65536);
  EXPECT_NE(over.find("MEMLOCK: registering 1048576 bytes"), std::string::npos) << over;
  EXPECT_NE(over.find("RLIMIT_MEMLOCK is 65536 bytes"), std::string::npos) << over;
  EXPECT_EQ(register_error_text(ENOMEM, 4096, UINT64_MAX).find("MEMLOCK"), std::string::npos);
  EXPECT_EQ(register_error_text(EFAULT, 1 << 20, 65536).find("MEMLOCK"), std::string::npos);
}

} // namespace
} // namespace dmabuf
