// SPDX-License-Identifier: GPL-2.0-only
// The hot path on a real io_uring, with units of I/O that are not fio's.
#include "datapath/hot_path.hpp"

#include "datapath/discard.hpp"
#include "datapath/policies.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace dmabuf {
namespace {

struct TestUnit {
  Kind kind = Kind::read;
  unsigned index = 0;
  uint64_t offset = 0;
  std::byte *buffer = nullptr;
  uint32_t length = 0;
  int error = -1;
  uint64_t missing = UINT64_MAX;
};

struct TestIo {
  using Unit = TestUnit;
  static Kind kind(const Unit &unit) { return unit.kind; }
  static unsigned index(const Unit &unit) { return unit.index; }
  static uint64_t length(const Unit &unit) { return unit.length; }
  static Request request(const Lane &lane, Unit &unit) {
    return {unit.kind, unit.index, unit.offset, unit.buffer, unit.length, lane.targets};
  }
  static void fill_sync(const Lane &lane, io_uring_sqe &sqe, Unit &unit) {
    if (unit.kind == Kind::trim) {
      sqe.opcode = IORING_OP_NOP; // as a discard ends: 0
      return;
    }
    sqe.opcode = IORING_OP_FSYNC;
    sqe.fd = lane.targets->fd;
  }
  static void done(Unit &unit, int error, uint64_t missing) {
    unit.error = error;
    unit.missing = missing;
  }
};

/// Reads into the unit's buffer without registered buffers, so that any file will do.
struct PlainRead {
  static void fill(Lane &, io_uring_sqe &sqe, const Request &request) {
    sqe.opcode = IORING_OP_READ;
    sqe.fd = request.target->fd;
    sqe.off = request.file_offset;
    sqe.addr = reinterpret_cast<uintptr_t>(request.buffer);
    sqe.len = request.length;
  }
  static void landed(Lane &lane, const Request &, uint32_t moved) {
    lane.counters.copied_to_buffer += moved;
  }
};

/// The same, but never waits: what is not there is EAGAIN, from a worker too.
struct NowaitRead {
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    PlainRead::fill(lane, sqe, request);
    sqe.rw_flags = RWF_NOWAIT;
  }
  static void landed(Lane &, const Request &, uint32_t) {}
};

class HotPathTest : public testing::Test {
protected:
  static constexpr unsigned kDepth = 8;

  void SetUp() override {
    ASSERT_TRUE(lane.ring.open({.depth = kDepth}));
    lane.depth = kDepth;
    lane.pending = std::make_unique<void *[]>(kDepth);
    lane.ready = std::make_unique<void *[]>(kDepth);
    lane.tries = std::make_unique<uint16_t[]>(kDepth);
    lane.targets = &target;
    for (unsigned i = 0; i < kDepth; i++) {
      units[i].index = i;
      units[i].buffer = memory.data() + i * 4096;
      units[i].length = 4096;
    }
  }

  void TearDown() override {
    lane.ring.close();
    if (target.fd >= 0)
      close(target.fd);
  }

  /// A temporary file of `bytes` bytes, byte i being i / 512.
  void make_file(size_t bytes) {
    char path[] = "/tmp/libdmabuf-hot-XXXXXX";
    target.fd = target.sqe_fd = mkstemp(path);
    ASSERT_GE(target.fd, 0);
    unlink(path);
    std::vector<char> data(bytes);
    for (size_t i = 0; i < bytes; i++)
      data[i] = static_cast<char>(i / 512);
    ASSERT_EQ(write(target.fd, data.data(), bytes), static_cast<ssize_t>(bytes));
  }

  /// Reaps until `count` units are done; requests to be tried again are submitted.
  template <class Path> unsigned finish(unsigned count) {
    unsigned done = 0;
    while (done < count) {
      done += HotPath<Path, TestIo>::reap(lane, done, kDepth - done);
      if (lane.again) {
        lane.again = 0;
        EXPECT_EQ(lane.ring.submit(lane.counters.retries), 0);
      }
      if (done < count) {
        EXPECT_GE(lane.ring.wait(1), 0);
      }
    }
    return done;
  }

