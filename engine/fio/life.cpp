// SPDX-License-Identifier: GPL-2.0-only
// A job's life from init to cleanup, and its I/O memory, which fio may exchange in between.
#include "fio/hooks.hpp"

#include "base/system.hpp"
#include "fio/failure.hpp"
#include "fio/fio_job.hpp"
#include "fio/options.hpp"

#include <sys/mman.h>
#include <utility>

namespace dmabuf {
namespace {

std::vector<void *> slot_buffers(const thread_data &td) {
  std::vector<void *> buffers;
  if (td_read(&td) || td_write(&td)) {
    buffers.resize(td.o.iodepth);
    for (unsigned i = 0; i < td.o.iodepth; i++) {
      const io_u *unit = td.io_u_all.io_us[i];
      buffers[unit->index] = unit->buf;
    }
  }
  return buffers;
}

/// The CPU does not map the memory: what fio does with its buffers costs copies.
void use_device_memory(thread_data *td) {
  const Job &job = *of(td).job;
  switch_to(td, job);
  if (!job.config().cpu_fills || job.config().refills)
    return;
  td->flags &= ~static_cast<unsigned long long>(TD_F_SCRAMBLE_BUFFERS);
  log_err("libdmabuf: job %s: fio's default scrambling of write buffers is left out, because each "
          "write to memory that the CPU does not map would cost a copy; scramble_buffers=1 has it "
          "done\n",
          job.config().name.c_str());
}

fio_q_status queue_renewed(thread_data *td, io_u *unit) {
  if (const int error = renew(td)) {
    unit->error = static_cast<unsigned>(error);
    return FIO_Q_COMPLETED;
  }
  return td->io_ops->queue(td, unit);
}

/// After a chunk of a replayed log fio does not look whether there was memory: it gets some that it
/// may fill, and the next I/O fails.
int fail_later(thread_data *td, const Error &error, size_t bytes) {
  FioJob &state = of(td);
  give_up(td, error);
  state.allocation_error = error.code;
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return 1;
  state.stand_in = MappedRange(memory, bytes);
  td->orig_buffer = static_cast<char *>(memory);
  attach_later(td);
  return 0;
}

/// Bytes from one of fio's buffers to the next, from how much it wants for all of them.
uint64_t slot_stride(const thread_data &td) {
  return (td.orig_buffer_size - (page_bytes() - 1) - td.o.mem_align) / td.o.iodepth;
}

/// fio leaves a job whose exec_prerun failed, and some others, with no error and the status 0.
void check_begun(thread_data *td) {
  if (td->runstate >= TD_FINISHING || td->error || td->terminate)
    return;
  std::string where = "look at what fio printed before";
  if (td->o.exec_prerun)
    where = strf("exec_prerun may have failed: look at its output in %s.prerun.txt", td->o.name);
  give_up(td,
          {ECANCELED, "fio gave the job up before its first I/O, and names no error; " + where});
}

/// Stops the job, says what it did, and makes it fail where that is not proven.
void end_job(thread_data *td, FioJob &state) {
  if (state.priorities.options)
    fio_cmdprio_cleanup(&state.priorities);
  Job &job = *state.job;
  switch_to(td, job); // from a table that ends with the state
  job.stop();
  check_begun(td);
  if (!job.ran())
    return;
  const JobReport report = job.report();
  log_err("%s\n", summary_line(report).c_str());
  if (auto ok = job.write_report(report); !ok)
    give_up(td, ok.error());
  // fio takes td->error after this hook for its exit status and its JSON.
  if (!report.proof.proven)
    give_up(td, {EPROTO, strf("datapath %s is not proven, so its numbers count for nothing: %s",
                              datapath_name(report.path), report.proof.text.c_str())});
  else if (const int fatal = state.lane->fatal) // of which fio may have taken no notice
    give_up(td, {fatal, strf("after an error (%s) no more I/O was issued, and fio's numbers count "
                             "for nothing, whatever errors it was to go on after",
                             errno_name(fatal).c_str())});
}

} // namespace

int engine_init(thread_data *td) {
  auto job = Job::create(job_config(*td));
  if (!job)
    return give_up(td, job.error());
  WatchedJob *const watched = job_begins(*td);
  if (!watched)
    return give_up(td,
                   {ENOMEM, "there is no memory in which fio sees whether this job comes to its "
                            "end, or room for one more; run fewer jobs at once"});
  auto *state = new FioJob;
  state->watched = watched;
  state->job = std::move(*job);
  state->lane = &state->job->lane();
  state->lane->sync_range_flags = td->o.sync_file_range;
  state->lane->spins = state->job->config().sqpoll;
  state->lane->polls = !td->o.iodepth_batch_complete_min;
  state->lane->syncs_last = verifies_fsynced(*td);
  if (state->lane->spins) // the time until the kernel's thread was told is none of an I/O's
    td->o.disable_slat = 1;
  td->io_ops_data = state;
  set_this_job(state);
  // Then the drive's command has FUA on every datapath; fio opens the files after this.
  if (state->job->config().force_writes)
    td->o.sync_io |= O_DSYNC;
  auto *options = static_cast<FioOptions *>(td->eo);
  if (fio_cmdprio_init(td, &state->priorities, &options->priorities))
    return give_up(td,
                   {EINVAL, "cmdprio_percentage and cmdprio_bssplit exclude each other, and the "
                            "percentages of a block size add up to at most 100; correct them"});
  switch_to(td, *state->job);
  return 0;
}

int renew(thread_data *td) {
  FioJob &state = of(td);
  int &fatal = state.lane->fatal;
  if (!fatal)
    fatal = state.allocation_error;
  if (fatal)
    return fatal;
  if (auto ok = state.job->attach(slot_buffers(*td)); !ok) {
    give_up(td, ok.error());
    fatal = ok.error().code;
    return fatal;
  }
  switch_to(td, *state.job);
  return 0;
}

bool attaches_later(thread_data *td) { return td->io_ops == &of(td).renewed; }

void attach_later(thread_data *td) {
  FioJob &state = of(td);
  if (attaches_later(td))
    return;
  state.renewed = *td->io_ops;
  state.renewed.queue = queue_renewed;
  // Nothing is queued, or it will never be submitted: getevents() hands that back.
  if (state.renewed.commit)
    state.renewed.commit = [](thread_data *) { return 0; };
  td->io_ops = &state.renewed;
}

int engine_iomem_alloc(thread_data *td, size_t bytes) {
  const bool again = of(td).begun;
  auto memory = of(td).job->allocate(bytes, slot_stride(*td));
  if (!memory && again)
    return fail_later(td, memory.error(), bytes);
  if (!memory) {
    of(td).allocation_error = memory.error().code;
    return give_up(td, memory.error());
  }
  td->orig_buffer = static_cast<char *>(*memory);
  if (again) {
    attach_later(td);
    return 0;
  }
  const JobConfig &config = of(td).job->config();
  for (const std::string &note : {of(td).job->memory_note(), ranges_note(config)})
    if (!note.empty())
      log_err("libdmabuf: job %s: %s\n", config.name.c_str(), note.c_str());
  if (of(td).job->buffer_kind() != BufferKind::view)
    use_device_memory(td);
  return 0;
}

void free_memory(thread_data *td) {
  FioJob &state = of(td);
  if (state.lane->in_flight) // after an error: what the kernel has goes with the ring
    state.job->stop();
  else
    state.job->release_memory();
  state.stand_in.reset();
  td->orig_buffer = nullptr;
}

void engine_iomem_free(thread_data *td) {
  if (td->io_ops_data)
    free_memory(td);
}

int engine_post_init(thread_data *td) {
  FioJob &state = of(td);
  if (state.allocation_error) // already said; some fio versions come here all the same
    return 1;
  if (auto ok = state.job->start(slot_buffers(*td)); !ok)
    return give_up(td, ok.error());
  state.begun = true;
  // fio 3.33 with create_serialize=0 learns the sizes later: such files are made when opened.
  if (files_are_buffers(*td))
    for (unsigned i = 0; i < td->files_index && i < td->o.nr_files; i++)
      if (td->files[i]->io_size && make_buffer_file(td, *td->files[i]))
        return 1;
  return 0;
}

void engine_cleanup(thread_data *td) {
  std::unique_ptr<FioJob> state(static_cast<FioJob *>(td->io_ops_data));
  td->io_ops_data = nullptr;
  set_this_job(nullptr);
  if (!state)
    return;
  WatchedJob *const watched = state->watched;
  end_job(td, *state);
  state.reset(); // a plug-in of the user's frees its memory
  job_ended(watched);
}

} // namespace dmabuf
