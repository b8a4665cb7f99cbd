// SPDX-License-Identifier: GPL-2.0-only
// Memory that somebody else's program gives: what is believed of it, and of the words beside it.
#pragma once

#include "base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dmabuf {

/// Refuses a descriptor that is no dma-buf, is not open for reading and writing, or is shorter than
/// `bytes`. `who` gave it, for messages. Returns its size. Touches neither memory nor fences.
Result<uint64_t> check_foreign(int fd, uint64_t bytes, const std::string &who);

/// Words from outside as one line of a message or a report: printable ASCII, at most `most` bytes.
std::string one_line(std::string_view text, size_t most = 200);

} // namespace dmabuf
