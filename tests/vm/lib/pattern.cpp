// SPDX-License-Identifier: GPL-2.0-only
#include "pattern.hpp"

#include <atomic>
#include <cstring>
#include <format>

namespace vmtest {

namespace {
std::atomic<std::uint64_t> compared = 0;
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
  if (found.size() == expected.size() &&
      std::memcmp(found.data(), expected.data(), found.size_bytes()) == 0)
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