  Lane lane;
  Target target;
  alignas(4096) std::array<std::byte, kDepth * 4096> memory = {};
  std::array<TestUnit, kDepth> units;
};

TEST_F(HotPathTest, CompletesAWholeBatchWithOneSubmission) {
  make_file(kDepth * 4096);
  for (auto &unit : units) {
    unit.offset = unit.index * 4096;
    ASSERT_TRUE((HotPath<PlainRead, TestIo>::prepare(lane, unit)));
  }
  EXPECT_EQ(lane.pending_count, kDepth);
  uint64_t retries = 0;
  ASSERT_EQ(lane.ring.submit(retries), 0);
  EXPECT_EQ(finish<PlainRead>(kDepth), kDepth);
  for (const auto &unit : units) {
    EXPECT_EQ(unit.error, 0);
    EXPECT_EQ(unit.missing, 0U);
    EXPECT_EQ(unit.buffer[512], static_cast<std::byte>(unit.index * 8 + 1));
  }
  EXPECT_EQ(lane.counters.ops[0], kDepth);
  EXPECT_EQ(lane.counters.bytes[0], kDepth * 4096U);
  EXPECT_EQ(lane.counters.copied_to_buffer, kDepth * 4096U);
  EXPECT_EQ(lane.counters.errors + lane.counters.short_requests + lane.counters.retries, 0U);
}

/// Reads, and keeps where the submission entry is.
struct ShownRead {
  static inline std::vector<io_uring_sqe *> entries;
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    PlainRead::fill(lane, sqe, request);
    entries.push_back(&sqe);
  }
  static void landed(Lane &, const Request &, uint32_t) {}
};

TEST_F(HotPathTest, EverySoManiethRequestGoesToAWorker) {
  make_file(kDepth * 4096);
  lane.force_async = 3;
  ShownRead::entries.clear();
  for (auto &unit : units)
    ASSERT_TRUE((HotPath<ShownRead, TestIo>::prepare(lane, unit)));
  for (unsigned i = 0; i < kDepth; i++)
    EXPECT_EQ((ShownRead::entries[i]->flags & IOSQE_ASYNC) != 0, i % 3 == 2) << i;
  uint64_t retries = 0;
  ASSERT_EQ(lane.ring.submit(retries), 0);
  EXPECT_EQ(finish<ShownRead>(kDepth), kDepth);
}

TEST_F(HotPathTest, FlagsAndPriorityAreInTheEntryOfReadsAndWrites) {
  lane.rw_flags = RWF_NOWAIT;
  static constexpr uint32_t handles[] = {1};
  target.handles = handles;
  for (const auto kind : {Kind::read, Kind::write}) {
    const Request request = {kind, 2, 4096, memory.data(), 4096, &target, 0x4003};
    io_uring_sqe sqe = {};
    Host::fill(lane, sqe, request);
    EXPECT_EQ(sqe.ioprio, 0x4003);
    EXPECT_EQ(sqe.rw_flags, RWF_NOWAIT);
    EXPECT_EQ(sqe.opcode, kind == Kind::read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED);
    sqe = {};
    Syscall::fill(lane, sqe, request);
    EXPECT_EQ(sqe.opcode, kind == Kind::read ? IORING_OP_READ : IORING_OP_WRITE);
    EXPECT_EQ(sqe.buf_index, 0);
    lane.fixed_buffers = true;
    Syscall::fill(lane, sqe, request);
    EXPECT_EQ(sqe.opcode, kind == Kind::read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED);
    EXPECT_EQ(sqe.buf_index, 2);
    lane.fixed_buffers = false;
    sqe = {};
    Premapped::fill(lane, sqe, request);
    EXPECT_EQ(sqe.ioprio, 0) << "a command has none";
  }
}

TEST_F(HotPathTest, SaysWhenTheRingIsFull) {
  make_file(4096);
  for (auto &unit : units)
    ASSERT_TRUE((HotPath<PlainRead, TestIo>::prepare(lane, unit)));
  TestUnit one_too_many = units[0];
  EXPECT_FALSE((HotPath<PlainRead, TestIo>::prepare(lane, one_too_many)));
  EXPECT_EQ(lane.pending_count, kDepth);
}

