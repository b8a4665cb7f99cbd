// SPDX-License-Identifier: GPL-2.0-only
// io_uring's own registration of dma-bufs, proposed for Linux and not merged as of 7.3: a dma-buf
// and its one target in a slot of the ring's registered-buffer table.
#pragma once

#include "base/error.hpp"

#include <cstdint>
#include <string>

namespace dmabuf {

/// Whether this kernel has it, asked of a ring whose buffer table has a slot 0, which stays empty.
Result<void> check_upstream(int ring_fd);

/// Puts a dma-buf for one target in slot `slot`, which must exist. The kernel maps it with the
/// first I/O, so success says little.
Result<void> register_upstream(int ring_fd, unsigned slot, int dmabuf_fd, int target_fd,
                               const std::string &target);

/// Empties the slot.
void unregister_upstream(int ring_fd, unsigned slot);

} // namespace dmabuf
