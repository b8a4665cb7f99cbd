// SPDX-License-Identifier: GPL-2.0-only
// Processes and threads that end in the middle of things, and signals.
#include "worker.hpp"

#include <csignal>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

extern char **environ;

namespace vmtest::fuzz {

namespace {

// A child does the next calls with what it inherited, then goes. It takes no lock of the library.
long fork(Worker &worker, Args &args) {
  const std::uint64_t how = args.next(), calls = args.next();
  const std::uint32_t here = worker.position();
  const pid_t self = ::getpid(), child = ::fork();
  if (child < 0)
    return -errno;
  if (child == 0) {
    // Gone with its parent, which may be killed before it can kill: who is left would go on for
    // ever.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != self)
      ::_exit(0);
    worker.run_next(calls, true);
    if (how == 1) {
      char name[] = "/bin/true";
      char *const words[] = {name, nullptr};
      ::execve(name, words, environ);
    } else if (how == 2) {
      ::kill(::getpid(), SIGKILL);
    } else if (how >= 3) {
      for (;;) // until it is killed, in a call mostly
        worker.run_next(calls, true), ::usleep(how == 3 ? 0 : 10000);
    }
    ::_exit(0);
  }
  if (how >= 3) {
    ::usleep(500);
    ::kill(child, SIGKILL);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  // How far it came is a matter of time; the program is to be the same every time.
  worker.set_position(here);
  return 0;
}

// Another thread does the next calls; what it has in flight ends with it.
long thread(Worker &worker, Args &args) {
  const std::uint64_t calls = args.next();
  std::thread([&] { worker.run_next(calls, false); }).join();
  return 0;
}

// A signal interrupts whoever is in a call then.
long timer(Worker &, Args &args) {
  itimerval value{};
  value.it_value.tv_usec = static_cast<suseconds_t>(args.next() + 1);
  return outcome(::setitimer(ITIMER_REAL, &value, nullptr));
}

constexpr Action actions[] = {{"fork", fork}, {"thread", thread}, {"timer", timer}};

} // namespace

std::span<const Action> process_actions() { return actions; }

} // namespace vmtest::fuzz
