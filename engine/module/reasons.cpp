// SPDX-License-Identifier: GPL-2.0-only
#include "module/reasons.hpp"

#include "base/error.hpp"

#include <array>
#include <linux/dmabuf_rw.h>

namespace dmabuf {
namespace {

#define REASON(name, sentence, remedy)                                                             \
  { DMABUF_RW_REASON_##name, #name, sentence, remedy }

constexpr Reason kReasons[] = {
    REASON(NONE, "no reason was given", "look at the kernel log (dmesg)"),
    REASON(ARGUMENT, "the module did not accept the engine's request",
           "use a module and an engine of the same release"),
    REASON(NOT_DMABUF, "the descriptor is not a dma-buf",
           "report this as a bug of the engine's exporter"),
    REASON(BAD_TARGET, "the target is not an open file", "check the filename"),
    REASON(DMABUF_MODE, "the dma-buf is not open for that direction",
           "use an exporter that gives a writable dma-buf"),
    REASON(TARGET_MODE, "the target is not open for that direction",
           "open it for writing: drop --readonly, or use a read workload"),
    REASON(READ_ONLY, "the block device is read-only",
           "use a read workload, or make it writable with blockdev --setrw"),
    REASON(NOT_BLOCK, "the target is not a block device",
           "give the raw namespace as filename, or use dmabuf_datapath=registered"),
    REASON(NOT_NVME, "the target is not NVMe over PCI",
           "give an NVMe namespace as filename, or use dmabuf_datapath=registered"),
    REASON(NOT_DIRECT, "the target is not open with O_DIRECT", "add direct=1"),
    REASON(ZONED, "the namespace is zoned", "use dmabuf_datapath=registered"),
    REASON(METADATA, "the namespace is formatted with metadata that the drive cannot make itself",
           "use a format with 8-byte protection information or none (nvme format), or "
           "dmabuf_datapath=registered"),
    REASON(LBA_SIZE, "the logical block has another size than when the buffer was mapped",
           "map the buffer again (run the job again)"),
    REASON(MULTIPATH, "the multipath head has no usable PCI path",
           "check nvme list-subsys, or use dmabuf_datapath=registered"),
    REASON(SEG_ALIGN, "a piece of the dma-buf is not a multiple of 4 KiB",
           "use another exporter, or dmabuf_datapath=registered"),
    REASON(SEG_SUM, "the exporter's pieces do not add up to the dma-buf's size",
           "use a smaller buffer (iodepth, bs) or another exporter"),
    REASON(BOUNCE, "the kernel would copy this memory for the drive instead of reaching it",
           "turn off swiotlb=force, or use dmabuf_datapath=registered"),
    REASON(NO_P2P_ROUTE, "there is no peer-to-peer route from the drive to this memory",
           "put both behind one PCIe switch, or check the IOMMU and ACS settings"),
    REASON(ATTACH, "the exporter refused to attach the drive, or to keep the memory in place",
           "look at the kernel log (dmesg), or use another exporter"),
    REASON(MAP, "the exporter failed to map the memory for the drive",
           "look at the kernel log (dmesg), or use a smaller buffer (iodepth, bs)"),
    REASON(NO_CPU_VIEW, "the exporter gives the kernel no view of the memory, or a wrong one",
           "use dmabuf_datapath=premapped, or another exporter"),
    REASON(NOT_PAGES, "the memory has no struct pages", "use dmabuf_datapath=premapped"),
    REASON(KERNEL, "this kernel lacks what the datapath needs",
           "use a newer kernel, or another dmabuf_datapath"),
    REASON(MEMLOCK, "pinning the buffer would exceed RLIMIT_MEMLOCK",
           "raise it (ulimit -l), run as root, or lower iodepth or bs"),
    REASON(LIMIT, "a limit of the module on sessions or mappings is reached",
           "run fewer jobs or use fewer files at once"),
    REASON(NO_MEMORY, "the kernel is out of memory", "lower iodepth, bs or numjobs"),
    REASON(SIZE_CAP, "the buffer is larger than this datapath takes", "lower iodepth or bs"),
    REASON(REVOKED, "the exporter took the memory away", "check the exporter's device"),
    REASON(DEVICE_GONE, "the drive was removed or its driver unbound", "check the drive"),
    REASON(FENCE_TIMEOUT, "the device that uses the memory did not finish in time",
           "raise dmabuf_timeout_ms, or check the exporter's device"),
    REASON(NO_PATH_FITS, "no datapath works for this target, exporter and kernel",
           "see the reason given for each, or compare with dmabuf_datapath=bounce"),
    REASON(INTERRUPTED, "a signal arrived", "run it again"),
    REASON(RANGE, "the transfer is misaligned, or outside the buffer or the target",
           "use a bs and offset that are multiples of the target's logical block"),
    REASON(DRIVE, "the drive reported the error",
           "look at the kernel log and the drive's error log (nvme error-log)"),
    REASON(NOT_FILE, "the target is neither a regular file nor a block device",
           "give a file or a block device as filename"),
    REASON(HANDLE, "the handle names no mapping that this call can use",
           "map it in this session, and as premapped or bvec"),
    REASON(DIRECTION, "the buffer was not mapped for that direction", "map it for both directions"),
    REASON(SWAP, "the target is in use as swap", "swapoff it, or give another drive"),
};

#undef REASON

static_assert(std::size(kReasons) == DMABUF_RW_NR_REASONS, "a reason code has no sentence");

consteval bool in_order() {
  for (size_t i = 0; i < std::size(kReasons); i++)
    if (kReasons[i].code != i)
      return false;
  return true;
}
static_assert(in_order(), "the table is indexed by reason code");

constexpr Reason kUnknown = {UINT32_MAX, "UNKNOWN",
                             "the module gave a reason this engine does not know",
                             "use a module and an engine of the same release"};

} // namespace

const Reason &reason(uint32_t code) {
  return code < std::size(kReasons) ? kReasons[code] : kUnknown;
}

std::string reason_text(uint32_t code, int error) {
  const Reason &entry = reason(code);
  return strf("%s (%s, %s); %s", entry.sentence, entry.name, errno_name(error).c_str(),
              entry.remedy);
}

} // namespace dmabuf
