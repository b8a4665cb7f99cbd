// SPDX-License-Identifier: GPL-2.0-only
// Which bytes are copied, when, for memory that the CPU does not map.
#include "datapath/shadow.hpp"

#include "datapath/hot_path.hpp"
#include "datapath/sync_path.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>
#include <vector>

namespace dmabuf {
namespace {

/// Memory of a device that is host memory, and notes what was copied.
struct FakeMemory : DeviceMemory {
  int read(uint64_t offset, std::span<std::byte> to) override {
    calls += strf("r%llu+%zu ", static_cast<unsigned long long>(offset), to.size());
    if (!error)
      std::memcpy(to.data(), bytes.data() + offset, to.size());
    return error;
  }
  int write(uint64_t offset, std::span<const std::byte> from) override {
    calls += strf("w%llu+%zu ", static_cast<unsigned long long>(offset), from.size());
    if (!error)
      std::memcpy(bytes.data() + offset, from.data(), from.size());
    return error;
  }
  std::array<std::byte, 32768> bytes = {};
  std::string calls;
  int error = 0;
};

/// A datapath that notes when it ran.
struct NotedPath {
  static constexpr Datapath kPath = Datapath::premapped;
  static inline std::string *log = nullptr;
  static void fill(Lane &, io_uring_sqe &, const Request &) { *log += "fill "; }
  static void landed(Lane &, const Request &, uint32_t) { *log += "landed "; }
};

class Shadow : public testing::Test {
protected:
  void SetUp() override {
    lane.base = shadow.data();
    lane.memories = list.data();
    lane.targets = &target;
    NotedPath::log = &memory.calls;
    shadow.fill(std::byte{0x11});
    memory.bytes.fill(std::byte{0x22});
  }

  Request request(Kind kind, uint64_t offset, uint32_t length, unsigned index = 0) {
    return {kind, index, 0, shadow.data() + offset, length, &target};
  }

  /// Where the two differ from what they were: "[from,to)" of each.
  template <size_t kSize>
  static std::string changed(const std::array<std::byte, kSize> &bytes, std::byte was) {
    size_t first = 0, last = kSize;
    while (first < kSize && bytes[first] == was)
      first++;
    while (last > first && bytes[last - 1] == was)
      last--;
    return strf("[%zu,%zu)", first, last);
  }

