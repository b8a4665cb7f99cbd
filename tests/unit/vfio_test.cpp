// SPDX-License-Identifier: GPL-2.0-only
// Exporter vfio on a sysfs made of files, with the kernel's answers to its calls written here.
#include "exporter/vfio.hpp"

#include "exporter/vfio_abi.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <linux/pci_regs.h>
#include <sys/mman.h>
#include <thread>
#include <vector>

namespace dmabuf {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kRegion = 1 << 20; ///< from one region to the next in the device's descriptor
constexpr uint64_t kConfig = 8 * kRegion;
constexpr const char *kAddress = "0000:01:00.0";
// Flags in sysfs's list of a function's resources, as Linux has them for QEMU's ivshmem.
constexpr uint64_t kRegisters = 0x40200, kPrefetchable = 0x14220c, kPorts = 0x40101;

/// A machine with VFIO. One function after the other is added; all open as the same device.
class FakeVfio : public VfioCalls {
public:
  FakeVfio() {
    char path[] = "/tmp/libdmabuf-vfio-XXXXXX";
    root = mkdtemp(path);
    touch("/dev/vfio/vfio");
    touch("/dev/vfio/7");
    touch("/device");
    fs::resize_file(root + "/device", 9 * kRegion);
    bars = {4096, 0, 65536, 0, 0, 0};
    flags = {kRegisters, 0, kPrefetchable, 0, 0, 0};
  }
  ~FakeVfio() override { fs::remove_all(root); }

  void add(const std::string &address, const char *driver, bool iommu = true, bool memory = true) {
    const std::string path = "/sys/bus/pci/devices/" + address;
    touch(path + "/resource");
    std::ofstream file(root + path + "/resource");
    for (unsigned bar = 0; memory && bar < bars.size(); bar++)
      file << line(0xfea00000 + bar * kRegion, bars[bar], flags[bar]);
    if (!memory)
      file << line(0xc000, 0x100, kPorts);
    if (driver)
      fs::create_symlink("../../drivers/" + std::string(driver), root + path + "/driver");
    if (iommu) {
      fs::create_directories(root + "/sys/kernel/iommu_groups/7");
      fs::create_symlink(root + "/sys/kernel/iommu_groups/7", root + path + "/iommu_group");
    }
  }
  void add_cdev() {
    touch("/dev/iommu");
    touch("/dev/vfio/devices/vfio3");
    fs::copy_file(root + "/device", root + "/dev/vfio/devices/vfio3",
                  fs::copy_options::overwrite_existing);
    fs::create_directories(root + "/sys/bus/pci/devices/" + kAddress + "/vfio-dev/vfio3");
  }

  /// Gives the function an MSI-X capability, the second of its list, whose table and pending bits
  /// are in these BARs.
  void add_msix(uint32_t table_bar, uint32_t pending_bar) {
    put<uint16_t>(kConfig + PCI_STATUS, PCI_STATUS_CAP_LIST);
    put<uint8_t>(kConfig + PCI_CAPABILITY_LIST, 0x40);
    put<uint16_t>(kConfig + 0x40, PCI_CAP_ID_PM | 0x50 << 8);
    put<uint16_t>(kConfig + 0x50, PCI_CAP_ID_MSIX);
    put<uint32_t>(kConfig + 0x50 + PCI_MSIX_TABLE, 0x1000 | table_bar);
    put<uint32_t>(kConfig + 0x50 + PCI_MSIX_PBA, 0x2000 | pending_bar);
  }

  int open(const std::string &path) override {
    opened += path + " ";
    if (path == failing_path || (path == "/dev/vfio/7" && held(path))) {
      errno = path == failing_path ? error : EBUSY;
      return -1;
    }
    return VfioCalls::open(path);
  }

