// SPDX-License-Identifier: GPL-2.0-only
// What the fakes of vendors' interfaces share: which calls were made, one that fails to order, and
// what was taken and not given back.
#pragma once

#include "exporter/exporter.hpp"

#include <fcntl.h>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace dmabuf {

/// Calls in their order. Calls that give something back never fail.
struct CallScript {
  std::vector<std::string> calls;
  std::vector<std::string> may_fail; ///< those of them that fail() was asked about
  size_t fail_at = ~size_t{0};       ///< index in may_fail of the call that fails
  int held = 0;                      ///< taken and not given back

  /// Notes a call; true if it is to fail.
  bool fail(const char *name) {
    calls.emplace_back(name);
    may_fail.emplace_back(name);
    return may_fail.size() - 1 == fail_at;
  }

  void give_back(const char *name) {
    calls.emplace_back(name);
    held--;
  }

  size_t count(const std::string &name) const {
    size_t n = 0;
    for (const auto &call : calls)
      n += call == name;
    return n;
  }
};

inline int open_descriptors() {
  int count = 0;
  for (int fd = 0; fd < 1024; fd++)
    count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

/// Memory of a made-up device: a memfd, mapped here. Its descriptor has a dma-buf's lseek().
class FakeMemory {
public:
  explicit FakeMemory(size_t bytes) : fd_(memfd_create("vram", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(fd_.get(), static_cast<off_t>(bytes)), 0);
    map_ =
        MappedRange(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0), bytes);
  }
  std::byte *data() const { return map_.data(); }
  size_t size() const { return map_.size(); }
  int dup() const { return fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0); }

private:
  UniqueFd fd_;
  MappedRange map_;
};

/// A vendor's library with two GPUs, as its calls answer: the part that all vendors have. Code:
/// what its calls return, 0 for success.
template <class Code> struct FakeGpus {
  CallScript script;
  Code code = 999; ///< an unknown error; what a call that fails answers
  int devices = 2;
  size_t asked_bytes = 0;
  std::string used_pci;
  std::unique_ptr<FakeMemory> memory;

  /// What a call answers that does nothing more.
  Code answer(const char *name) { return script.fail(name) ? code : Code{}; }

  Code count(const char *name, int *number) {
    *number = devices;
    return answer(name);
  }

  /// GPU 1 has every PCI address.
  Code find(const char *name, int *device, const char *pci) {
    used_pci = pci;
    *device = 1;
    return answer(name);
  }

  /// The memory of a call that answered `result`; nothing where it failed.
  void take_memory(Code result, size_t bytes) {
    if (result)
      return;
    asked_bytes = bytes;
    memory = std::make_unique<FakeMemory>(bytes);
    script.held++;
  }
};

/// A fake as it is at the beginning of a test, and its script.
template <class Fake> CallScript &start_afresh(Fake &fake) {
  fake = Fake();
  return fake.script;
}

/// Allocates once without failure, to learn the calls, then once for each of them with that one
/// failing: each must be an error of one sentence, with nothing left behind. `reset` gives a fresh
/// fake and its script.
inline void fail_each_call(const std::function<CallScript &()> &reset,
                           const std::function<Result<DmaBuf>()> &allocate,
                           const std::vector<std::string> &expected) {
  const int before = open_descriptors();
  {
    CallScript &script = reset();
    const auto buffer = allocate();
    ASSERT_TRUE(buffer) << buffer.error().message;
    EXPECT_EQ(script.may_fail, expected);
  }
  for (size_t i = 0; i < expected.size(); i++) {
    CallScript &script = reset();
    script.fail_at = i;
    const auto buffer = allocate();
    ASSERT_FALSE(buffer) << expected[i];
    EXPECT_NE(buffer.error().code, 0) << expected[i];
    EXPECT_FALSE(buffer.error().message.empty()) << expected[i];
    EXPECT_EQ(buffer.error().message.find('\n'), std::string::npos) << expected[i];
    EXPECT_NE(buffer.error().message.find(';'), std::string::npos) << buffer.error().message;
    EXPECT_EQ(script.held, 0) << expected[i];
    reset(); // what the fake itself holds
    EXPECT_EQ(open_descriptors(), before) << expected[i];
  }
}

/// What is written is read back, byte for byte and where it was put; nothing beside it changes.
inline void check_copies(DeviceMemory &memory, const FakeMemory &behind) {
  std::vector<std::byte> bytes(70'001);
  for (size_t i = 0; i < bytes.size(); i++)
    bytes[i] = static_cast<std::byte>(i * 7 + 1);
  const uint64_t offset = 4097;
  std::fill(behind.data(), behind.data() + behind.size(), std::byte{0xee});
  ASSERT_EQ(memory.write(offset, bytes), 0);
  EXPECT_EQ(behind.data()[offset - 1], std::byte{0xee});
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), behind.data() + offset));
  EXPECT_EQ(behind.data()[offset + bytes.size()], std::byte{0xee});
  std::vector<std::byte> back(bytes.size());
  ASSERT_EQ(memory.read(offset, back), 0);
  EXPECT_EQ(back, bytes);
  behind.data()[behind.size() - 1] = std::byte{0x42};
  std::byte last = {};
  ASSERT_EQ(memory.read(behind.size() - 1, {&last, 1}), 0);
  EXPECT_EQ(last, std::byte{0x42});
}

} // namespace dmabuf
