// SPDX-License-Identifier: GPL-2.0-only
#include "fio/failure.hpp"

#include "fio/io_unit.hpp"

#include <cstring>

namespace dmabuf {
namespace {

thread_local FioJob *this_job = nullptr;

/// "Input/output error (EIO)"
std::string words(int error) {
  const std::string meaning = errno_meaning(error);
  return meaning.empty() ? errno_name(error) : meaning + " (" + errno_name(error) + ")";
}

} // namespace

void set_this_job(FioJob *job) { this_job = job; }

int give_up(thread_data *td, const Error &error) {
  log_err("libdmabuf: job %s: %s\n", td->o.name ? td->o.name : "", error.message.c_str());
  td_verror(td, static_cast<unsigned>(known_errno(error.code)), "libdmabuf");
  return 1;
}

int break_down(thread_data *td, int error, const char *where) {
  of(td).lane->fatal = error;
  td_verror(td, static_cast<unsigned>(error), where);
  attach_later(td);
  return -error;
}

const char *call_name(const io_u &unit) {
  if (static_cast<int>(unit.ddir) == kSyncfs)
    return "syncfs";
  switch (static_cast<Kind>(unit.ddir)) {
  case Kind::read:
    return "read";
  case Kind::write:
    return "write";
  case Kind::trim:
    return "trim";
  case Kind::sync:
    return "fsync";
  case Kind::datasync:
    return "fdatasync";
  case Kind::sync_range:
    return "sync_file_range";
  }
  return "I/O";
}

void explain(FioJob &state, const io_u &unit) {
  const unsigned kind = 1U << static_cast<unsigned>(unit.ddir);
  const bool data = unit.ddir == DDIR_READ || unit.ddir == DDIR_WRITE;
  if (state.explained & kind)
    return;
  state.explained |= kind;
  const auto error = static_cast<int>(unit.error);
  const char *name = state.job->config().name.c_str();
  if (!data && unit.ddir != DDIR_TRIM) {
    log_err("libdmabuf: job %s: %s of %s failed: %s\n", name, call_name(unit), unit.file->file_name,
            words(error).c_str());
    return;
  }
  const std::string why =
      data ? state.job->explain_failure(static_cast<unsigned>(unit.file->fileno), error)
           : words(error);
  if (!why.empty())
    log_err("libdmabuf: job %s: %s at offset %llu of %s: %s\n", name, call_name(unit), unit.offset,
            unit.file->file_name, why.c_str());
}

void explain_failed(FioJob &state, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    if (const auto *unit = static_cast<const io_u *>(state.lane->ready[i]); unit->error)
      explain(state, *unit);
}

int late_error(thread_data *td, unsigned count) {
  int error = 0;
  for (unsigned i = 0; i < count; i++) {
    const auto &unit = *static_cast<const io_u *>(of(td).lane->ready[i]);
    const auto code = static_cast<int>(unit.error);
    if (!code || error)
      continue;
    if (td_non_fatal_error(td, td_error_type(unit.ddir, code), code)) {
      update_error_count(td, code);
      continue;
    }
    error = code;
    log_err("libdmabuf: job %s: one of the last I/Os, a %s at offset %llu, failed: %s\n",
            of(td).job->config().name.c_str(), call_name(unit), unit.offset, words(code).c_str());
  }
  return error;
}

char *error_details(io_u *unit) {
  if (!this_job || !unit->file || !this_job->job->started())
    return strdup("libdmabuf: the job was stopped after an error");
  if (unit->ddir != DDIR_READ && unit->ddir != DDIR_WRITE)
    return strdup(
        strf("libdmabuf: a %s moves no data, so the dma-buf has no part in it", call_name(*unit))
            .c_str());
  return strdup(this_job->job
                    ->locate_failure(FioIo::request(*this_job->lane, *unit),
                                     static_cast<unsigned>(unit->file->fileno))
                    .c_str());
}

} // namespace dmabuf
