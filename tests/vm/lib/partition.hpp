// SPDX-License-Identifier: GPL-2.0-only
// A partition of a scratch disk for the length of a scope; no partition table is written.
#pragma once

#include "report.hpp"
#include "target.hpp"

#include <linux/blkpg.h>

#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/ioctl.h>

namespace vmtest {

class Partition {
public:
  // [start, start + bytes) of the disk, as its first partition.
  Partition(const std::string &disk, std::uint64_t start, std::uint64_t bytes)
      : disk_(open_target(disk, O_RDWR | O_CLOEXEC)), node_(disk + "p1"), start_(start) {
    change(BLKPG_DEL_PARTITION, 0, 0);
    if (const int error = change(BLKPG_ADD_PARTITION, start, bytes))
      die("BLKPG_ADD_PARTITION: " + errno_name(error));
    for (int tries = 0; tries < 500 && ::access(node_.c_str(), F_OK) != 0; ++tries)
      ::usleep(20000);
  }
  Partition(const Partition &) = delete;
  Partition &operator=(const Partition &) = delete;
  ~Partition() { change(BLKPG_DEL_PARTITION, 0, 0); }
  const std::string &node() const { return node_; }
  // 0 or a negative errno.
  int resize(std::uint64_t bytes) { return change(BLKPG_RESIZE_PARTITION, start_, bytes); }

private:
  int change(int op, std::uint64_t start, std::uint64_t bytes) {
    blkpg_partition partition{};
    partition.pno = 1;
    partition.start = static_cast<long long>(start);
    partition.length = static_cast<long long>(bytes);
    blkpg_ioctl_arg argument{
        .op = op, .flags = 0, .datalen = sizeof(partition), .data = &partition};
    return ::ioctl(disk_.get(), BLKPG, &argument) < 0 ? -errno : 0;
  }
  UniqueFd disk_;
  std::string node_;
  std::uint64_t start_;
};

} // namespace vmtest
