// SPDX-License-Identifier: GPL-2.0-only
#include "job/drive.hpp"

#include "base/system.hpp"
#include "datapath/lane.hpp"
#include "module/reasons.hpp"

#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

namespace dmabuf {
namespace {

/// Whether the kernel calls the device one of NVMe: ioctl numbers mean other things elsewhere.
bool is_nvme(int fd) {
  struct stat state = {};
  if (fstat(fd, &state) || !S_ISBLK(state.st_mode))
    return false;
  const std::string link = strf("/sys/dev/block/%u:%u", major(state.st_rdev), minor(state.st_rdev));
  std::array<char, PATH_MAX> target = {};
  return readlink(link.c_str(), target.data(), target.size() - 1) > 0 &&
         std::strstr(target.data(), "/nvme");
}

} // namespace

uint32_t longest_command(int fd) {
  if (!is_nvme(fd))
    return 0;
  constexpr uint8_t kIdentify = 6;
  constexpr uint32_t kController = 1; // CNS
  constexpr size_t kMdts = 77;
  alignas(4096) std::array<uint8_t, 4096> answer = {};
  nvme_admin_cmd command = {};
  command.opcode = kIdentify;
  command.addr = reinterpret_cast<uintptr_t>(answer.data());
  command.data_len = answer.size();
  command.cdw10 = kController;
  return ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command) == 0 ? longest_command_of(answer[kMdts]) : 0;
}

std::optional<bool> has_polled_queues(const std::string &sysfs, dev_t device) {
  const std::string base = strf("%s/dev/block/%u:%u", sysfs.c_str(), major(device), minor(device));
  for (const char *queue : {"/queue/io_poll", "/../queue/io_poll"})
    if (const auto polled = read_number((base + queue).c_str()))
      return *polled != 0;
  return std::nullopt;
}

Result<void> check_polled(int fd, const std::string &name) {
  struct stat info = {};
  if (fstat(fd, &info) < 0)
    return fail(errno, errno_text(strf("cannot tell what %s is", name.c_str()), errno));
  const auto polled = has_polled_queues("/sys", S_ISBLK(info.st_mode) ? info.st_rdev : info.st_dev);
  if (polled && !*polled)
    return fail(EOPNOTSUPP, strf("the drive of %s has no polled queues, so hipri would change "
                                 "nothing; load its driver with some (nvme.poll_queues=N), or drop "
                                 "hipri",
                                 name.c_str()));
  return {};
}

Result<void> check_uncached(int fd, const std::string &name) {
  std::byte byte = {};
  const iovec range = {&byte, 1};
  if (preadv2(fd, &range, 1, 0, kDontCache) < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
    return fail(EOPNOTSUPP,
                strf("uncached: this kernel or its file system has no uncached reads and "
                     "writes of %s (RWF_DONTCACHE, Linux 6.14); drop uncached, or set "
                     "direct=1",
                     name.c_str()));
  return {};
}

Result<void> check_steps(int fd, const std::string &name, std::span<const Step> steps) {
  struct stat info = {};
  int block = 0;
  if (fstat(fd, &info) || !S_ISBLK(info.st_mode) || ioctl(fd, BLKSSZGET, &block) || block <= 0)
    return {};
  for (const Step &step : steps)
    if (step.bytes % static_cast<unsigned>(block))
      return fail(EINVAL,
                  strf("%s=%llu does not go with the logical block of %s (%d bytes): ", step.name,
                       static_cast<unsigned long long>(step.value), name.c_str(), block) +
                      reason_text(DMABUF_RW_REASON_RANGE, EINVAL));
  return {};
}

Result<void> check_atomic(int fd, const std::string &name, uint64_t bytes) {
  // Of struct statx, whose definition may be older than these.
  constexpr unsigned kWriteAtomic = 0x10000;
  constexpr size_t kMask = 0;
  constexpr size_t kMost = 0xac;
  std::array<std::byte, 256> answer = {};
  const auto word = [&](size_t at) {
    uint32_t value = 0;
    std::memcpy(&value, answer.data() + at, sizeof(value));
    return value;
  };
  if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, kWriteAtomic, answer.data()) < 0)
    return fail(errno, errno_text(strf("atomic=1: cannot ask %s", name.c_str()), errno));
  const uint32_t most = word(kMask) & kWriteAtomic ? word(kMost) : 0;
  if (!most)
    return fail(EOPNOTSUPP,
                strf("atomic=1: %s has no atomic writes, or this kernel (Linux 6.11 has "
                     "them, with direct=1); drop atomic",
                     name.c_str()));
  if (bytes > most)
    return fail(EINVAL,
                strf("atomic=1: %s writes at most %u bytes at once; lower bs, or drop atomic",
                     name.c_str(), most));
  return {};
}

} // namespace dmabuf
