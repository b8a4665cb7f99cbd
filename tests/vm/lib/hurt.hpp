// SPDX-License-Identifier: GPL-2.0-only
// What happens to a machine now and then, on command: dmabuf_hurt.ko.
#pragma once

#include <string_view>
#include <sys/types.h>

namespace vmtest {

// dmabuf_hurt.ko, for as long as the object lives.
class Hurt {
public:
  Hurt();
  Hurt(const Hurt &) = delete;
  Hurt &operator=(const Hurt &) = delete;
  ~Hurt();
  // Freezes the queue of /dev/DISK; returns when it goes on.
  void freeze(std::string_view disk, unsigned ms) const;
  // The same of a disk that may be gone meanwhile: 0 or a negative errno.
  int try_freeze(std::string_view disk, unsigned ms) const;
  int frozen() const;
  // The PCI function is gone as if it had been pulled.
  void lose(std::string_view function) const;
  // Calls of a kernel function by this thread come back `ms` later.
  void slow(std::string_view function, unsigned ms) const;
  // The same of any thread.
  void slow_thread(std::string_view function, unsigned ms, pid_t tid) const;
  void slow_off() const;
  int slowed() const;
  // PRP words of commands without segments become others: "all" commands', those of "data", or only
  // the "second" word; "off". Without an IOMMU only.
  void divert(std::string_view what) const;
  int diverted() const;
  // The next `count` requests that end in this function of a module, a request's end_io, end with
  // this NVMe status, after the drive has done them. How many have so far; what is left of them
  // goes.
  void lie(std::string_view function, unsigned status, unsigned count) const;
  int lies() const;
  void lie_off() const;
  // Calls of a kernel function by this process are counted, by the user whose file rights they are
  // made with.
  void watch_rights(std::string_view function) const;
  struct Calls {
    int by_root = 0, by_others = 0;
  };
  Calls rights() const;
  void rights_off() const;

private:
  void command(std::string_view file, std::string_view words) const;
};

} // namespace vmtest
