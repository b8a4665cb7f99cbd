// SPDX-License-Identifier: GPL-2.0-only
// What a job was asked to do, in the engine's own terms, and which of it cannot work.
#pragma once

#include "base/error.hpp"
#include "datapath/kinds.hpp"
#include "exporter/exporter.hpp"
#include "job/pin_file.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dmabuf {

/// Something that the job's transfers are multiples of.
struct Step {
  const char *name; ///< of the option
  uint64_t value;   ///< of the option
  uint64_t bytes;
};

/// Everything a job was asked to do, in terms that do not name fio.
struct JobConfig {
  std::string name;
  unsigned number = 1; ///< 1 for fio's first job, counting clones
  Datapath datapath = Datapath::automatic;
  Submit submit = Submit::uring;
  ExporterKind exporter = ExporterKind::udmabuf;
  std::string device; ///< the exporter's device, or a ':' list of them; empty: the first there is
  bool hugepages = false;
  unsigned timeout_ms = 0;
  unsigned max_command_kb = 0;
  bool buffer_per_slot = false; ///< a dma-buf for each I/O slot, not one for all
  uint64_t mem_align = 0;       ///< what fio adds to the start of the I/O memory
  unsigned remap_every = 0; ///< I/Os between unmapping the dma-buf and mapping it again; 0: never
  unsigned ranges = 0;      ///< I/Os that may share a command; 0 and 1: none do
  PinFile pin_file = PinFile::no;
  std::string report; ///< path; empty: no report
  bool registerfiles = false;
  bool fixedbufs = false;        ///< syscall: registers the I/O memory; the others have no choice
  bool hipri = false;            ///< polls the drive for completions
  bool nowait = false;           ///< an I/O that would block fails instead
  bool priorities = false;       ///< some I/Os have a priority of their own
  bool process_priority = false; ///< prio, prioclass, priohint: the job's process has one
  std::string of_block_layer;    ///< an option that the block layer follows; empty: none is set
  unsigned force_async = 0;      ///< every Nth request goes to a kernel worker at once
  bool uncached = false;         ///< what is read and written is not to stay in the page cache
  bool atomic = false;           ///< a write is to happen wholly or not at all
  bool force_reads = false;      ///< readfua
  bool force_writes = false;     ///< writefua: its targets are open with O_DSYNC
  std::string foreign;           ///< an option that is set and not followed here, and why; a clause
  bool no_iowait = false;        ///< as the engine io_uring of the same fio
  bool sqpoll = false;
  int sqpoll_cpu = -1;
  unsigned iodepth = 1;
  unsigned iodepth_batch = 1; ///< I/Os that fio submits together
  unsigned refill = 1; ///< of these, how many it waits for when iodepth of them are under way
  uint64_t max_bs = 0;
  std::vector<Step> steps;   ///< where its transfers begin and how long they are; empty: not known
  bool reads = false;        ///< will read from the target (verification counts)
  bool writes = false;       ///< will write to the target
  bool trims = false;        ///< will discard parts of the target
  bool offload = false;      ///< io_submit_mode=offload: other threads would submit
  bool resets_zones = false; ///< its trims are resets of zones
  bool direct = false;       ///< opens its targets with O_DIRECT
  bool cpu_fills = false;    ///< the CPU writes in buffers between writes
  bool refills = false;      ///< the same, and not just because fio scrambles unless told not to
  bool cpu_checks = false;   ///< the CPU looks at what was read
  bool async_checks = false; ///< so do other threads, at any time until the slot is used again
  unsigned file_count = 1;
};

/// Refuses combinations that cannot work, with a sentence that says what to change.
/// Opens and allocates nothing.
Result<void> check_config(const JobConfig &config);

/// The part of it that depends on the datapath, for one that `auto` took.
Result<void> check_path(const JobConfig &config, Datapath path);

/// That commands of several I/Os will have one each, by how fio waits; empty if that need not be.
std::string ranges_note(const JobConfig &config);

/// The parts of a ':' list; "\:" is a colon inside a part, and so is one inside a PCI address
/// (0000:01:00.0, perhaps with "/N" or "+…"). Empty parts are dropped.
std::vector<std::string> split_device_list(std::string_view list);

/// What a job asks its exporter for: `bytes` bytes of I/O memory, or of a file under test.
BufferRequest buffer_request(const JobConfig &config, uint64_t bytes);

/// The device for job `number` (1-based): parts are dealt out in turn. Empty for an empty list.
std::string device_for_job(std::string_view list, unsigned number);

} // namespace dmabuf
