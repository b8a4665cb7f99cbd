// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "lib/report.hpp"

#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace vmtest {

// What a child that has mapped a file and its parent tell each other.
class Talk {
public:
  Talk() {
    if (::pipe2(to_child_, O_CLOEXEC) != 0 || ::pipe2(to_parent_, O_CLOEXEC) != 0)
      die("pipe: " + errno_name(errno));
  }
  Talk(const Talk &) = delete;
  Talk &operator=(const Talk &) = delete;
  ~Talk() {
    for (const int fd : {to_child_[0], to_child_[1], to_parent_[0], to_parent_[1]})
      ::close(fd);
  }
  void tell_parent() const { tell(to_parent_[1]); }
  void tell_child() const { tell(to_child_[1]); }
  void wait_for_parent() const { hear(to_child_[0]); }
  void wait_for_child() const { hear(to_parent_[0]); }

private:
  static void tell(int fd) {
    if (::write(fd, "", 1) != 1)
      die("pipe: " + errno_name(errno));
  }
  static void hear(int fd) {
    pollfd there{.fd = fd, .events = POLLIN, .revents = 0};
    char byte = 0;
    if (::poll(&there, 1, 60000) != 1 || ::read(fd, &byte, 1) != 1)
      die("the other process says nothing");
  }
  int to_child_[2]{}, to_parent_[2]{};
};

} // namespace vmtest
