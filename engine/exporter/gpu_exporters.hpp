// SPDX-License-Identifier: GPL-2.0-only
// Exporters of Intel GPUs on a table of calls: the system's, or a test's.
#pragma once

#include "exporter/exporter.hpp"
#include "exporter/gpu_node.hpp"

namespace dmabuf {

Result<DmaBuf> allocate_xe(const DrmCalls &calls, const BufferRequest &request);
Result<DmaBuf> allocate_i915(const DrmCalls &calls, const BufferRequest &request);

} // namespace dmabuf
