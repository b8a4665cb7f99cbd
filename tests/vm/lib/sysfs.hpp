// SPDX-License-Identifier: GPL-2.0-only
// What the kernel says about itself in files, and waiting for it to say something else.
#pragma once

#include "report.hpp"

#include <concepts>
#include <string>
#include <string_view>
#include <unistd.h>

namespace vmtest {

// One file of /proc or /sys: 0 or a negative errno; what it holds, "" when it cannot be read.
int write_file(const std::string &path, std::string_view text);
std::string read_file(const std::string &path);
// The number that a file holds; -1 when it cannot be read.
int number_in(const std::string &path);
// Whether drives have a queue that is polled: without one a polled ring's I/O ends by interrupts,
// and tests something else.
bool has_poll_queues();
// The PCI function of a controller ("0000:01:00.0").
std::string pci_function(const std::string &controller);
// The block device of a namespace of the drive that `dmabuf-lab run --formats` adds, by its number
// on the drive: namespaces are found side by side, and named in the order in which they are.
std::string formats_namespace(unsigned number);

// Looks until `condition` holds, or `seconds` are over: whether it held.
bool wait_for(const std::predicate auto &condition, double seconds) {
  for (const double end = now_s() + seconds; now_s() < end; ::usleep(5000))
    if (condition())
      return true;
  return condition();
}

} // namespace vmtest
