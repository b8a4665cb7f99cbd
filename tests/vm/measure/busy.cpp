// SPDX-License-Identifier: GPL-2.0-only
// Time that would have been idle, measured: a thread that runs only when nothing else does reads
// the counter all the time. What passes between two readings that follow each other at once was
// idle; a longer gap was somebody else's.
#include "measure.hpp"

#include <cerrno>
#include <cstring>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

namespace measure {

namespace {
// A round of the spinner is some ten instructions; an interrupt is hundreds.
constexpr std::uint64_t longest_round = 200;
} // namespace

Spinner::Spinner() {
  if (::pthread_create(&thread_, nullptr, spin, this) != 0)
    die("pthread_create");
}

Spinner::~Spinner() {
  __atomic_store_n(&stop_, true, __ATOMIC_RELAXED);
  ::pthread_join(thread_, nullptr);
}

void *Spinner::spin(void *self) {
  auto &spinner = *static_cast<Spinner *>(self);
  const sched_param none{};
  if (::sched_setscheduler(0, SCHED_IDLE, &none) != 0)
    die(std::format("SCHED_IDLE: {}", std::strerror(errno)));
  std::uint64_t last = __rdtsc();
  while (!__atomic_load_n(&spinner.stop_, __ATOMIC_RELAXED)) {
    const std::uint64_t here = __rdtsc();
    if (here - last < longest_round)
      __atomic_store_n(&spinner.idle_, spinner.idle_ + (here - last), __ATOMIC_RELAXED);
    last = here;
  }
  return nullptr;
}

int run_busy(char **argv) {
  const Spinner spinner;
  const std::uint64_t start = now(), idle = spinner.idle();
  const pid_t child = ::fork();
  if (child == 0) {
    ::execvp(argv[0], argv);
    std::fprintf(stderr, "%s: %s\n", argv[0], std::strerror(errno));
    ::_exit(127);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child)
    die("fork or wait failed");
  const auto total = static_cast<double>(now() - start) / ticks_per_instruction;
  const auto spent = static_cast<double>(spinner.idle() - idle) / ticks_per_instruction;
  std::fprintf(stderr, "{\"busy\": %.0f, \"total\": %.0f}\n", total - spent, total);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

} // namespace measure
