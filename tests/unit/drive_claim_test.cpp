// SPDX-License-Identifier: GPL-2.0-only
// How dmabuf-integrity opens its drive: to write only what the guard of drives has claimed for it.
#include "drive_claim.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace integrity {
namespace {

namespace fs = std::filesystem;

/// A kernel with one drive. What is opened is /dev/null.
class FakeKernel : public DriveCalls {
public:
  int open(const std::string &path, int flags) override {
    std::string what = path.starts_with("/proc/self/fd/") ? "again" : path;
    what += (flags & O_ACCMODE) == O_RDWR ? " rw" : " ro";
    what += flags & O_DIRECT ? " direct" : "";
    what += flags & O_EXCL ? " excl" : "";
    opens.push_back(what);
    if (flags & O_EXCL && claimed) {
      errno = EBUSY;
      return -1;
    }
    return ::open("/dev/null", O_RDWR | O_CLOEXEC);
  }
  bool is_block(int) override { return block; }
  bool may_claim(int fd) override {
    asked_of = fd;
    errno = EBUSY;
    return claim_is_ours;
  }

  bool block = true, claimed = true, claim_is_ours = true;
  int asked_of = -1;
  std::vector<std::string> opens;
};

class DriveClaim : public testing::Test {
protected:
  dmabuf::Result<dmabuf::UniqueFd> open() {
    return open_drive(kernel, {.path = {}, .descriptor = inherited.get()});
  }
  /// What is said against writing, and that nothing was opened that could.
  std::string why(int code) {
    const auto fd = open();
    for (const std::string &one : kernel.opens)
      EXPECT_EQ(one.find(" rw"), std::string::npos) << one;
    if (fd)
      return "it was not refused";
    EXPECT_EQ(fd.error().code, code);
    return fd.error().message;
  }
  void expect_says(const std::string &text, const std::string &part) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
  }

  dmabuf::UniqueFd inherited{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  FakeKernel kernel;
};

TEST_F(DriveClaim, TheDescriptorThatClaimsTheDriveWrites) {
  const auto fd = open();
  ASSERT_TRUE(fd) << fd.error().message;
  EXPECT_EQ(kernel.asked_of, inherited.get());
  EXPECT_EQ(kernel.opens, (std::vector<std::string>{"again ro excl", "again rw direct"}));
  EXPECT_GE(fcntl(inherited.get(), F_GETFD), 0) << "it stays open, and with it the claim";
}

TEST_F(DriveClaim, ADescriptorThatClaimsNothingDoesNotWrite) {
  kernel.claimed = false;
  const std::string text = why(EPERM);
  expect_says(text, "does not claim its drive");
  expect_says(text, "dmabuf-guard");
}

TEST_F(DriveClaim, NorDoesOneWhoseDriveSomebodyElseClaims) {
  kernel.claim_is_ours = false;
  expect_says(why(EBUSY), "somebody else claims its drive");
}

TEST_F(DriveClaim, WhatIsNoDriveIsNotOpened) {
  kernel.block = false;
  expect_says(why(ENOTBLK), "is no block device");
  EXPECT_TRUE(kernel.opens.empty());
}

TEST_F(DriveClaim, NothingIsWrittenToByItsName) {
  const auto fd = open_drive(kernel, {.path = "/dev/nvme0n1"});
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code, EPERM);
  EXPECT_TRUE(kernel.opens.empty());
}

TEST_F(DriveClaim, ReadingTakesNoClaim) {
  ASSERT_TRUE(open_drive(kernel, {.path = "/dev/nvme0n1", .writes = false}));
  EXPECT_EQ(kernel.opens, (std::vector<std::string>{"/dev/nvme0n1 ro", "again ro direct"}));
  kernel.opens.clear();
  ASSERT_TRUE(open_drive(kernel, {.path = {}, .descriptor = inherited.get(), .writes = false}));
  EXPECT_EQ(kernel.opens, (std::vector<std::string>{"again ro direct"}));
  EXPECT_EQ(kernel.asked_of, -1);
}

