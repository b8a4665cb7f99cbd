// SPDX-License-Identifier: GPL-2.0-only
// HIP: memory of an AMD GPU by ROCm, exported by the HSA runtime below HIP.
//
// HIP has an export of its own, hipMemGetHandleForAddressRange, in newer ROCm only. It ends in the
// HSA runtime's, which older ROCm has, too, and which says where in the dma-buf the memory
// lies: that must be its start.
//
// ROCm does not survive a fork: everything here happens in the job's own process.
#include "base/sizes.hpp"
#include "exporter/hip_api.hpp"
#include "exporter/shared_library.hpp"

#include <cerrno>
#include <fcntl.h>

namespace dmabuf {
namespace {

/// The HSA runtime cuts smaller allocations out of shared blocks of this size.
constexpr uint64_t kBlock = 2 * kMiB;

int to_errno(HipError result) {
  switch (result) {
  case kHipSuccess:
    return 0;
  case kHipOutOfMemory:
    return ENOMEM;
  case kHipNoDevice:
  case kHipInvalidDevice:
    return ENODEV;
  case kHipNotSupported:
    return EOPNOTSUPP;
  default:
    return EIO;
  }
}

/// "<what> (<call>: hipError…); <remedy>"
std::unexpected<Error> refuse(const HipApi &api, const char *call, HipError result,
                              const std::string &what, const std::string &remedy) {
  const char *name = api.error_name(result);
  return fail(to_errno(result),
              strf("%s (%s: %s); %s", what.c_str(), call, name ? name : "unknown", remedy.c_str()));
}

/// One allocation of a GPU.
class HipMemory final : public DeviceMemory {
public:
  HipMemory(const HipApi &api, int device) : api_(api), device_(device) {}
  ~HipMemory() override;
  HipMemory(const HipMemory &) = delete;
  HipMemory &operator=(const HipMemory &) = delete;

  /// Takes the memory and a dma-buf of it. `gpu`: for messages.
  Result<UniqueFd> make(uint64_t bytes, const std::string &gpu, const char *shrink);

  int read(uint64_t offset, std::span<std::byte> to) override;
  int write(uint64_t offset, std::span<const std::byte> from) override;

private:
  Result<UniqueFd> export_memory(uint64_t bytes, const std::string &gpu);
  std::unexpected<Error> refuse_memory(HipError result, uint64_t bytes, const std::string &gpu,
                                       const char *shrink) const;
  int copy(void *to, const void *from, size_t bytes, int kind) const;

