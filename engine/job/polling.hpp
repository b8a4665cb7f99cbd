// SPDX-License-Identifier: GPL-2.0-only
// Whether a drive can be polled for completions.
#pragma once

#include "base/error.hpp"

#include <optional>
#include <string>
#include <sys/types.h>

namespace dmabuf {

/// What the block device `device` says of itself in `sysfs` ("/sys"): whether it has polled queues.
/// A partition is asked through its disk. Nothing if it does not say.
std::optional<bool> has_polled_queues(const std::string &sysfs, dev_t device);

/// Refuses a block device, or a file on one, that has no polled queues: its I/O would be waited for
/// by interrupts, whatever the ring was asked for.
Result<void> check_polled(int fd, const std::string &name);

} // namespace dmabuf
