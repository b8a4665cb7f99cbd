// SPDX-License-Identifier: GPL-2.0-only
#include "module/reasons.hpp"

#include "base/error.hpp"
#include "module/libdmabuf_rw.h"

namespace dmabuf {
namespace {

/// What to try in a job of fio, where that is not what the library says to programs; else null.
constexpr const char *job_remedy(uint32_t code) {
  switch (code) {
  case DMABUF_RW_REASON_ARGUMENT:
    return "use a module and an engine of the same release";
  case DMABUF_RW_REASON_NOT_DMABUF:
    return "report this as a bug of the engine's exporter";
  case DMABUF_RW_REASON_BAD_TARGET:
    return "check the filename";
  case DMABUF_RW_REASON_DMABUF_MODE:
    return "use an exporter that gives a writable dma-buf";
  case DMABUF_RW_REASON_TARGET_MODE:
    return "open it for writing: drop --readonly, or use a read workload";
  case DMABUF_RW_REASON_READ_ONLY:
    return "use a read workload, or make it writable with blockdev --setrw";
  case DMABUF_RW_REASON_NOT_BLOCK:
    return "give the raw namespace as filename, or use dmabuf_datapath=registered";
  case DMABUF_RW_REASON_NOT_NVME:
    return "give an NVMe namespace as filename, or use dmabuf_datapath=registered";
  case DMABUF_RW_REASON_NOT_DIRECT:
    return "add direct=1";
  case DMABUF_RW_REASON_ZONED:
    return "use dmabuf_datapath=registered";
  case DMABUF_RW_REASON_METADATA:
    return "use a format with 8-byte protection information or none (nvme format), or "
           "dmabuf_datapath=registered";
  case DMABUF_RW_REASON_LBA_SIZE:
    return "map the buffer again (run the job again)";
  case DMABUF_RW_REASON_MULTIPATH:
    return "check nvme list-subsys, or use dmabuf_datapath=registered";
  case DMABUF_RW_REASON_SEG_ALIGN:
    return "use another exporter, or dmabuf_datapath=registered";
  case DMABUF_RW_REASON_SEG_SUM:
    return "use a smaller buffer (iodepth, bs) or another exporter";
  case DMABUF_RW_REASON_BOUNCE:
    return "use dmabuf_datapath=registered, or turn off swiotlb=force, if that is why (see "
           "/proc/cmdline)";
  case DMABUF_RW_REASON_MAP:
    return "look at the kernel log (dmesg), or use a smaller buffer (iodepth, bs)";
  case DMABUF_RW_REASON_NO_CPU_VIEW:
    return "use dmabuf_datapath=premapped, or another exporter";
  case DMABUF_RW_REASON_NOT_PAGES:
    return "use dmabuf_datapath=premapped";
  case DMABUF_RW_REASON_KERNEL:
    return "use a newer kernel, or another dmabuf_datapath";
  case DMABUF_RW_REASON_MEMLOCK:
    return "raise it (ulimit -l), run as root, or lower iodepth or bs";
  case DMABUF_RW_REASON_LIMIT:
    return "run fewer jobs or use fewer files at once";
  case DMABUF_RW_REASON_NO_MEMORY:
    return "lower iodepth, bs or numjobs";
  case DMABUF_RW_REASON_SIZE_CAP:
    return "lower iodepth or bs";
  case DMABUF_RW_REASON_FENCE_TIMEOUT:
    return "raise dmabuf_timeout_ms, or check the exporter's device";
  case DMABUF_RW_REASON_NO_PATH_FITS:
    return "see the reason given for each, or compare with dmabuf_datapath=bounce";
  case DMABUF_RW_REASON_INTERRUPTED:
    return "run it again";
  case DMABUF_RW_REASON_RANGE:
    return "use a bs and offset that are multiples of the target's logical block";
  case DMABUF_RW_REASON_NOT_FILE:
    return "give a file or a block device as filename";
  case DMABUF_RW_REASON_DIRECTION:
    return "map it for both directions";
  case DMABUF_RW_REASON_SWAP:
    return "swapoff it, or give another drive";
  case UINT32_MAX:
    return "use a module and an engine of the same release";
  default:
    return nullptr;
  }
}

} // namespace

Reason reason(uint32_t code) {
  const drw_reason &entry = *drw_reason_of(code);
  const char *remedy = job_remedy(entry.code);
  return {entry.code, entry.name, entry.sentence, remedy ? remedy : entry.remedy};
}

std::string reason_text(uint32_t code, int error, const std::string &note) {
  std::string text(drw_cause_text(nullptr, 0, code, error), '\0');
  drw_cause_text(text.data(), text.size() + 1, code, error);
  if (!note.empty())
    text += ": " + note;
  return text + "; " + reason(code).remedy;
}

} // namespace dmabuf