  int ioctl(int, unsigned long request, void *argument) override {
    if (request == failing_call) {
      errno = error;
      return -1;
    }
    switch (request) {
    case VFIO_GROUP_GET_STATUS:
      static_cast<vfio_group_status *>(argument)->flags = viable ? VFIO_GROUP_FLAGS_VIABLE : 0;
      return 0;
    case VFIO_GROUP_GET_DEVICE_FD:
      return VfioCalls::open("/device");
    case VFIO_DEVICE_GET_REGION_INFO:
      return region(*static_cast<vfio_region_info *>(argument));
    case VFIO_DEVICE_FEATURE:
      return feature(*static_cast<vfio::GetDmaBuf *>(argument));
    default:
      return 0;
    }
  }

  /// What is in the device's memory or configuration.
  template <class T> T at(uint64_t place) const {
    T value = {};
    std::ifstream file(root + "/device", std::ios::binary);
    file.seekg(static_cast<std::streamoff>(place));
    file.read(reinterpret_cast<char *>(&value), sizeof(value));
    return value;
  }

  /// Changes what is in the device's memory or configuration.
  template <class T> void put(uint64_t place, T value) {
    std::fstream file(root + "/device", std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(place));
    file.write(reinterpret_cast<const char *>(&value), sizeof(value));
  }

  std::array<uint64_t, 6> bars, flags;
  std::string opened;
  std::vector<vfio::GetDmaBuf> exports;
  std::string failing_path;
  unsigned long failing_call = 0;
  int error = 0;
  bool viable = true;

private:
  static std::string line(uint64_t first, uint64_t bytes, uint64_t flags) {
    return bytes ? strf("0x%016llx 0x%016llx 0x%016llx\n", static_cast<unsigned long long>(first),
                        static_cast<unsigned long long>(first + bytes - 1),
                        static_cast<unsigned long long>(flags))
                 : "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
  }
  /// Whether the file is open: a group opens once.
  bool held(const std::string &path) const {
    for (const auto &fd : fs::directory_iterator("/proc/self/fd")) {
      std::error_code gone; // the iterator's own
      if (fs::read_symlink(fd.path(), gone) == root + path)
        return true;
    }
    return false;
  }
  void touch(const std::string &path) {
    fs::create_directories(fs::path(root + path).parent_path());
    std::ofstream(root + path).flush();
  }
  int region(vfio_region_info &info) {
    info.offset = (info.index + 1) * kRegion;
    info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    if (info.index < bars.size()) {
      info.size = bars[info.index];
      if (info.size)
        info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
    }
    return 0;
  }
  int feature(const vfio::GetDmaBuf &get) {
    exports.push_back(get);
    const int fd = memfd_create("dma-buf", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(fd, static_cast<off_t>(get.length)), 0);
    return fd;
  }
};

class Vfio : public testing::Test {
protected:
  Result<DmaBuf> allocate(const char *device, uint64_t bytes = 8192) {
    return devices.allocate({.kind = ExporterKind::vfio, .device = device, .bytes = bytes});
  }
  /// The sentence of an allocation that must fail.
  std::string why(const char *device, uint64_t bytes = 8192) {
    const auto buffer = allocate(device, bytes);
    return buffer ? "it did not fail" : buffer.error().message;
  }
  void expect_says(const std::string &text, std::initializer_list<const char *> parts) {
    for (const char *part : parts)
      EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
  }
  static int open_files() {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
      count += fcntl(fd, F_GETFD) >= 0;
    return count;
  }

