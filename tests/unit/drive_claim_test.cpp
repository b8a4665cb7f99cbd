// SPDX-License-Identifier: GPL-2.0-only
// Which drive dmabuf-integrity opens, on a sysfs and a /proc made of files.
#include "drive_claim.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace integrity {
namespace {

namespace fs = std::filesystem;

/// A machine with drives. What is opened is /dev/null.
class FakeMachine : public DriveCalls {
public:
  FakeMachine() {
    char path[] = "/tmp/libdmabuf-claim-XXXXXX";
    root = mkdtemp(path);
    fs::create_directories(root + "/sys/block");
    write("/proc/self/mountinfo", "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n");
    write("/proc/swaps", "Filename Type Size Used Priority\n");
  }
  ~FakeMachine() override { fs::remove_all(root); }

  void write(const std::string &path, const std::string &text) {
    fs::create_directories(fs::path(root + path).parent_path());
    std::ofstream(root + path) << text;
  }
  /// A disk, or a partition of one.
  void add(const std::string &disk, const std::string &number, const std::string &partition = "") {
    std::string folder = "/sys/devices/pci/" + disk;
    const std::string name = partition.empty() ? disk : partition;
    if (partition.empty()) {
      write(folder + "/size", "2048\n");
      fs::create_directory_symlink(root + folder, root + "/sys/block/" + disk);
    } else {
      folder += "/" + partition;
      write(folder + "/partition", "1\n");
    }
    write(folder + "/dev", number + "\n");
    for (const std::string &link : {"/sys/dev/block/" + number, "/sys/class/block/" + name}) {
      fs::create_directories(fs::path(root + link).parent_path());
      fs::create_directory_symlink(root + folder, root + link);
    }
  }
  /// What a disk says of itself.
  void says(const std::string &disk, const std::string &file, const std::string &text) {
    write("/sys/devices/pci/" + disk + "/" + file, text + "\n");
  }

  int open(const std::string &path, int flags) override {
    std::string what = path.starts_with("/proc/self/fd/") ? "again" : path;
    what += (flags & O_ACCMODE) == O_RDWR ? " rw" : " ro";
    what += flags & O_DIRECT ? " direct" : "";
    what += flags & O_EXCL ? " excl" : "";
    opens.push_back(what);
    if (flags & O_EXCL && busy_for) {
      busy_for -= busy_for > 0;
      errno = EBUSY;
      return -1;
    }
    return ::open("/dev/null", O_RDWR | O_CLOEXEC);
  }
  std::string number(int) override { return opened_number; }
  bool may_claim(int fd) override {
    asked_of = fd;
    errno = EBUSY;
    return claim_is_ours;
  }
  void pause() override { pauses++; }

  std::string opened_number = "259:0";
  int busy_for = 0; ///< how many exclusive opens fail; -1: all
  bool claim_is_ours = false;
  int asked_of = -1, pauses = 0;
  std::vector<std::string> opens;
};

class DriveClaim : public testing::Test {
protected:
  DriveClaim() {
    machine.add("nvme0n1", "259:0");
    machine.add("nvme0n1", "259:1", "nvme0n1p1");
    machine.says("nvme0n1", "device/serial", "S5XYZ");
    machine.says("nvme0n1", "device/model", "A Drive 990");
    machine.says("nvme0n1", "wwid", "eui.0025388b01d0a5c1");
  }
  dmabuf::Result<dmabuf::UniqueFd> open(const std::string &identity = "S5XYZ", bool writes = true) {
    return open_drive(machine, {.path = "/dev/nvme0n1", .identity = identity, .writes = writes});
  }
  /// The sentence of a refusal, and that nothing was opened that could write.
  std::string why(const std::string &identity = "S5XYZ") {
    const auto fd = open(identity);
    return fd ? "it was not refused" : fd.error().message;
  }
  void expect_says(const std::string &text, std::initializer_list<const char *> parts) {
    for (const char *part : parts)
      EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
  }
  void expect_never_writable() {
    for (const std::string &one : machine.opens)
      EXPECT_EQ(one.find(" rw"), std::string::npos) << one;
  }

