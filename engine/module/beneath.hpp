// SPDX-License-Identifier: GPL-2.0-only
// What a target is made of: a volume, a loop device, a namespace over a network, a file system.
#pragma once

#include <string>
#include <sys/types.h>

namespace dmabuf {

/// What the block device `device` is, and on which disks it lies, by `sysfs` ("/sys"): "the LVM
/// volume vg-models on nvme0n1p2, nvme1n1"; empty if it is a disk, or is not known.
std::string beneath(const std::string &sysfs, dev_t device);

/// A mounted file system: its type, and what was mounted, mostly a device node.
struct Mount {
  std::string type;
  std::string source;
};

/// The mount through which `fd` was opened, by `proc` ("/proc/self"); empty if it is not known.
Mount mount_of(const std::string &proc, int fd);

/// The same of an open file, as a clause: "it is the …", or for a regular file "it lies on ext4 on
/// the …", of its file system and the device that this is on.
std::string beneath(int fd);

} // namespace dmabuf
