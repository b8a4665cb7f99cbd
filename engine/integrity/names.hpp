// SPDX-License-Identifier: GPL-2.0-only
// From wrong words to the name of what went wrong: by one transfer, by all of a case together.
#pragma once

#include "bench.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace integrity {

/// Which pages of the buffer were ever wrong in a case, to know memory that is right in its first
/// piece and wrong after.
class Pages {
public:
  explicit Pages(uint64_t buffer_bytes);
  /// A transfer of the page-granular buffer from `offset` on: what was found, what had to be.
  void look(std::span<const Word> found, std::span<const Word> expected, uint64_t offset,
            const Wrong &wrong);
  /// A word at `offset` of the buffer changed although no transfer was to touch it.
  void stray(uint64_t offset);
  /// Gives the findings one name where the pages say that it is one fault.
  void name(uint32_t segments, Outcome &outcome) const;

private:
  enum class Seen : uint8_t { nothing, right, wrong };
  std::vector<Seen> pages_;
  uint64_t misplaced_ = 0; ///< words that belong to, or come from, another place
};

/// Data that lands in another I/O's place is missing in its own: one fault of a load, one name.
void name_load(Outcome &outcome);

} // namespace integrity