  FakeMachine machine;
};

TEST_F(DriveClaim, TheDriveThatIsNamedIsHeldForItself) {
  const auto fd = open();
  ASSERT_TRUE(fd) << fd.error().message;
  EXPECT_EQ(machine.opens, (std::vector<std::string>{"/dev/nvme0n1 ro", "again rw direct excl"}))
      << "the second by the first one's descriptor, whatever the name leads to by then";
}

TEST_F(DriveClaim, AnyOfItsIdentitiesNamesIt) {
  machine.says("nvme0n1", "nguid", "36344830-5250-0042-0025-384500000001");
  for (const char *name : {"S5XYZ", " S5XYZ ", "eui.0025388b01d0a5c1", "0025388B01D0A5C1",
                           "0x0025388b01d0a5c1", "36344830525000420025384500000001"})
    EXPECT_TRUE(open(name)) << name << ": " << open(name).error().message;
  machine.add("sda", "8:0");
  machine.opened_number = "8:0";
  machine.says("sda", "device/wwid", "naa.5000c500a1b2c3d4");
  EXPECT_TRUE(open("naa.5000c500a1b2c3d4"));
  machine.add("vda", "254:0");
  machine.opened_number = "254:0";
  machine.says("vda", "serial", "virt-7");
  EXPECT_TRUE(open("virt-7"));
}

TEST_F(DriveClaim, APartitionHasItsDisksIdentity) {
  machine.opened_number = "259:1";
  EXPECT_TRUE(open());
  expect_says(why("S6"), {"/dev/nvme0n1p1", "S5XYZ"});
}

TEST_F(DriveClaim, WithoutItsIdentityNothingIsWritten) {
  expect_says(why(""), {"/dev/nvme0n1 is not overwritten", "--identity", "A Drive 990", "S5XYZ"});
  expect_says(why("S6ABC"), {"/dev/nvme0n1 is not overwritten", "S6ABC", "serial number is S5XYZ",
                             "eui.0025388b01d0a5c1"});
  expect_says(why("S5XY"), {"not overwritten"});
  expect_says(why("0000000000000000"), {"not overwritten"});
  machine.says("nvme0n1", "wwid", "eui.0000000000000000");
  expect_says(why("eui.0000000000000000"), {"not overwritten"});
  machine.says("nvme0n1", "device/serial", "");
  expect_says(why("S5XYZ"), {"neither serial number nor wwid"});
  expect_says(why(""), {"neither serial number nor wwid"});
  expect_never_writable();
}

TEST_F(DriveClaim, TheNumberOfTheDescriptorCountsAndNotTheName) {
  machine.add("nvme1n1", "259:4");
  machine.says("nvme1n1", "device/serial", "OTHER");
  machine.opened_number = "259:4";
  expect_says(why(), {"/dev/nvme1n1 is not overwritten", "serial number is OTHER"});
  machine.opened_number = "259:9";
  expect_says(why(), {"gone"});
  machine.opened_number = "";
  expect_says(why(), {"/dev/nvme0n1 is no block device"});
  expect_never_writable();
}

TEST_F(DriveClaim, ASerialNumberOfTwoNamespacesNamesNeither) {
  machine.add("nvme0n2", "259:5");
  machine.says("nvme0n2", "device/serial", "S5XYZ");
  machine.says("nvme0n2", "wwid", "eui.0025388b01d0a5c2");
  expect_says(why(), {"/dev/nvme0n2 has the same serial number", "eui.0025388b01d0a5c1"});
  expect_never_writable();
  EXPECT_TRUE(open("eui.0025388b01d0a5c1"));
  // The same namespace by its other path.
  machine.says("nvme0n2", "wwid", "eui.0025388b01d0a5c1");
  EXPECT_TRUE(open());
  // A path below a multipath head has no number: no program can open it.
  machine.says("nvme0n2", "wwid", "eui.0025388b01d0a5c2");
  fs::remove(machine.root + "/sys/block/nvme0n2/dev");
  EXPECT_TRUE(open());
}

TEST_F(DriveClaim, WhatIsInUseIsRefusedWithTheUser) {
  machine.busy_for = -1;
  expect_says(why(), {"/dev/nvme0n1 is in use", "EBUSY", "zpool status"});
  machine.write("/proc/self/mountinfo",
                "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n"
                "30 22 259:1 / /mnt/my\\040data rw - xfs /dev/nvme0n1p1 rw\n");
  expect_says(why(), {"/dev/nvme0n1p1 is mounted at /mnt/my data"});
  machine.write("/proc/self/mountinfo", "30 22 0:45 / /pool rw shared:1 - btrfs /dev/nvme0n1 rw\n");
  expect_says(why(), {"/dev/nvme0n1 is mounted at /pool"});
  machine.write("/proc/self/mountinfo", "");
  machine.write("/proc/77/mountinfo", "30 22 259:0 / /in/a/container rw - xfs /dev/root rw\n");
  expect_says(why(), {"/dev/nvme0n1 is mounted at /in/a/container", "process 77"});
  machine.write("/proc/77/mountinfo", "");
  machine.write("/proc/swaps", "Filename Type Size Used Priority\n"
                               "/dev/nvme0n1p1 partition 1024 0 -2\n");
  expect_says(why(), {"/dev/nvme0n1p1 is swap space"});
  machine.write("/proc/swaps", "");
  machine.write("/sys/devices/pci/nvme0n1/holders/dm-3/dm/name", "vg-root\n");
  expect_says(why(), {"/dev/nvme0n1 is held by dm-3 (vg-root)"});
  fs::remove_all(machine.root + "/sys/devices/pci/nvme0n1/holders");
  machine.write("/proc/88/comm", "mysqld\n");
  fs::create_directories(machine.root + "/proc/88/fd");
  fs::create_symlink("/dev/nvme0n1", machine.root + "/proc/88/fd/5");
  expect_says(why(), {"process 88 (mysqld) has /dev/nvme0n1 open"});
  // The whole disk under a partition that is asked for.
  machine.opened_number = "259:1";
  expect_says(why(), {"/dev/nvme0n1p1 is in use", "process 88 (mysqld) has /dev/nvme0n1 open"});
}

TEST_F(DriveClaim, AClaimOfAMomentIsWaitedFor) {
  machine.busy_for = 3;
  EXPECT_TRUE(open());
  EXPECT_EQ(machine.pauses, 3);
  machine.pauses = 0;
  machine.busy_for = -1;
  expect_says(why(), {"in use"});
  EXPECT_GE(machine.pauses, 20);
  EXPECT_LE(machine.pauses, 100);
}

TEST_F(DriveClaim, ReadingTakesNoClaimAndNeedsNoIdentity) {
  machine.busy_for = -1;
  const auto fd = open("", false);
  ASSERT_TRUE(fd) << fd.error().message;
  expect_never_writable();
  EXPECT_TRUE(open("S5XYZ", false));
  const auto wrong = open("S6", false);
  ASSERT_FALSE(wrong);
  expect_says(wrong.error().message, {"/dev/nvme0n1 is not used", "S6"});
}

TEST_F(DriveClaim, AnInheritedDescriptorsOwnClaimCounts) {
  const dmabuf::UniqueFd inherited(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const DriveRequest request = {.path = {}, .descriptor = inherited.get(), .identity = "S5XYZ"};
  // Nobody claims it: this program does.
  ASSERT_TRUE(open_drive(machine, request));
  EXPECT_EQ(machine.opens, (std::vector<std::string>{"again rw direct excl"}));
  // The descriptor does.
  machine.opens.clear();
  machine.busy_for = -1;
  machine.claim_is_ours = true;
  ASSERT_TRUE(open_drive(machine, request));
  EXPECT_EQ(machine.asked_of, inherited.get());
  EXPECT_EQ(machine.opens, (std::vector<std::string>{"again rw direct excl", "again rw direct"}));
  EXPECT_GE(fcntl(inherited.get(), F_GETFD), 0) << "it stays open, and with it the claim";
  // Somebody else does.
  machine.opens.clear();
  machine.claim_is_ours = false;
  const auto refused = open_drive(machine, request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EBUSY);
  expect_says(refused.error().message, {"/dev/nvme0n1 is in use"});
  for (const std::string &one : machine.opens)
    EXPECT_NE(one.find("excl"), std::string::npos) << one;
  // Its identity is looked at as ever.
  const auto other =
      open_drive(machine, {.path = {}, .descriptor = inherited.get(), .identity = "S6"});
  ASSERT_FALSE(other);
  expect_says(other.error().message, {"not overwritten", "S6"});
}

TEST_F(DriveClaim, ADescriptorByItsPathIsToldOfTheOtherOption) {
  machine.busy_for = -1;
  for (const char *path : {"/dev/fd/7", "/proc/self/fd/7"}) {
    const auto fd = open_drive(machine, {.path = path, .identity = "S5XYZ"});
    ASSERT_FALSE(fd);
    expect_says(fd.error().message, {"in use", "--device-fd"});
  }
  EXPECT_EQ(why().find("--device-fd"), std::string::npos);
}

TEST_F(DriveClaim, ADescriptorThatIsNotOpenIsSaid) {
  DriveCalls real;
  const auto none = open_drive(real, {.path = {}, .descriptor = 987, .identity = "S5XYZ"});
  ASSERT_FALSE(none);
  expect_says(none.error().message, {"descriptor 987", "no block device"});
  const auto missing = open_drive(real, {.path = "/dev/no-such-drive", .identity = "S5XYZ"});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ENOENT);
  expect_says(missing.error().message, {"cannot open /dev/no-such-drive"});
}

/// A loop device that sysfs, here, gives an identity. All else of it is the kernel's.
class LoopDrive : public testing::Test {
protected:
  struct Impatient : DriveCalls {
    void pause() override {}
  };