TEST_F(HotPathTest, AShortReadLeavesWhatIsMissing) {
  make_file(1536);
  ASSERT_TRUE((HotPath<PlainRead, TestIo>::prepare(lane, units[0])));
  ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
  finish<PlainRead>(1);
  EXPECT_EQ(units[0].error, 0);
  EXPECT_EQ(units[0].missing, 4096U - 1536U);
  EXPECT_EQ(lane.counters.ops[0], 0U);
  EXPECT_EQ(lane.counters.partial[0], 1U);
  EXPECT_EQ(lane.counters.short_requests, 1U);
  EXPECT_EQ(lane.counters.bytes[0], 1536U);
  EXPECT_EQ(lane.counters.copied_to_buffer, 1536U);
}

TEST_F(HotPathTest, NothingWhereSomethingWasAskedForIsAnError) {
  make_file(512);
  units[0].offset = 8192; // past the end
  ASSERT_TRUE((HotPath<PlainRead, TestIo>::prepare(lane, units[0])));
  ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
  finish<PlainRead>(1);
  EXPECT_EQ(units[0].error, EIO);
  EXPECT_EQ(lane.counters.errors, 1U);
  EXPECT_EQ(lane.counters.bytes[0], 0U);
}

TEST_F(HotPathTest, KernelErrorsArriveAsPositiveErrno) {
  target.fd = open("/", O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE((HotPath<PlainRead, TestIo>::prepare(lane, units[0])));
  ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
  finish<PlainRead>(1);
  EXPECT_EQ(units[0].error, EISDIR);
  EXPECT_EQ(lane.counters.errors, 1U);
}

TEST_F(HotPathTest, EagainIsTriedAgainAndBounded) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0); // empty, so every read says EAGAIN
  target.fd = ends[0];
  units[0].offset = UINT64_MAX;
  ASSERT_TRUE((HotPath<NowaitRead, TestIo>::prepare(lane, units[0])));
  ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
  finish<NowaitRead>(1);
  EXPECT_EQ(units[0].error, EAGAIN);
  EXPECT_EQ(lane.counters.retries, kMaxTries);
  EXPECT_EQ(lane.counters.errors, 1U);

  // The next request on the same slot starts its own count.
  lane.pending_count = 0;
  ASSERT_TRUE((HotPath<NowaitRead, TestIo>::prepare(lane, units[0])));
  ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
  ASSERT_EQ(write(ends[1], "x", 1), 1);
  units[0].error = -1;
  finish<NowaitRead>(1);
  EXPECT_EQ(units[0].error, 0);
  EXPECT_EQ(units[0].missing, 4095U);
  close(ends[1]);
}

/// As NowaitRead, and keeps where the submission entry is.
struct ShownNowaitRead : NowaitRead {
  static inline io_uring_sqe *entry;
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    NowaitRead::fill(lane, sqe, request);
    entry = &sqe;
  }
};

TEST_F(HotPathTest, AfterAnErrorEachUnitIsHandedBackOnce) {
  make_file(kDepth * 4096);
  for (unsigned most : {1U, 2U, 3U, kDepth}) {
    lane.counters = {};
    lane.fatal = 0;
    for (auto &unit : units) {
      unit.offset = unit.index * 4096;
      unit.error = -1;
      ASSERT_TRUE((HotPath<PlainRead, TestIo>::prepare(lane, unit)));
      if (unit.index == 2) {
        ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
      }
    }
    // Of another thread the kernel takes nothing, and liburing has put it all in its place by then.
    int error = 0;
    std::thread([&] { error = lane.ring.submit(lane.counters.retries); }).join();
    ASSERT_NE(error, 0);
    ASSERT_EQ(lane.ring.unsubmitted(), 5U);
    lane.fatal = EXDEV;
    std::array<unsigned, kDepth> seen = {};
    for (unsigned back = 0; back < kDepth;) {
      const unsigned got = HotPath<PlainRead, TestIo>::hand_back(lane, most);
      ASSERT_GE(got, 1U);
      ASSERT_LE(got, most);
      for (unsigned i = 0; i < got; i++)
        seen[static_cast<TestUnit *>(lane.ready[i])->index]++;
      back += got;
    }
    EXPECT_EQ((HotPath<PlainRead, TestIo>::hand_back(lane, most)), 0U);
    for (const auto &unit : units) {
      EXPECT_EQ(seen[unit.index], 1U) << unit.index;
      EXPECT_EQ(unit.error, unit.index <= 2 ? 0 : EXDEV) << unit.index;
    }
    EXPECT_EQ(lane.counters.ops[0], 3U);
    EXPECT_EQ(lane.in_flight, 0U);
    EXPECT_EQ(lane.pending_count, 0U);
    // What was taken back never gets to the kernel.
    lane.max_tries = kMaxTries;
    ASSERT_TRUE((HotPath<PlainRead, TestIo>::prepare(lane, units[7])));
    ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
    EXPECT_EQ(finish<PlainRead>(1), 1U);
    EXPECT_EQ(lane.ring.reap(kDepth, [](const io_uring_cqe &) {}), 0U);
    lane.pending_count = 0;
  }
}

