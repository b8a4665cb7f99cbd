// SPDX-License-Identifier: GPL-2.0-only
// Several I/Os in one command, on a real io_uring. Its part of a command is a no-op: what the
// module would store in the array, the test does.
#include "datapath/packed.hpp"

#include "datapath/kinds.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <gtest/gtest.h>
#include <set>

namespace dmabuf {
namespace {

struct TestUnit {
  Kind kind = Kind::read;
  unsigned index = 0;
  uint64_t offset = 0;
  uint32_t handle = 1;
  uint32_t length = 4096;
  int error = -1;
  uint64_t missing = UINT64_MAX;
};

struct TestIo {
  using Unit = TestUnit;
  static Kind kind(const Unit &unit) { return unit.kind; }
  static unsigned index(const Unit &unit) { return unit.index; }
  static uint64_t length(const Unit &unit) { return unit.length; }
  static Request request(const Lane &, Unit &unit) {
    // The handle travels where a target would.
    return {unit.kind, unit.index,  unit.offset,
            nullptr,   unit.length, reinterpret_cast<const Target *>(&unit.handle)};
  }
  static void fill_sync(const Lane &, io_uring_sqe &sqe, Unit &) { sqe.opcode = IORING_OP_NOP; }
  static void done(Unit &unit, int error, uint64_t missing) {
    unit.error = error;
    unit.missing = missing;
  }
};

struct Command {
  static constexpr Datapath kPath = Datapath::premapped;
  static void fill(Lane &, io_uring_sqe &sqe, const Request &request) {
    sqe.opcode = IORING_OP_NOP;
    sqe.cmd_op = request.kind == Kind::write ? DMABUF_RW_URING_WRITE : DMABUF_RW_URING_READ;
    sqe.addr = request.index * 4096;
    sqe.len = request.length;
    const dmabuf_rw_uring_io io = {.file_offset = request.file_offset,
                                   .handle = *reinterpret_cast<const uint32_t *>(request.target),
                                   .flags = 0};
    std::memcpy(&sqe.addr3, &io, sizeof(io));
  }
  static void landed(Lane &lane, const Request &, uint32_t moved) {
    lane.counters.copied_to_buffer += moved;
  }
};

using Hot = HotPath<Packed<Command>, TestIo>;

class PackedTest : public testing::Test {
protected:
  static constexpr unsigned kDepth = 16, kMost = 4;

  void SetUp() override {
    ASSERT_TRUE(lane.ring.open({.depth = kDepth}));
    lane.depth = kDepth;
    lane.pending = std::make_unique<void *[]>(kDepth);
    lane.ready = std::make_unique<void *[]>(kDepth);
    lane.tries = std::make_unique<uint16_t[]>(kDepth);
    lane.packs.make(kDepth, kMost);
    for (unsigned i = 0; i < kDepth; i++) {
      units[i].index = i;
      units[i].offset = i * 65536;
    }
  }

  void prepare(unsigned from, unsigned count) {
    for (unsigned i = from; i < from + count; i++)
      ASSERT_TRUE(Hot::prepare(lane, units[i]));
  }

  /// What is not submitted yet is a no-op to io_uring, whose fields have to be plain.
  void submit() {
    for (const Pack &pack : lane.packs.all())
      if (pack.count && lane.ring.holds(pack.place)) {
        commands.push_back({pack.op, pack.handle, pack.count});
        EXPECT_EQ(pack.entry->len, pack.count);
        EXPECT_EQ(pack.entry->addr, reinterpret_cast<uintptr_t>(pack.ranges));
        const uint64_t data = pack.entry->user_data;
        *pack.entry = {};
        pack.entry->opcode = opcode;
        pack.entry->user_data = data;
        for (unsigned i = 0; i < pack.count; i++)
          pack.ranges[i].moved = pack.ranges[i].length;
      }
    ASSERT_EQ(lane.ring.submit(lane.counters.retries), 0);
    lane.pending_count = 0;
  }

  dmabuf_rw_range &range_of(unsigned unit) {
    for (const Pack &pack : lane.packs.all())
      for (unsigned i = 0; i < pack.count; i++)
        if (pack.units[i] == &units[unit])
          return pack.ranges[i];
    ADD_FAILURE() << "unit " << unit << " is in no command";
    static dmabuf_rw_range none;
    return none;
  }

  /// Which units were handed out, at most `most` at a time.
  std::multiset<unsigned> finish(unsigned count, unsigned most) {
    std::multiset<unsigned> seen;
    while (seen.size() < count) {
      const unsigned done = Hot::reap(lane, 0, most);
      EXPECT_LE(done, most);
      for (unsigned i = 0; i < done; i++)
        seen.insert(static_cast<TestUnit *>(lane.ready[i])->index);
      if (!done && lane.ring.wait(1) < 0)
        break;
    }
    return seen;
  }

