// SPDX-License-Identifier: GPL-2.0-only
// What the tests of hostile and careless programs share.
#pragma once

#include "rwfile.hpp"

#include <unistd.h>

namespace vmtest {

inline const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
// Of most buffers.
constexpr std::size_t bytes = 256u << 10;

// OPEN that must be refused with this errno and reason, and leaves no descriptor.
void refused(const std::string &name, const Session &session, int dmabuf_fd, int flags, int error,
             std::uint32_t reason);
// All bytes of a dma-buf, and new ones, by the CPU.
Bytes contents(const DmaBuf &buffer);
void put(const DmaBuf &buffer, const Bytes &data);

} // namespace vmtest
