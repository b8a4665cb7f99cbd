// SPDX-License-Identifier: GPL-2.0-only
#include "exporter/vfio_device.hpp"

#include "base/sizes.hpp"
#include "exporter/pci_bars.hpp"
#include "exporter/vfio_abi.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <linux/pci_regs.h>

namespace dmabuf {
namespace {

namespace fs = std::filesystem;

constexpr const char *kDevices = "/sys/bus/pci/devices";

std::string sysfs(const VfioCalls &calls, const std::string &address) {
  return calls.root + kDevices + "/" + address;
}

/// Name of what a link points to; empty if there is no such link.
std::string link_name(const std::string &link) {
  std::error_code error;
  return fs::read_symlink(link, error).filename();
}

bool exists(const std::string &path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// Names in a folder, in order.
std::vector<std::string> names(const std::string &folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; entry != end; entry.increment(error))
    found.push_back(entry->path().filename());
  std::ranges::sort(found);
  return found;
}

/// vfio-pci, or a driver of the same kind for one sort of device (mlx5_vfio_pci, nvgrace-gpu-vfio-
/// pci).
bool is_vfio(std::string driver) {
  std::ranges::replace(driver, '_', '-');
  return driver.ends_with("vfio-pci");
}

/// "0000:01:00.0 (BAR 0: 16 KiB, not prefetchable; BAR 2: 1 MiB)"; "" without a memory BAR.
std::string with_bars(const std::string &address, const std::string &path) {
  std::string list;
  const auto bars = pci_bars(path);
  for (unsigned bar = 0; bar < bars.size(); bar++)
    if (bars[bar].bytes)
      list +=
          strf("%sBAR %u: %s%s", list.empty() ? "" : "; ", bar, size_text(bars[bar].bytes).c_str(),
               bars[bar].prefetchable ? "" : ", not prefetchable");
  return list.empty() ? list : address + " (" + list + ")";
}

std::unexpected<Error> in_use(const std::string &address, int code) {
  return fail(code,
              strf("%s is in use by another process (%s), and VFIO gives a device to one; give "
                   "each job its own by a ':' list in dmabuf_device, or run the jobs with "
                   "thread=1",
                   address.c_str(), errno_name(code).c_str()));
}

std::unexpected<Error> not_opened(const std::string &path, const std::string &address, int code) {
  if (code == EBUSY)
    return in_use(address, code);
  if (code == EACCES || code == EPERM)
    return fail(code, strf("%s may not be opened (%s); run as root, or change its owner",
                           path.c_str(), errno_name(code).c_str()));
  if (code == ENOENT || code == ENODEV || code == ENXIO)
    return fail(code, strf("there is no %s; load VFIO (modprobe -a vfio-pci vfio_iommu_type1)",
                           path.c_str()));
  return fail(code, errno_text(strf("cannot open %s", path.c_str()), code));
}

std::unexpected<Error> refused(const char *call, const std::string &address, int code) {
  return fail(code, errno_text(strf("VFIO refuses %s of %s; look at the kernel log (dmesg)", call,
                                    address.c_str()),
                               code));
}

std::unexpected<Error> no_iommu(const std::string &what) {
  return fail(ENODEV,
              strf("no IOMMU stands before %s, and VFIO gives no device without one; switch it "
                   "on in the firmware and by intel_iommu=on on the kernel's command line",
                   what.c_str()));
}

/// Whether vfio-pci drives the function, and an IOMMU is in front of it.
Result<void> check_driver(const VfioCalls &calls, const std::string &address) {
  const std::string path = sysfs(calls, address);
  const char *name = address.c_str();
  if (!exists(path))
    return fail(ENODEV,
                strf("there is no PCI device %s; see lspci -D and set dmabuf_device", name));
  // Without one vfio-pci does not take the device either.
  if (!exists(path + "/iommu_group"))
    return no_iommu(address);
  const std::string driver = link_name(path + "/driver");
  if (!is_vfio(driver))
    return fail(
        ENODEV,
        strf("%s is driven by %s, not by vfio-pci; bind it: modprobe vfio-pci; echo vfio-pci "
             "> %s/%s/driver_override; %secho %s > /sys/bus/pci/drivers_probe",
             name, driver.empty() ? "nothing" : driver.c_str(), kDevices, name,
             driver.empty() ? ""
                            : strf("echo %s > %s/%s/driver/unbind; ", name, kDevices, name).c_str(),
             name));
  return {};
}

} // namespace

std::string size_text(uint64_t bytes) {
  const bool mib = bytes >= kMiB && bytes % kMiB == 0;
  const bool kib = bytes >= 1024 && bytes % 1024 == 0;
  return strf("%llu %s",
              static_cast<unsigned long long>(mib   ? bytes / kMiB
                                              : kib ? bytes / 1024
                                                    : bytes),
              mib   ? "MiB"
              : kib ? "KiB"
                    : "bytes");
}

Error no_vfio_device_named(const VfioCalls &calls) {
  bool iommu = false;
  std::string first, list;
  for (const std::string &address : names(calls.root + kDevices)) {
    const std::string path = sysfs(calls, address);
    iommu = iommu || exists(path + "/iommu_group");
    if (!is_vfio(link_name(path + "/driver")))
      continue;
    const std::string bars = with_bars(address, path + "/resource");
    if (bars.empty())
      continue;
    if (first.empty())
      first = address;
    list += (list.empty() ? "" : ", ") + bars;
  }
  if (!iommu)
    return no_iommu("any PCI device").error();
  if (list.empty())
    return {ENODEV,
            "no PCI device with a memory BAR is driven by vfio-pci; bind one (echo vfio-pci "
            "> /sys/bus/pci/devices/ADDRESS/driver_override; echo ADDRESS > "
            "/sys/bus/pci/drivers_probe), or use another dmabuf_exporter"};
  return {EINVAL, strf("exporter vfio takes no device unasked, because the drive writes to its "
                       "memory; vfio-pci drives %s: name the one that may be overwritten, as in "
                       "dmabuf_device=%s, or with /N for its BAR N",
                       list.c_str(), first.c_str())};
}

Result<std::shared_ptr<VfioDevice>> VfioDevice::open(VfioCalls &calls, const std::string &address) {
  if (auto ok = check_driver(calls, address); !ok)
    return std::unexpected(std::move(ok.error()));
  std::shared_ptr<VfioDevice> device(new VfioDevice(calls, address));
  const std::string path = sysfs(calls, address);
  const auto cdevs = names(path + "/vfio-dev");
  const bool by_cdev = !cdevs.empty() && exists(calls.root + "/dev/iommu") &&
                       exists(calls.root + "/dev/vfio/devices/" + cdevs[0]);
  auto ok = by_cdev ? device->open_by_cdev(cdevs[0])
                    : device->open_by_group(link_name(path + "/iommu_group"));
  if (ok)
    ok = device->learn_bars();
  if (ok)
    ok = device->learn_msix();
  if (ok)
    ok = device->enable_memory();
  if (!ok)
    return std::unexpected(std::move(ok.error()));
  return device;
}

Result<void> VfioDevice::open_by_cdev(const std::string &name) {
  const std::string path = "/dev/vfio/devices/" + name;
  device_.reset(calls_.open(path));
  if (!device_)
    return not_opened(path, address_, errno);
  container_.reset(calls_.open("/dev/iommu"));
  if (!container_)
    return not_opened("/dev/iommu", address_, errno);
  vfio::BindIommufd bind = {
      .argsz = sizeof(bind), .flags = 0, .iommufd = container_.get(), .out_devid = 0};
  if (calls_.ioctl(device_.get(), vfio::kBindIommufd, &bind) < 0) {
    // EINVAL is the answer for a device that has another owner already.
    if (errno == EBUSY || errno == EINVAL)
      return in_use(address_, errno);
    return refused("VFIO_DEVICE_BIND_IOMMUFD", address_, errno);
  }
  return {};
}

Result<void> VfioDevice::open_by_group(const std::string &group) {
  const std::string path = "/dev/vfio/" + group;
  container_.reset(calls_.open("/dev/vfio/vfio"));
  if (!container_)
    return not_opened("/dev/vfio/vfio", address_, errno);
  group_.reset(calls_.open(path));
  if (!group_)
    return not_opened(path, address_, errno);
  vfio_group_status status = {.argsz = sizeof(status), .flags = 0};
  if (calls_.ioctl(group_.get(), VFIO_GROUP_GET_STATUS, &status) < 0)
    return refused("VFIO_GROUP_GET_STATUS", address_, errno);
  if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
    return fail(EPERM, strf("other drivers hold devices of the IOMMU group of %s; bind all that "
                            "%s/%s/iommu_group/devices lists to vfio-pci",
                            address_.c_str(), kDevices, address_.c_str()));
  int container = container_.get();
  if (calls_.ioctl(group_.get(), VFIO_GROUP_SET_CONTAINER, &container) < 0)
    return refused("VFIO_GROUP_SET_CONTAINER", address_, errno);
  if (calls_.ioctl(container, VFIO_SET_IOMMU, reinterpret_cast<void *>(VFIO_TYPE1v2_IOMMU)) < 0)
    return fail(errno, errno_text("VFIO has no driver for this IOMMU; load it (modprobe "
                                  "vfio_iommu_type1)",
                                  errno));
  device_.reset(calls_.ioctl(group_.get(), VFIO_GROUP_GET_DEVICE_FD, address_.data()));
  if (!device_)
    return refused("VFIO_GROUP_GET_DEVICE_FD", address_, errno);
  return {};
}

Result<void> VfioDevice::learn_bars() {
  const auto ask = [&](uint32_t index, vfio_region_info &region) {
    region = {};
    region.argsz = sizeof(region);
    region.index = index;
    return calls_.ioctl(device_.get(), VFIO_DEVICE_GET_REGION_INFO, &region) == 0;
  };
  vfio_region_info region;
  if (!ask(VFIO_PCI_CONFIG_REGION_INDEX, region))
    return refused("VFIO_DEVICE_GET_REGION_INFO", address_, errno);
  config_ = region.offset;
  const auto known = pci_bars(sysfs(calls_, address_) + "/resource");
  for (unsigned bar = 0; bar < kBars; bar++)
    if (ask(VFIO_PCI_BAR0_REGION_INDEX + bar, region) &&
        (region.flags & VFIO_REGION_INFO_FLAG_MMAP)) {
      bars_[bar].bytes = region.size;
      bars_[bar].prefetchable = known[bar].prefetchable;
      bars_[bar].place = region.offset;
    }
  return {};
}

/// Reads from the configuration space.
template <class T> bool VfioDevice::config(unsigned place, T &value) const {
  return pread(device_.get(), &value, sizeof(value), static_cast<off_t>(config_ + place)) ==
         sizeof(value);
}

Result<void> VfioDevice::learn_msix() {
  const auto unread = [&](const char *why) {
    return fail(EIO, strf("the list of capabilities of %s %s, so that where its MSI-X table is "
                          "cannot be told; use another dmabuf_device, and look at the kernel log "
                          "(dmesg)",
                          address_.c_str(), why));
  };
  uint16_t status;
  uint8_t at;
  if (!config(PCI_STATUS, status) || !config(PCI_CAPABILITY_LIST, at))
    return unread("cannot be read");
  if (!(status & PCI_STATUS_CAP_LIST))
    return {};
  constexpr unsigned kMost = (256 - 64) / 4; // of four bytes each, behind the header
  for (unsigned seen = 0; seen <= kMost; seen++) {
    at &= 0xfc;
    if (!at)
      return {};
    uint8_t kind, next;
    uint32_t table, pending;
    if (!config(at + PCI_CAP_LIST_ID, kind) || !config(at + PCI_CAP_LIST_NEXT, next))
      return unread("cannot be read");
    if (kind == PCI_CAP_ID_MSIX) {
      if (!config(at + PCI_MSIX_TABLE, table) || !config(at + PCI_MSIX_PBA, pending))
        return unread("cannot be read");
      if ((table & PCI_MSIX_TABLE_BIR) < kBars)
        bars_[table & PCI_MSIX_TABLE_BIR].msix_table = true;
      if ((pending & PCI_MSIX_PBA_BIR) < kBars)
        bars_[pending & PCI_MSIX_PBA_BIR].msix_pending = true;
      return {};
    }
    at = next;
  }
  return unread("has no end");
}

Result<void> VfioDevice::enable_memory() {
  const auto place = static_cast<off_t>(config_ + PCI_COMMAND);
  uint16_t command = 0;
  bool done = pread(device_.get(), &command, sizeof(command), place) == sizeof(command);
  command |= PCI_COMMAND_MEMORY;
  done = done && pwrite(device_.get(), &command, sizeof(command), place) == sizeof(command);
  if (!done)
    return fail(EIO,
                strf("%s does not let its memory be switched on (PCI command register); look at "
                     "the kernel log (dmesg)",
                     address_.c_str()));
  return {};
}

const char *VfioDevice::forbidden(unsigned bar) const {
  if (bars_[bar].msix_table)
    return "holds the MSI-X table, which tells the device where to send its interrupts";
  return bars_[bar].msix_pending ? "holds the MSI-X pending bits, a part of its registers" : "";
}

std::optional<uint64_t> VfioDevice::take(unsigned bar, uint64_t bytes) {
  Bar &from = bars_[bar];
  uint64_t at = 0;
  for (const auto &[offset, length] : from.taken) {
    if (offset - at >= bytes)
      break;
    at = offset + length;
  }
  if (at > from.bytes || from.bytes - at < bytes)
    return std::nullopt;
  from.taken[at] = bytes;
  return at;
}

Result<UniqueFd> VfioDevice::export_part(unsigned bar, uint64_t offset, uint64_t bytes) const {
  vfio::GetDmaBuf get = {.argsz = sizeof(get),
                         .feature = vfio::kFeatureDmaBuf | VFIO_DEVICE_FEATURE_GET,
                         .region_index = VFIO_PCI_BAR0_REGION_INDEX + bar,
                         .open_flags = O_RDWR | O_CLOEXEC,
                         .flags = 0,
                         .nr_ranges = 1,
                         .offset = offset,
                         .length = bytes};
  UniqueFd fd(calls_.ioctl(device_.get(), VFIO_DEVICE_FEATURE, &get));
  if (fd)
    return fd;
  const int code = errno;
  if (code == ENOTTY)
    return fail(code,
                "this kernel's vfio-pci gives no dma-bufs (VFIO_DEVICE_FEATURE_DMA_BUF: ENOTTY); "
                "use Linux 6.19 or newer, built with CONFIG_VFIO_PCI_DMABUF");
  return fail(code, errno_text(strf("vfio-pci gives no dma-buf of BAR %u of %s; use another BAR or "
                                    "device, and see the kernel log (dmesg)",
                                    bar, address_.c_str()),
                               code));
}

Result<MappedRange> VfioDevice::map_part(unsigned bar, uint64_t offset, uint64_t bytes) const {
  void *view = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, device_.get(),
                    static_cast<off_t>(bars_[bar].place + offset));
  if (view == MAP_FAILED)
    return fail(errno, errno_text(strf("BAR %u of %s cannot be mapped for the copies that fio's "
                                       "buffers need; use another BAR or device",
                                       bar, address_.c_str()),
                                  errno));
  return MappedRange(view, bytes);
}

} // namespace dmabuf
