// SPDX-License-Identifier: GPL-2.0-only
#include "witness.hpp"

#include <algorithm>
#include <fcntl.h>

namespace vmtest {

namespace {
constexpr std::uint64_t window = 1u << 20;
constexpr std::uint64_t sector = 512;
constexpr std::size_t disk_margin = 64u << 10;
} // namespace

std::string_view name_of(Fault fault) {
  switch (fault) {
  case Fault::None:
    return "none";
  case Fault::FlipInside:
    return "one byte inside changed";
  case Fault::FlipLastByte:
    return "last byte changed";
  case Fault::SectorNotLanded:
    return "READ_NOT_LANDED, one sector";
  case Fault::FlipBefore:
    return "byte before the range changed";
  case Fault::FlipFarAway:
    return "byte far from the range changed";
  case Fault::ShiftedBothWays:
    return "ROUNDTRIP_MASKED, one sector off";
  case Fault::StaleGeneration:
    return "FOREIGN_DATA_UNDER_LOAD, older generation";
  }
  return "?";
}

Bench::Bench(Session &session, Ring &ring, DmaBuf buffer, int target_fd, Path path, unsigned slot,
             DiskRegion &region, std::uint64_t command_bytes, std::uint32_t hint)
    : buffer_(std::move(buffer)),
      mover_(session, ring, buffer_.fd(), target_fd, path, slot, both_directions, hint),
      command_bytes_(command_bytes), region_(region), model_(buffer_.size()) {
  poison();
}

void Bench::poison() { poison_range(0, buffer_.size()); }

void Bench::poison_range(std::uint64_t offset, std::size_t bytes) {
  const CpuAccess access(buffer_, true);
  fill_pattern(buffer_.words().subspan(offset / 8, bytes / 8), buffer_poison, offset);
  fill_pattern(model_.words().subspan(offset / 8, bytes / 8), buffer_poison, offset);
}

void Bench::put_in_buffer(std::uint64_t offset, std::size_t bytes, std::uint32_t generation,
                          std::uint64_t file_offset) {
  const CpuAccess access(buffer_, true);
  fill_pattern(buffer_.words().subspan(offset / 8, bytes / 8), generation, file_offset);
  fill_pattern(model_.words().subspan(offset / 8, bytes / 8), generation, file_offset);
}

void Bench::expect_in_buffer(std::uint64_t offset, std::span<const Word> words) {
  std::ranges::copy(words, model_.words().begin() + static_cast<std::ptrdiff_t>(offset / 8));
}

std::optional<std::string> Bench::check_buffer(std::uint64_t offset, std::size_t bytes) {
  const CpuAccess access(buffer_, false);
  const auto mismatch = compare_words(buffer_.words().subspan(offset / 8, bytes / 8),
                                      model_.words().subspan(offset / 8, bytes / 8));
  if (!mismatch)
    return std::nullopt;
  return "in the dma-buf, " + describe(*mismatch, offset);
}

std::optional<std::string> Bench::check_around(const Case &c, bool whole) {
  if (whole)
    return check_buffer(0, buffer_.size());
  const std::uint64_t first = c.buffer_offset < window ? 0 : (c.buffer_offset - window) & ~7ull;
  const std::uint64_t last =
      std::min<std::uint64_t>(buffer_.size(), c.buffer_offset + c.length + window);
  return check_buffer(first, last - first);
}

void Bench::begin(Direction direction, std::uint32_t generation) {
  read_generation_ = generation;
  region_.lay_down_all(direction == Direction::Read ? generation : disk_poison);
  poison();
}

void Bench::count(Direction direction, std::uint64_t length) {
  (direction == Direction::Read ? tally_.reads : tally_.writes) += 1;
  (direction == Direction::Read ? tally_.read_bytes : tally_.write_bytes) += length;
  const std::uint64_t commands =
      command_bytes_ ? (length + command_bytes_ - 1) / command_bytes_ : 1;
  tally_.commands += commands;
}

std::optional<std::string> Bench::read_case(const Case &c, bool whole, Fault fault) {
  const int result = mover_.transfer(Direction::Read, c.buffer_offset,
                                     static_cast<std::uint32_t>(c.length), c.file_offset);
  if (result != static_cast<int>(c.length))
    return std::format("result {} instead of {}",
                       result < 0 ? errno_name(result) : std::to_string(result), c.length);
  count(Direction::Read, c.length);
  damage_buffer(c, fault, read_generation_);
  expect_in_buffer(c.buffer_offset, region_.expected(c.file_offset, c.length));
  auto wrong = check_around(c, whole);
  if (fault == Fault::None)
    poison_range(c.buffer_offset, c.length);
  else
    poison();
  return wrong;
}

std::optional<std::string> Bench::write_case(const Case &c, std::uint32_t generation, bool whole,
                                             Fault fault) {
  put_in_buffer(c.buffer_offset, c.length, generation, c.file_offset);
  const int result = mover_.transfer(Direction::Write, c.buffer_offset,
                                     static_cast<std::uint32_t>(c.length), c.file_offset);
  if (result != static_cast<int>(c.length))
    return std::format("result {} instead of {}",
                       result < 0 ? errno_name(result) : std::to_string(result), c.length);
  count(Direction::Write, c.length);
  damage_disk(c, fault, generation);
  fill_pattern(region_.expected(c.file_offset, c.length), generation, c.file_offset);
  auto wrong = whole ? region_.check_all() : region_.check(c.file_offset, c.length, disk_margin);
  // A write must leave the dma-buf alone.
  if (!wrong)
    wrong = check_around(c, whole);
  poison_range(c.buffer_offset, c.length);
  return wrong;
}

void Bench::damage_buffer(const Case &c, Fault fault, std::uint32_t generation) {
  if (fault == Fault::None)
    return;
  const CpuAccess access(buffer_, true);
  const auto words = buffer_.words();
  auto *bytes = reinterpret_cast<unsigned char *>(words.data());
  const auto range = words.subspan(c.buffer_offset / 8, c.length / 8);
  switch (fault) {
  case Fault::FlipInside:
    bytes[c.buffer_offset + c.length / 2] ^= 1;
    break;
  case Fault::FlipLastByte:
    bytes[c.buffer_offset + c.length - 1] ^= 0x80;
    break;
  case Fault::SectorNotLanded:
    fill_pattern(range.subspan(0, sector / 8), buffer_poison, c.buffer_offset);
    break;
  case Fault::FlipBefore:
    bytes[c.buffer_offset - 1] ^= 1;
    break;
  case Fault::FlipFarAway:
    bytes[(c.buffer_offset + c.length + buffer_.size() / 2) % buffer_.size()] ^= 1;
    break;
  case Fault::ShiftedBothWays:
    fill_pattern(range, generation, c.file_offset + sector);
    break;
  case Fault::StaleGeneration:
    fill_pattern(range.subspan(range.size() / 2), generation - 1, c.file_offset + c.length / 2);
    break;
  case Fault::None:
    break;
  }
}

void Bench::damage_disk(const Case &c, Fault fault, std::uint32_t generation) {
  if (fault == Fault::None)
    return;
  // The damage is put on the drive by plain writes; the model does not know of it.
  UniqueFd plain = open_target("/proc/self/fd/" + std::to_string(region_.plain_fd()),
                               O_RDWR | O_DIRECT | O_CLOEXEC);
  HostBuffer host(c.length);
  const auto words = host.words();
  auto *bytes = reinterpret_cast<unsigned char *>(words.data());
  fill_pattern(words, generation, c.file_offset);
  std::uint64_t at = c.file_offset;
  switch (fault) {
  case Fault::FlipInside:
    bytes[c.length / 2] ^= 1;
    break;
  case Fault::FlipLastByte:
    bytes[c.length - 1] ^= 0x80;
    break;
  case Fault::SectorNotLanded:
    fill_pattern(words.subspan(0, sector / 8), disk_poison, c.file_offset);
    break;
  case Fault::FlipBefore:
  case Fault::FlipFarAway: {
    at = fault == Fault::FlipBefore ? c.file_offset - sector : region_.base();
    HostBuffer one(sector);
    read_plain(plain.get(), one.words(), at);
    one.words().back() ^= 1;
    write_plain(plain.get(), one.words(), at);
    return;
  }
  case Fault::ShiftedBothWays:
    fill_pattern(words, generation, c.file_offset + sector);
    break;
  case Fault::StaleGeneration:
    fill_pattern(words.subspan(words.size() / 2), generation - 1, c.file_offset + c.length / 2);
    break;
  case Fault::None:
    break;
  }
  write_plain(plain.get(), words, at);
}

} // namespace vmtest
