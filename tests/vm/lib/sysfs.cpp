// SPDX-License-Identifier: GPL-2.0-only
#include "sysfs.hpp"

#include "report.hpp"
#include "unique_fd.hpp"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace vmtest {

int write_file(const std::string &path, std::string_view text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
  if (!fd)
    return -errno;
  return ::write(fd.get(), text.data(), text.size()) < 0 ? -errno : 0;
}

std::string read_file(const std::string &path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

int number_in(const std::string &path) {
  const std::string text = read_file(path);
  return text.empty() ? -1 : std::atoi(text.c_str());
}

std::string pci_function(const std::string &controller) {
  std::error_code error;
  const auto device =
      std::filesystem::canonical("/sys/class/nvme/" + controller + "/device", error);
  if (error)
    die(controller + " has no PCI function");
  return device.filename();
}

bool has_poll_queues() { return number_in("/sys/module/nvme/parameters/poll_queues") > 0; }

std::string formats_namespace(unsigned number) {
  for (const auto &entry : std::filesystem::directory_iterator("/sys/block")) {
    const std::string name = entry.path().filename();
    if (name.starts_with("nvme1n") && number_in(entry.path() / "nsid") == static_cast<int>(number))
      return "/dev/" + name;
  }
  die(std::format("drive nvme1 has no namespace {} (dmabuf-lab run --formats)", number));
}

} // namespace vmtest
