// SPDX-License-Identifier: GPL-2.0-only
#include "exporter/cuda_memory.hpp"

#include "base/sizes.hpp"

#include <algorithm>
#include <cerrno>

namespace dmabuf {
namespace {

/// A block of the GPU's memory: an allocation of whole ones starts on one and shares none.
constexpr uint64_t kBlock = 2 * kMiB;

/// "cuInit: CUDA_ERROR_NO_DEVICE"
std::string result_text(const CudaApi &api, const char *call, CuResult result) {
  const char *name = nullptr;
  if (api.error_name(result, &name) != kCuSuccess || !name)
    return strf("%s: error %d", call, result);
  return strf("%s: %s", call, name);
}

/// What a driver answers that does not know what it was asked for.
bool unknown_to_driver(CuResult result) {
  return result == kCuInvalidValue || result == kCuNotSupported;
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

} // namespace

int cuda_errno(CuResult result) {
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

std::unexpected<Error> cuda_refused(const CudaApi &api, const char *call, CuResult result,
                                    const std::string &what, const char *remedy) {
  return fail(cuda_errno(result),
              strf("%s (%s); %s", what.c_str(), result_text(api, call, result).c_str(), remedy));
}

CudaMemory::~CudaMemory() {
  if (pointer_ || created_) {
    const Current current(api_, context_);
    if (kind_ == CudaKind::alloc)
      (void)api_.free(pointer_);
    if (mapped_)
      (void)api_.unmap(pointer_, bytes_);
    if (kind_ == CudaKind::vmm && pointer_)
      (void)api_.free_address(pointer_, bytes_);
    if (created_)
      (void)api_.release_memory(handle_);
  }
  if (context_)
    (void)api_.release(device_);
}

Result<UniqueFd> CudaMemory::make(const CudaWish &wish) {
  const char *const gpu = wish.gpu.c_str();
  kind_ = wish.kind;
  CuContext context = nullptr;
  if (const CuResult result = api_.retain(&context, device_))
    return cuda_refused(api_, "cuDevicePrimaryCtxRetain", result,
                        strf("GPU %s gives no CUDA context", gpu),
                        "see nvidia-smi for its compute mode and for who uses it");
  context_ = context;
  const Current current(api_, context_);
  if (const CuResult result = current.result())
    return cuda_refused(api_, "cuCtxPushCurrent", result,
                        strf("the CUDA context of GPU %s cannot be used", gpu),
                        "see nvidia-smi and the kernel's log");
  auto ok = kind_ == CudaKind::vmm ? create(wish) : allocate(wish);
  if (ok)
    ok = order_copies(wish);
  if (ok)
    ok = learn_flush(wish);
  if (!ok)
    return std::unexpected(std::move(ok.error()));
  size_t available = 0, total = 0;
  if (api_.memory_info(&available, &total) == kCuSuccess)
    gpu_bytes_ = total;
  return export_range(wish);
}

Result<void> CudaMemory::allocate(const CudaWish &wish) {
  const auto size = round_up(wish.bytes, kBlock);
  if (!size)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", wish.shrink));
  CuPointer pointer = 0;
  if (const CuResult result = api_.allocate(&pointer, *size))
    return refuse_memory("cuMemAlloc", result, wish);
  pointer_ = pointer;
  bytes_ = *size;
  return {};
}

Result<void> CudaMemory::create(const CudaWish &wish) {
  const CuMemProp prop = {.type = kCuPinned,
                          .handle_types = 0,
                          .location = {.type = kCuOnDevice, .id = device_},
                          .win32 = nullptr,
                          .compression = 0,
                          .rdma = 1,
                          .usage = 0,
                          .reserved = {}};
  const auto refuse = [&](const char *call, CuResult result) {
    return cuda_refused(api_, call, result,
                        strf("GPU %s does not map memory at an address", wish.gpu.c_str()),
                        "update the NVIDIA driver, or drop +vmm");
  };
  size_t block = 0;
  if (const CuResult result = api_.granularity(&block, &prop, kCuLeastBlocks))
    return refuse("cuMemGetAllocationGranularity", result);
  const auto size = round_up(wish.bytes, std::max<uint64_t>(block, kBlock));
  if (!size)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", wish.shrink));
  if (const CuResult result = api_.create(&handle_, *size, &prop, 0))
    return refuse_memory("cuMemCreate", result, wish);
  created_ = true;
  bytes_ = *size;
  CuPointer pointer = 0;
  if (const CuResult result = api_.reserve(&pointer, bytes_, 0, 0, 0))
    return refuse("cuMemAddressReserve", result);
  pointer_ = pointer;
  if (const CuResult result = api_.map(pointer_, bytes_, 0, handle_, 0))
    return refuse("cuMemMap", result);
  mapped_ = true;
  const CuMemAccess access = {.location = prop.location, .flags = kCuReadWrite};
  if (const CuResult result = api_.set_access(pointer_, bytes_, &access, 1))
    return refuse("cuMemSetAccess", result);
  return {};
}

std::unexpected<Error> CudaMemory::refuse_memory(const char *call, CuResult result,
                                                 const CudaWish &wish) const {
  const auto need = static_cast<unsigned long long>(mib_up(wish.bytes));
  const char *const gpu = wish.gpu.c_str();
  size_t available = 0, total = 0;
  if (result != kCuOutOfMemory || api_.memory_info(&available, &total) != kCuSuccess)
    return cuda_refused(api_, call, result, strf("GPU %s did not give %llu MiB", gpu, need),
                        strf("%s, or use another dmabuf_device", wish.shrink).c_str());
  return fail(ENOMEM, strf("the job's buffer needs %llu MiB and GPU %s has %llu MiB of %llu MiB "
                           "free; %s, or use another dmabuf_device",
                           need, gpu, static_cast<unsigned long long>(available / kMiB),
                           static_cast<unsigned long long>(total / kMiB), wish.shrink));
}

/// Copies on this memory, of any kind, are complete when they return.
Result<void> CudaMemory::order_copies(const CudaWish &wish) {
  const unsigned on = 1;
  const CuResult result = api_.set_attribute(&on, kCuSyncMemops, pointer_);
  // Not every driver has it for memory that is mapped at an address. The copies here wait by
  // themselves, and nobody else makes any.
  if (result == kCuSuccess || (kind_ == CudaKind::vmm && unknown_to_driver(result)))
    return {};
  return cuda_refused(api_, "cuPointerSetAttribute", result,
                      strf("GPU %s does not order copies with the drive's I/O", wish.gpu.c_str()),
                      "update the NVIDIA driver");
}

Result<void> CudaMemory::learn_flush(const CudaWish &wish) {
  const auto ask = [&](int which, int &answer) -> Result<void> {
    if (const CuResult result = api_.attribute(&answer, which, device_))
      return cuda_refused(
          api_, "cuDeviceGetAttribute", result,
          strf("CUDA does not tell how GPU %s orders what a drive writes to it", wish.gpu.c_str()),
          "update the NVIDIA driver");
    return {};
  };
  int ordering = 0, options = 0;
  if (auto ok = ask(kCuWritesOrdering, ordering); !ok || ordering >= kCuOrderedForOwner)
    return ok;
  if (auto ok = ask(kCuFlushOptions, options); !ok)
    return ok;
  flushes_ = api_.flush && (options & kCuFlushByHost);
  if (!flushes_)
    note_ = strf("GPU %s does not order a drive's writes with its own copies, and CUDA has no "
                 "flush for it: verify may see what was there before; update the NVIDIA driver",
                 wish.gpu.c_str());
  return {};
}

Result<UniqueFd> CudaMemory::export_range(const CudaWish &wish) {
  const char *const gpu = wish.gpu.c_str();
  const char *const call = "cuMemGetHandleForAddressRange";
  if (pointer_ % page_bytes())
    return fail(EIO, strf("GPU %s gave memory that starts inside a page, which has no dma-buf; "
                          "update the NVIDIA driver",
                          gpu));
  int fd = -1;
  pcie_ = wish.mapping != CudaMapping::standard;
  CuResult result =
      api_.export_range(&fd, pointer_, bytes_, kCuDmaBufFd, pcie_ ? kCuMappingPcie : 0);
  if (pcie_ && unknown_to_driver(result)) {
    if (wish.mapping == CudaMapping::pcie)
      return cuda_refused(api_, call, result, strf("GPU %s has no PCIe mapping of its memory", gpu),
                          "use an NVIDIA driver of version 570 or later, which is CUDA 12.8, or "
                          "drop +pcie");
    pcie_ = false;
    result = api_.export_range(&fd, pointer_, bytes_, kCuDmaBufFd, 0);
  }
  if (result)
    return cuda_refused(api_, call, result,
                        strf("GPU %s did not export its memory as a dma-buf", gpu),
                        "use NVIDIA's open kernel modules, or another GPU");
  return UniqueFd(fd);
}

std::string CudaMemory::made() const {
  return strf("%s+%s", kind_ == CudaKind::vmm ? "vmm" : "alloc", pcie_ ? "pcie" : "default");
}

int CudaMemory::read(uint64_t offset, std::span<std::byte> to) {
  const Current current(api_, context_);
  if (current.result())
    return cuda_errno(current.result());
  if (flushes_)
    if (const CuResult result = api_.flush(kCuFlushCurrent, kCuFlushToOwner))
      return cuda_errno(result);
  return cuda_errno(api_.to_host(to.data(), pointer_ + offset, to.size()));
}

int CudaMemory::write(uint64_t offset, std::span<const std::byte> from) {
  const Current current(api_, context_);
  if (current.result())
    return cuda_errno(current.result());
  if (const CuResult result = api_.to_device(pointer_ + offset, from.data(), from.size()))
    return cuda_errno(result);
  return cuda_errno(api_.synchronize());
}

} // namespace dmabuf
