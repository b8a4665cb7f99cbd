// SPDX-License-Identifier: GPL-2.0-only
// vfio: a part of a PCI function's memory BAR, exported by vfio-pci.
#include "exporter/vfio.hpp"

#include "base/sizes.hpp"
#include "base/system.hpp"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <mutex>

namespace dmabuf {
namespace {

using Word = uint64_t;

/// Copies to and from a part of a BAR; what keeps its dma-buf alive.
class BarMemory : public DeviceMemory {
public:
  BarMemory(OpenVfioDevices &devices, std::shared_ptr<VfioDevice> device, unsigned bar,
            uint64_t offset)
      : devices_(devices), device_(std::move(device)), bar_(bar), offset_(offset) {}
  ~BarMemory() override {
    view_.reset();
    devices_.drop(std::move(device_), bar_, offset_);
  }

  Result<void> map(uint64_t bytes) {
    auto view = device_->map_part(bar_, offset_, bytes);
    if (!view)
      return std::unexpected(std::move(view.error()));
    view_ = std::move(*view);
    return {};
  }

  int read(uint64_t offset, std::span<std::byte> to) override {
    copy_from_bar(to, view_.data() + offset);
    return 0;
  }
  int write(uint64_t offset, std::span<const std::byte> from) override {
    copy_to_bar(view_.data() + offset, from);
    return 0;
  }

private:
  OpenVfioDevices &devices_;
  std::shared_ptr<VfioDevice> device_;
  unsigned bar_;
  uint64_t offset_;
  MappedRange view_;
};

/// Bytes until an address is aligned for words, at most `bytes`.
size_t head_of(const volatile std::byte *address, size_t bytes) {
  const size_t over = reinterpret_cast<uintptr_t>(address) % sizeof(Word);
  return std::min(bytes, over ? sizeof(Word) - over : 0);
}

/// Digits of a number of base 16, `least` to `most` of them.
bool hex(std::string_view text, size_t least, size_t most) {
  return text.size() >= least && text.size() <= most &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// A BAR, and what is larger and was passed over for it.
struct Choice {
  unsigned bar;
  std::string passed_over; ///< for messages
};

Result<Choice> check_named(const VfioDevice &device, const PciBar &wanted) {
  const char *address = wanted.address.c_str();
  if (!device.bar_bytes(wanted.bar))
    return fail(ENODEV,
                strf("BAR %u of %s is no memory that VFIO maps; use another one (lspci -v), "
                     "or none for the largest that is prefetchable",
                     wanted.bar, address));
  if (const char *why = device.forbidden(wanted.bar); *why)
    return fail(EPERM, strf("BAR %u of %s %s, and no drive may write there; use another BAR or "
                            "dmabuf_device",
                            wanted.bar, address, why));
  return Choice{.bar = wanted.bar, .passed_over = {}};
}

/// The largest BAR that is prefetchable and has no part of MSI-X. Another BAR may be
/// registers, where each write of a drive starts something in the device.
Result<Choice> choose_bar(const VfioDevice &device, const PciBar &wanted) {
  if (wanted.bar != PciBar::kNone)
    return check_named(device, wanted);
  constexpr unsigned kNone = PciBar::kNone;
  unsigned best = kNone, could_be_named = kNone;
  const auto bytes = [&](unsigned bar) { return bar == kNone ? 0 : device.bar_bytes(bar); };
  for (unsigned bar = 0; bar < VfioDevice::kBars; bar++) {
    if (*device.forbidden(bar))
      continue;
    unsigned &place = device.prefetchable(bar) ? best : could_be_named;
    if (bytes(bar) > bytes(place))
      place = bar;
  }
  std::string passed_over;
  for (unsigned bar = 0; bar < VfioDevice::kBars; bar++) {
    if (bytes(bar) <= bytes(best))
      continue;
    const char *why = device.forbidden(bar);
    passed_over += strf("%sBAR %u (%s) %s", passed_over.empty() ? "" : ", ", bar,
                        size_text(bytes(bar)).c_str(),
                        *why ? why : "is not prefetchable and may be registers");
  }
  const char *address = wanted.address.c_str();
  if (best != kNone)
    return Choice{.bar = best, .passed_over = std::move(passed_over)};
  if (passed_over.empty())
    return fail(ENODEV,
                strf("%s has no memory BAR that VFIO maps; use another dmabuf_device", address));
  std::string way = "use another dmabuf_device";
  if (could_be_named != kNone)
    way += strf(", or, if it is memory all the same, name the BAR: dmabuf_device=%s/%u", address,
                could_be_named);
  return fail(ENODEV, strf("no BAR of %s is surely memory: %s; %s", address, passed_over.c_str(),
                           way.c_str()));
}

} // namespace

void copy_from_bar(std::span<std::byte> to, const volatile std::byte *from) {
  size_t at = 0;
  for (const size_t head = head_of(from, to.size()); at < head; at++)
    to[at] = from[at];
  for (; to.size() - at >= sizeof(Word); at += sizeof(Word)) {
    const Word word = *reinterpret_cast<const volatile Word *>(from + at);
    std::memcpy(to.data() + at, &word, sizeof(word));
  }
  for (; at < to.size(); at++)
    to[at] = from[at];
}

void copy_to_bar(volatile std::byte *to, std::span<const std::byte> from) {
  size_t at = 0;
  for (const size_t head = head_of(to, from.size()); at < head; at++)
    to[at] = from[at];
  for (; from.size() - at >= sizeof(Word); at += sizeof(Word)) {
    Word word;
    std::memcpy(&word, from.data() + at, sizeof(word));
    *reinterpret_cast<volatile Word *>(to + at) = word;
  }
  for (; at < from.size(); at++)
    to[at] = from[at];
  // Writes to a device are posted: a read of the last byte returns when they have arrived.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (at)
    (void)to[at - 1];
}

Result<PciBar> pci_bar(std::string_view device) {
  std::string text(device);
  for (char &c : text)
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  PciBar found;
  std::string_view rest = text;
  bool good = true;
  if (const size_t slash = rest.find('/'); slash != std::string_view::npos) {
    const std::string_view bar = rest.substr(slash + 1);
    good = bar.size() == 1 && bar[0] >= '0' && bar[0] <= '5';
    found.bar = good ? static_cast<unsigned>(bar[0] - '0') : 0;
    rest = rest.substr(0, slash);
  }
  if (rest.find(':') == rest.rfind(':'))
    found.address = "0000:";
  found.address += rest;
  rest = found.address;
  const size_t bus = rest.find(':'), slot = rest.rfind(':'), function = rest.rfind('.');
  good = good && function != std::string_view::npos && bus < slot && slot < function &&
         hex(rest.substr(0, bus), 4, 8) && hex(rest.substr(bus + 1, slot - bus - 1), 2, 2) &&
         hex(rest.substr(slot + 1, function - slot - 1), 2, 2) &&
         hex(rest.substr(function + 1), 1, 1);
  if (!good)
    return fail(EINVAL, strf("dmabuf_device=%.*s is no PCI address; exporter vfio takes "
                             "0000:01:00.0, or 0000:01:00.0/2 for its BAR 2 (0 to 5)",
                             static_cast<int>(device.size()), device.data()));
  return found;
}

std::string small_bar(const PciBar &bar, uint64_t bytes, uint64_t has, const char *shrink) {
  return strf("SMALL_BAR: the job's buffer needs %llu MiB and BAR %u of %s has %llu MiB, less what "
              "other jobs and buffers of this process took; %s, or use another BAR or device",
              static_cast<unsigned long long>(mib_up(bytes)), bar.bar, bar.address.c_str(),
              static_cast<unsigned long long>(has / kMiB), shrink);
}

Result<std::shared_ptr<VfioDevice>> OpenVfioDevices::get(const std::string &address) {
  if (auto open = devices_[address].lock())
    return open;
  auto device = VfioDevice::open(calls_, address);
  if (device)
    devices_[address] = *device;
  return device;
}

void OpenVfioDevices::drop(std::shared_ptr<VfioDevice> device, unsigned bar, uint64_t offset) {
  // Under the lock: until the device is closed, an open by another thread finds it in use.
  const std::scoped_lock lock(lock_);
  device->give_back(bar, offset);
  device.reset();
}

Result<DmaBuf> OpenVfioDevices::allocate(const BufferRequest &request) {
  if (request.device.empty())
    return std::unexpected(no_vfio_device_named(calls_));
  auto wanted = pci_bar(request.device);
  if (!wanted)
    return std::unexpected(std::move(wanted.error()));
  const auto bytes = round_up(request.bytes, page_bytes());
  if (!bytes)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", request.shrink));
  return allocate_from(std::move(*wanted), *bytes, request.shrink);
}

Result<DmaBuf> OpenVfioDevices::allocate_from(PciBar wanted, uint64_t bytes, const char *shrink) {
  const std::scoped_lock lock(lock_);
  auto device = get(wanted.address);
  if (!device)
    return std::unexpected(std::move(device.error()));
  const auto choice = choose_bar(**device, wanted);
  if (!choice)
    return std::unexpected(choice.error());
  const unsigned bar = wanted.bar = choice->bar;
  std::string note;
  if (!choice->passed_over.empty())
    note = strf("BAR %u of %s is the largest that is prefetchable; passed over: %s", bar,
                wanted.address.c_str(), choice->passed_over.c_str());
  const auto offset = (*device)->take(bar, bytes);
  if (!offset) {
    const std::string text = small_bar(wanted, bytes, (*device)->bar_bytes(bar), shrink);
    return fail(ENOSPC, note.empty() ? text : text + "; " + note);
  }
  auto memory = std::make_unique<BarMemory>(*this, *device, bar, *offset);
  if (auto ok = memory->map(bytes); !ok)
    return std::unexpected(std::move(ok.error()));
  auto fd = (*device)->export_part(bar, *offset, bytes);
  if (!fd)
    return std::unexpected(std::move(fd.error()));
  DmaBuf buffer;
  buffer.device = strf("%s/%u", wanted.address.c_str(), bar);
  buffer.note = std::move(note);
  buffer.fd = std::move(*fd);
  buffer.memory = std::move(memory);
  return buffer;
}

Result<DmaBuf> allocate_vfio(const BufferRequest &request) {
  // Never freed: a job may end when the process does.
  static auto &devices = *new OpenVfioDevices(*new VfioCalls);
  return devices.allocate(request);
}

} // namespace dmabuf
