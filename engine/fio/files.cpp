// SPDX-License-Identifier: GPL-2.0-only
// The files of a job: their size, opening and closing them, and dma-bufs in their place.
#include "fio/hooks.hpp"

#include "fio/fio_job.hpp"
#include "fio/options.hpp"

#include <cerrno>
#include <cstdio>
#include <string>
#include <unistd.h>

namespace dmabuf {
namespace {

/// The block device of a namespace whose character device (ng0n1) the file is; empty for others.
std::string block_device_of(const fio_file &file) {
  const std::string name = file.file_name;
  const size_t at = name.find_last_of('/') + 1;
  int controller = 0;
  int number = 0;
  if (file.filetype != FIO_TYPE_CHAR ||
      std::sscanf(name.c_str() + at, "ng%dn%d", &controller, &number) != 2)
    return {};
  return name.substr(0, at) + "nvme" + name.substr(at + 2);
}

/// Opens a file that is a dma-buf.
int open_buffer_file(thread_data *td, fio_file *file) {
  clear_flags(td, FIO_FAKEIO);
  if (make_buffer_file(td, *file))
    return 1;
  auto fd = of(td).job->open_file(static_cast<unsigned>(file->fileno));
  if (!fd)
    return give_up(td, fd.error());
  file->fd = fd->release();
  return 0;
}

} // namespace

/// Asked before there is a job, by the job's own options. Where the files are dma-bufs fio is not
/// to look at the disk: it is told of an empty file that an engine without disk and without data
/// (FAKEIO) makes as long as the job wants. engine_open_file() takes the latter back, as fio
/// verifies nothing while it is set.
int engine_get_file_size(thread_data *td, fio_file *file) {
  if (const std::string device = block_device_of(*file); !device.empty())
    return give_up(td, {EINVAL, strf("%s takes NVMe commands, as of fio's engine io_uring_cmd, and "
                                     "no reads and writes; give %s as filename",
                                     file->file_name, device.c_str())});
  if (!files_are_buffers(*td))
    return generic_get_file_size(td, file);
  if (file->filetype != FIO_TYPE_FILE)
    return give_up(td, {EINVAL, strf("dmabuf_datapath=syscall reads and writes the dma-buf itself "
                                     "and would leave %s alone; drop filename",
                                     file->file_name)});
  if (access(file->file_name, F_OK) == 0)
    log_err("libdmabuf: job %s: dmabuf_datapath=syscall reads and writes a dma-buf of that size; "
            "the file %s is left alone\n",
            td->o.name ? td->o.name : "", file->file_name);
  set_flags(td, FIO_DISKLESSIO | FIO_FAKEIO);
  file->real_file_size = 0;
  fio_file_set_size_known(file);
  return 0;
}

/// A file that never was on a disk is not removed from it.
int engine_unlink_file(thread_data *td, fio_file *file) {
  if (files_are_buffers(*td))
    return 0;
  return unlink(file->file_name) < 0 ? errno : 0;
}

/// fio asks for a drive's placement handles before there is a job; without this hook it says that
/// the engine lacks it, and no more. It takes the error from errno.
int engine_fetch_ruhs(thread_data *td) {
  give_up(td, {EOPNOTSUPP, strf("%s; drop it", kNoPlacement)});
  errno = EOPNOTSUPP;
  return -EOPNOTSUPP;
}

int make_buffer_file(thread_data *td, const fio_file &file) {
  auto ok = of(td).job->make_file(static_cast<unsigned>(file.fileno), file.real_file_size);
  return ok ? 0 : give_up(td, ok.error());
}

int engine_open_file(thread_data *td, fio_file *file) {
  if (files_are_buffers(*td)) {
    if (open_buffer_file(td, file))
      return 1;
  } else if (generic_open_file(td, file)) {
    if (td_write(td) && (td->error == EACCES || td->error == EROFS || td->error == EPERM))
      log_err(
          "libdmabuf: job %s: %s cannot be opened for writing (%s) and this job writes; check its "
          "permissions (blockdev --getro for a device), or use a read workload\n",
          td->o.name ? td->o.name : "", file->file_name, errno_name(td->error).c_str());
    return 1;
  }
  // fio also opens files to learn their size: in the parent before there is a job, or before
  // post_init.
  if (!td->io_ops_data || !of(td).job->started())
    return 0;
  if (attaches_later(td) && renew(td)) {
    [[maybe_unused]] const int closed = generic_close_file(td, file);
    return 1;
  }
  Job &job = *of(td).job;
  const bool open_question = job.path() == Datapath::automatic;
  if (auto ok = job.open_target(static_cast<unsigned>(file->fileno), file->fd, file->file_name);
      !ok) {
    // fio blames O_DIRECT for any EINVAL of an open.
    give_up(td, {ok.error().code == EINVAL ? EOPNOTSUPP : ok.error().code, ok.error().message});
    job.close_target(static_cast<unsigned>(file->fileno));
    [[maybe_unused]] const int closed = generic_close_file(td, file);
    return 1;
  }
  if (const std::string why = job.trims_note(); !why.empty())
    log_err("libdmabuf: job %s: trims of %s are done one at a time: %s\n",
            job.config().name.c_str(), file->file_name, why.c_str());
  if (open_question && job.path() != Datapath::automatic) {
    if (!job.passed_over().empty())
      log_err("libdmabuf: job %s: auto took %s for %s; passed over: %s\n",
              job.config().name.c_str(), datapath_name(job.path()), file->file_name,
              job.passed_over().c_str());
    switch_to(td, job);
  }
  return 0;
}

int engine_close_file(thread_data *td, fio_file *file) {
  if (td->io_ops_data)
    of(td).job->close_target(static_cast<unsigned>(file->fileno));
  return generic_close_file(td, file);
}

} // namespace dmabuf