  struct Made {
    uint32_t op, handle;
    unsigned count;
    bool operator==(const Made &) const = default;
  };
  Lane lane;
  uint8_t opcode = IORING_OP_NOP;
  std::array<TestUnit, kDepth> units;
  std::vector<Made> commands;
};

TEST_F(PackedTest, FillsCommandsInOrder) {
  prepare(0, 10);
  EXPECT_EQ(lane.in_flight, 10U);
  EXPECT_EQ(lane.submitted(), 0U);
  submit();
  EXPECT_EQ(lane.submitted(), 10U);
  std::multiset<unsigned> counts;
  for (const Made &made : commands) {
    EXPECT_EQ(made.op, DMABUF_RW_URING_READV);
    counts.insert(made.count);
  }
  EXPECT_EQ(counts, (std::multiset<unsigned>{2, 4, 4}));
  EXPECT_EQ(range_of(7).file_offset, 7U * 65536);
  EXPECT_EQ(range_of(7).buffer_offset, 7U * 4096);
  EXPECT_EQ(range_of(7).length, 4096U);
  EXPECT_EQ(finish(10, kDepth).size(), 10U);
  EXPECT_EQ(lane.in_flight, 0U);
  EXPECT_EQ(lane.counters.ops[0], 10U);
  EXPECT_EQ(lane.counters.copied_to_buffer, 10U * 4096);
  EXPECT_EQ(lane.counters.vectors, 3U);
  EXPECT_EQ(lane.counters.vectored, 10U);
}

TEST_F(PackedTest, DirectionsAndMappingsDoNotMix) {
  units[1].kind = Kind::write;
  units[2].kind = Kind::write;
  units[4].handle = 2;
  prepare(0, 5);
  submit();
  EXPECT_EQ(commands.size(), 4U);
  EXPECT_EQ(std::ranges::count(commands, Made{DMABUF_RW_URING_WRITEV, 1, 2}), 1);
  EXPECT_EQ(std::ranges::count(commands, Made{DMABUF_RW_URING_READV, 2, 1}), 1);
  EXPECT_EQ(finish(5, kDepth).size(), 5U);
  EXPECT_EQ(lane.counters.ops[1], 2U);
}

TEST_F(PackedTest, WhatIsSubmittedIsNotAddedTo) {
  prepare(0, 2);
  submit();
  prepare(2, 1);
  submit();
  EXPECT_EQ(commands,
            (std::vector<Made>{{DMABUF_RW_URING_READV, 1, 2}, {DMABUF_RW_URING_READV, 1, 1}}));
  EXPECT_EQ(finish(3, kDepth), (std::multiset<unsigned>{0, 1, 2}));
}

TEST_F(PackedTest, NoMoreAreHandedOutThanAskedFor) {
  prepare(0, 8);
  submit();
  // Each once, three at a time, though a completion brings four.
  EXPECT_EQ(finish(8, 3), (std::multiset<unsigned>{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(lane.in_flight, 0U);
  EXPECT_EQ(Hot::reap(lane, 0, kDepth), 0U);
}

TEST_F(PackedTest, EachHasItsOwnResult) {
  prepare(0, 4);
  submit();
  range_of(1).moved = 0;
  range_of(1).error = ENODATA;
  range_of(2).moved = 512;
  finish(4, kDepth);
  EXPECT_EQ(units[0].error, 0);
  EXPECT_EQ(units[1].error, ENODATA);
  EXPECT_EQ(units[2].error, 0);
  EXPECT_EQ(units[2].missing, 4096U - 512);
  EXPECT_EQ(units[3].missing, 0U);
  EXPECT_EQ(lane.counters.errors, 1U);
  EXPECT_EQ(lane.counters.short_requests, 1U);
  EXPECT_EQ(lane.counters.ops[0], 2U);
}

TEST_F(PackedTest, ACommandThatFailsAsAWholeIsTheResultOfEach) {
  opcode = 0xff; // no such operation: EINVAL
  prepare(0, 3);
  submit();
  EXPECT_EQ(finish(3, kDepth).size(), 3U);
  for (unsigned i = 0; i < 3; i++)
    EXPECT_EQ(units[i].error, EINVAL);
  EXPECT_EQ(lane.counters.errors, 3U);
  EXPECT_EQ(lane.counters.ops[0], 0U);
}

TEST_F(PackedTest, ASyncGoesByItself) {
  units[1].kind = Kind::sync;
  prepare(0, 3);
  submit();
  EXPECT_EQ(finish(3, kDepth).size(), 3U);
  EXPECT_EQ(lane.counters.syncs, 1U);
  EXPECT_EQ(commands.size(), 1U);
}

TEST_F(PackedTest, CommandsAreUsedAgain) {
  for (int round = 0; round < 100; round++) {
    prepare(0, kDepth);
    submit();
    ASSERT_EQ(finish(kDepth, 5).size(), kDepth);
  }
  EXPECT_EQ(lane.counters.ops[0], 100U * kDepth);
}

TEST_F(PackedTest, AfterAFatalErrorAllComeBack) {
  prepare(0, 6);
  submit();
  prepare(6, 6);
  lane.fatal = EIO;
  std::multiset<unsigned> seen;
  for (int turns = 0; turns < 100 && seen.size() < 12; turns++)
    for (unsigned i = 0, done = Hot::hand_back(lane, 5); i < done; i++)
      seen.insert(static_cast<TestUnit *>(lane.ready[i])->index);
  EXPECT_EQ(seen, (std::multiset<unsigned>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(units[0].error, 0);
  EXPECT_EQ(units[11].error, EIO);
  EXPECT_EQ(lane.in_flight, 0U);
  EXPECT_EQ(lane.ring.unsubmitted(), 0U);
}

TEST_F(PackedTest, FewerCompletionsAreWaitedForThanUnits) {
  EXPECT_EQ(Hot::completions(lane, 1), 1U);
  EXPECT_EQ(Hot::completions(lane, 4), 1U);
  EXPECT_EQ(Hot::completions(lane, 5), 2U);
}

} // namespace
} // namespace dmabuf
