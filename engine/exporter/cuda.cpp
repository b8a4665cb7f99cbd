// SPDX-License-Identifier: GPL-2.0-only
// CUDA: memory of an NVIDIA GPU, exported by the driver API.
//
// CUDA does not survive a fork. Everything here happens in the job's own process, and nothing
// before it: each allocation initialises CUDA, which does nothing where it is already.
#include "base/sizes.hpp"
#include "base/system.hpp"
#include "exporter/cuda_api.hpp"
#include "exporter/shared_library.hpp"

#include <cerrno>

namespace dmabuf {
namespace {

/// A block of the GPU's memory: an allocation of whole ones starts on one and shares none.
constexpr uint64_t kBlock = 2 * kMiB;

int to_errno(CuResult result) {
  switch (result) {
  case kCuSuccess:
    return 0;
  case kCuOutOfMemory:
    return ENOMEM;
  case kCuNoDevice:
  case kCuInvalidDevice:
    return ENODEV;
  case kCuNotPermitted:
    return EPERM;
  case kCuNotSupported:
    return EOPNOTSUPP;
  default:
    return EIO;
  }
}

/// "cuInit: CUDA_ERROR_NO_DEVICE"
std::string result_text(const CudaApi &api, const char *call, CuResult result) {
  const char *name = nullptr;
  if (api.error_name(result, &name) != kCuSuccess || !name)
    return strf("%s: error %d", call, result);
  return strf("%s: %s", call, name);
}

/// "<what> (<call>: CUDA_ERROR_…); <remedy>"
std::unexpected<Error> refuse(const CudaApi &api, const char *call, CuResult result,
                              const std::string &what, const char *remedy) {
  return fail(to_errno(result),
              strf("%s (%s); %s", what.c_str(), result_text(api, call, result).c_str(), remedy));
}

/// Makes a context the thread's own while it lives.
class Current {
public:
  Current(const CudaApi &api, CuContext context) : api_(api), result_(api.push(context)) {}
  ~Current() {
    CuContext popped = nullptr;
    if (result_ == kCuSuccess)
      (void)api_.pop(&popped);
  }
  Current(const Current &) = delete;
  Current &operator=(const Current &) = delete;

  CuResult result() const { return result_; }

private:
  const CudaApi &api_;
  CuResult result_;
};

/// One allocation and the GPU's primary context, which it holds.
class CudaMemory final : public DeviceMemory {
public:
  CudaMemory(const CudaApi &api, CuDevice device) : api_(api), device_(device) {}
  ~CudaMemory() override;
  CudaMemory(const CudaMemory &) = delete;
  CudaMemory &operator=(const CudaMemory &) = delete;

  /// Takes the context, the memory and a dma-buf of it. `gpu`: for messages.
  Result<UniqueFd> make(uint64_t bytes, const std::string &gpu, const char *shrink);

  int read(uint64_t offset, std::span<std::byte> to) override;
  int write(uint64_t offset, std::span<const std::byte> from) override;

private:
  std::unexpected<Error> refuse_memory(CuResult result, uint64_t bytes, const std::string &gpu,
                                       const char *shrink) const;
  Result<UniqueFd> export_range(uint64_t bytes, const std::string &gpu) const;