  void SetUp() override {
    char folder[] = "/tmp/libdmabuf-loop-XXXXXX";
    calls.root = mkdtemp(folder);
    const std::string file = calls.root + "/file";
    std::ofstream(file).flush();
    fs::resize_file(file, 1 << 20);
    device = output("losetup --find --show " + file + " 2>/dev/null");
    const dmabuf::UniqueFd drive(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
    if (!drive)
      GTEST_SKIP() << "this needs root and a free loop device";
    const std::string name = fs::path(device).filename(), number = calls.number(drive.get());
    const std::string disk = calls.root + "/sys/devices/" + name;
    fs::create_directories(disk);
    std::ofstream(disk + "/serial") << "L1\n";
    std::ofstream(disk + "/dev") << number << "\n";
    for (const std::string &place : {"/sys/dev/block/" + number, "/sys/class/block/" + name}) {
      fs::create_directories(fs::path(calls.root + place).parent_path());
      fs::create_directory_symlink(disk, calls.root + place);
    }
    fs::create_directory_symlink("/proc", calls.root + "/proc");
  }
  void TearDown() override {
    if (!device.empty())
      output("losetup --detach " + device);
    fs::remove_all(calls.root);
  }

  static std::string output(const std::string &command) {
    std::string text;
    if (std::FILE *pipe = popen(command.c_str(), "re")) {
      char line[256];
      while (std::fgets(line, sizeof(line), pipe))
        text += line;
      pclose(pipe);
    }
    return text.substr(0, text.find('\n'));
  }
  dmabuf::Result<dmabuf::UniqueFd> by_path() {
    return open_drive(calls, {.path = device, .identity = "L1"});
  }
  dmabuf::Result<dmabuf::UniqueFd> by_descriptor(int fd) {
    return open_drive(calls, {.path = {}, .descriptor = fd, .identity = "L1"});
  }

  Impatient calls;
  std::string device;
};

TEST_F(LoopDrive, IsClaimedUntilItIsClosed) {
  {
    const auto fd = by_path();
    ASSERT_TRUE(fd) << fd.error().message;
    EXPECT_EQ(fcntl(fd->get(), F_GETFL) & (O_ACCMODE | O_DIRECT), O_RDWR | O_DIRECT);
    EXPECT_LT(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC), 0);
    EXPECT_EQ(errno, EBUSY);
    const auto second = by_path();
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, EBUSY);
    EXPECT_TRUE(open_drive(calls, {.path = device, .writes = false}));
  }
  const dmabuf::UniqueFd free(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  EXPECT_TRUE(free);
}

TEST_F(LoopDrive, TheClaimOfAnInheritedDescriptorIsToldFromOthers) {
  const dmabuf::UniqueFd claim(::open(device.c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
  ASSERT_TRUE(claim);
  const std::string path = "/proc/self/fd/" + std::to_string(claim.get());
  const dmabuf::UniqueFd copy(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(copy);
  {
    const auto fd = by_descriptor(claim.get());
    ASSERT_TRUE(fd) << fd.error().message;
    EXPECT_EQ(fcntl(fd->get(), F_GETFL) & (O_ACCMODE | O_DIRECT), O_RDWR | O_DIRECT);
  }
  EXPECT_LT(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC), 0) << "the claim is still there";
  const auto refused = by_descriptor(copy.get());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EBUSY);
  const auto reopened = open_drive(calls, {.path = path, .identity = "L1"});
  ASSERT_FALSE(reopened);
  EXPECT_NE(reopened.error().message.find("--device-fd"), std::string::npos);
}

TEST_F(LoopDrive, AProgramThatClaimsItIsNamed) {
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  const pid_t child = fork();
  if (!child) {
    const bool held = ::open(device.c_str(), O_RDWR | O_EXCL) >= 0;
    [[maybe_unused]] const ssize_t told = ::write(ready[1], held ? "y" : "n", 1);
    pause();
    _exit(0);
  }
  char held = 0;
  EXPECT_EQ(::read(ready[0], &held, 1), 1);
  EXPECT_EQ(held, 'y');
  const auto refused = by_path();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  ASSERT_FALSE(refused);
  const std::string who = "process " + std::to_string(child) + " (";
  EXPECT_NE(refused.error().message.find(who), std::string::npos) << refused.error().message;
  EXPECT_TRUE(by_path());
}

} // namespace
} // namespace integrity
