// SPDX-License-Identifier: GPL-2.0-only
#include "module/beneath.hpp"

#include "base/error.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
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

std::string beneath(int fd) {
  struct stat state = {};
  if (fstat(fd, &state))
    return "";
  const bool block = S_ISBLK(state.st_mode);
  const std::string what = beneath("/sys", block ? state.st_rdev : state.st_dev);
  return what.empty() ? "" : (block ? "it is " : "it lies on ") + what;
}

} // namespace dmabuf