TEST_F(HotPathTest, AfterAnErrorWhatWasToBeTriedAgainIsHandedBack) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  target.fd = target.sqe_fd = pipe_fds[0];
  ASSERT_TRUE((HotPath<NowaitRead, TestIo>::prepare(lane, units[0])));
  ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
  while (!lane.again) {
    ASSERT_GE(lane.ring.wait(1), 0);
    ASSERT_EQ((HotPath<NowaitRead, TestIo>::reap(lane, 0, kDepth)), 0U);
  }
  ASSERT_TRUE((HotPath<NowaitRead, TestIo>::prepare(lane, units[1])));
  lane.fatal = EXDEV;
  EXPECT_EQ((HotPath<NowaitRead, TestIo>::hand_back(lane, kDepth)), 2U);
  EXPECT_EQ(units[0].error, EXDEV);
  EXPECT_EQ(units[1].error, EXDEV);
  EXPECT_EQ(lane.in_flight, 0U);
  EXPECT_EQ(lane.ring.unsubmitted(), 0U);
  close(pipe_fds[1]);
}

TEST_F(HotPathTest, WhatIsTriedAgainIsTriedByAWorker) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  target.fd = ends[0];
  units[0].offset = UINT64_MAX;
  ASSERT_TRUE((HotPath<ShownNowaitRead, TestIo>::prepare(lane, units[0])));
  EXPECT_EQ(ShownNowaitRead::entry->flags & IOSQE_ASYNC, 0);
  ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
  ASSERT_GE(lane.ring.wait(1), 0);
  ASSERT_EQ((HotPath<ShownNowaitRead, TestIo>::reap(lane, 0, kDepth)), 0U);
  ASSERT_EQ(lane.again, 1U);
  EXPECT_EQ(ShownNowaitRead::entry->flags & IOSQE_ASYNC, IOSQE_ASYNC);
  finish<ShownNowaitRead>(1);
  EXPECT_EQ(units[0].error, EAGAIN);
  close(ends[1]);
}

TEST_F(HotPathTest, SyncsAreCountedOnTheirOwn) {
  make_file(4096);
  units[0].kind = Kind::sync;
  units[0].length = 4096; // left over from an earlier transfer, must not matter
  ASSERT_TRUE((HotPath<PlainRead, TestIo>::prepare(lane, units[0])));
  ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
  finish<PlainRead>(1);
  EXPECT_EQ(units[0].error, 0);
  EXPECT_EQ(units[0].missing, 0U);
  EXPECT_EQ(lane.counters.syncs, 1U);
  EXPECT_EQ(lane.counters.ops[0] + lane.counters.ops[1], 0U);
}

TEST_F(HotPathTest, TrimsOfTheRingAreCountedOnTheirOwn) {
  for (auto &unit : units) {
    unit.kind = Kind::trim;
    ASSERT_TRUE((HotPath<PlainRead, TestIo>::prepare(lane, unit)));
  }
  ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
  finish<PlainRead>(kDepth);
  for (const auto &unit : units) {
    EXPECT_EQ(unit.error, 0);
    EXPECT_EQ(unit.missing, 0U);
  }
  EXPECT_EQ(lane.counters.trims, kDepth);
  EXPECT_EQ(lane.counters.queued_trims, kDepth);
  EXPECT_EQ(lane.counters.syncs + lane.counters.ops[0] + lane.counters.ops[1], 0U);
  EXPECT_EQ(lane.in_flight, 0U);
}

