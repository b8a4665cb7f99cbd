// SPDX-License-Identifier: GPL-2.0-only
// What a regular file needs before the module can hold it still (dmabuf_pin_file).
#pragma once

#include "base/error.hpp"

#include <string>

namespace dmabuf {

/// dmabuf_pin_file: the job's files are held still while they are mapped.
enum class PinFile : unsigned { no, yes, prepare };

/// Makes the file that is open as `fd` one that nobody has open for writing on its account: the
/// same file, open for reading only, takes the place of `fd`. With PinFile::prepare its holes are
/// written first, with zeros. Nobody may write the file while this runs.
Result<void> ready_to_hold(int fd, const std::string &name, PinFile how);

} // namespace dmabuf
