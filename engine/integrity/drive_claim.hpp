// SPDX-License-Identifier: GPL-2.0-only
// Opens the drive under test: the one that is meant, and for writing only while nobody else has it.
#pragma once

#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <string>

namespace integrity {

/// What is asked of the kernel, in one place so that a test can answer it.
struct DriveCalls {
  virtual ~DriveCalls() = default;
  /// As open(2); nothing in front of the path.
  virtual int open(const std::string &path, int flags);
  /// The number of an open block device, as "259:0"; "" where it is none.
  virtual std::string number(int fd);
  /// Whether an open block device is claimed by this very descriptor, or by nobody. False with
  /// errno EBUSY when another one claims it.
  virtual bool may_claim(int fd);
  /// Waits a tenth of a second.
  virtual void pause();

  std::string root; ///< in front of /sys and /proc; empty but in tests
};

/// Which drive, and what for.
struct DriveRequest {
  std::string path = {};     ///< its device node; or, where it is empty,
  int descriptor = -1;       ///< a descriptor of it that this process inherited
  std::string identity = {}; ///< its serial number, wwid, NGUID, EUI-64 or UUID
  bool writes = true;        ///< its data may be overwritten
};

/// Opens a drive for direct I/O.
///
/// To write, `identity` has to be given, and to be what sysfs says of the device that is open. The
/// descriptor then claims the device (O_EXCL) until it is closed: no file system, swap, RAID or
/// device mapper has it, nor gets it. A claim that the inherited descriptor has counts as one's
/// own, as long as that descriptor is open.
dmabuf::Result<dmabuf::UniqueFd> open_drive(DriveCalls &calls, const DriveRequest &request);

} // namespace integrity
