// SPDX-License-Identifier: GPL-2.0-only
// What each combination did, for scripts/support-matrix.
#pragma once

#include <string>
#include <vector>

namespace vmtest {

// One combination. `outcome`: "byte-exact", "refused REASON", or "failed".
struct Cell {
  std::string exporter, target, path, outcome;
};

// Writes them to `file` as JSON, with the kernel and the size of its pages. Ends the program where
// that cannot be done.
void write_results(const std::string &file, const std::vector<Cell> &cells);

} // namespace vmtest
