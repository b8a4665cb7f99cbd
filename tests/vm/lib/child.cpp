// SPDX-License-Identifier: GPL-2.0-only
#include "child.hpp"

#include "report.hpp"

#include <cstdio>
#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vmtest {

void in_child(const std::string &name, const std::function<int()> &body) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child < 0)
    die("fork failed");
  if (child == 0) {
    report().forget(); // the parent's failures are not the child's
    const int status = body();
    std::fflush(stdout);
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  report().check(WIFEXITED(status) && WEXITSTATUS(status) == 0, name,
                 std::format("child ended with wait status 0x{:x}", status));
}

void become_nobody() {
  if (::setgroups(0, nullptr) != 0 || ::setresgid(65534, 65534, 65534) != 0 ||
      ::setresuid(65534, 65534, 65534) != 0)
    die("cannot give up root");
}

} // namespace vmtest
