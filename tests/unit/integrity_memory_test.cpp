// SPDX-License-Identifier: GPL-2.0-only
// What dmabuf-integrity sees of memory that only the exporter's own copies reach.
#include "memory.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <string>

namespace integrity {
namespace {

constexpr size_t kBytes = 16384;

/// The device's side, which outlives what the test does with it.
struct Device {
  std::array<std::byte, kBytes> bytes = {};
  int read_error = 0, write_error = 0;
  unsigned reads = 0, writes = 0;

  Word word(uint64_t offset) const {
    Word word;
    std::memcpy(&word, bytes.data() + offset, sizeof(word));
    return word;
  }
};

struct Copies : dmabuf::DeviceMemory {
  explicit Copies(Device &to) : device(to) {}
  int read(uint64_t offset, std::span<std::byte> to) override {
    device.reads++;
    if (!device.read_error)
      std::memcpy(to.data(), device.bytes.data() + offset, to.size());
    return device.read_error;
  }
  int write(uint64_t offset, std::span<const std::byte> from) override {
    device.writes++;
    if (!device.write_error)
      std::memcpy(device.bytes.data() + offset, from.data(), from.size());
    return device.write_error;
  }
  Device &device;
};

class DeviceWithoutView : public testing::Test {
protected:
  DeviceWithoutView() : memory(buffer_of(device)) {}

  static dmabuf::DmaBuf buffer_of(Device &device) {
    dmabuf::DmaBuf buffer;
    buffer.memory = std::make_unique<Copies>(device);
    buffer.bytes = kBytes;
    return buffer;
  }

  Device device;
  BufferMemory memory;
};

TEST_F(DeviceWithoutView, WhatIsPutIsOnTheDeviceAtItsPlace) {
  memory.put(7, 4096, 1024, 1 << 20);
  EXPECT_EQ(device.word(4096), word_at(7, 1 << 20));
  EXPECT_EQ(device.word(4096 + 1016), word_at(7, (1 << 20) + 1016));
  EXPECT_EQ(device.word(4088), 0U);
  EXPECT_EQ(device.word(4096 + 1024), 0U);
}

TEST_F(DeviceWithoutView, EachLookFetchesWhatTheDeviceHasByThen) {
  memory.poison(0, kBytes);
  EXPECT_EQ(memory.look(512, 512)[0], word_at(kBufferPoison, 512));
  // As a drive does it: behind the back of the copies.
  device.bytes.fill(std::byte{0x5a});
  const auto found = memory.look(512, 512);
  EXPECT_EQ(found.size(), 64U);
  EXPECT_TRUE(std::ranges::all_of(found, [](Word w) { return w == 0x5a5a5a5a5a5a5a5a; }));
  EXPECT_EQ(device.reads, 2U);
}

TEST_F(DeviceWithoutView, AWriteThatIsLostIsSeenByTheNextLook) {
  memory.put(1, 0, 4096, 0);
  const auto before = device.bytes;
  memory.put(2, 0, 4096, 0);
  device.bytes = before;
  EXPECT_EQ(memory.look(0, 4096)[3], word_at(1, 24));
  EXPECT_TRUE(memory.trouble());
}

TEST_F(DeviceWithoutView, TwoPlacesAreLookedAtSideBySide) {
  memory.put(1, 0, 4096, 0);
  memory.put(1, 8192, 4096, 0);
  EXPECT_TRUE(std::ranges::equal(memory.look(0, 4096), memory.look(8192, 4096)));
}

TEST_F(DeviceWithoutView, ACopyThatFailsIsAnErrorForGood) {
  EXPECT_TRUE(memory.trouble());
  device.read_error = EIO;
  memory.look(0, 8);
  device.read_error = 0;
  device.write_error = ENODEV;
  memory.put(1, 0, 8, 0);
  memory.look(0, 8);
  const auto trouble = memory.trouble();
  ASSERT_FALSE(trouble);
  EXPECT_EQ(trouble.error().code, EIO);
  EXPECT_NE(trouble.error().message.find("could not copy"), std::string::npos);
}

TEST_F(DeviceWithoutView, ALostCopyUpIsAnErrorToo) {
  device.write_error = ENODEV;
  memory.put(1, 0, 8, 0);
  ASSERT_FALSE(memory.trouble());
  EXPECT_EQ(memory.trouble().error().code, ENODEV);
}

/// A folder that looks like a machine, with links as sysfs has them.
class PciAddress : public testing::Test {
protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "place-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root = name;
  }
  void TearDown() override { std::filesystem::remove_all(root); }
  std::filesystem::path root;
};

TEST_F(PciAddress, IsTheOneInTheNameOfTheDevice) {
  EXPECT_EQ(pci_address("0000:42:00.0"), "0000:42:00.0");
  EXPECT_EQ(pci_address("0000:01:00.0/2"), "0000:01:00.0");
  EXPECT_EQ(pci_address("10000:e1:00.1"), "10000:e1:00.1");
  for (const char *none : {"", "system", "0", "0000:42:00", "card0", "0000:4:00.0", "000:42:00.0"})
    EXPECT_EQ(pci_address(none), "") << none;
}

TEST_F(PciAddress, IsThatOfTheDeviceBehindANode) {
  // /dev/null is a character device anywhere: 1:3.
  const auto gpu = root / "sys/devices/pci0000:00/0000:00:01.0/0000:05:00.0/drm/renderD128";
  std::filesystem::create_directories(gpu);
  std::filesystem::create_directories(root / "sys/dev/char");
  std::filesystem::create_directories(root / "dev");
  std::filesystem::create_symlink("/dev/null", root / "dev/renderD128");
  EXPECT_EQ(pci_address("/dev/renderD128", root), "");
  std::filesystem::create_symlink(gpu, root / "sys/dev/char/1:3");
  EXPECT_EQ(pci_address("/dev/renderD128", root), "0000:05:00.0");
  EXPECT_EQ(pci_address("/dev/nothing", root), "");
}

} // namespace
} // namespace integrity
