// SPDX-License-Identifier: GPL-2.0-only
// The datapaths and the ways to submit, and what each of them can do: one row for each. What runs
// for every I/O is in policies.hpp and sync_path.hpp.
#pragma once

#include "base/enum_table.hpp"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <linux/dmabuf_rw.h>
#include <optional>

namespace dmabuf {

/// How bytes move. `automatic` is only ever a request.
enum class Datapath : unsigned {
  automatic,
  premapped,
  registered,
  bvec,
  bounce,
  host,
  syscall,
  upstream
};

/// Which call hands an I/O to the kernel. `uring` is what every datapath has; the others wait for
/// each I/O: `sync` is pread() and pwrite(), `ioctl` the module's ioctl IO, `mmap` the CPU itself.
enum class Submit : unsigned { uring, sync, ioctl, mmap };

/// What a datapath is and can do. `auto` can do what one of its candidates can.
struct DatapathTraits {
  static constexpr uint32_t kNoPath = UINT32_MAX;

  Datapath path;
  const char *name;
  const char *what;               ///< for the list of options
  bool needs_module = false;      ///< needs /dev/dmabuf_rw
  uint32_t module_path = kNoPath; ///< DMABUF_RW_PATH_*, if the module maps the dma-buf
  uint64_t feature = 0;           ///< DMABUF_RW_FEAT_* of a module that has it
  bool maps_dmabuf = false;       ///< maps the dma-buf for the target
  bool commands = false;          ///< each I/O is a command to the module
  bool sizes_commands = false;    ///< dmabuf_max_command_kb has a meaning
  bool dmabuf_memory = true;      ///< the job's I/O memory is dma-bufs
  bool slot_buffers = false;      ///< the ring has a registered buffer of host memory per I/O slot
  bool is_file = false;           ///< the dma-buf is the file under test
  bool needs_direct = false;      ///< bypasses the page cache
  bool may_poll = true;           ///< hipri: a drive can be polled for its completions
  bool carries_flags = true;      ///< nowait: its I/O has the flags of reads and writes
  bool carries_priority = true;   ///< cmdprio_*: its I/O has a priority
  bool process_priority = true;   ///< prio, prioclass, priohint: its I/O has the process's
  bool by_block_layer = true;     ///< write_hint, cgroup, ioscheduler: it passes the block layer
  bool writes_atomically = false; ///< atomic: its writes can have RWF_ATOMIC
  bool forces_reads = false;      ///< readfua: its reads can be forced to the medium
};

/// By Datapath.
inline constexpr DatapathTraits kDatapathTraits[] = {
    {.path = Datapath::automatic,
     .name = "auto",
     .what = "The first of premapped, registered, bvec that works; never a control",
     .needs_module = true,
     .module_path = DMABUF_RW_PATH_AUTO,
     .maps_dmabuf = true,
     .sizes_commands = true},
    {.path = Datapath::premapped,
     .name = "premapped",
     .what = "The dma-buf is mapped for the NVMe drive once (needs direct=1)",
     .needs_module = true,
     .module_path = DMABUF_RW_PATH_PREMAPPED,
     .feature = DMABUF_RW_FEAT_PREMAPPED,
     .maps_dmabuf = true,
     .commands = true,
     .sizes_commands = true,
     .needs_direct = true,
     .carries_flags = false,
     .carries_priority = false,
     .process_priority = false,
     .by_block_layer = false,
     .forces_reads = true},
    {.path = Datapath::registered,
     .name = "registered",
     .what = "The dma-buf is a registered buffer of the job's io_uring",
     .needs_module = true,
     .module_path = DMABUF_RW_PATH_REGISTERED,
     .feature = DMABUF_RW_FEAT_REGISTERED,
     .maps_dmabuf = true},
    {.path = Datapath::bvec,
     .name = "bvec",
     .what = "Each I/O is a read or write of the target on the dma-buf's pages",
     .needs_module = true,
     .module_path = DMABUF_RW_PATH_BVEC,
     .feature = DMABUF_RW_FEAT_BVEC,
     .maps_dmabuf = true,
     .commands = true,
     .may_poll = false,
     .carries_flags = false,
     .carries_priority = false},
    {.path = Datapath::bounce,
     .name = "bounce",
     .what = "Control: host memory, and the CPU copies to and from the dma-buf",
     .slot_buffers = true},
    {.path = Datapath::host,
     .name = "host",
     .what = "Control: registered host memory, no dma-buf at all",
     .dmabuf_memory = false,
     .slot_buffers = true,
     .writes_atomically = true},
    {.path = Datapath::syscall,
     .name = "syscall",
     .what = "The dma-buf is the file: read() and write() on it, from and to ordinary memory",
     .needs_module = true,
     .feature = DMABUF_RW_FEAT_RWFILE,
     .dmabuf_memory = false,
     .is_file = true,
     .may_poll = false,
     .carries_priority = false,
     .process_priority = false,
     .by_block_layer = false},
    {.path = Datapath::upstream,
     .name = "upstream",
     .what = "io_uring's own registration of dma-bufs, on kernels that have it",
     .maps_dmabuf = true,
     .needs_direct = true,
     .may_poll = false},
};

static_assert(is_table_of<&DatapathTraits::path>(kDatapathTraits));

/// Values of Datapath.
inline constexpr size_t kDatapaths = std::size(kDatapathTraits);

constexpr const DatapathTraits &traits(Datapath path) {
  return kDatapathTraits[static_cast<size_t>(path)];
}

constexpr const char *datapath_name(Datapath path) { return traits(path).name; }

/// The datapath that the module calls `module_path`; nothing for AUTO and for
/// what is unknown.
constexpr std::optional<Datapath> datapath_of_module(uint32_t module_path) {
  for (const DatapathTraits &row : kDatapathTraits)
    if (row.path != Datapath::automatic && row.module_path == module_path &&
        module_path != DatapathTraits::kNoPath)
      return row.path;
  return std::nullopt;
}

/// What a way to submit is and can do.
struct SubmitTraits {
  Submit submit;
  const char *name;
  const char *what;            ///< for the list of options
  bool waits = true;           ///< for each I/O; has none of io_uring's settings
  bool needs_file = false;     ///< for datapaths whose dma-buf is the file
  bool needs_commands = false; ///< for datapaths of commands to the module
  bool by_module = true;       ///< false: the module has no part in it, on any datapath
};

/// By Submit.
inline constexpr SubmitTraits kSubmitTraits[] = {
    {.submit = Submit::uring, .name = "uring", .what = "io_uring", .waits = false},
    {.submit = Submit::sync,
     .name = "sync",
     .what = "pread() and pwrite(), for datapath syscall",
     .needs_file = true},
    {.submit = Submit::ioctl,
     .name = "ioctl",
     .what = "The module's ioctl IO, for datapaths premapped and bvec",
     .needs_commands = true},
    {.submit = Submit::mmap,
     .name = "mmap",
     .what = "Control of datapath syscall: the CPU copies from and to the mmap",
     .needs_file = true,
     .by_module = false},
};

static_assert(is_table_of<&SubmitTraits::submit>(kSubmitTraits));

/// Values of Submit.
inline constexpr size_t kSubmits = std::size(kSubmitTraits);

constexpr const SubmitTraits &traits(Submit submit) {
  return kSubmitTraits[static_cast<size_t>(submit)];
}

constexpr const char *submit_name(Submit submit) { return traits(submit).name; }

/// True for what needs /dev/dmabuf_rw.
constexpr bool needs_module(Datapath path, Submit submit) {
  return traits(path).needs_module && traits(submit).by_module;
}

} // namespace dmabuf
