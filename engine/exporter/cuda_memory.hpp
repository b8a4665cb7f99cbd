// SPDX-License-Identifier: GPL-2.0-only
// One allocation of an NVIDIA GPU: by cuMemAlloc or by CUDA's management of virtual memory, its
// dma-buf, and the copies to and from it.
#pragma once

#include "exporter/cuda_api.hpp"

#include <string>

namespace dmabuf {

/// By which of the GPU's ways to the bus others reach the memory: it has two where it shares a
/// coherent link with the CPU (GH200, GB200).
enum class CudaMapping {
  automatic, ///< pcie where the driver has it, else standard
  pcie,      ///< the GPU's BAR1: what a drive's peer-to-peer transfers take
  standard   ///< the driver's own choice: the coherent link where there is one
};

enum class CudaKind { alloc, vmm };

/// What to make. `gpu`, `shrink`: for messages.
struct CudaWish {
  CudaKind kind = CudaKind::alloc;
  CudaMapping mapping = CudaMapping::automatic;
  uint64_t bytes = 0;
  std::string gpu;
  const char *shrink = kShrinkIo;
};

/// An errno for what a call answered; 0 for success.
int cuda_errno(CuResult result);

/// "<what> (<call>: CUDA_ERROR_…); <remedy>"
std::unexpected<Error> cuda_refused(const CudaApi &api, const char *call, CuResult result,
                                    const std::string &what, const char *remedy);

/// One allocation and the GPU's primary context, which it holds.
class CudaMemory final : public DeviceMemory {
public:
  CudaMemory(const CudaApi &api, CuDevice device) : api_(api), device_(device) {}
  ~CudaMemory() override;
  CudaMemory(const CudaMemory &) = delete;
  CudaMemory &operator=(const CudaMemory &) = delete;

  /// Takes the context, the memory and a dma-buf of it.
  Result<UniqueFd> make(const CudaWish &wish);

  /// What was made, in the words that ask for it: "alloc+pcie".
  std::string made() const;

  /// What the user should know of copies from it; empty: nothing.
  const std::string &note() const { return note_; }

  uint64_t bytes() const { return bytes_; }

  /// The GPU's memory in all; 0 where CUDA does not tell.
  uint64_t gpu_bytes() const { return gpu_bytes_; }

  int read(uint64_t offset, std::span<std::byte> to) override;
  int write(uint64_t offset, std::span<const std::byte> from) override;

private:
  Result<void> allocate(const CudaWish &wish);
  Result<void> create(const CudaWish &wish);
  Result<void> order_copies(const CudaWish &wish);
  Result<void> learn_flush(const CudaWish &wish);
  Result<UniqueFd> export_range(const CudaWish &wish);
  std::unexpected<Error> refuse_memory(const char *call, CuResult result,
                                       const CudaWish &wish) const;

  const CudaApi api_;
  const CuDevice device_;
  CuContext context_ = nullptr;
  CuPointer pointer_ = 0;
  uint64_t bytes_ = 0;
  uint64_t gpu_bytes_ = 0;
  CudaKind kind_ = CudaKind::alloc;
  CuHandle handle_ = 0;  ///< vmm: the memory, which pointer_ is an address of
  bool created_ = false; ///< there is one
  bool mapped_ = false;  ///< and it is mapped there
  bool pcie_ = false;
  bool flushes_ = false; ///< what a device wrote has to be flushed before it is copied
  std::string note_;
};

} // namespace dmabuf
