// SPDX-License-Identifier: GPL-2.0-only
// Opens the drive under test: for reading by its name, for writing only as a descriptor whose claim
// the guard of drives has taken. Which drive may be overwritten, the guard alone decides.
#pragma once

#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <string>
#include <sys/types.h>
#include <vector>

namespace integrity {

/// What is asked of the kernel, in one place so that a test can answer it.
struct DriveCalls {
  virtual ~DriveCalls() = default;
  /// As open(2).
  virtual int open(const std::string &path, int flags);
  /// Whether an open file is a block device.
  virtual bool is_block(int fd);
  /// Whether an open block device is claimed by this very descriptor, or by nobody. False with
  /// errno EBUSY when another one claims it.
  virtual bool may_claim(int fd);
};

/// Which drive, and what for.
struct DriveRequest {
  std::string path = {}; ///< its device node, for reading alone; or, where it is empty,
  int descriptor = -1;   ///< a descriptor of it that this process inherited
  bool writes = true;    ///< its data may be overwritten
};

/// Opens a drive for direct I/O.
///
/// To write, the inherited descriptor has to be the one that claims the device (O_EXCL): who
/// claimed it has looked at what it is, who uses it and what is on it. The claim lasts as long as
/// that descriptor is open.
dmabuf::Result<dmabuf::UniqueFd> open_drive(DriveCalls &calls, const DriveRequest &request);

/// The program that claims a drive and starts another one with it, and all of its words.
///
/// It lies beside this program, whose file is `self`. `asked`: options for the guard. `words`:
/// those of this program, which gets the drive by --device-fd besides.
std::vector<std::string> guard_command(const std::string &self,
                                       const std::vector<std::string> &asked, bool writes,
                                       const std::string &device,
                                       const std::vector<std::string> &words);

/// Becomes such a program. Returns only where that cannot be started.
///
/// The program is the file that its name leads to. Neither that file nor its folder may belong to
/// anybody but root, the caller and `owner`, who owns the program that runs, nor be open to
/// others for writing: as root, this program would run any program that they put there.
dmabuf::Error become(const std::vector<std::string> &command, uid_t owner);

} // namespace integrity
