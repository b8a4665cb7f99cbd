// SPDX-License-Identifier: GPL-2.0-only
// CUDA: memory of an NVIDIA GPU, exported by the driver API.
//
// CUDA does not survive a fork. Everything here happens in the job's own process, and nothing
// before it: each allocation initialises CUDA, which does nothing where it is already.
#include "base/sizes.hpp"
#include "exporter/cuda_api.hpp"
#include "exporter/cuda_memory.hpp"
#include "exporter/pci_bars.hpp"
#include "exporter/shared_library.hpp"

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>
#include <vector>

namespace dmabuf {
namespace {

/// A dmabuf_device: which GPU, and how its memory is made.
struct Chosen {
  std::string gpu; ///< empty: the first
  CudaKind kind = CudaKind::alloc;
  CudaMapping mapping = CudaMapping::automatic;
};

/// "GPU", "GPU+word" or "+word", with as many words as there are kinds of them.
Result<Chosen> parse(const std::string &device) {
  Chosen chosen;
  const size_t behind = device.find('+');
  chosen.gpu = device.substr(0, behind);
  if (behind == device.npos)
    return chosen;
  bool has_kind = false, has_mapping = false, wrong = false;
  std::string_view words = device;
  for (words.remove_prefix(behind); !words.empty() && !wrong;) {
    words.remove_prefix(1); // the '+'
    const std::string_view word = words.substr(0, words.find('+'));
    words.remove_prefix(word.size());
    if (word == "vmm" || word == "alloc") {
      chosen.kind = word == "vmm" ? CudaKind::vmm : CudaKind::alloc;
      wrong = std::exchange(has_kind, true);
    } else if (word == "pcie" || word == "default") {
      chosen.mapping = word == "pcie" ? CudaMapping::pcie : CudaMapping::standard;
      wrong = std::exchange(has_mapping, true);
    } else {
      wrong = true;
    }
  }
  if (wrong)
    return fail(EINVAL, strf("dmabuf_device=%s: behind a '+' exporter cuda knows the words pcie, "
                             "default, vmm and alloc, one of the first two and one of the others; "
                             "use these",
                             device.c_str()));
  return chosen;
}

Result<void> start_cuda(const CudaApi &api) {
  const CuResult result = api.init(0);
  switch (result) {
  case kCuSuccess:
    return {};
  case kCuNotInitialized:
    return cuda_refused(api, "cuInit", result, "CUDA was in use before fio forked this job",
                        "add thread=1, or drop what uses CUDA in fio itself");
  case kCuDriverMismatch:
    return cuda_refused(
        api, "cuInit", result,
        "libcuda.so.1 and the loaded NVIDIA kernel modules are of different versions",
        "reboot, or unload the modules and load those of the library");
  case kCuOperatingSystem:
  case kCuNotPermitted:
    return cuda_refused(api, "cuInit", result, "CUDA may not use the NVIDIA devices",
                        "run as root or join the group that owns /dev/nvidia*");
  default:
    return cuda_refused(api, "cuInit", result, "CUDA finds no NVIDIA GPU",
                        "load the NVIDIA driver (modprobe nvidia nvidia_uvm), see nvidia-smi and "
                        "CUDA_VISIBLE_DEVICES, or use another dmabuf_exporter");
  }
}

Result<CuDevice> find_number(const CudaApi &api, unsigned number) {
  int count = 0;
  if (const CuResult result = api.device_count(&count))
    return cuda_refused(api, "cuDeviceGetCount", result, "CUDA does not count its GPUs",
                        "see nvidia-smi");
  if (count <= 0)
    return fail(ENODEV, "CUDA finds no NVIDIA GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES, or use "
                        "another dmabuf_exporter");
  if (number >= static_cast<unsigned>(count))
    return fail(ENODEV, strf("there is no CUDA device %u, the last one is %d; set dmabuf_device",
                             number, count - 1));
  CuDevice device = 0;
  if (const CuResult result = api.device_get(&device, static_cast<int>(number)))
    return cuda_refused(api, "cuDeviceGet", result, strf("CUDA does not give device %u", number),
                        "see nvidia-smi, or use another dmabuf_device");
  return device;
}

/// As nvidia-smi writes it, without what is in front.
std::string uuid_text(const CuUuid &uuid) {
  std::string text;
  for (size_t i = 0; i < std::size(uuid.bytes); i++)
    text += strf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid.bytes[i]);
  return text;
}

/// "GPU-<uuid>", or "MIG-<uuid>" for an instance of a GPU: what CUDA calls the device in this
/// process. Empty where the device is not of that kind.
Result<std::string> uuid_name(const CudaApi &api, CuDevice device, bool instance) {
  CuUuid gpu = {}, own = {};
  if (const CuResult result = api.gpu_uuid(&gpu, device))
    return cuda_refused(api, "cuDeviceGetUuid", result, "CUDA does not tell a GPU's UUID",
                        "set dmabuf_device to a number or to a PCI address");
  if (!instance)
    return "GPU-" + uuid_text(gpu);
  if (const CuResult result = api.instance_uuid(&own, device))
    return cuda_refused(api, "cuDeviceGetUuid_v2", result, "CUDA does not tell an instance's UUID",
                        "set dmabuf_device to a number or to a PCI address");
  return std::ranges::equal(gpu.bytes, own.bytes) ? std::string() : "MIG-" + uuid_text(own);
}

/// `name`: a UUID, or as much of its beginning as only one has, as in CUDA_VISIBLE_DEVICES.
Result<CuDevice> find_uuid(const CudaApi &api, std::string name) {
  const bool instance = name.starts_with("MIG-");
  if (!api.gpu_uuid || (instance && !api.instance_uuid))
    return fail(EOPNOTSUPP, strf("this NVIDIA driver names no device by its UUID, as dmabuf_device"
                                 "=%s does; set dmabuf_device to a number or to a PCI address",
                                 name.c_str()));
  for (size_t i = 4; i < name.size(); i++)
    if (name[i] >= 'A' && name[i] <= 'F')
      name[i] = static_cast<char>(name[i] - 'A' + 'a');
  int count = 0;
  if (const CuResult result = api.device_count(&count))
    return cuda_refused(api, "cuDeviceGetCount", result, "CUDA does not count its GPUs",
                        "see nvidia-smi");
  std::string seen;
  std::vector<CuDevice> found;
  for (int number = 0; number < count; number++) {
    CuDevice device = 0;
    if (const CuResult result = api.device_get(&device, number))
      return cuda_refused(api, "cuDeviceGet", result, strf("CUDA does not give device %d", number),
                          "see nvidia-smi");
    const auto own = uuid_name(api, device, instance);
    if (!own)
      return std::unexpected(own.error());
    if (own->starts_with(name))
      found.push_back(device);
    if (!own->empty())
      seen += (seen.empty() ? "" : ", ") + *own;
  }
  if (found.size() == 1)
    return found[0];
  if (!found.empty())
    return fail(EINVAL, strf("dmabuf_device=%s is the beginning of %zu GPUs' UUIDs; write more of "
                             "it: %s",
                             name.c_str(), found.size(), seen.c_str()));
  // Of a GPU's instances CUDA shows a process one: it decides on which as it starts.
  if (instance)
    return fail(ENODEV, strf("CUDA shows this process no instance %s; it shows one, the first or "
                             "the one that is named when it starts: run fio with "
                             "CUDA_VISIBLE_DEVICES=%s, see nvidia-smi -L",
                             name.c_str(), name.c_str()));
  return fail(ENODEV, strf("there is no CUDA device %s; set dmabuf_device to one of %s, and see "
                           "CUDA_VISIBLE_DEVICES",
                           name.c_str(), seen.empty() ? "none" : seen.c_str()));
}

/// `name`: a number, a PCI address or a UUID; empty: the first GPU.
Result<CuDevice> find_device(const CudaApi &api, const std::string &name) {
  if (name.starts_with("GPU-") || name.starts_with("MIG-"))
    return find_uuid(api, name);
  const auto number = device_number(name.empty() ? "0" : name);
  if (number)
    return find_number(api, *number);
  CuDevice device = 0;
  if (const CuResult result = api.device_by_pci(&device, name.c_str()))
    return cuda_refused(api, "cuDeviceGetByPCIBusId", result,
                        strf("there is no CUDA device %s", name.c_str()),
                        "set dmabuf_device to a number, to a PCI address such as 0000:65:00.0 or "
                        "to a UUID such as GPU-… of nvidia-smi -L");
  return device;
}

/// Whether the GPU's driver exports dma-bufs, of memory of that kind.
Result<void> check_gpu(const CudaApi &api, CuDevice device, const std::string &pci, CudaKind kind) {
  const auto ask = [&](int which, int &answer) -> Result<void> {
    if (const CuResult result = api.attribute(&answer, which, device))
      return cuda_refused(api, "cuDeviceGetAttribute", result,
                          strf("CUDA does not tell whether GPU %s has dma-bufs", pci.c_str()),
                          "install an NVIDIA driver of version 515 or later");
    return {};
  };
  int exports = 0, maps = 0, for_peers = 0;
  if (auto ok = ask(kCuDmaBufSupported, exports); !ok)
    return ok;
  if (!exports)
    return fail(
        EOPNOTSUPP,
        strf("the driver of GPU %s exports no dma-bufs; use NVIDIA's open kernel modules "
             "(modinfo nvidia says license Dual MIT/GPL) on a GPU of 2018 (Turing) or later",
             pci.c_str()));
  if (kind == CudaKind::alloc)
    return {};
  if (!api.granularity || !api.reserve || !api.free_address || !api.create || !api.release_memory ||
      !api.map || !api.unmap || !api.set_access)
    return fail(EOPNOTSUPP, "this libcuda.so.1 does not map memory at an address (cuMemMap); "
                            "update the NVIDIA driver, or drop +vmm");
  if (auto ok = ask(kCuVmm, maps); !ok)
    return ok;
  if (auto ok = ask(kCuVmmRdma, for_peers); !ok)
    return ok;
  if (!maps || !for_peers)
    return fail(EOPNOTSUPP,
                strf("GPU %s has no memory that is mapped at an address and other devices reach "
                     "(VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED is %d, "
                     "GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED %d); drop +vmm, or use another GPU",
                     pci.c_str(), maps, for_peers));
  return {};
}

/// What to say where a drive's mapping of this memory finds no room. NVIDIA's driver maps nothing
/// then and gives no reason.
std::string no_room(const CudaMemory &memory, const std::string &pci, const std::string &root,
                    const char *shrink) {
  uint64_t bar = 0; // BAR1 is not the second on every GPU, but it is the largest
  for (const BarSize &one : pci_bars(root + "/sys/bus/pci/devices/" + pci + "/resource"))
    bar = std::max(bar, one.bytes);
  const auto mib = static_cast<unsigned long long>(bar / kMiB);
  if (!bar)
    return strf("a drive reaches GPU %s by its BAR1, whose size the kernel does not tell "
                "(MAP, ENOMEM); %s, and see nvidia-smi -q -d MEMORY",
                pci.c_str(), shrink);
  if (bar >= std::max(memory.bytes(), memory.gpu_bytes()))
    return strf("GPU %s failed to map the memory for the drive, though its BAR1 of %llu MiB has "
                "room for all of it (MAP, ENOMEM); look at the kernel log (dmesg), or %s",
                pci.c_str(), mib, shrink);
  return strf("a drive reaches GPU %s by its BAR1 of %llu MiB, which all that is mapped shares and "
              "which is less than its memory (SMALL_BAR, ENOMEM); %s, or turn on Resizable BAR and "
              "Above 4G Decoding in the firmware's setup",
              pci.c_str(), mib, shrink);
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
       {"cuMemcpyHtoD_v2", symbol_address(api.to_device)},
       {"cuDeviceGetUuid", symbol_address(api.gpu_uuid), Need::optional},
       {"cuDeviceGetUuid_v2", symbol_address(api.instance_uuid), Need::optional},
       {"cuFlushGPUDirectRDMAWrites", symbol_address(api.flush), Need::optional},
       {"cuMemGetAllocationGranularity", symbol_address(api.granularity), Need::optional},
       {"cuMemAddressReserve", symbol_address(api.reserve), Need::optional},
       {"cuMemAddressFree", symbol_address(api.free_address), Need::optional},
       {"cuMemCreate", symbol_address(api.create), Need::optional},
       {"cuMemRelease", symbol_address(api.release_memory), Need::optional},
       {"cuMemMap", symbol_address(api.map), Need::optional},
       {"cuMemUnmap", symbol_address(api.unmap), Need::optional},
       {"cuMemSetAccess", symbol_address(api.set_access), Need::optional}},
      "install the NVIDIA driver (Debian's package libcuda1), or use another dmabuf_exporter",
      "install an NVIDIA driver of version 515 or later, which is CUDA 11.7");
  if (!ok)
    return std::unexpected(std::move(ok.error()));
  return api;
}

