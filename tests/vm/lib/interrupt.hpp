// SPDX-License-Identifier: GPL-2.0-only
// Holding back what the drive has to say.
#pragma once

#include "unique_fd.hpp"

#include <cstdint>
#include <sys/types.h>

namespace vmtest {

// The drive's MSI-X interrupts, held back by the function mask in its configuration space.
class DriveInterrupt {
public:
  DriveInterrupt();
  ~DriveInterrupt() { unmask(); } // also when the program gives up
  void mask() { write(static_cast<std::uint16_t>(control_ | function_mask)); }
  void unmask() { write(control_); }

private:
  static constexpr std::uint16_t function_mask = 0x4000;
  void write(std::uint16_t value);
  UniqueFd config_;
  off_t at_ = 0;
  std::uint16_t control_ = 0;
};

DriveInterrupt &drive_interrupt();

} // namespace vmtest
