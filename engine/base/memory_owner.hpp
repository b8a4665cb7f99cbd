// SPDX-License-Identifier: GPL-2.0-only
// The plug-in or process that lent the memory of a dma-buf and is told when it is no longer needed;
// and what the job can do to the memory until then.
#pragma once

#include "base/error.hpp"

#include <cerrno>
#include <cstdint>

namespace dmabuf {

/// What an owner may do to memory that a drive has mapped.
enum class Disturbance : unsigned { move, revoke, restore };

/// What it saw.
struct Disturbed {
  uint64_t stray_bytes = 0; ///< changed in memory that was left, so far; 0 where it does not look
};

/// Gives the memory back in its destructor, when the descriptor is closed and the mappings are
/// gone.
class MemoryOwner {
public:
  virtual ~MemoryOwner() = default;

  virtual bool can(Disturbance) const { return false; }

  /// Returns when it is done. May be called while another thread uses the dma-buf. EBUSY: not now.
  virtual Result<Disturbed> disturb(Disturbance) {
    return fail(EOPNOTSUPP, "this memory is not moved or taken away on demand");
  }
};

} // namespace dmabuf