  Lane lane;
  Target target;
  FakeMemory memory, second;
  std::array<DeviceMemory *, 2> list = {&memory, &second};
  alignas(4096) std::array<std::byte, 32768> shadow;
  io_uring_sqe sqe = {};
};

TEST_F(Shadow, AWriteIsCopiedUpBeforeItsCommandAndAReadDownAfterIt) {
  lane.copies_up = lane.copies_down = true;
  Shadowed<NotedPath>::fill(lane, sqe, request(Kind::write, 4608, 1024));
  EXPECT_EQ(memory.calls, "w4608+1024 fill ");
  EXPECT_EQ(changed(memory.bytes, std::byte{0x22}), "[4608,5632)");
  memory.calls.clear();
  Shadowed<NotedPath>::landed(lane, request(Kind::write, 4608, 1024), 1024);
  EXPECT_EQ(memory.calls, "landed ");
  memory.calls.clear();
  Shadowed<NotedPath>::fill(lane, sqe, request(Kind::read, 8192, 4096));
  EXPECT_EQ(memory.calls, "fill ");
  Shadowed<NotedPath>::landed(lane, request(Kind::read, 8192, 4096), 4096);
  EXPECT_EQ(memory.calls, "fill landed r8192+4096 ");
  EXPECT_EQ(changed(shadow, std::byte{0x11}), "[8192,12288)");
  EXPECT_EQ(lane.counters.shadow_to_buffer, 1024U);
  EXPECT_EQ(lane.counters.shadow_from_buffer, 4096U);
  EXPECT_EQ(lane.counters.copied_to_buffer + lane.counters.copied_from_buffer, 0U);
}

TEST_F(Shadow, OnlyTheDirectionThatIsNeededIsCopied) {
  lane.copies_down = true;
  Shadowed<NotedPath>::fill(lane, sqe, request(Kind::write, 0, 512));
  Shadowed<NotedPath>::landed(lane, request(Kind::read, 0, 512), 512);
  EXPECT_EQ(memory.calls, "fill landed r0+512 ");
  memory.calls.clear();
  lane.copies_down = false;
  lane.copies_up = true;
  Shadowed<NotedPath>::fill(lane, sqe, request(Kind::write, 0, 512));
  Shadowed<NotedPath>::landed(lane, request(Kind::read, 0, 512), 512);
  EXPECT_EQ(memory.calls, "w0+512 fill landed ");
}

TEST_F(Shadow, OfAShortReadOnlyWhatCameIsCopied) {
  lane.copies_down = true;
  Shadowed<NotedPath>::landed(lane, request(Kind::read, 4096, 4096), 1000);
  EXPECT_EQ(changed(shadow, std::byte{0x11}), "[4096,5096)");
  EXPECT_EQ(lane.counters.shadow_from_buffer, 1000U);
}

TEST_F(Shadow, WithADmaBufForEachSlotTheSlotChoosesTheMemory) {
  lane.copies_up = lane.copies_down = true;
  lane.memory_mask = lane.slot_mask = ~0U;
  lane.memory_bytes = lane.slot_bytes = 16384;
  Shadowed<NotedPath>::fill(lane, sqe, request(Kind::write, 16384 + 512, 4096, 1));
  EXPECT_EQ(second.calls, "w512+4096 ");
  EXPECT_EQ(memory.calls, "fill ");
}

TEST_F(Shadow, AWindowOfTheRingsTableIsNoMemoryOfItsOwn) {
  lane.copies_up = true;
  lane.slot_mask = ~0U; // registered: each slot is a window of one dma-buf
  lane.slot_bytes = 16384;
  Shadowed<Registered>::fill(lane, sqe, request(Kind::write, 16384 + 512, 4096, 1));
  EXPECT_EQ(memory.calls, "w16896+4096 ");
  EXPECT_EQ(sqe.addr, 512U);
  EXPECT_EQ(sqe.buf_index, 1);
}

TEST_F(Shadow, ACopyThatFailsEndsTheJob) {
  lane.copies_up = lane.copies_down = true;
  memory.error = EIO;
  Shadowed<NotedPath>::fill(lane, sqe, request(Kind::write, 0, 512));
  EXPECT_EQ(lane.fatal, EIO);
  lane.fatal = 0;
  memory.error = ENODEV;
  Shadowed<NotedPath>::landed(lane, request(Kind::read, 0, 512), 512);
  EXPECT_EQ(lane.fatal, ENODEV);
  EXPECT_EQ(lane.counters.shadow_to_buffer, 0U);
  EXPECT_EQ(lane.counters.shadow_from_buffer, 0U);
}

TEST_F(Shadow, TheOffsetInTheDmaBufIsThatOfTheShadow) {
  const uint32_t handles[] = {9};
  target.handles = handles;
  Shadowed<Premapped>::fill(lane, sqe, request(Kind::read, 12288, 4096));
  EXPECT_EQ(sqe.addr, 12288U);
  EXPECT_EQ(memory.calls, "");
}

/// A call that notes when it was made, and answers.
struct NotedCall {
  static inline int answer = 0;
  static int move(Lane &, const Request &request) {
    *NotedPath::log += "call ";
    return answer < 0 ? answer : static_cast<int>(request.length);
  }
};

TEST_F(Shadow, ACallIsBetweenItsCopies) {
  lane.copies_up = lane.copies_down = true;
  NotedCall::answer = 0;
  EXPECT_EQ(ShadowedCall<NotedCall>::move(lane, request(Kind::write, 512, 512)), 512);
  EXPECT_EQ(ShadowedCall<NotedCall>::move(lane, request(Kind::read, 512, 512)), 512);
  EXPECT_EQ(memory.calls, "w512+512 call call r512+512 ");
  memory.calls.clear();
  NotedCall::answer = -EIO;
  EXPECT_EQ(ShadowedCall<NotedCall>::move(lane, request(Kind::read, 512, 512)), -EIO);
  EXPECT_EQ(memory.calls, "call ");
  memory.calls.clear();
  memory.error = ENODEV;
  EXPECT_EQ(ShadowedCall<NotedCall>::move(lane, request(Kind::write, 512, 512)), -ENODEV);
  EXPECT_EQ(memory.calls, "w512+512 ") << "nothing is written that was not brought along";
}

TEST_F(Shadow, BounceGoesByTheExportersCopies) {
  std::array<std::byte, 8192> staging;
  staging.fill(std::byte{0x33});
  lane.staging = staging.data();
  lane.staging_slot = 4096;
  DeviceBounce::fill(lane, sqe, request(Kind::write, 8192, 4096, 1));
  EXPECT_EQ(memory.calls, "r8192+4096 ");
  EXPECT_EQ(changed(staging, std::byte{0x33}), "[4096,8192)");
  EXPECT_EQ(sqe.opcode, IORING_OP_WRITE_FIXED);
  EXPECT_EQ(sqe.addr, reinterpret_cast<uintptr_t>(staging.data() + 4096));
  EXPECT_EQ(lane.counters.copied_from_buffer, 4096U);
  memory.calls.clear();
  staging.fill(std::byte{0x44});
  DeviceBounce::landed(lane, request(Kind::read, 0, 4096, 0), 512);
  EXPECT_EQ(memory.calls, "w0+512 ");
  EXPECT_EQ(changed(memory.bytes, std::byte{0x22}), "[0,512)");
  EXPECT_EQ(lane.counters.copied_to_buffer, 512U);
  memory.error = EIO;
  DeviceBounce::landed(lane, request(Kind::read, 0, 4096, 0), 512);
  EXPECT_EQ(lane.fatal, EIO);
  DeviceBounce::fill(lane, sqe, request(Kind::write, 8192, 4096, 1));
  EXPECT_EQ(lane.counters.copied_to_buffer, 512U) << "a copy that failed counts for nothing";
  EXPECT_EQ(lane.counters.copied_from_buffer, 4096U);
}

} // namespace
} // namespace dmabuf