TEST_F(DriveClaim, WhatIsNotThereIsSaid) {
  DriveCalls real;
  const auto none = open_drive(real, {.path = {}, .descriptor = 987});
  ASSERT_FALSE(none);
  expect_says(none.error().message, "descriptor 987 is no block device");
  const auto missing = open_drive(real, {.path = "/dev/no-such-drive", .writes = false});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ENOENT);
  expect_says(missing.error().message, "cannot open /dev/no-such-drive");
}

TEST(GuardCommand, HasTheGuardsWordsTheDriveAndAllOfOurs) {
  EXPECT_EQ(guard_command("/usr/bin/dmabuf-integrity", {"--serial=S1", "--wwid=eui.1"}, true,
                          "/dev/nvme0n1", {"lay", "--bytes=1048576"}),
            (std::vector<std::string>{"/usr/bin/dmabuf-guard", "--serial=S1", "--wwid=eui.1",
                                      "/dev/nvme0n1", "--", "/usr/bin/dmabuf-integrity", "lay",
                                      "--bytes=1048576", "--device-fd", "{fd}"}));
  const auto reads =
      guard_command("/b/dmabuf-integrity", {"--serial=S1"}, false, "/dev/x", {"check"});
  EXPECT_EQ(reads[2], "--read");
}

// The guard's help ends with 0: a case that wrote nothing would have passed.
TEST(GuardCommand, ADrivesNameIsNoOptionOfTheGuard) {
  for (const char *name : {"--help", "-h", "--"})
    EXPECT_EQ(guard_command("/b/dmabuf-integrity", {}, true, name, {"write"})[1],
              "./" + std::string(name));
}

/// A folder with a program that ends with a status of its own.
class Beside : public testing::Test {
protected:
  static constexpr uid_t kNobody = 65534, kOther = 65533;

  void SetUp() override {
    char made[] = "/tmp/libdmabuf-guard-XXXXXX";
    ASSERT_NE(mkdtemp(made), nullptr);
    folder = made;
    program = folder + "/dmabuf-guard";
  }
  void TearDown() override { fs::remove_all(folder); }
  void put() {
    std::ofstream(program) << "#!/bin/sh\n[ \"$#:$1\" = '1:a word' ] && exit 7\n";
    chmod(program.c_str(), 0700);
  }
  /// The status of what this process becomes; 1 where it becomes nothing.
  int status(const std::string &path, uid_t owner = 0) {
    const pid_t child = fork();
    if (!child) {
      become({path, "a word"}, owner);
      _exit(1);
    }
    int ended = 0;
    waitpid(child, &ended, 0);
    return WEXITSTATUS(ended);
  }
  void expect_refused(const std::string &path, const std::string &part, uid_t owner = 0) {
    // What starts nevertheless ends the child, and not the test.
    EXPECT_EQ(status(path, owner), 1);
    if (HasFailure())
      return;
    const dmabuf::Error error = become({path, "a word"}, owner);
    EXPECT_EQ(error.code, EPERM);
    EXPECT_NE(error.message.find(part), std::string::npos) << error.message;
  }

  std::string folder, program;
};

TEST_F(Beside, IsBecomeOrItIsSaidWhatIsMissing) {
  const dmabuf::Error error = become({program, "a word"}, 0);
  EXPECT_EQ(error.code, ENOENT);
  EXPECT_NE(error.message.find(program), std::string::npos) << error.message;
  put();
  EXPECT_EQ(status(program), 7);
}

TEST_F(Beside, IsNotBecomeWhereOthersCouldHavePutIt) {
  put();
  for (const mode_t mode : {0702, 0706}) {
    chmod(program.c_str(), mode);
    expect_refused(program, program + " may be written to by others");
  }
  chmod(program.c_str(), 0700);
  for (const mode_t mode : {0703, 0707, 01777}) {
    chmod(folder.c_str(), mode);
    expect_refused(program, folder + "/ may be written to by others");
  }
  chmod(folder.c_str(), 0700);
  EXPECT_EQ(status(program), 7);
}

