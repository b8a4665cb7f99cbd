// SPDX-License-Identifier: GPL-2.0-only
// Data that says where it belongs: each 8-byte word holds its own place and a generation, so that
// what is wrong can be named: not landed, older, from elsewhere, damaged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace integrity {

using Word = uint64_t;

inline constexpr unsigned kPlaceBits = 44;
inline constexpr uint32_t kBufferPoison = 0xFFFFF; ///< generations that no I/O of ours writes
inline constexpr uint32_t kDrivePoison = 0xFFFFE;
inline constexpr uint32_t kLastGeneration = 0xFFFF0;

/// The word at byte `offset` (a multiple of 8) in `generation`.
constexpr Word word_at(uint32_t generation, uint64_t offset) {
  return Word{generation} << kPlaceBits | (offset >> 3 & ((Word{1} << kPlaceBits) - 1));
}

constexpr uint32_t generation_of(Word word) { return static_cast<uint32_t>(word >> kPlaceBits); }
constexpr uint64_t place_of(Word word) { return (word & ((Word{1} << kPlaceBits) - 1)) << 3; }

/// Fills `words`; `offset` is the byte offset of words[0].
inline void fill(std::span<Word> words, uint32_t generation, uint64_t offset) {
  Word word = word_at(generation, offset);
  for (Word &slot : words)
    slot = word++;
}

/// Words of the buffer's own poison that name another place of it than where they were found or
/// taken from. `offset`: the place of found[0] in the buffer.
inline uint64_t strange_poison(std::span<const Word> found, uint64_t offset) {
  uint64_t strange = 0;
  for (size_t i = 0; i < found.size(); i++)
    strange += generation_of(found[i]) == kBufferPoison && place_of(found[i]) != offset + 8 * i;
  return strange;
}

/// What wrong words look like, counted in words.
struct Wrong {
  uint64_t words = 0;
  uint64_t untouched = 0; ///< still the poison that was there before
  uint64_t elsewhere = 0; ///< valid data of another place
  uint64_t older = 0;     ///< valid data of this place, an earlier generation
  uint64_t memory = 0;    ///< zeros, or the poison of the other end
  uint64_t damaged = 0;   ///< nothing of ours
  size_t first = 0;       ///< index of the first
  Word found = 0, expected = 0;
};

/// Compares all words. `poison`: the generation of what was there before; `newest`: no valid word
/// has a later generation.
inline Wrong compare(std::span<const Word> found, std::span<const Word> expected, uint32_t poison,
                     uint32_t newest, uint64_t drive_bytes) {
  Wrong wrong;
  for (size_t i = 0; i < expected.size(); i++) {
    const Word got = found[i], want = expected[i];
    if (got == want) [[likely]]
      continue;
    if (wrong.words++ == 0) {
      wrong.first = i;
      wrong.found = got;
      wrong.expected = want;
    }
    const uint32_t generation = generation_of(got);
    if (generation == poison)
      wrong.untouched++;
    else if (got == 0 || generation == kBufferPoison || generation == kDrivePoison)
      wrong.memory++;
    else if (generation == 0 || generation > newest || place_of(got) >= drive_bytes)
      wrong.damaged++;
    else if (place_of(got) == place_of(want))
      wrong.older++;
    else
      wrong.elsewhere++;
  }
  return wrong;
}

} // namespace integrity
