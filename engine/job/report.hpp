// SPDX-License-Identifier: GPL-2.0-only
// What a job did and how that is known: one JSON object per line, and one line for the terminal.
#pragma once

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "datapath/lane.hpp"
#include "job/buffer_file.hpp"
#include "job/config.hpp"

#include <cstdint>
#include <string>

namespace dmabuf {

/// The module's counters, summed over a job's mappings.
struct ModuleCounts {
  bool known = false; ///< INFO was read for every mapping
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t read_bytes = 0;
  uint64_t write_bytes = 0;
  uint64_t commands = 0;
  uint64_t errors = 0;
  uint64_t deferred = 0;
  uint64_t invalidations = 0;
  uint64_t registrations = 0;
  uint64_t map_ns = 0;
  uint64_t command_bytes = 0; ///< the shortest limit of a command; 0: an I/O is one command
};

/// Whether a job's datapath is proven, and the sentence that says why or why not.
struct Proof {
  bool proven = false;
  std::string text;
};

/// Where memory is and how a drive, or the CPU, reaches it, in the words of memory_name() and
/// route_name().
struct MemoryPlace {
  std::string memory;
  std::string route;
};

struct JobReport {
  std::string job;
  unsigned job_number = 0;
  Datapath path = Datapath::automatic;
  Datapath requested = Datapath::automatic;
  Submit submit = Submit::uring;
  ExporterKind exporter = ExporterKind::none;
  std::string device;
  std::string target; ///< names joined by ':' when there are several
  std::string memory = "unknown";
  std::string route = "unknown";
  uint32_t segments = 0;
  uint64_t buffer_bytes = 0;
  unsigned buffers = 0; ///< dma-bufs that are I/O memory
  Counters issued;
  uint64_t longest = 0;     ///< bytes of an I/O at most
  uint64_t unreaped = 0;    ///< I/Os that were submitted and never seen to end
  bool atomic = false;      ///< writes were not of registered memory, but had RWF_ATOMIC
  bool copies_up = false;   ///< each write was to take fio's data along, by a copy
  bool copies_down = false; ///< each read was to be seen by fio, by a copy
  ModuleCounts module;
  FileEvidence files;    ///< datapath syscall
  uint64_t upstream = 0; ///< datapath upstream: registrations that io_uring accepted
  uint64_t map_ns = 0;
  uint64_t unmap_ns = 0;
  Proof proof;

  std::string exported; ///< DmaBuf::exported
};

/// Compares what the engine completed with what can be known about the path it took.
/// Takes path, submit, issued, module and files from the report.
Proof prove(const JobReport &report);

/// `text` as a JSON string, quotes included. Bytes that are no UTF-8 become U+FFFD.
std::string json_string(const std::string &text);

/// Opens the file to which reports are appended, and makes it. Root may write it in a folder of all
/// users' (/tmp), where somebody else may have put a link: none is followed, but those of /dev/fd,
/// /dev/stdout and /dev/stderr to the process's own descriptors.
Result<UniqueFd> open_report(const std::string &path);

/// The report as one JSON object without a newline.
std::string to_json(const JobReport &report);

/// The line for the terminal, without a newline.
std::string summary_line(const JobReport &report);

} // namespace dmabuf
