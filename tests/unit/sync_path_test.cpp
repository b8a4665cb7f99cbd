// SPDX-License-Identifier: GPL-2.0-only
// One call for one unit of I/O, with calls that answer as told and with real ones.
#include "datapath/sync_path.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <vector>

namespace dmabuf {
namespace {

struct TestUnit {
  Kind kind = Kind::read;
  uint64_t offset = 0;
  std::byte *buffer = nullptr;
  uint32_t length = 4096;
  int error = -1;
  uint64_t missing = UINT64_MAX;
};

struct TestIo {
  using Unit = TestUnit;
  static Request request(const Lane &lane, Unit &unit) {
    return {unit.kind, 0, unit.offset, unit.buffer, unit.length, lane.targets};
  }
  static void done(Unit &unit, int error, uint64_t missing) {
    unit.error = error;
    unit.missing = missing;
  }
};

std::vector<int> answers; ///< of the next calls

struct Scripted {
  static int move(Lane &, const Request &) {
    const int answer = answers.front();
    if (answers.size() > 1)
      answers.erase(answers.begin());
    return answer;
  }
};

TestUnit run(Lane &lane, std::vector<int> script, Kind kind = Kind::read) {
  answers = std::move(script);
  TestUnit unit;
  unit.kind = kind;
  SyncPath<Scripted, TestIo>::run(lane, unit);
  return unit;
}

TEST(SyncPath, AWholeTransferIsASuccess) {
  Lane lane;
  const TestUnit unit = run(lane, {4096}, Kind::write);
  EXPECT_EQ(unit.error, 0);
  EXPECT_EQ(unit.missing, 0U);
  EXPECT_EQ(lane.counters.ops[1], 1U);
  EXPECT_EQ(lane.counters.bytes[1], 4096U);
  EXPECT_EQ(lane.counters.ops[0] + lane.counters.errors + lane.counters.partial[1], 0U);
  EXPECT_EQ(lane.counters.calls, 1U);
}

TEST(SyncPath, AShortTransferIsWhatItIs) {
  Lane lane;
  const TestUnit unit = run(lane, {1000});
  EXPECT_EQ(unit.error, 0);
  EXPECT_EQ(unit.missing, 3096U);
  EXPECT_EQ(lane.counters.ops[0], 0U);
  EXPECT_EQ(lane.counters.partial[0], 1U);
  EXPECT_EQ(lane.counters.short_requests, 1U);
  EXPECT_EQ(lane.counters.bytes[0], 1000U);
}

TEST(SyncPath, NothingMovedIsAnError) {
  Lane lane;
  EXPECT_EQ(run(lane, {0}).error, EIO);
  EXPECT_EQ(run(lane, {-ENODEV}).error, ENODEV);
  EXPECT_EQ(lane.counters.errors, 2U);
  EXPECT_EQ(lane.counters.ops[0] + lane.counters.bytes[0], 0U);
}

TEST(SyncPath, AgainIsAskedAgainAndCountedUpToABound) {
  Lane lane;
  EXPECT_EQ(run(lane, {-EAGAIN, -EAGAIN, 4096}).error, 0);
  EXPECT_EQ(lane.counters.retries, 2U);
  EXPECT_EQ(lane.counters.calls, 3U);
  EXPECT_EQ(run(lane, {-EAGAIN}).error, EAGAIN);
  EXPECT_EQ(lane.counters.retries, 2U + kMaxTries);
}

TEST(SyncPath, AnInterruptedCallIsMadeAgain) {
  Lane lane;
  EXPECT_EQ(run(lane, {-EINTR, -EINTR, 4096}).error, 0);
  EXPECT_EQ(lane.counters.retries, 0U);
  EXPECT_EQ(lane.counters.calls, 3U);
}

TEST(RwFdCall, ReadsAndWritesAtTheOffset) {
  char path[] = "/tmp/libdmabuf-sync-XXXXXX";
  Target target;
  target.fd = mkstemp(path);
  ASSERT_GE(target.fd, 0);
  unlink(path);
  Lane lane;
  lane.targets = &target;
  std::array<std::byte, 8192> memory;
  memory.fill(std::byte{0x5a});
  TestUnit unit = {.kind = Kind::write, .offset = 12288, .buffer = memory.data(), .length = 8192};
  SyncPath<RwFdCall, TestIo>::run(lane, unit);
  EXPECT_EQ(unit.error, 0);
  EXPECT_EQ(lseek(target.fd, 0, SEEK_END), 12288 + 8192);
  memory.fill(std::byte{0});
  unit = {.kind = Kind::read, .offset = 12288 + 4096, .buffer = memory.data(), .length = 8192};
  SyncPath<RwFdCall, TestIo>::run(lane, unit);
  EXPECT_EQ(unit.missing, 4096U) << "the file ends";
  EXPECT_EQ(memory[4095], std::byte{0x5a});
  EXPECT_EQ(memory[4096], std::byte{0});
  close(target.fd);
  SyncPath<RwFdCall, TestIo>::run(lane, unit);
  EXPECT_EQ(unit.error, EBADF);
}

TEST(MmapCopy, WithoutCpuAccessNothingIsCopied) {
  std::array<std::byte, 4096> view = {};
  std::array<std::byte, 4096> memory;
  memory.fill(std::byte{1});
  Target target;
  target.view = view.data();
  target.dmabuf_fd = open("/dev/null", O_RDWR);
  Lane lane;
  lane.targets = &target;
  TestUnit unit = {.kind = Kind::write, .buffer = memory.data()};
  SyncPath<MmapCopy, TestIo>::run(lane, unit);
  EXPECT_NE(unit.error, 0);
  EXPECT_EQ(view[0], std::byte{0});
  EXPECT_EQ(lane.counters.copied_to_buffer, 0U);
  close(target.dmabuf_fd);
}

TEST(ModuleCall, FailsWithItsErrno) {
  const uint32_t handle = 1;
  Target target;
  target.handles = &handle;
  Lane lane;
  lane.targets = &target;
  lane.session_fd = open("/dev/null", O_RDWR);
  TestUnit unit;
  SyncPath<ModuleCall, TestIo>::run(lane, unit);
  EXPECT_EQ(unit.error, ENOTTY);
  close(lane.session_fd);
}

} // namespace
} // namespace dmabuf
