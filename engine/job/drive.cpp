// SPDX-License-Identifier: GPL-2.0-only
#include "job/drive.hpp"

#include "base/system.hpp"

#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstring>
#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

} // namespace dmabuf