  const HipApi api_;
  const int device_;
  std::byte *pointer_ = nullptr;
  int exported_ = -1; ///< ROCm's descriptor of the dma-buf, where ROCm closes it
};

/// Whether the driver exports dma-bufs to ROCm. Yes and no are what it says itself.
enum class Exports { yes, no, unknown };

Exports driver_exports(const HipApi &api) {
  bool says = false;
  if (!api.system_info || api.system_info(kHsaDmaBufSupported, &says) != kHsaSuccess)
    return Exports::unknown;
  return says ? Exports::yes : Exports::no;
}

constexpr const char *kNewerKernel =
    "use a newer kernel, whose amdgpu driver can, or dmabuf_exporter=amdgpu";

HipMemory::~HipMemory() {
  if (exported_ >= 0)
    (void)api_.close_export(exported_);
  // The current device is the thread's; it has been set, as there is memory.
  if (pointer_ && api_.set_device(device_) == kHipSuccess)
    (void)api_.free(pointer_);
}

Result<UniqueFd> HipMemory::make(uint64_t bytes, const std::string &gpu, const char *shrink) {
  if (const HipError result = api_.set_device(device_))
    return refuse(api_, "hipSetDevice", result, strf("GPU %s cannot be used", gpu.c_str()),
                  "see rocm-smi and the kernel's log");
  if (driver_exports(api_) == Exports::no)
    return fail(EOPNOTSUPP, strf("the driver of GPU %s says that it exports no dma-bufs to ROCm "
                                 "(HSA_AMD_SYSTEM_INFO_DMABUF_SUPPORTED); %s",
                                 gpu.c_str(), kNewerKernel));
  void *pointer = nullptr;
  if (const HipError result = api_.allocate(&pointer, bytes))
    return refuse_memory(result, bytes, gpu, shrink);
  pointer_ = static_cast<std::byte *>(pointer);
  return export_memory(bytes, gpu);
}

Result<UniqueFd> HipMemory::export_memory(uint64_t bytes, const std::string &gpu) {
  int fd = -1;
  uint64_t offset = 0;
  if (const HsaStatus status = api_.export_range(pointer_, bytes, &fd, &offset))
    return fail(EOPNOTSUPP, strf("GPU %s did not export its memory as a dma-buf "
                                 "(hsa_amd_portable_export_dmabuf: status 0x%x); %s",
                                 gpu.c_str(), static_cast<unsigned>(status),
                                 driver_exports(api_) == Exports::yes
                                     ? "see the kernel's log, or use dmabuf_exporter=amdgpu"
                                     : kNewerKernel));
  UniqueFd exported(fd);
  if (api_.close_export) {
    // What ROCm opened is ROCm's to close, as the last of it all.
    exported_ = exported.release();
    exported.reset(fcntl(exported_, F_DUPFD_CLOEXEC, 0));
    if (!exported)
      return fail(errno, errno_text("cannot open the dma-buf once more; raise ulimit -n", errno));
  }
  if (offset)
    return fail(EIO, strf("ROCm put the buffer at byte %llu of a dma-buf that has other memory, "
                          "too; use dmabuf_exporter=amdgpu",
                          static_cast<unsigned long long>(offset)));
  return exported;
}

std::unexpected<Error> HipMemory::refuse_memory(HipError result, uint64_t bytes,
                                                const std::string &gpu, const char *shrink) const {
  size_t available = 0, total = 0;
  const auto need = static_cast<unsigned long long>(mib_up(bytes));
  if (result != kHipOutOfMemory || api_.memory_info(&available, &total) != kHipSuccess)
    return refuse(api_, "hipMalloc", result,
                  strf("GPU %s did not give %llu MiB", gpu.c_str(), need),
                  strf("%s, or use another dmabuf_device", shrink));
  return fail(ENOMEM, strf("the job's buffer needs %llu MiB and GPU %s has %llu MiB of %llu MiB "
                           "free; %s, or use another dmabuf_device",
                           need, gpu.c_str(), static_cast<unsigned long long>(available / kMiB),
                           static_cast<unsigned long long>(total / kMiB), shrink));
}

int HipMemory::copy(void *to, const void *from, size_t bytes, int kind) const {
  if (const HipError result = api_.set_device(device_))
    return to_errno(result);
  if (const HipError result = api_.copy(to, from, bytes, kind))
    return to_errno(result);
  // A copy from ordinary memory may return before the last of it has arrived.
  return to_errno(api_.synchronize());
}

int HipMemory::read(uint64_t offset, std::span<std::byte> to) {
  return copy(to.data(), pointer_ + offset, to.size(), kHipDeviceToHost);
}

int HipMemory::write(uint64_t offset, std::span<const std::byte> from) {
  return copy(pointer_ + offset, from.data(), from.size(), kHipHostToDevice);
}

Result<void> start_hip(const HipApi &api) {
  const HipError result = api.init(0);
  if (result == kHipSuccess)
    return {};
  if (result == kHipNotInitialized)
    return refuse(api, "hipInit", result, "HIP does not start, as after a fork",
                  "add thread=1, or drop what uses ROCm in fio itself");
  return refuse(api, "hipInit", result, "HIP finds no AMD GPU",
                "load the driver (modprobe amdgpu); if /dev/kfd is there, run as root or join the "
                "groups that own it and /dev/dri/renderD* (render)");
}

/// `name`: a number or a PCI address; empty: the first GPU.
Result<int> find_device(const HipApi &api, const std::string &name) {
  const auto number = device_number(name.empty() ? "0" : name);
  int device = 0;
  if (!number) {
    if (const HipError result = api.device_by_pci(&device, name.c_str()))
      return refuse(api, "hipDeviceGetByPCIBusId", result,
                    strf("there is no HIP device %s", name.c_str()),
                    "set dmabuf_device to a number or to a PCI address such as 0000:03:00.0");
    return device;
  }
  int count = 0;
  if (const HipError result = api.device_count(&count))
    return refuse(api, "hipGetDeviceCount", result, "HIP does not count its GPUs", "see rocm-smi");
  if (count <= 0)
    return fail(ENODEV,
                "HIP finds no AMD GPU; see rocm-smi and HIP_VISIBLE_DEVICES, or use another "
                "dmabuf_exporter");
  if (*number >= static_cast<unsigned>(count))
    return fail(ENODEV, strf("there is no HIP device %u, the last one is %d; set dmabuf_device",
                             *number, count - 1));
  return static_cast<int>(*number);
}

constexpr const char *kInstall =
    "install ROCm's HIP runtime (Debian's packages libamdhip64-5 and libhsa-runtime64-1), add "
    "/opt/rocm/lib to LD_LIBRARY_PATH if it is there, or use another dmabuf_exporter";
constexpr const char *kUpdate = "install a newer ROCm";

} // namespace

Result<HipApi> load_hip() {
  HipApi api = {};
  auto ok = load_library({"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5"},
                         {{"hipInit", symbol_address(api.init)},
                          {"hipGetErrorName", symbol_address(api.error_name)},
                          {"hipGetDeviceCount", symbol_address(api.device_count)},
                          {"hipDeviceGetByPCIBusId", symbol_address(api.device_by_pci)},
                          {"hipDeviceGetPCIBusId", symbol_address(api.device_pci)},
                          {"hipSetDevice", symbol_address(api.set_device)},
                          {"hipDeviceSynchronize", symbol_address(api.synchronize)},
                          {"hipMemGetInfo", symbol_address(api.memory_info)},
                          {"hipMalloc", symbol_address(api.allocate)},
                          {"hipFree", symbol_address(api.free)},
                          {"hipMemcpy", symbol_address(api.copy)}},
                         kInstall, kUpdate);
  // HIP has it loaded already.
  if (ok)
    ok = load_library(
        {"libhsa-runtime64.so.1"},
        {{"hsa_amd_portable_export_dmabuf", symbol_address(api.export_range)},
         {"hsa_amd_portable_close_dmabuf", symbol_address(api.close_export), Need::optional},
         {"hsa_system_get_info", symbol_address(api.system_info), Need::optional}},
        kInstall, kUpdate);
  if (!ok)
    return std::unexpected(std::move(ok.error()));
  return api;
}

Result<DmaBuf> allocate_hip(const HipApi &api, const BufferRequest &request) {
  if (auto ok = start_hip(api); !ok)
    return std::unexpected(std::move(ok.error()));
  const auto device = find_device(api, request.device);
  if (!device)
    return std::unexpected(device.error());
  char written[32] = {};
  if (const HipError result = api.device_pci(written, sizeof(written), *device))
    return refuse(api, "hipDeviceGetPCIBusId", result, "HIP does not tell a GPU's PCI address",
                  kUpdate);
  const std::string pci = sysfs_address(written);
  const auto size = round_up(request.bytes, kBlock);
  if (!size)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", request.shrink));
  auto memory = std::make_unique<HipMemory>(api, *device);
  auto fd = memory->make(*size, pci, request.shrink);
  if (!fd)
    return std::unexpected(std::move(fd.error()));
  DmaBuf buffer;
  buffer.device = pci;
  buffer.fd = std::move(*fd);
  buffer.memory = std::move(memory);
  return buffer;
}

Result<DmaBuf> allocate_hip(const BufferRequest &request) {
  const auto api = load_hip();
  if (!api)
    return std::unexpected(api.error());
  return allocate_hip(*api, request);
}

} // namespace dmabuf
