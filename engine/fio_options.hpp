// SPDX-License-Identifier: GPL-2.0-only
// The options as fio stores them, and the table that describes them to fio.
#pragma once

#include "fio_api.hpp"
#include "options.hpp"

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
  unsigned registerfiles;
  unsigned sqpoll;
  unsigned sqpoll_cpu_set;
  unsigned sqpoll_cpu;
};

/// The option table, made on first use; static and writable, as fio keeps notes in it.
fio_option *fio_option_table();

/// What `td` was asked to do.
JobConfig job_config(const thread_data &td);

/// Whether the files of `td` are dma-bufs, not files in a file system.
bool files_are_buffers(const thread_data &td);

} // namespace dmabuf
