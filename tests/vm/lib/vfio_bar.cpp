// SPDX-License-Identifier: GPL-2.0-only
#include "vfio_bar.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <format>
#include <fstream>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace vmtest {

namespace {

namespace fs = std::filesystem;

constexpr unsigned bar_index = 2; // ivshmem's shared memory

std::unexpected<std::string> failed(std::string_view what) {
  return std::unexpected(std::format("{}: {}", what, std::strerror(errno)));
}

std::string first_line(const fs::path &path) {
  std::string line;
  std::getline(std::ifstream(path) >> std::ws, line);
  return line;
}

bool write_text(const fs::path &path, std::string_view text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

std::string find_ivshmem() {
  for (const auto &entry : fs::directory_iterator("/sys/bus/pci/devices"))
    if (first_line(entry.path() / "vendor") == "0x1af4" &&
        first_line(entry.path() / "device") == "0x1110")
      return entry.path().filename();
  return "";
}

bool bind_to_vfio(const std::string &address) {
  const fs::path device = fs::path("/sys/bus/pci/devices") / address;
  if (fs::exists(device / "driver"))
    return fs::canonical(device / "driver").filename() == "vfio-pci";
  return write_text(device / "driver_override", "vfio-pci") &&
         write_text("/sys/bus/pci/drivers_probe", address) && fs::exists(device / "driver");
}

} // namespace

std::expected<VfioBar, std::string> VfioBar::open() {
  VfioBar bar;
  const std::string address = find_ivshmem();
  if (address.empty())
    return std::unexpected("no ivshmem function here (boot with --p2p)");
  if (std::system("modprobe -a vfio-pci vfio_iommu_type1") != 0)
    return std::unexpected("vfio-pci and vfio_iommu_type1 cannot be loaded");
  if (!bind_to_vfio(address))
    return failed("give " + address + " to vfio-pci");

  const fs::path group = fs::canonical("/sys/bus/pci/devices/" + address + "/iommu_group");
  bar.container_ = UniqueFd(::open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
  bar.group_ =
      UniqueFd(::open(("/dev/vfio/" + group.filename().string()).c_str(), O_RDWR | O_CLOEXEC));
  if (!bar.container_ || !bar.group_)
    return failed("open the vfio group");
  int container = bar.container_.get();
  if (::ioctl(bar.group_.get(), VFIO_GROUP_SET_CONTAINER, &container) != 0)
    return failed("VFIO_GROUP_SET_CONTAINER");
  if (::ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0)
    return failed("VFIO_SET_IOMMU");
  bar.device_ = UniqueFd(::ioctl(bar.group_.get(), VFIO_GROUP_GET_DEVICE_FD, address.c_str()));
  if (!bar.device_)
    return failed("VFIO_GROUP_GET_DEVICE_FD");

  vfio_region_info config = {.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX};
  vfio_region_info region = {.argsz = sizeof(region), .index = bar_index};
  if (::ioctl(bar.device_.get(), VFIO_DEVICE_GET_REGION_INFO, &config) != 0 ||
      ::ioctl(bar.device_.get(), VFIO_DEVICE_GET_REGION_INFO, &region) != 0)
    return failed("VFIO_DEVICE_GET_REGION_INFO");
  bar.config_offset_ = config.offset;
  if (!bar.set_memory(true))
    return failed("enable memory decoding");
  void *view = ::mmap(nullptr, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, bar.device_.get(),
                      static_cast<off_t>(region.offset));
  if (view == MAP_FAILED)
    return failed("mmap of the BAR");
  bar.words_ = {static_cast<Word *>(view), region.size / sizeof(Word)};
  return bar;
}

std::expected<UniqueFd, std::string> VfioBar::export_range(std::size_t bytes) const {
  const vfio_region_dma_range range = {.offset = 0, .length = bytes};
  vfio_device_feature_dma_buf buffer = {};
  buffer.region_index = bar_index;
  buffer.open_flags = O_RDWR | O_CLOEXEC;
  buffer.nr_ranges = 1;
  // feature, buffer and range one behind the other; the last two end in open arrays.
  alignas(8) unsigned char ask[sizeof(vfio_device_feature) + sizeof(buffer) + sizeof(range)] = {};
  const vfio_device_feature feature = {
      .argsz = sizeof(ask), .flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF};
  std::memcpy(ask, &feature, sizeof(feature));
  std::memcpy(ask + sizeof(feature), &buffer, sizeof(buffer));
  std::memcpy(ask + sizeof(feature) + sizeof(buffer), &range, sizeof(range));
  UniqueFd fd(::ioctl(device_.get(), VFIO_DEVICE_FEATURE, ask));
  if (!fd)
    return failed("VFIO_DEVICE_FEATURE_DMA_BUF");
  return fd;
}

bool VfioBar::set_memory(bool on) const {
  const auto where = static_cast<off_t>(config_offset_ + PCI_COMMAND);
  std::uint16_t command = 0;
  if (::pread(device_.get(), &command, sizeof(command), where) != sizeof(command))
    return false;
  command |= PCI_COMMAND_MASTER;
  command =
      static_cast<std::uint16_t>(on ? command | PCI_COMMAND_MEMORY : command & ~PCI_COMMAND_MEMORY);
  return ::pwrite(device_.get(), &command, sizeof(command), where) == sizeof(command);
}

} // namespace vmtest
