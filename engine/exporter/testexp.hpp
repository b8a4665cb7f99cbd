// SPDX-License-Identifier: GPL-2.0-only
// The inside of exporter testexp, for its tests.
#pragma once

#include "base/error.hpp"

#include <cstdint>
#include <string_view>

namespace dmabuf {

/// What a testexp buffer does by itself.
struct TestexpPlan {
  uint32_t move_us = 0; ///< its memory moves every so many microseconds while it is mapped; 0: not
  uint32_t lose = 0;    ///< DMABUF_TESTEXP_LOSE_WRITES and STALE_READS
  bool no_cpu = false;  ///< no CPU view and no pages, as device memory
  bool shift = false;   ///< DMABUF_TESTEXP_SHIFT_SEGMENTS
  uint32_t exchange_after = 0; ///< CPU accesses before DMABUF_TESTEXP_EXCHANGE; 0: without it
  bool refuse_attach = false;
  bool refuse_map = false;
};

/// The plan in dmabuf_device for exporter testexp: words joined by '+', or nothing.
Result<TestexpPlan> testexp_plan(std::string_view words);

} // namespace dmabuf