  const CudaApi api_;
  const CuDevice device_;
  CuContext context_ = nullptr;
  CuPointer pointer_ = 0;
};

CudaMemory::~CudaMemory() {
  if (pointer_) {
    const Current current(api_, context_);
    (void)api_.free(pointer_);
  }
  if (context_)
    (void)api_.release(device_);
}

Result<UniqueFd> CudaMemory::make(uint64_t bytes, const std::string &gpu, const char *shrink) {
  CuContext context = nullptr;
  if (const CuResult result = api_.retain(&context, device_))
    return refuse(api_, "cuDevicePrimaryCtxRetain", result,
                  strf("GPU %s gives no CUDA context", gpu.c_str()),
                  "see nvidia-smi for its compute mode and for who uses it");
  context_ = context;
  const Current current(api_, context_);
  if (const CuResult result = current.result())
    return refuse(api_, "cuCtxPushCurrent", result,
                  strf("the CUDA context of GPU %s cannot be used", gpu.c_str()),
                  "see nvidia-smi and the kernel's log");
  CuPointer pointer = 0;
  if (const CuResult result = api_.allocate(&pointer, bytes))
    return refuse_memory(result, bytes, gpu, shrink);
  pointer_ = pointer;
  // Copies on this memory are complete when they return, whatever their kind.
  const unsigned on = 1;
  if (const CuResult result = api_.set_attribute(&on, kCuSyncMemops, pointer_))
    return refuse(api_, "cuPointerSetAttribute", result,
                  strf("GPU %s does not order copies with the drive's I/O", gpu.c_str()),
                  "update the NVIDIA driver");
  return export_range(bytes, gpu);
}

std::unexpected<Error> CudaMemory::refuse_memory(CuResult result, uint64_t bytes,
                                                 const std::string &gpu, const char *shrink) const {
  size_t available = 0, total = 0;
  if (result != kCuOutOfMemory || api_.memory_info(&available, &total) != kCuSuccess)
    return refuse(api_, "cuMemAlloc", result,
                  strf("GPU %s did not give %llu MiB", gpu.c_str(),
                       static_cast<unsigned long long>(mib_up(bytes))),
                  strf("%s, or use another dmabuf_device", shrink).c_str());
  return fail(ENOMEM, strf("the job's buffer needs %llu MiB and GPU %s has %llu MiB of %llu MiB "
                           "free; %s, or use another dmabuf_device",
                           static_cast<unsigned long long>(mib_up(bytes)), gpu.c_str(),
                           static_cast<unsigned long long>(available / kMiB),
                           static_cast<unsigned long long>(total / kMiB), shrink));
}

Result<UniqueFd> CudaMemory::export_range(uint64_t bytes, const std::string &gpu) const {
  if (pointer_ % page_bytes())
    return fail(EIO, strf("GPU %s gave memory that starts inside a page, which has no dma-buf; "
                          "update the NVIDIA driver",
                          gpu.c_str()));
  int fd = -1;
  if (const CuResult result = api_.export_range(&fd, pointer_, bytes, kCuDmaBufFd, 0))
    return refuse(api_, "cuMemGetHandleForAddressRange", result,
                  strf("GPU %s did not export its memory as a dma-buf", gpu.c_str()),
                  "use NVIDIA's open kernel modules, or another GPU");
  return UniqueFd(fd);
}

int CudaMemory::read(uint64_t offset, std::span<std::byte> to) {
  const Current current(api_, context_);
  if (current.result())
    return to_errno(current.result());
  return to_errno(api_.to_host(to.data(), pointer_ + offset, to.size()));
}

int CudaMemory::write(uint64_t offset, std::span<const std::byte> from) {
  const Current current(api_, context_);
  if (current.result())
    return to_errno(current.result());
  if (const CuResult result = api_.to_device(pointer_ + offset, from.data(), from.size()))
    return to_errno(result);
  return to_errno(api_.synchronize());
}

Result<void> start_cuda(const CudaApi &api) {
  const CuResult result = api.init(0);
  switch (result) {
  case kCuSuccess:
    return {};
  case kCuNotInitialized:
    return refuse(api, "cuInit", result, "CUDA was in use before fio forked this job",
                  "add thread=1, or drop what uses CUDA in fio itself");
  case kCuDriverMismatch:
    return refuse(api, "cuInit", result,
                  "libcuda.so.1 and the loaded NVIDIA kernel modules are of different versions",
                  "reboot, or unload the modules and load those of the library");
  case kCuOperatingSystem:
  case kCuNotPermitted:
    return refuse(api, "cuInit", result, "CUDA may not use the NVIDIA devices",
                  "run as root or join the group that owns /dev/nvidia*");
  default:
    return refuse(api, "cuInit", result, "CUDA finds no NVIDIA GPU",
                  "load the NVIDIA driver (modprobe nvidia nvidia_uvm), see nvidia-smi and "
                  "CUDA_VISIBLE_DEVICES, or use another dmabuf_exporter");
  }
}

Result<CuDevice> find_number(const CudaApi &api, unsigned number) {
  int count = 0;
  if (const CuResult result = api.device_count(&count))
    return refuse(api, "cuDeviceGetCount", result, "CUDA does not count its GPUs",
                  "see nvidia-smi");
  if (count <= 0)
    return fail(ENODEV, "CUDA finds no NVIDIA GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES, or use "
                        "another dmabuf_exporter");
  if (number >= static_cast<unsigned>(count))
    return fail(ENODEV, strf("there is no CUDA device %u, the last one is %d; set dmabuf_device",
                             number, count - 1));
  CuDevice device = 0;
  if (const CuResult result = api.device_get(&device, static_cast<int>(number)))
    return refuse(api, "cuDeviceGet", result, strf("CUDA does not give device %u", number),
                  "see nvidia-smi, or use another dmabuf_device");
  return device;
}

/// `name`: a number or a PCI address; empty: the first GPU.
Result<CuDevice> find_device(const CudaApi &api, const std::string &name) {
  const auto number = device_number(name.empty() ? "0" : name);
  if (number)
    return find_number(api, *number);
  CuDevice device = 0;
  if (const CuResult result = api.device_by_pci(&device, name.c_str()))
    return refuse(api, "cuDeviceGetByPCIBusId", result,
                  strf("there is no CUDA device %s", name.c_str()),
                  "set dmabuf_device to a number or to a PCI address such as 0000:65:00.0");
  return device;
}

} // namespace

Result<CudaApi> load_cuda() {
  CudaApi api = {};
  auto ok = load_library(
      {"libcuda.so.1"},
      {{"cuInit", symbol_address(api.init)},
       {"cuGetErrorName", symbol_address(api.error_name)},
       {"cuDeviceGetCount", symbol_address(api.device_count)},
       {"cuDeviceGet", symbol_address(api.device_get)},
       {"cuDeviceGetByPCIBusId", symbol_address(api.device_by_pci)},
       {"cuDeviceGetPCIBusId", symbol_address(api.device_pci)},
       {"cuDeviceGetAttribute", symbol_address(api.attribute)},
       {"cuDevicePrimaryCtxRetain", symbol_address(api.retain)},
       {"cuDevicePrimaryCtxRelease_v2", symbol_address(api.release)},
       {"cuCtxPushCurrent_v2", symbol_address(api.push)},
       {"cuCtxPopCurrent_v2", symbol_address(api.pop)},
       {"cuCtxSynchronize", symbol_address(api.synchronize)},
       {"cuMemGetInfo_v2", symbol_address(api.memory_info)},
       {"cuMemAlloc_v2", symbol_address(api.allocate)},
       {"cuMemFree_v2", symbol_address(api.free)},
       {"cuPointerSetAttribute", symbol_address(api.set_attribute)},
       {"cuMemGetHandleForAddressRange", symbol_address(api.export_range)},
       {"cuMemcpyDtoH_v2", symbol_address(api.to_host)},
       {"cuMemcpyHtoD_v2", symbol_address(api.to_device)}},
      "install the NVIDIA driver (Debian's package libcuda1), or use another dmabuf_exporter",
      "install an NVIDIA driver of version 515 or later, which is CUDA 11.7");
  if (!ok)
    return std::unexpected(std::move(ok.error()));
  return api;
}

Result<DmaBuf> allocate_cuda(const CudaApi &api, const BufferRequest &request) {
  if (auto ok = start_cuda(api); !ok)
    return std::unexpected(std::move(ok.error()));
  const auto device = find_device(api, request.device);
  if (!device)
    return std::unexpected(device.error());
  char written[32] = {};
  if (const CuResult result = api.device_pci(written, sizeof(written), *device))
    return refuse(api, "cuDeviceGetPCIBusId", result, "CUDA does not tell a GPU's PCI address",
                  "update the NVIDIA driver");
  const std::string pci = sysfs_address(written);
  int exports = 0;
  if (const CuResult result = api.attribute(&exports, kCuDmaBufSupported, *device))
    return refuse(api, "cuDeviceGetAttribute", result,
                  strf("CUDA does not tell whether GPU %s has dma-bufs", pci.c_str()),
                  "install an NVIDIA driver of version 515 or later");
  if (!exports)
    return fail(
        EOPNOTSUPP,
        strf("the driver of GPU %s exports no dma-bufs; use NVIDIA's open kernel modules "
             "(modinfo nvidia says license Dual MIT/GPL) on a GPU of 2018 (Turing) or later",
             pci.c_str()));
  const auto size = round_up(request.bytes, kBlock);
  if (!size)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", request.shrink));
  auto memory = std::make_unique<CudaMemory>(api, *device);
  auto fd = memory->make(*size, pci, request.shrink);
  if (!fd)
    return std::unexpected(std::move(fd.error()));
  DmaBuf buffer;
  buffer.device = pci;
  buffer.fd = std::move(*fd);
  buffer.memory = std::move(memory);
  return buffer;
}

Result<DmaBuf> allocate_cuda(const BufferRequest &request) {
  const auto api = load_cuda();
  if (!api)
    return std::unexpected(api.error());
  return allocate_cuda(*api, request);
}

} // namespace dmabuf