Result<DmaBuf> allocate_cuda(const CudaApi &api, const BufferRequest &request,
                             const std::string &root) {
  const auto chosen = parse(request.device);
  if (!chosen)
    return std::unexpected(chosen.error());
  if (auto ok = start_cuda(api); !ok)
    return std::unexpected(std::move(ok.error()));
  const auto device = find_device(api, chosen->gpu);
  if (!device)
    return std::unexpected(device.error());
  char written[32] = {};
  if (const CuResult result = api.device_pci(written, sizeof(written), *device))
    return cuda_refused(api, "cuDeviceGetPCIBusId", result,
                        "CUDA does not tell a GPU's PCI address", "update the NVIDIA driver");
  const std::string pci = sysfs_address(written);
  if (auto ok = check_gpu(api, *device, pci, chosen->kind); !ok)
    return std::unexpected(std::move(ok.error()));
  auto memory = std::make_unique<CudaMemory>(api, *device);
  auto fd = memory->make({.kind = chosen->kind,
                          .mapping = chosen->mapping,
                          .bytes = request.bytes,
                          .gpu = pci,
                          .shrink = request.shrink});
  if (!fd)
    return std::unexpected(std::move(fd.error()));
  DmaBuf buffer;
  buffer.device = pci;
  buffer.note = memory->note();
  buffer.exported = memory->made();
  buffer.no_room = no_room(*memory, pci, root, request.shrink);
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