TEST_F(HotPathTest, AJobWithoutDatapathCannotMoveData) {
  make_file(4096);
  ASSERT_TRUE((HotPath<Unresolved, TestIo>::prepare(lane, units[0])));
  ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
  finish<Unresolved>(1);
  EXPECT_EQ(units[0].error, EINVAL);
}

TEST(Judge, SortsResults) {
  EXPECT_EQ(judge(4096, 4096, 0), Verdict::success);
  EXPECT_EQ(judge(0, 0, 0), Verdict::success);
  EXPECT_EQ(judge(512, 4096, 0), Verdict::partial);
  EXPECT_EQ(judge(0, 4096, 0), Verdict::error);
  EXPECT_EQ(judge(-EIO, 4096, 0), Verdict::error);
  EXPECT_EQ(judge(-EAGAIN, 4096, 0), Verdict::retry);
  EXPECT_EQ(judge(-EAGAIN, 4096, kMaxTries - 1), Verdict::retry);
  EXPECT_EQ(judge(-EAGAIN, 4096, kMaxTries), Verdict::error);
  EXPECT_EQ(judge(-EAGAIN, 4096, 0, 0), Verdict::error);
  EXPECT_EQ(error_of(-ENODEV), ENODEV);
  EXPECT_EQ(error_of(0), EIO);
}

TEST(Entries, PremappedCommandsHoldOffsetsAndHandle) {
  Lane lane;
  alignas(4096) std::array<std::byte, 16384> memory;
  lane.base = memory.data();
  Target target;
  const uint32_t handles[] = {0x1234};
  target.handles = handles;
  io_uring_sqe sqe = {};
  Premapped::fill(lane, sqe,
                  {Kind::write, 3, uint64_t{5} << 40, memory.data() + 4608, 8192, &target});
  EXPECT_EQ(sqe.opcode, IORING_OP_URING_CMD);
  EXPECT_EQ(sqe.cmd_op, static_cast<uint32_t>(DMABUF_RW_URING_WRITE));
  EXPECT_EQ(sqe.flags, IOSQE_FIXED_FILE);
  EXPECT_EQ(sqe.fd, 0);
  EXPECT_EQ(sqe.addr, 4608U);
  EXPECT_EQ(sqe.len, 8192U);
  dmabuf_rw_uring_io io;
  std::memcpy(&io, reinterpret_cast<const std::byte *>(&sqe) + 48, sizeof(io));
  EXPECT_EQ(io.file_offset, uint64_t{5} << 40);
  EXPECT_EQ(io.handle, 0x1234U);
  EXPECT_EQ(io.flags, 0U);
  sqe = {};
  Premapped::fill(lane, sqe, {Kind::read, 0, 0, memory.data(), 512, &target});
  EXPECT_EQ(sqe.cmd_op, static_cast<uint32_t>(DMABUF_RW_URING_READ));
}

TEST(Entries, WithADmaBufForEachSlotTheSlotChoosesIt) {
  Lane lane;
  alignas(4096) std::array<std::byte, 32768> memory;
  lane.base = memory.data();
  lane.slot_mask = ~0U;
  lane.slot_bytes = 8192;
  const uint32_t handles[] = {10, 11, 12, 13};
  Target target;
  target.handles = handles;
  const Request request = {Kind::read, 2, 4096, memory.data() + 2 * 8192 + 512, 4096, &target};
  io_uring_sqe sqe = {};
  Bvec::fill(lane, sqe, request);
  dmabuf_rw_uring_io io;
  std::memcpy(&io, reinterpret_cast<const std::byte *>(&sqe) + 48, sizeof(io));
  EXPECT_EQ(io.handle, 12U);
  EXPECT_EQ(sqe.addr, 512U);
  sqe = {};
  Registered::fill(lane, sqe, request);
  EXPECT_EQ(sqe.buf_index, 2);
  EXPECT_EQ(sqe.addr, 512U);
}

