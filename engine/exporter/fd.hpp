// SPDX-License-Identifier: GPL-2.0-only
// The inside of exporter fd, for its tests.
#pragma once

#include "base/dma_buf.hpp"
#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <cstdint>
#include <string>

namespace dmabuf {

inline constexpr unsigned kPeerTimeoutMs = 10'000; ///< for the connection, and for the answer

/// Connects to the process that hands out dma-bufs on a UNIX socket (docs/exporters.md).
Result<UniqueFd> connect_peer(const std::string &path, unsigned timeout_ms = kPeerTimeoutMs);

/// Asks a connected peer for one dma-buf of `bytes` bytes. `path`: the socket, for messages.
/// Closes all other descriptors that came with it.
Result<DmaBuf> ask_peer(UniqueFd peer, const std::string &path, uint64_t bytes,
                        unsigned timeout_ms = kPeerTimeoutMs);

} // namespace dmabuf
