// SPDX-License-Identifier: GPL-2.0-only
#include "job/polling.hpp"

#include "base/system.hpp"

#include <cerrno>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace dmabuf {

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
