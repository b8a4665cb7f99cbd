// SPDX-License-Identifier: GPL-2.0-only
// The options as fio stores them, and the table that describes them to fio.
#pragma once

#include "fio/api.hpp"
#include "job/config.hpp"

namespace dmabuf {

/// fio writes here. Offset 0 means "no field" to fio, so the first member is never an option.
struct FioOptions {
  void *unused;
  char *device;
  char *report;
  unsigned exporter;
  unsigned datapath;
  unsigned submit;
  unsigned hugepages;
  unsigned timeout_ms;
  unsigned max_command_kb;
  unsigned buffers;
  unsigned remap_every;
  unsigned ranges;
  unsigned pin_file;
  unsigned registerfiles;
  unsigned sqpoll;
  unsigned sqpoll_cpu_set;
  unsigned sqpoll_cpu;
  unsigned hipri;
  unsigned fixedbufs;
  unsigned nowait;
  unsigned force_async;
  cmdprio_options priorities;
  unsigned uncached;
  unsigned force_reads;
  unsigned force_writes;
  unsigned no_effect; ///< for an option of engine io_uring that has none here
  /// An option of that engine that is refused unless it has its default; a number, or a text.
  struct Value {
    unsigned number;
    char *text;
  };
  Value refused[12];
};

/// Why a job with dataplacement, or fdp, does not run.
inline constexpr const char *kNoPlacement =
    "dataplacement: no write here carries an identifier of streams or of FDP (fio's engine "
    "io_uring_cmd has them, in ordinary memory)";

/// fio has syncfs from 3.42 on.
inline constexpr bool kHasSyncfs = DDIR_WAIT == DDIR_SYNC_FILE_RANGE + 2;
/// And with the same release its engine io_uring waits for completions without iowait.
inline constexpr bool kWaitsWithoutIowait = kHasSyncfs;

/// Adds the options that engine io_uring has, too, under their names there.
void add_uring_options(std::vector<fio_option> &table);

/// The first option of engine io_uring that is set and asks for what this engine does not do, as
/// "name=value: why"; empty if there is none.
std::string foreign_option(const FioOptions &options);

/// One entry of the option table. `offset`: of the member of FioOptions.
fio_option option(const char *name, const char *lname, fio_opt_type type, size_t offset,
                  const char *def, const char *help);

template <class E> value_pair choice(const char *name, E value, const char *help) {
  value_pair pair = {};
  pair.ival = name;
  pair.oval = static_cast<unsigned long long>(value);
  pair.help = help;
  return pair;
}

/// The option table, made on first use; static and writable, as fio keeps notes in it.
fio_option *fio_option_table();

/// What `td` was asked to do.
JobConfig job_config(const thread_data &td);

/// verify_policy=fsynced, of fio after 3.42: an fsync has to cover what was written before it.
bool verifies_fsynced(const thread_data &td);

/// Whether the files of `td` are dma-bufs, not files in a file system.
bool files_are_buffers(const thread_data &td);

} // namespace dmabuf