TEST_F(Beside, OfGroupsOnlyTheOwnersOwnMayWrite) {
  put();
  const auto of = [&](gid_t group) {
    return chown(program.c_str(), static_cast<uid_t>(-1), group) == 0 &&
           chmod(program.c_str(), 0720) == 0;
  };
  if (!of(kOther))
    GTEST_SKIP() << "this needs root";
  expect_refused(program, program + " may be written to by others");
  ASSERT_TRUE(of(geteuid()));
  EXPECT_EQ(status(program), 7);
}

TEST_F(Beside, IsLookedAtWhereItsLinkLeads) {
  put();
  const std::string link = folder + "/link";
  fs::create_symlink(program, link);
  EXPECT_EQ(status(link), 7);
  chmod(program.c_str(), 0702);
  expect_refused(link, program + " may be written to by others");
}

TEST_F(Beside, BelongsToRootTheCallerOrWhoOwnsTheProgramThatRuns) {
  put();
  if (chown(program.c_str(), kNobody, static_cast<gid_t>(-1)))
    GTEST_SKIP() << "this needs root";
  expect_refused(program, program + " belongs to user 65534");
  expect_refused(program, program + " belongs to user 65534", kOther);
  EXPECT_EQ(status(program, kNobody), 7);
  ASSERT_EQ(chown(program.c_str(), 0, static_cast<gid_t>(-1)), 0);
  ASSERT_EQ(chown(folder.c_str(), kNobody, static_cast<gid_t>(-1)), 0);
  expect_refused(program, folder + "/ belongs to user 65534");
}

/// A loop device: all of it is the kernel's own.
class LoopDrive : public testing::Test {
protected:
  void SetUp() override {
    char made[] = "/tmp/libdmabuf-loop-XXXXXX";
    folder = mkdtemp(made);
    const std::string file = folder + "/file";
    std::ofstream(file).flush();
    fs::resize_file(file, 1 << 20);
    device = output("losetup --find --show " + file + " 2>/dev/null");
    if (!dmabuf::UniqueFd(::open(device.c_str(), O_RDONLY | O_CLOEXEC)))
      GTEST_SKIP() << "this needs root and a free loop device";
  }
  void TearDown() override {
    if (!device.empty())
      output("losetup --detach " + device);
    fs::remove_all(folder);
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
  /// How writing by a descriptor ends: 0, or the code of its error.
  int writing(const dmabuf::UniqueFd &fd) {
    const auto opened = open_drive(calls, {.path = {}, .descriptor = fd.get()});
    if (opened) {
      EXPECT_EQ(fcntl(opened->get(), F_GETFL) & (O_ACCMODE | O_DIRECT), O_RDWR | O_DIRECT);
    }
    return opened ? 0 : opened.error().code;
  }

  DriveCalls calls;
  std::string folder, device;
};

TEST_F(LoopDrive, TheOpenThatClaimsIsToldFromAllOthers) {
  const dmabuf::UniqueFd before(::open(device.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(before);
  EXPECT_EQ(writing(before), EPERM) << "nobody claims it";
  {
    const dmabuf::UniqueFd claim(::open(device.c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
    ASSERT_TRUE(claim);
    const std::string path = "/proc/self/fd/" + std::to_string(claim.get());
    const dmabuf::UniqueFd copy(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    const dmabuf::UniqueFd same(dup(claim.get()));
    EXPECT_EQ(writing(claim), 0);
    EXPECT_EQ(writing(same), 0) << "as a child has it";
    EXPECT_EQ(writing(copy), EBUSY) << "another open of what claims";
    EXPECT_EQ(writing(before), EBUSY);
    EXPECT_LT(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC), 0) << "the claim is there yet";
    EXPECT_TRUE(open_drive(calls, {.path = device, .writes = false}));
  }
  EXPECT_TRUE(dmabuf::UniqueFd(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC)));
}

} // namespace
} // namespace integrity
