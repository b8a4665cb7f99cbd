// SPDX-License-Identifier: GPL-2.0-only
// The two halves of the teardown test.
#pragma once

#include "lib/exporter.hpp"
#include "lib/pattern.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <array>
#include <atomic>
#include <random>
#include <string>
#include <vector>

namespace vmtest {

struct TeardownOptions {
  std::string nvme = "/dev/nvme0n1";
  std::string module_file;
  int kills = 20; // for each datapath
  std::uint64_t seed = std::random_device{}();
  long dmabufs_before = 0;
};

// Waits up to 5 s until no more dma-bufs exist than `before`, and checks it.
void wait_for_no_dmabufs(const std::string &name, long before);
// Removes the module and loads it again; both must work.
void reload_module(const TeardownOptions &options, const std::string &when);

// Processes that end, are killed, close or unmap with I/O in flight.
void test_ends(const TeardownOptions &options);
// The drive's driver is unbound with mappings alive, idle and under load.
void test_unbind(const TeardownOptions &options);

} // namespace vmtest
