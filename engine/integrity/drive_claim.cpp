// SPDX-License-Identifier: GPL-2.0-only
#include "drive_claim.hpp"

#include <array>
#include <cerrno>
#include <climits>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace integrity {

using dmabuf::errno_text;
using dmabuf::Error;
using dmabuf::fail;
using dmabuf::Result;
using dmabuf::strf;
using dmabuf::UniqueFd;

int DriveCalls::open(const std::string &path, int flags) {
  return ::open(path.c_str(), flags | O_CLOEXEC);
}

bool DriveCalls::is_block(int fd) {
  struct stat state = {};
  return fstat(fd, &state) == 0 && S_ISBLK(state.st_mode);
}

bool DriveCalls::may_claim(int fd) {
  // Setting the block size to its present value changes nothing. The claimant may do that. For any
  // other caller the kernel takes a claim for the time of the call: EBUSY where there is one.
  int size = 0;
  return ::ioctl(fd, BLKBSZGET, &size) == 0 && ::ioctl(fd, BLKBSZSET, &size) == 0;
}

namespace {

constexpr const char *kGuard = "dmabuf-guard";

/// Opens the device once more for writing, if this very descriptor claims it.
Result<UniqueFd> open_claimed(DriveCalls &calls, int descriptor, const std::string &again) {
  const std::string what = strf("descriptor %d is not written to: ", descriptor);
  const UniqueFd nobodys(calls.open(again, O_RDONLY | O_EXCL));
  if (nobodys)
    return fail(EPERM, what +
                           "it does not claim its drive, so that nobody has looked who uses it "
                           "and what is on it; let " +
                           kGuard + " open it");
  if (errno != EBUSY)
    return fail(errno, errno_text(what + "it cannot be opened again", errno));
  if (!calls.may_claim(descriptor))
    return fail(errno, errno_text(what + "somebody else claims its drive", errno));
  UniqueFd fd(calls.open(again, O_RDWR | O_DIRECT));
  if (!fd)
    return fail(errno, errno_text(what + "it cannot be opened again", errno));
  return fd;
}

} // namespace

Result<UniqueFd> open_drive(DriveCalls &calls, const DriveRequest &request) {
  const bool inherited = request.path.empty();
  UniqueFd own;
  if (!inherited) {
    if (request.writes)
      return fail(EPERM, request.path + " is not written to by its name");
    // What is no drive, such as a FIFO, must not be waited for.
    own.reset(calls.open(request.path, O_RDONLY | O_NONBLOCK));
    if (!own)
      return fail(errno, errno_text("cannot open " + request.path, errno));
  }
  const int descriptor = inherited ? request.descriptor : own.get();
  const std::string what = inherited ? strf("descriptor %d", descriptor) : request.path;
  if (!calls.is_block(descriptor))
    return fail(ENOTBLK, what + " is no block device; give the namespace, such as /dev/nvme0n1");
  const std::string again = strf("/proc/self/fd/%d", descriptor);
  if (request.writes)
    return open_claimed(calls, descriptor, again);
  UniqueFd fd(calls.open(again, O_RDONLY | O_DIRECT));
  if (!fd)
    return fail(errno, errno_text("cannot open " + what, errno));
  return fd;
}

std::vector<std::string> guard_command(const std::string &self,
                                       const std::vector<std::string> &asked, bool writes,
                                       const std::string &device,
                                       const std::vector<std::string> &words) {
  std::vector<std::string> command = {self.substr(0, self.rfind('/') + 1) + kGuard};
  command.insert(command.end(), asked.begin(), asked.end());
  if (!writes)
    command.emplace_back("--read");
  // To the guard a name that looks like an option would be one.
  command.insert(command.end(), {device.starts_with('-') ? "./" + device : device, "--", self});
  command.insert(command.end(), words.begin(), words.end());
  command.insert(command.end(), {"--device-fd", "{fd}"});
  return command;
}

namespace {

/// Opens what is not to be read, but looked at.
UniqueFd look(const std::string &path, int flags) {
  return UniqueFd(::open(path.c_str(), O_PATH | O_CLOEXEC | flags));
}

/// Why others could exchange what is open there; "" when they could not.
std::string open_to_others(int fd, const std::string &path, uid_t owner) {
  struct stat state = {};
  if (fstat(fd, &state))
    return errno_text("cannot look at " + path, errno);
  if (state.st_uid != 0 && state.st_uid != geteuid() && state.st_uid != owner)
    return strf("%s belongs to user %u: chown root", path.c_str(), state.st_uid);
  // With Debian's umask of 002, a user's own group, which has the user's number, may write.
  const mode_t others = state.st_gid == state.st_uid ? S_IWOTH : S_IWGRP | S_IWOTH;
  if (state.st_mode & others)
    return path + " may be written to by others: chmod go-w";
  return {};
}

/// The file that a path leads to; an error where somebody else could have put it there.
Result<std::string> trusted(const std::string &path, uid_t owner) {
  const UniqueFd file = look(path, 0);
  if (!file)
    return fail(errno, errno_text("it cannot be opened", errno));
  std::array<char, PATH_MAX> name = {};
  if (readlink(strf("/proc/self/fd/%d", file.get()).c_str(), name.data(), name.size() - 1) < 0)
    return fail(errno, errno_text("cannot tell where it is", errno));
  std::string real = name.data();
  const std::string above = real.substr(0, real.rfind('/') + 1);
  const UniqueFd folder = look(above, O_DIRECTORY);
  if (!folder)
    return fail(errno, errno_text("cannot look at " + above, errno));
  for (const std::string &why :
       {open_to_others(file.get(), real, owner), open_to_others(folder.get(), above, owner)})
    if (!why.empty())
      return fail(EPERM, "somebody else could have put it there, " + why);
  // From here on nobody else can, and the name leads to that file or to none.
  return real;
}

} // namespace

Error become(const std::vector<std::string> &command, uid_t owner) {
  const std::string what =
      "cannot start " + command.front() + ", which opens the drive: install all of libdmabuf";
  const auto file = trusted(command.front(), owner);
  if (!file)
    return {file.error().code, what + ": " + file.error().message};
  std::vector<char *> words;
  for (const std::string &word : command)
    words.push_back(const_cast<char *>(word.c_str()));
  words.push_back(nullptr);
  execv(file->c_str(), words.data());
  return {errno, errno_text(what, errno)};
}

} // namespace integrity