  FakeVfio calls;
  OpenVfioDevices devices{calls};
};

TEST(PciBarName, IsAnAddressAndPerhapsABar) {
  EXPECT_EQ(pci_bar("0000:01:00.0")->address, "0000:01:00.0");
  EXPECT_EQ(pci_bar("0000:01:00.0")->bar, PciBar::kNone);
  EXPECT_EQ(pci_bar("01:00.0/2")->address, "0000:01:00.0");
  EXPECT_EQ(pci_bar("01:00.0/2")->bar, 2U);
  EXPECT_EQ(pci_bar("10000:AF:1F.7/5")->address, "10000:af:1f.7");
  for (const char *bad : {"", "card0", "0", "0000:01:00", "0000:01:00.0/6", "0000:01:00.0/",
                          "0000:01:00.0/12", "01:00.00", "1:00.0", "000:01:00.0", "0000:01:0.0",
                          "0000:01:00.0 ", "/dev/vfio/7", "../0000:01:00.0", "01.00:0", ":."}) {
    const auto bar = pci_bar(bad);
    ASSERT_FALSE(bar) << bad;
    EXPECT_EQ(bar.error().code, EINVAL);
    EXPECT_NE(bar.error().message.find("0000:01:00.0/2"), std::string::npos);
  }
}

TEST(BarCopies, AreExactAtEveryAlignmentAndTouchNothingElse) {
  alignas(8) std::array<std::byte, 64> bar;
  std::array<std::byte, 64> host;
  for (size_t from = 0; from < 10; from++)
    for (size_t length = 0; length < 40; length++) {
      for (size_t i = 0; i < bar.size(); i++) {
        bar[i] = static_cast<std::byte>(i);
        host[i] = static_cast<std::byte>(200 - i);
      }
      auto want = host;
      std::memcpy(want.data() + 3, bar.data() + from, length);
      copy_from_bar({host.data() + 3, length}, bar.data() + from);
      ASSERT_EQ(host, want) << from << " " << length;
      auto want_bar = bar;
      std::memcpy(want_bar.data() + from, host.data() + 1, length);
      copy_to_bar(bar.data() + from, {host.data() + 1, length});
      ASSERT_EQ(bar, want_bar) << from << " " << length;
    }
}

TEST_F(Vfio, TheLargestPrefetchableBarIsExportedAndItsMemorySwitchedOn) {
  calls.add(kAddress, "vfio-pci");
  const int before = open_files();
  {
    const auto buffer = allocate("01:00.0", 5000);
    ASSERT_TRUE(buffer) << buffer.error().message;
    EXPECT_EQ(buffer->device, "0000:01:00.0/2");
    EXPECT_EQ(buffer->note, "") << "a smaller BAR would not have been taken";
    EXPECT_EQ(calls.opened, "/dev/vfio/vfio /dev/vfio/7 ");
    ASSERT_EQ(calls.exports.size(), 1U);
    const vfio::GetDmaBuf &get = calls.exports[0];
    EXPECT_EQ(get.argsz, 40U);
    EXPECT_EQ(get.feature, 11U | VFIO_DEVICE_FEATURE_GET);
    EXPECT_EQ(get.region_index, 2U);
    EXPECT_EQ(get.open_flags, static_cast<uint32_t>(O_RDWR | O_CLOEXEC));
    EXPECT_EQ(get.nr_ranges, 1U);
    EXPECT_EQ(get.offset, 0U);
    EXPECT_EQ(get.length, 8192U) << "whole pages";
    EXPECT_EQ(calls.at<uint16_t>(kConfig + PCI_COMMAND), PCI_COMMAND_MEMORY);
  }
  EXPECT_EQ(open_files(), before);
}

TEST_F(Vfio, CopiesGoToTheBuffersOwnPartOfTheBar) {
  calls.add(kAddress, "vfio-pci");
  const auto first = allocate(kAddress, 16384);
  const auto second = allocate(kAddress, 16384);
  ASSERT_TRUE(first && second);
  const std::array<std::byte, 8> bytes = {std::byte{1}, std::byte{2}, std::byte{3}};
  EXPECT_EQ(second->memory->write(512, bytes), 0);
  EXPECT_EQ(calls.at<uint32_t>(3 * kRegion + 16384 + 512), 0x030201U);
  EXPECT_EQ(calls.at<uint32_t>(3 * kRegion + 512), 0U);
  std::array<std::byte, 8> seen;
  EXPECT_EQ(second->memory->read(512, seen), 0);
  EXPECT_EQ(seen, bytes);
}

TEST_F(Vfio, BuffersOfOneProcessShareTheDeviceAndHaveTheirOwnParts) {
  calls.add(kAddress, "vfio-pci");
  auto first = allocate(kAddress, 16384);
  auto second = allocate(kAddress, 16384);
  const auto third = allocate(kAddress, 32768);
  ASSERT_TRUE(first && second && third);
  EXPECT_EQ(calls.opened, "/dev/vfio/vfio /dev/vfio/7 ") << "once";
  EXPECT_EQ(calls.exports[1].offset, 16384U);
  EXPECT_EQ(calls.exports[2].offset, 32768U);
  expect_says(why(kAddress, 4096), {"SMALL_BAR", "lower iodepth or bs"});
  first->memory.reset();
  ASSERT_TRUE(allocate(kAddress, 8192)) << "what was given back";
  EXPECT_EQ(calls.exports[3].offset, 0U);
  EXPECT_EQ(allocate(kAddress, 20480).has_value(), false);
}

TEST_F(Vfio, AfterTheLastBufferTheDeviceIsClosed) {
  calls.add(kAddress, "vfio-pci");
  const int before = open_files();
  ASSERT_TRUE(allocate(kAddress));
  ASSERT_TRUE(allocate(kAddress));
  EXPECT_EQ(calls.opened, "/dev/vfio/vfio /dev/vfio/7 /dev/vfio/vfio /dev/vfio/7 ");
  EXPECT_EQ(open_files(), before);
}

TEST_F(Vfio, JobsThatAreThreadsComeAndGoWithoutMeetingABusyDevice) {
  calls.add(kAddress, "vfio-pci");
  std::array<int, 3> failures = {};
  std::vector<std::thread> jobs;
  for (int &failed : failures)
    jobs.emplace_back([this, &failed] {
      for (int i = 0; i < 100; i++)
        failed += !allocate(kAddress, 16384);
    });
  for (std::thread &one : jobs)
    one.join();
  EXPECT_EQ(failures, (std::array<int, 3>{}));
}

TEST_F(Vfio, WhereTheKernelHasThemTheCharacterDeviceAndIommufdAreUsed) {
  calls.add(kAddress, "vfio-pci");
  calls.add_cdev();
  ASSERT_TRUE(allocate(kAddress));
  EXPECT_EQ(calls.opened, "/dev/vfio/devices/vfio3 /dev/iommu ");
  calls.failing_call = vfio::kBindIommufd;
  calls.error = EINVAL;
  expect_says(why(kAddress), {"is in use by another process (EINVAL)"});
  calls.failing_call = 0;
  fs::remove(calls.root + "/dev/iommu");
  ASSERT_TRUE(allocate(kAddress));
  EXPECT_TRUE(calls.opened.ends_with("/dev/vfio/vfio /dev/vfio/7 "));
}

TEST_F(Vfio, WithoutADeviceNoneIsTakenAndThoseThereAreAreNamed) {
  calls.add("0000:00:01.0", "i915", false);
  expect_says(why(""), {"no IOMMU stands before any PCI device"});
  calls.add("0000:00:02.0", "i915");
  expect_says(why(""), {"no PCI device with a memory BAR is driven by vfio-pci", "drivers_probe"});
  calls.add("0000:00:03.0", "vfio-pci", true, false);
  expect_says(why(""), {"no PCI device with a memory BAR is driven by vfio-pci"});
  calls.add("0000:02:00.0", "vfio-pci");
  calls.bars = {16384, 0, 0, 0, 3 << 20, 0};
  calls.flags = {kRegisters, 0, 0, 0, kPrefetchable, 0};
  calls.add("0000:01:00.0", "nvgrace_gpu_vfio_pci");
  const std::string text = why("");
  expect_says(text, {"takes no device unasked", "dmabuf_device=0000:01:00.0",
                     "0000:01:00.0 (BAR 0: 16 KiB, not prefetchable; BAR 4: 3 MiB)",
                     "0000:02:00.0 (BAR 0: 4 KiB, not prefetchable; BAR 2: 64 KiB)"});
  EXPECT_EQ(text.find("0000:00:0"), std::string::npos) << text;
  EXPECT_EQ(calls.opened, "");
}

TEST_F(Vfio, RegistersAreTakenOnlyByTheirNumber) {
  calls.bars = {262144, 0, 65536, 0, 0, 0};
  calls.add(kAddress, "vfio-pci");
  const auto memory = allocate(kAddress);
  ASSERT_TRUE(memory) << memory.error().message;
  EXPECT_EQ(memory->device, "0000:01:00.0/2");
  expect_says(memory->note, {"BAR 2 of 0000:01:00.0", "BAR 0 (256 KiB) is not prefetchable"});
  const auto named = allocate("0000:01:00.0/0");
  ASSERT_TRUE(named) << named.error().message;
  EXPECT_EQ(named->device, "0000:01:00.0/0");
  EXPECT_EQ(named->note, "");
  expect_says(why(kAddress, 131072), {"SMALL_BAR", "BAR 2", "BAR 0 (256 KiB) is not prefetchable"});
}

TEST_F(Vfio, ADeviceWithRegistersAloneIsRefusedUntilABarIsNamed) {
  calls.flags[2] = kRegisters;
  calls.add(kAddress, "vfio-pci");
  expect_says(why(kAddress),
              {"no BAR of 0000:01:00.0 is surely memory", "BAR 0 (4 KiB) is not prefetchable",
               "BAR 2 (64 KiB) is not prefetchable", "dmabuf_device=0000:01:00.0/2"});
  EXPECT_EQ(calls.exports.size(), 0U);
  EXPECT_TRUE(allocate("0000:01:00.0/2"));
}

TEST_F(Vfio, ABarWithTheMsixTableIsNeverTaken) {
  calls.bars = {4096, 0, 65536, 0, 16384, 0};
  calls.flags[4] = kPrefetchable;
  calls.add(kAddress, "vfio-pci");
  const std::array<std::array<uint32_t, 2>, 3> places = {{{2, 2}, {2, 0}, {0, 2}}};
  for (const auto &[table, pending] : places) {
    calls.add_msix(table, pending);
    const char *what = table == 2 ? "holds the MSI-X table" : "holds the MSI-X pending bits";
    const auto memory = allocate(kAddress);
    ASSERT_TRUE(memory) << memory.error().message;
    EXPECT_EQ(memory->device, "0000:01:00.0/4");
    expect_says(memory->note, {"BAR 2 (64 KiB)", what});
    expect_says(why("0000:01:00.0/2"), {"BAR 2 of 0000:01:00.0", what, "use another BAR"});
  }
  calls.add_msix(2, 4);
  expect_says(why(kAddress), {"no BAR of 0000:01:00.0 is surely memory", "BAR 2 (64 KiB) holds",
                              "BAR 4 (16 KiB) holds", "dmabuf_device=0000:01:00.0/0"});
  EXPECT_TRUE(allocate("0000:01:00.0/0", 4096));
}

TEST_F(Vfio, ACapabilityListWithoutAnEndIsAnError) {
  calls.add(kAddress, "vfio-pci");
  calls.put<uint16_t>(kConfig + PCI_STATUS, PCI_STATUS_CAP_LIST);
  calls.put<uint8_t>(kConfig + PCI_CAPABILITY_LIST, 0x40);
  calls.put<uint16_t>(kConfig + 0x40, PCI_CAP_ID_PM | 0x40 << 8);
  expect_says(why(kAddress), {"capabilities", "no end"});
}

TEST_F(Vfio, ADeviceThatIsNotVfiosIsNamedWithTheWayToBindIt) {
  calls.add("0000:01:00.0", nullptr);
  calls.add("0000:02:00.0", "nvme");
  calls.add("0000:03:00.0", nullptr, false);
  expect_says(why("0000:09:00.0"), {"there is no PCI device 0000:09:00.0", "lspci -D"});
  const std::string none = why("0000:01:00.0");
  expect_says(none, {"driven by nothing", "echo vfio-pci > ", "/drivers_probe"});
  EXPECT_EQ(none.find("unbind"), std::string::npos);
  expect_says(why("0000:02:00.0"),
              {"driven by nvme",
               "echo 0000:02:00.0 > /sys/bus/pci/devices/0000:02:00.0/driver/unbind; echo "});
  expect_says(why("0000:03:00.0"), {"no IOMMU stands before 0000:03:00.0", "intel_iommu=on"});
  EXPECT_EQ(calls.opened, "");
}

TEST_F(Vfio, EveryStepThatFailsHasItsSentence) {
  calls.add(kAddress, "vfio-pci");
  const int before = open_files();
  const auto path = [&](const char *failing, int error) {
    calls.failing_path = failing;
    calls.error = error;
    const std::string text = why(kAddress);
    calls.failing_path.clear();
    return text;
  };
  const auto call = [&](unsigned long failing, int error) {
    calls.failing_call = failing;
    calls.error = error;
    const std::string text = why(kAddress);
    calls.failing_call = 0;
    return text;
  };
  expect_says(path("/dev/vfio/7", EBUSY), {"in use by another process", "':' list", "thread=1"});
  expect_says(path("/dev/vfio/7", EACCES), {"/dev/vfio/7 may not be opened", "root"});
  expect_says(path("/dev/vfio/vfio", ENOENT), {"there is no /dev/vfio/vfio", "modprobe"});
  expect_says(call(VFIO_SET_IOMMU, ENODEV), {"modprobe vfio_iommu_type1", "ENODEV"});
  expect_says(call(VFIO_GROUP_SET_CONTAINER, EPERM), {"VFIO_GROUP_SET_CONTAINER", "EPERM"});
  expect_says(call(VFIO_GROUP_GET_DEVICE_FD, EIO), {"VFIO_GROUP_GET_DEVICE_FD", "EIO"});
  expect_says(call(VFIO_DEVICE_FEATURE, ENOTTY),
              {"VFIO_DEVICE_FEATURE_DMA_BUF", "Linux 6.19 or newer"});
  expect_says(call(VFIO_DEVICE_FEATURE, EINVAL), {"no dma-buf of BAR 2 of 0000:01:00.0", "EINVAL"});
  calls.viable = false;
  expect_says(why(kAddress), {"other drivers hold devices of the IOMMU group"});
  calls.viable = true;
  EXPECT_EQ(open_files(), before);
  EXPECT_TRUE(allocate(kAddress)) << "nothing of all that stays";
}

TEST_F(Vfio, ABarThatDoesNotFitIsSaidWithItsSize) {
  calls.add(kAddress, "vfio-pci");
  calls.bars = {4096, 0, 3 << 20, 0, 0, 0};
  const auto text = why(kAddress, (5 << 20) - 100);
  expect_says(text, {"SMALL_BAR: the job's buffer needs 5 MiB and BAR 2 of 0000:01:00.0 has 3 MiB",
                     "lower iodepth or bs"});
  expect_says(why("0000:01:00.0/1"), {"BAR 1 of 0000:01:00.0 is no memory"});
  EXPECT_EQ(allocate("0000:01:00.0/0", 4096)->device, "0000:01:00.0/0");
  expect_says(why("0000:01:00.0/0", 4097), {"SMALL_BAR", "BAR 0"});
  calls.bars.fill(0);
  expect_says(why(kAddress), {"has no memory BAR that VFIO maps"});
}

} // namespace
} // namespace dmabuf
