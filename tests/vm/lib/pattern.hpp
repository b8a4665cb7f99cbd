// SPDX-License-Identifier: GPL-2.0-only
// Test data that says where it belongs: every 8-byte word holds its own absolute
// offset and a generation, so misplaced, stale and foreign data name themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace vmtest {

using Word = std::uint64_t;

// Generations are 20 bits; the last few mean "never written by the test's I/O".
inline constexpr std::uint32_t generation_bits = 20;
inline constexpr std::uint32_t buffer_poison = 0xFFFFF;
inline constexpr std::uint32_t disk_poison = 0xFFFFE;
inline constexpr std::uint32_t max_generation = 0xFFFF0;

// The word at absolute byte offset `offset` (a multiple of 8) in `generation`.
constexpr Word pattern_word(std::uint32_t generation, std::uint64_t offset) {
  return (static_cast<Word>(generation) << (64 - generation_bits)) |
         ((offset >> 3) & ((Word{1} << (64 - generation_bits)) - 1));
}

// Fills `words` with the pattern; `offset` is the absolute byte offset of words[0].
void fill_pattern(std::span<Word> words, std::uint32_t generation, std::uint64_t offset);

// What a word claims to be: "generation 7 of offset 4096", "poison of the buffer at 512".
std::string describe_word(Word word);

struct Mismatch {
  std::size_t first_word;  // index of the first wrong word
  std::size_t last_word;   // and the last
  std::size_t wrong_words; // how many are wrong
  Word found, expected;    // at first_word
};

// Compares all words. Every call adds to compared_bytes().
std::optional<Mismatch> compare_words(std::span<const Word> found, std::span<const Word> expected);

// "at byte 512 (…): found generation …, expected …; 64 words wrong, up to byte …"
std::string describe(const Mismatch &mismatch, std::uint64_t base_offset);

// Bytes compared so far by this program, all threads together.
std::uint64_t compared_bytes();

} // namespace vmtest