TEST(Entries, UpstreamHasSlotsForEachTarget) {
  Lane lane;
  alignas(4096) std::array<std::byte, 16384> memory;
  lane.base = memory.data();
  Target target;
  target.buffer_slot = 6;
  io_uring_sqe sqe = {};
  Upstream::fill(lane, sqe, {Kind::write, 2, 4096, memory.data() + 8192, 4096, &target});
  EXPECT_EQ(sqe.opcode, IORING_OP_WRITE_FIXED);
  EXPECT_EQ(sqe.buf_index, 6);
  EXPECT_EQ(sqe.addr, 8192U);
}

TEST(Entries, RegisteredAddressesAreOffsetsIntoSlotZero) {
  Lane lane;
  alignas(4096) std::array<std::byte, 16384> memory;
  lane.base = memory.data();
  Target target;
  target.sqe_fd = 7;
  io_uring_sqe sqe = {};
  Registered::fill(lane, sqe, {Kind::read, 3, 4096, memory.data() + 8704, 512, &target});
  EXPECT_EQ(sqe.opcode, IORING_OP_READ_FIXED);
  EXPECT_EQ(sqe.fd, 7);
  EXPECT_EQ(sqe.off, 4096U);
  EXPECT_EQ(sqe.addr, 8704U);
  EXPECT_EQ(sqe.buf_index, 0);
}

TEST(Entries, HostAddressesAreAddressesInTheSlotOfTheUnit) {
  Lane lane;
  alignas(4096) std::array<std::byte, 16384> memory;
  Target target;
  target.sqe_fd = 2;
  target.sqe_flags = IOSQE_FIXED_FILE;
  io_uring_sqe sqe = {};
  Host::fill(lane, sqe, {Kind::write, 3, 0, memory.data() + 12288, 4096, &target});
  EXPECT_EQ(sqe.opcode, IORING_OP_WRITE_FIXED);
  EXPECT_EQ(sqe.flags, IOSQE_FIXED_FILE);
  EXPECT_EQ(sqe.addr, reinterpret_cast<uintptr_t>(memory.data() + 12288));
  EXPECT_EQ(sqe.buf_index, 3);
}

TEST(Entries, AtomicWritesAreOfNoRegisteredBuffer) {
  Lane lane;
  lane.rw_flags = RWF_NOWAIT;
  alignas(4096) std::array<std::byte, 16384> memory;
  Target target;
  target.sqe_fd = 2;
  io_uring_sqe sqe = {};
  HostAtomic::fill(lane, sqe, {Kind::write, 3, 0, memory.data() + 12288, 4096, &target});
  EXPECT_EQ(sqe.opcode, IORING_OP_WRITE);
  EXPECT_EQ(sqe.buf_index, 0);
  EXPECT_EQ(sqe.rw_flags, RWF_NOWAIT | kAtomic);
  sqe = {};
  HostAtomic::fill(lane, sqe, {Kind::read, 3, 0, memory.data() + 12288, 4096, &target});
  EXPECT_EQ(sqe.opcode, IORING_OP_READ_FIXED);
  EXPECT_EQ(sqe.rw_flags, RWF_NOWAIT) << "no read is atomic";
}

TEST(Entries, DiscardsHaveTheirLengthInBytes) {
  Target target;
  target.sqe_fd = 3;
  target.sqe_flags = IOSQE_FIXED_FILE;
  io_uring_sqe sqe = {};
  fill_discard(sqe, target, uint64_t{5} << 40, uint64_t{1} << 33);
  EXPECT_EQ(sqe.opcode, IORING_OP_URING_CMD);
  EXPECT_EQ(sqe.cmd_op, 0x1200U);
  EXPECT_EQ(sqe.flags, IOSQE_FIXED_FILE);
  EXPECT_EQ(sqe.fd, 3);
  EXPECT_EQ(sqe.addr, uint64_t{5} << 40);
  EXPECT_EQ(sqe.addr3, uint64_t{1} << 33);
  EXPECT_EQ(sqe.len, 0U);
}

TEST(Discard, OnlyBlockDevicesCan) {
  for (const char *path : {"/dev/null", "/proc/self/exe"}) {
    const int fd = open(path, O_RDONLY);
    ASSERT_GE(fd, 0);
    EXPECT_FALSE(check_discard(fd)) << path;
    close(fd);
  }
}

} // namespace
} // namespace dmabuf
