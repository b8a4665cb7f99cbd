// SPDX-License-Identifier: GPL-2.0-only
#include "interrupt.hpp"

#include "report.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <format>
#include <glob.h>
#include <string>
#include <unistd.h>

namespace vmtest {

namespace {

std::string config_path() {
  glob_t found{};
  std::string path;
  if (::glob("/sys/class/nvme/nvme*/device/config", 0, nullptr, &found) == 0)
    path = found.gl_pathv[0];
  ::globfree(&found);
  return path;
}

template <class Number> Number read_at(int fd, off_t at) {
  Number value{};
  if (::pread(fd, &value, sizeof(value), at) != sizeof(value))
    die(std::format("PCI configuration space: {}", std::strerror(errno)));
  return value;
}

} // namespace

DriveInterrupt::DriveInterrupt() : config_(::open(config_path().c_str(), O_RDWR | O_CLOEXEC)) {
  if (!config_)
    die(std::format("the drive's PCI configuration space: {}", std::strerror(errno)));
  constexpr std::uint8_t msix = 0x11;
  std::uint8_t pointer = read_at<std::uint8_t>(config_.get(), 0x34);
  while (pointer && read_at<std::uint8_t>(config_.get(), pointer) != msix)
    pointer = read_at<std::uint8_t>(config_.get(), pointer + 1);
  if (!pointer)
    die("the drive has no MSI-X");
  at_ = pointer + 2;
  control_ = read_at<std::uint16_t>(config_.get(), at_);
  control_ = static_cast<std::uint16_t>(control_ & ~function_mask);
}

void DriveInterrupt::write(std::uint16_t value) {
  if (::pwrite(config_.get(), &value, sizeof(value), at_) != sizeof(value))
    die(std::format("PCI configuration space: {}", std::strerror(errno)));
}

DriveInterrupt &drive_interrupt() {
  static DriveInterrupt interrupt;
  return interrupt;
}

} // namespace vmtest
