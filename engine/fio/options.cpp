// SPDX-License-Identifier: GPL-2.0-only
#include "fio/options.hpp"

#include "datapath/kinds.hpp"
#include "exporter/exporter.hpp"

#include <algorithm>
#include <string_view>
#include <type_traits>
#include <utility>

namespace dmabuf {

fio_option option(const char *name, const char *lname, fio_opt_type type, size_t offset,
                  const char *def, const char *help) {
  fio_option entry = {};
  entry.name = name;
  entry.lname = lname;
  entry.type = type;
  entry.off1 = static_cast<unsigned>(offset);
  entry.def = def;
  entry.help = help;
  entry.category = FIO_OPT_C_ENGINE;
  entry.group = FIO_OPT_G_IOURING;
  return entry;
}

namespace {

/// Lists the rows of a table as what an option may be; a value is the number of its row.
template <class Row, size_t rows> void fill_choices(fio_option &entry, const Row (&table)[rows]) {
  static_assert(rows < std::extent_v<decltype(entry.posval)>, "fio takes no more choices");
  for (size_t i = 0; i < rows; i++)
    entry.posval[i] = choice(table[i].name, i, table[i].what);
}

void fill_table(std::vector<fio_option> &table) {
  const auto add = [&](const fio_option &entry) -> fio_option & {
    return table.emplace_back(entry);
  };

  auto &exporters =
      add(option("dmabuf_exporter", "dma-buf exporter", FIO_OPT_STR, offsetof(FioOptions, exporter),
                 "udmabuf", "Who allocates the job's I/O memory"));
  fill_choices(exporters, kExporters);

  add(option("dmabuf_device", "Exporter's device", FIO_OPT_STR_STORE, offsetof(FioOptions, device),
             nullptr,
             "Device of the exporter: a heap's name, /dev/dri/cardN or N; for vfio 0000:01:00.0 or "
             "0000:01:00.0/2, its BAR 2, else its largest that is prefetchable; a GPU's number or "
             "PCI address, for cuda also its UUID, and behind it +vmm (memory of cuMemCreate), "
             "+pcie or +default (which mapping); for testexp move-N, which moves the memory every "
             "N microseconds; for plugin FILE,ARGUMENTS; for fd a socket; a ':' list is dealt out "
             "to the jobs in turn, \"\\:\" is a colon; default: the exporter's first, for vfio, "
             "plugin and fd none"));

  auto &datapaths =
      add(option("dmabuf_datapath", "Datapath", FIO_OPT_STR, offsetof(FioOptions, datapath), "auto",
                 "How bytes move between the target and the dma-buf"));
  fill_choices(datapaths, kDatapathTraits);

  auto &submits =
      add(option("dmabuf_submit", "Submission", FIO_OPT_STR, offsetof(FioOptions, submit), "uring",
                 "The call that hands an I/O to the kernel; all but uring wait for each I/O"));
  fill_choices(submits, kSubmitTraits);

  add(option("dmabuf_hugepages", "Huge pages", FIO_OPT_BOOL, offsetof(FioOptions, hugepages), "0",
             "Back udmabuf with huge pages of the default size"));

  auto &timeout = add(option(
      "dmabuf_timeout_ms", "Longest wait", FIO_OPT_INT, offsetof(FioOptions, timeout_ms), "0",
      "Milliseconds an I/O may wait before it is sent, for the buffer's fences, memory "
      "that was moved or another path; 0: 30 s. Commands time out as the drive's queue "
      "says"));
  timeout.maxval = 3'600'000;

  add(option("dmabuf_max_command_kb", "Command size", FIO_OPT_INT,
             offsetof(FioOptions, max_command_kb), "0",
             "KiB one premapped command may move; 0: the drive's own limit, its MDTS"));

  auto &buffers =
      add(option("dmabuf_buffers", "dma-bufs", FIO_OPT_STR, offsetof(FioOptions, buffers), "job",
                 "How many dma-bufs hold the job's I/O memory"));
  buffers.posval[0] = choice("job", 0, "One");
  buffers.posval[1] = choice("io_u", 1, "One for each I/O slot, of bs bytes");

  add(option("dmabuf_remap_every", "Mapping churn", FIO_OPT_INT, offsetof(FioOptions, remap_every),
             "0", "Unmap the dma-buf and map it again every so many I/Os; 0: it stays mapped"));

  auto &ranges = add(
      option("dmabuf_ranges", "I/Os in a command", FIO_OPT_INT, offsetof(FioOptions, ranges), "0",
             "Up to N I/Os that are submitted together share a command of premapped or "
             "bvec; 0: a command each"));
  ranges.maxval = 65536;
  auto &pins = add(option("dmabuf_pin_file", "Files held still", FIO_OPT_STR,
                          offsetof(FioOptions, pin_file), "0",
                          "Premapped I/O on files of ext4 and xfs: nobody opens them for writing, "
                          "truncates or moves them while the job runs"));
  pins.posval[0] = choice("0", PinFile::no, "No");
  pins.posval[1] = choice("1", PinFile::yes, "Yes; all of the file is written already");
  pins.posval[2] = choice("prepare", PinFile::prepare, "Yes; its holes are written first");

  add(option("dmabuf_report", "Report", FIO_OPT_STR_STORE, offsetof(FioOptions, report), nullptr,
             "File to which each job appends one line of JSON: what ran and how that is known"));

  add_uring_options(table);
  table.push_back({}); // the end
}

} // namespace

fio_option *fio_option_table() {
  // Never destroyed: a job's thread may still go through it while the process exits.
  static std::vector<fio_option> &table = *[] {
    auto *made = new std::vector<fio_option>;
    fill_table(*made);
    return made;
  }();
  return table.data();
}

namespace {

/// Whether the user gave a value to the option of fio's own that is at `offset`.
bool was_set(const thread_data &td, size_t offset) {
  // It only looks.
  return __fio_option_is_set(const_cast<thread_options *>(&td.o), static_cast<unsigned>(offset));
}

/// atomic=1, of a fio that leaves it to the engine.
bool writes_atomically([[maybe_unused]] const thread_data &td) {
#ifdef FIO_HAVE_RWF_ATOMIC
  return td.o.oatomic;
#else
  return false;
#endif
}

/// An option that fio itself hands to the kernel, for the block layer to follow; empty if there is
/// none.
std::string of_block_layer(const thread_data &td, bool writes) {
  // A hint of "none" is what a file has without one.
  if (writes && was_set(td, offsetof(thread_options, write_hint)) &&
      td.o.write_hint > RWH_WRITE_LIFE_NONE)
    return "write_hint";
  // A weight without a group is nothing to fio.
  if (td.o.cgroup)
    return "cgroup";
  // "none" is what an I/O has that passes no scheduler.
  return td.o.ioscheduler && td.o.ioscheduler != std::string_view("none") ? "ioscheduler" : "";
}

/// prio, prioclass or priohint, which fio before 3.36 does not have.
template <class T> bool has_priority(const thread_data &td, const T &options) {
  if constexpr (requires { options.ioprio_hint; })
    if (was_set(td, offsetof(T, ioprio_hint)))
      return true;
  return was_set(td, offsetof(T, ioprio)) || was_set(td, offsetof(T, ioprio_class));
}

/// Streams or FDP, as fio has come to call them: dp_type is 0 for none.
template <class T> bool places_data(const T &options) {
  if constexpr (requires { options.dp_type; })
    return options.dp_type != 0;
  else if constexpr (requires { options.fdp; })
    return options.fdp != 0;
  else
    return false;
}

template <class T> bool is_fsynced(const T &td) {
  // 1 is fsynced: fio's verify.h is no C++.
  if constexpr (requires { td.o.verify_policy; })
    return td.o.verify_policy & 1;
  else
    return false;
}

/// Where the job's reads and writes begin and how long they are. A log that it replays has its own.
std::vector<Step> steps(const thread_data &td) {
  std::vector<Step> found;
  if (td.o.read_iolog_file)
    return found;
  for (const auto &[does, kind] :
       {std::pair(td_read(&td), DDIR_READ), std::pair(td_write(&td), DDIR_WRITE)}) {
    if (!does)
      continue;
    found.push_back({"bs", td.o.min_bs[kind], td.o.min_bs[kind]});
    // fio cuts what is longer than the longest to that, whatever the shortest is.
    found.push_back({"bs", td.o.max_bs[kind], td.o.max_bs[kind]});
    if (td.o.bs_unaligned && td.o.min_bs[kind] != td.o.max_bs[kind])
      found.push_back({"bs_unaligned", 1, 1});
    if (td_random(&td))
      found.push_back({"blockalign", td.o.ba[kind], td.o.ba[kind]});
  }
  found.push_back({"offset", td.o.start_offset, td.o.start_offset});
  return found;
}

} // namespace

JobConfig job_config(const thread_data &td) {
  const auto &options = *static_cast<const FioOptions *>(td.eo);
  JobConfig config;
  config.name = td.o.name ? td.o.name : "";
  config.number = td.thread_number;
  config.datapath = static_cast<Datapath>(options.datapath);
  config.submit = static_cast<Submit>(options.submit);
  config.exporter = static_cast<ExporterKind>(options.exporter);
  config.device = options.device ? options.device : "";
  config.hugepages = options.hugepages;
  config.timeout_ms = options.timeout_ms;
  config.max_command_kb = options.max_command_kb;
  config.buffer_per_slot = options.buffers;
  config.mem_align = td.o.mem_align;
  config.remap_every = options.remap_every;
  config.ranges = options.ranges;
  config.pin_file = static_cast<PinFile>(options.pin_file);
  config.report = options.report ? options.report : "";
  config.registerfiles = options.registerfiles;
  config.fixedbufs = options.fixedbufs;
  config.hipri = options.hipri;
  config.nowait = options.nowait;
  config.force_async = options.force_async;
  config.priorities = options.priorities.percentage[0] || options.priorities.percentage[1] ||
                      (options.priorities.bssplit_str && *options.priorities.bssplit_str);
  config.process_priority = has_priority(td, td.o);
  config.uncached = options.uncached;
  config.atomic = writes_atomically(td);
  config.force_reads = options.force_reads;
  config.force_writes = options.force_writes;
  config.foreign = foreign_option(options);
  if (config.foreign.empty() && places_data(td.o))
    config.foreign = kNoPlacement;
  // fio refuses it, too; up to 3.33 it goes on without buffers.
  if (config.foreign.empty() && (td_read(&td) || td_write(&td)) &&
      was_set(td, offsetof(thread_options, mem_type)))
    config.foreign = "mem (iomem): the memory of the I/O is this engine's, which "
                     "dmabuf_exporter and dmabuf_hugepages are about";
  if (config.foreign.empty() && config.force_writes && verifies_fsynced(td))
    config.foreign = "verify_policy=fsynced: with writefua=1 each write is in the medium when it "
                     "ends, whether an fsync comes after it or not";
  config.no_iowait = kWaitsWithoutIowait;
  config.sqpoll = options.sqpoll;
  config.sqpoll_cpu = options.sqpoll_cpu_set ? static_cast<int>(options.sqpoll_cpu) : -1;
  config.iodepth = td.o.iodepth;
  config.iodepth_batch = td.o.iodepth_batch;
  config.refill = std::max({1U, td.o.iodepth_batch_complete_min,
                            td.o.iodepth - std::min(td.o.iodepth, td.o.iodepth_low)});
  config.max_bs =
      std::max({td.o.max_bs[DDIR_READ], td.o.max_bs[DDIR_WRITE], td.o.max_bs[DDIR_TRIM]});
  config.steps = steps(td);
  // fio's verify.h is no C++; its VERIFY_NONE is 0.
  const bool verifies = td.o.verify != 0;
  // With verify_only the writes are only imagined and the file is open for reading.
  config.writes = td_write(&td) && !td.o.verify_only;
  config.of_block_layer = of_block_layer(td, config.writes);
  config.reads = td_read(&td) || (td_write(&td) && verifies);
  // Those of trim_percentage come out of what was written; td_trim() does not know of them.
  config.trims = td_trim(&td) || td.o.trim_percentage || td.o.trim_backlog;
  config.offload = td.o.io_submit_mode == IO_MODE_OFFLOAD;
  config.resets_zones = td.o.zone_mode == ZONE_MODE_ZBD;
  config.direct = td.o.odirect;
  config.cpu_fills =
      config.writes &&
      (verifies || (td.flags & (TD_F_REFILL_BUFFERS | TD_F_SCRAMBLE_BUFFERS | TD_F_COMPRESS)));
  const bool scrambles = (td.flags & TD_F_SCRAMBLE_BUFFERS) && !(td.flags & TD_F_COMPRESS) &&
                         was_set(td, offsetof(thread_options, scramble_buffers));
  config.refills =
      config.writes && (verifies || (td.flags & TD_F_REFILL_BUFFERS) != 0 || scrambles);
  config.cpu_checks = config.reads && verifies;
  config.async_checks = config.cpu_checks && td.o.verify_async;
  config.file_count = td.files_index;
  return config;
}

bool verifies_fsynced(const thread_data &td) { return is_fsynced(td); }

bool files_are_buffers(const thread_data &td) {
  const auto *options = static_cast<const FioOptions *>(td.eo);
  return traits(static_cast<Datapath>(options->datapath)).is_file;
}

} // namespace dmabuf
