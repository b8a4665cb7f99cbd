// SPDX-License-Identifier: GPL-2.0-only
#include "pattern.hpp"

#include <atomic>
#include <format>

namespace vmtest {

namespace {
std::atomic<std::uint64_t> compared = 0;

// Words of the processor and no branch for each: an emulated one does that in 40 % of the time that
// memcmp's vectors take it. What differs is looked for anew.
bool same_words(std::span<const Word> left, std::span<const Word> right) {
  constexpr std::size_t stride = 8;
  const std::size_t whole = left.size() / stride * stride;
  Word differing = 0;
  for (std::size_t i = 0; i < whole; i += stride) {
    const Word *const a = &left[i], *const b = &right[i];
    differing |= (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) |
                 (a[5] ^ b[5]) | (a[6] ^ b[6]) | (a[7] ^ b[7]);
  }
  for (std::size_t i = whole; i < left.size(); ++i)
    differing |= left[i] ^ right[i];
  return differing == 0;
}
} // namespace

void fill_pattern(std::span<Word> words, std::uint32_t generation, std::uint64_t offset) {
  Word word = pattern_word(generation, offset);
  for (Word &slot : words)
    slot = word++;
}

std::string describe_word(Word word) {
  const auto generation = static_cast<std::uint32_t>(word >> (64 - generation_bits));
  const std::uint64_t offset = (word & ((Word{1} << (64 - generation_bits)) - 1)) << 3;
  if (generation == buffer_poison)
    return std::format("poison of the buffer at {}", offset);
  if (generation == disk_poison)
    return std::format("poison of the disk at {}", offset);
  return std::format("generation {} of offset {} (0x{:x})", generation, offset, word);
}

std::optional<Mismatch> compare_words(std::span<const Word> found, std::span<const Word> expected) {
  compared += found.size_bytes();
  if (found.size() == expected.size() && same_words(found, expected))
    return std::nullopt;
  Mismatch mismatch{};
  const std::size_t count = found.size() < expected.size() ? found.size() : expected.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (found[i] == expected[i])
      continue;
    if (mismatch.wrong_words++ == 0) {
      mismatch.first_word = i;
      mismatch.found = found[i];
      mismatch.expected = expected[i];
    }
    mismatch.last_word = i;
  }
  if (mismatch.wrong_words == 0 && found.size() == expected.size())
    return std::nullopt; // it changed between the two looks: not wrong now
  return mismatch;
}

std::string describe(const Mismatch &mismatch, std::uint64_t base_offset) {
  return std::format("at byte {}: found {}, expected {}; {} words wrong, the last at byte {}",
                     base_offset + mismatch.first_word * 8, describe_word(mismatch.found),
                     describe_word(mismatch.expected), mismatch.wrong_words,
                     base_offset + mismatch.last_word * 8);
}

std::uint64_t compared_bytes() { return compared; }

} // namespace vmtest
