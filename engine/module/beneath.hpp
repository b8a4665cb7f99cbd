// SPDX-License-Identifier: GPL-2.0-only
// What a target is made of: a volume, a loop device, a namespace over a network.
#pragma once

#include <string>
#include <sys/types.h>

namespace dmabuf {

/// What the block device `device` is, and on which disks it lies, by `sysfs` ("/sys"): "the LVM
/// volume vg-models on nvme0n1p2, nvme1n1"; empty if it is a disk, or is not known.
std::string beneath(const std::string &sysfs, dev_t device);

/// The same of an open file, as a clause: "it is the …", or "it lies on the …" for a regular file,
/// of the device that its file system is on.
std::string beneath(int fd);

} // namespace dmabuf
