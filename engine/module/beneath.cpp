// SPDX-License-Identifier: GPL-2.0-only
#include "module/beneath.hpp"

#include "base/error.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <vector>

namespace dmabuf {
namespace {

namespace fs = std::filesystem;

/// The first line of a small file; empty if that fails.
std::string line_of(const fs::path &file) {
  std::string line;
  std::getline(std::ifstream(file), line);
  return line;
}

std::vector<std::string> names_in(const fs::path &folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename());
  std::ranges::sort(names);
  return names;
}

std::string listed(const std::vector<std::string> &names) {
  std::string text;
  for (const auto &name : names)
    text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// By its names in device-mapper: the user sees these in /dev/mapper.
std::string mapper_text(const fs::path &disk) {
  const std::string name = line_of(disk / "dm/name");
  if (name.empty())
    return "";
  const bool lvm = line_of(disk / "dm/uuid").starts_with("LVM-");
  return strf("the %s %s", lvm ? "LVM volume" : "device-mapper volume", name.c_str());
}

/// Transports of the controllers below a multipath head, or that of the disk's own one.
std::string fabric_text(const fs::path &disk) {
  std::vector<std::string> ways;
  const auto add = [&](const std::string &transport) {
    if (!transport.empty() && transport != "pcie" &&
        std::ranges::find(ways, transport) == ways.end())
      ways.push_back(transport);
  };
  add(line_of(disk / "device/transport"));
  for (const auto &name : names_in(disk / "device"))
    if (name.starts_with("nvme"))
      add(line_of(disk / "device" / name / "transport"));
  return ways.empty() ? "" : "an NVMe namespace over " + listed(ways);
}

} // namespace

std::string beneath(const std::string &sysfs, dev_t device) {
  std::error_code error;
  fs::path disk =
      fs::canonical(fs::path(sysfs) / strf("dev/block/%u:%u", major(device), minor(device)), error);
  if (error)
    return "";
  if (fs::exists(disk / "partition", error))
    disk = disk.parent_path();
  std::string what = mapper_text(disk);
  if (const std::string level = line_of(disk / "md/level"); what.empty() && !level.empty())
    what = strf("the md %s %s", level.c_str(), disk.filename().c_str());
  if (const std::string file = line_of(disk / "loop/backing_file"); what.empty() && !file.empty())
    what = strf("the loop device of %s", file.c_str());
  if (what.empty())
    return fabric_text(disk);
  if (const std::string disks = listed(names_in(disk / "slaves")); !disks.empty())
    what += " on " + disks;
  return what;
}

Mount mount_of(const std::string &proc, int fd) {
  unsigned number = 0;
  std::string word;
  for (std::ifstream info(fs::path(proc) / "fdinfo" / std::to_string(fd)); info >> word;)
    if (word == "mnt_id:")
      info >> number;
  std::string line;
  for (std::ifstream table(fs::path(proc) / "mountinfo"); std::getline(table, line);) {
    std::istringstream words(line);
    unsigned here = 0;
    if (!(words >> here) || here != number)
      continue;
    // How many words there are before the dash depends on the mount.
    while (words >> word && word != "-") {
    }
    Mount mount;
    words >> mount.type >> mount.source;
    return mount;
  }
  return {};
}

std::string beneath(int fd) {
  struct stat state = {};
  if (fstat(fd, &state))
    return "";
  if (S_ISBLK(state.st_mode)) {
    const std::string what = beneath("/sys", state.st_rdev);
    return what.empty() ? "" : "it is " + what;
  }
  if (!S_ISREG(state.st_mode))
    return "";
  const Mount mount = mount_of("/proc/self", fd);
  // btrfs has device numbers of its own.
  struct stat source = {};
  const bool known = !stat(mount.source.c_str(), &source) && S_ISBLK(source.st_mode);
  const std::string what = beneath("/sys", known ? source.st_rdev : state.st_dev);
  std::string where = mount.type;
  if (!what.empty())
    where += (where.empty() ? "" : " on ") + what;
  return where.empty() ? "" : "it lies on " + where;
}

} // namespace dmabuf
