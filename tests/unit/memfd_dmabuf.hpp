// SPDX-License-Identifier: GPL-2.0-only
// Stands in for dma-bufs, which a machine without udmabuf has not: memfds of a certain name, which
// this program's fstatfs() says are of the dma-bufs' file system.
#pragma once

#include <cstdint>

namespace dmabuf::test {

/// A memfd of `bytes` bytes that passes for a dma-buf.
int memfd_dmabuf(uint64_t bytes);

/// One that does not.
int plain_memfd(uint64_t bytes);

/// Descriptors that this process has.
int open_files();

} // namespace dmabuf::test
