// SPDX-License-Identifier: GPL-2.0-only
#include "job/config.hpp"

#include "base/sizes.hpp"
#include "base/system.hpp"

#include <cerrno>
#include <utility>

namespace dmabuf {

namespace {

/// What dmabuf_submit and datapath syscall can be combined with.
Result<void> check_submit(const JobConfig &config) {
  const char *path = datapath_name(config.datapath);
  const char *submit = submit_name(config.submit);
  const bool file = traits(config.datapath).is_file;
  const SubmitTraits &call = traits(config.submit);
  if (call.needs_file && !file)
    return fail(EINVAL, strf("dmabuf_submit=%s reads and writes the dma-buf itself, which "
                             "dmabuf_datapath=%s does not; use dmabuf_datapath=syscall, or drop it",
                             submit, path));
  if (call.needs_commands && !traits(config.datapath).commands)
    return fail(EINVAL,
                strf("dmabuf_submit=ioctl is for dmabuf_datapath=premapped or bvec, not %s; "
                     "drop one of the two",
                     path));
  if (call.waits) {
    if (config.iodepth > 1)
      return fail(EINVAL,
                  strf("dmabuf_submit=%s waits for each I/O and iodepth=%u asks for several "
                       "at once; set iodepth=1, or use dmabuf_submit=uring",
                       submit, config.iodepth));
    for (const auto &[set, name] :
         {std::pair(config.registerfiles, "registerfiles"),
          std::pair(config.fixedbufs, "fixedbufs"), std::pair(config.sqpoll, "sqthread_poll"),
          std::pair(config.hipri, "hipri"), std::pair(config.nowait, "nowait"),
          std::pair(config.ranges > 1, "dmabuf_ranges"),
          std::pair(config.force_async != 0, "force_async"),
          std::pair(config.priorities, "cmdprio_*")})
      if (set)
        return fail(EINVAL,
                    strf("%s is a setting of io_uring, which dmabuf_submit=%s does not use; "
                         "drop one of the two",
                         name, submit));
  }
  if (file && config.trims)
    return fail(EINVAL, "dmabuf_datapath=syscall has nothing to trim: a dma-buf has no blocks to "
                        "give back; use a read or write workload");
  return {};
}

/// What dmabuf_ranges can be combined with.
Result<void> check_ranges(const JobConfig &config) {
  if (config.ranges < 2)
    return {};
  if (config.iodepth < 2 || config.iodepth_batch < 2)
    return fail(EINVAL, strf("dmabuf_ranges=%u puts I/Os that are submitted together into one "
                             "command, and here each is submitted alone; set iodepth and "
                             "iodepth_batch to more than 1, or drop it",
                             config.ranges));
  if (config.buffer_per_slot)
    return fail(EINVAL, strf("dmabuf_ranges=%u is for I/Os of one dma-buf, and with "
                             "dmabuf_buffers=io_u each has its own; drop one of the two",
                             config.ranges));
  for (const auto &[set, name] :
       {std::pair(config.hipri, "hipri"), std::pair(config.force_async != 0, "force_async")})
    if (set)
      return fail(EINVAL, strf("%s is a setting of single I/Os, which share commands with "
                               "dmabuf_ranges=%u; drop one of the two",
                               name, config.ranges));
  return {};
}

/// What dmabuf_buffers=io_u can be combined with.
Result<void> check_slots(const JobConfig &config) {
  if (!config.buffer_per_slot)
    return {};
  const DatapathTraits &can = traits(config.datapath);
  if (!can.dmabuf_memory)
    return fail(EINVAL, strf("dmabuf_buffers=io_u is about dma-bufs as I/O memory, which "
                             "dmabuf_datapath=%s does not have; drop it",
                             can.name));
  if (config.max_bs % kPage || config.mem_align % kPage)
    return fail(EINVAL, "with dmabuf_buffers=io_u each I/O slot is made of whole pages; set bs and "
                        "iomem_align to multiples of 4k, or drop it");
  if (config.hugepages)
    return fail(EINVAL, "dmabuf_buffers=io_u does not go with dmabuf_hugepages=1, whose pages are "
                        "longer than an I/O slot; drop one of the two");
  if (config.iodepth > kMaxFixedBuffers)
    return fail(EINVAL, strf("iodepth=%u is more than the %u dma-bufs a ring can register; lower "
                             "iodepth, or drop dmabuf_buffers=io_u",
                             config.iodepth, kMaxFixedBuffers));
  return {};
}

} // namespace

std::string ranges_note(const JobConfig &config) {
  if (config.ranges < 2 || config.refill > 1)
    return {};
  return strf("when iodepth=%u I/Os are under way fio waits for one of them and submits one, so "
              "that commands of dmabuf_ranges=%u have one I/O each, but where several end "
              "together; set iodepth_batch_complete_min or iodepth_low",
              config.iodepth, config.ranges);
}

Result<void> check_path(const JobConfig &config, Datapath path) {
  const DatapathTraits &can = traits(path);
  const char *name = can.name;
  if (config.hipri && !can.may_poll)
    return fail(EINVAL,
                strf("hipri polls the drive, which dmabuf_datapath=%s cannot; drop hipri, or "
                     "use dmabuf_datapath=premapped or registered",
                     name));
  if (config.nowait && !can.carries_flags)
    return fail(EINVAL, strf("nowait is a flag of reads and writes that the commands of "
                             "dmabuf_datapath=%s do not have; drop nowait, or use "
                             "dmabuf_datapath=registered",
                             name));
  if (config.priorities && !can.carries_priority)
    return fail(EINVAL,
                strf("the I/O of dmabuf_datapath=%s carries no priority; drop cmdprio_*, or "
                     "use dmabuf_datapath=registered",
                     name));
  if (config.max_command_kb && !can.sizes_commands)
    return fail(EINVAL, strf("dmabuf_max_command_kb is for premapped commands, which "
                             "dmabuf_datapath=%s does not send; drop it",
                             name));
  if (config.ranges > 1 && !can.commands && path != Datapath::automatic)
    return fail(EINVAL,
                strf("dmabuf_ranges is about commands to the kernel module, which "
                     "dmabuf_datapath=%s does not send; drop it, or use dmabuf_datapath=premapped",
                     name));
  if (config.process_priority && !can.process_priority)
    return fail(EINVAL,
                strf("the reads and writes of dmabuf_datapath=%s do not carry the job's I/O "
                     "priority; drop prio, prioclass and priohint, or use "
                     "dmabuf_datapath=registered or bvec",
                     name));
  if (!config.of_block_layer.empty() && !can.by_block_layer)
    return fail(
        EINVAL,
        strf("%s is for the block layer, which the I/O of dmabuf_datapath=%s does not pass; "
             "drop it, or use dmabuf_datapath=registered or bvec",
             config.of_block_layer.c_str(), name));
  if (config.uncached && !config.direct && (!can.carries_flags || can.is_file))
    return fail(
        EINVAL,
        strf("uncached is a flag of reads and writes through the page cache, which those of "
             "dmabuf_datapath=%s cannot have; drop uncached, or use "
             "dmabuf_datapath=registered",
             name));
  if (config.atomic && !can.writes_atomically)
    return fail(EINVAL,
                strf("atomic=1 sets a flag (RWF_ATOMIC) that Linux takes with writes of ordinary "
                     "memory only, and those of dmabuf_datapath=%s are none; drop atomic, or use "
                     "dmabuf_datapath=host",
                     name));
  if (config.pin_file != PinFile::no && path != Datapath::premapped)
    return fail(EINVAL, strf("dmabuf_pin_file lets premapped commands go past the file system, and "
                             "dmabuf_datapath=%s goes through it; drop dmabuf_pin_file, or set "
                             "dmabuf_datapath=premapped",
                             name));
  if (config.pin_file != PinFile::no && config.trims)
    return fail(EINVAL, "a file that is held still (dmabuf_pin_file) cannot be trimmed; drop the "
                        "trims, or dmabuf_pin_file");
  if (config.force_reads && !can.forces_reads)
    return fail(EINVAL,
                strf("readfua is a bit of NVMe commands that Linux sets in no read, and only "
                     "dmabuf_datapath=premapped makes its commands itself, not %s; drop "
                     "readfua, or set dmabuf_datapath=premapped",
                     name));
  if (config.force_writes && can.is_file)
    return fail(EINVAL,
                strf("writefua forces writes to the medium, and dmabuf_datapath=%s writes to "
                     "memory; drop it",
                     name));
  return {};
}

Result<void> check_config(const JobConfig &config) {
  const DatapathTraits &can = traits(config.datapath);
  const char *path = can.name;
  if (!ring_entries(config.iodepth))
    return fail(EINVAL,
                strf("iodepth=%u is more than the %u requests an io_uring holds; lower iodepth",
                     config.iodepth, kMaxRingEntries));
  const uint64_t most = max_request(page_bytes());
  if (config.max_bs > most)
    return fail(EINVAL,
                strf("bs=%llu is more than one io_uring request can move (%llu bytes); lower bs",
                     static_cast<unsigned long long>(config.max_bs),
                     static_cast<unsigned long long>(most)));
  if (can.slot_buffers && config.iodepth > kMaxFixedBuffers)
    return fail(EINVAL,
                strf("iodepth=%u is more than the %u buffers an io_uring can register; lower "
                     "iodepth",
                     config.iodepth, kMaxFixedBuffers));
  if (!config.foreign.empty())
    return fail(EINVAL, strf("%s; drop it", config.foreign.c_str()));
  if (config.offload)
    return fail(EINVAL,
                strf("io_submit_mode=offload submits from other threads, and the mappings of the "
                     "dma-buf belong to the job's own, with dmabuf_submit=%s, too; drop it, and "
                     "for a rate of arrivals use rate_iops, rate_process=poisson and iodepth, or "
                     "numjobs",
                     submit_name(config.submit)));
  if (auto ok = check_submit(config); !ok)
    return ok;
  if (auto ok = check_path(config, config.datapath); !ok)
    return ok;
  if (config.hipri && !config.direct)
    return fail(EINVAL, "hipri polls the drive and needs O_DIRECT; add direct=1");
  if (auto ok = check_ranges(config); !ok)
    return ok;
  if (can.needs_direct && !config.direct)
    return fail(EINVAL, strf("dmabuf_datapath=%s bypasses the page cache and needs O_DIRECT; add "
                             "direct=1",
                             path));
  if (config.hugepages && config.exporter != ExporterKind::udmabuf)
    return fail(EINVAL,
                strf("dmabuf_hugepages=1 is for dmabuf_exporter=udmabuf, not %s; drop one of "
                     "the two",
                     exporter_name(config.exporter)));
  if (config.timeout_ms && !needs_module(config.datapath, config.submit))
    return fail(EINVAL, strf("dmabuf_timeout_ms is a setting of the kernel module, which "
                             "dmabuf_datapath=%s, dmabuf_submit=%s does not use; drop it",
                             path, submit_name(config.submit)));
  if (auto ok = check_slots(config); !ok)
    return ok;
  if (config.remap_every && !can.maps_dmabuf)
    return fail(EINVAL, strf("dmabuf_remap_every maps the dma-buf for the drive again, which "
                             "dmabuf_datapath=%s never does; drop it",
                             path));
  if (config.max_command_kb % 4 || config.max_command_kb > UINT32_MAX / 1024)
    return fail(EINVAL, strf("dmabuf_max_command_kb=%u is not a multiple of 4 below 4194304",
                             config.max_command_kb));
  if (config.sqpoll_cpu >= 0 && !config.sqpoll)
    return fail(EINVAL, "sqthread_poll_cpu does nothing without sqthread_poll=1; add it");
  return {};
}

namespace {

bool hex(std::string_view text, size_t least, size_t most) {
  return text.size() >= least && text.size() <= most &&
         text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

/// Puts PCI addresses that were split at their colons together again: domain and bus, each
/// followed by what only the end of an address looks like, device.function.
void join_pci_addresses(std::vector<std::string> &parts) {
  const auto ends_address = [](const std::string &part) {
    return part.size() >= 4 && hex(part.substr(0, 2), 2, 2) && part[2] == '.' &&
           hex(part.substr(3, 1), 1, 1) && (part.size() == 4 || part[4] == '/' || part[4] == '+');
  };
  for (size_t i = 1; i < parts.size(); i++) {
    if (!ends_address(parts[i]) || !hex(parts[i - 1], 2, 2))
      continue;
    const size_t first = i >= 2 && hex(parts[i - 2], 4, 8) ? i - 2 : i - 1;
    for (size_t j = first + 1; j <= i; j++)
      parts[first] += ":" + parts[j];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(first) + 1,
                parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    i = first;
  }
}

} // namespace

std::vector<std::string> split_device_list(std::string_view list) {
  std::vector<std::string> parts;
  std::string part;
  auto take = [&] {
    if (!part.empty())
      parts.push_back(std::move(part));
    part.clear();
  };
  for (size_t i = 0; i < list.size(); i++) {
    if (list[i] == '\\' && i + 1 < list.size() && list[i + 1] == ':')
      part += list[++i];
    else if (list[i] == ':')
      take();
    else
      part += list[i];
  }
  take();
  join_pci_addresses(parts);
  return parts;
}

std::string device_for_job(std::string_view list, unsigned number) {
  const auto parts = split_device_list(list);
  if (parts.empty())
    return {};
  return parts[(number ? number - 1 : 0) % parts.size()];
}

BufferRequest buffer_request(const JobConfig &config, uint64_t bytes) {
  return {.kind = config.exporter,
          .device = device_for_job(config.device, config.number),
          .bytes = bytes,
          .hugepages = config.hugepages,
          .shrink = traits(config.datapath).is_file ? kShrinkFile : kShrinkIo};
}

} // namespace dmabuf
