// SPDX-License-Identifier: GPL-2.0-only
// The parts of the witness: one dma-buf, one range of the drive, each direction on its own.
#pragma once

#include "lib/exporter.hpp"
#include "lib/pattern.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace vmtest {

struct Case {
  std::uint64_t buffer_offset, length, file_offset; // bytes
};

// Damage done between the I/O and its check, to see that the check can fail.
enum class Fault {
  None,
  FlipInside,      // one bit of one byte that should have arrived
  FlipLastByte,    // the very last byte of it
  SectorNotLanded, // READ_NOT_LANDED: one sector of the destination never written
  FlipBefore,      // one byte just before the destination
  FlipFarAway,     // one byte megabytes away from it
  ShiftedBothWays, // ROUNDTRIP_MASKED: data one sector off, so that a round trip agrees
  StaleGeneration, // FOREIGN_DATA_UNDER_LOAD: right place, older data
};

inline constexpr std::array all_faults = {
    Fault::FlipInside,  Fault::FlipLastByte,    Fault::SectorNotLanded, Fault::FlipBefore,
    Fault::FlipFarAway, Fault::ShiftedBothWays, Fault::StaleGeneration};

std::string_view name_of(Fault fault);

// A dma-buf with what it must hold, a mover, and a range of the drive.
class Bench {
public:
  // `command_bytes`: what one command may move, as this side knows it without asking the module; 0
  // where the datapath has no commands of its own. `hint`: MAP's max_command_hint.
  Bench(Session &session, Ring &ring, DmaBuf buffer, int target_fd, Path path, unsigned slot,
        DiskRegion &region, std::uint64_t command_bytes, std::uint32_t hint = 0);

  const DmaBuf &buffer() const { return buffer_; }
  Mover &mover() { return mover_; }
  DiskRegion &region() { return region_; }

  // Fills the whole dma-buf with poison.
  void poison();
  // Start of a direction: what the drive holds is laid down by plain pwrite.
  void begin(Direction direction, std::uint32_t generation);
  // One transfer and its checks; the error says what was wrong. Full checks of the
  // whole dma-buf are made when `whole`, else of the range and 1 MiB either side.
  std::optional<std::string> read_case(const Case &c, bool whole, Fault fault = Fault::None);
  std::optional<std::string> write_case(const Case &c, std::uint32_t generation, bool whole,
                                        Fault fault = Fault::None);

  // The pieces of the above, for I/O that overlaps. Buffer range [offset, +bytes).
  void expect_in_buffer(std::uint64_t offset, std::span<const Word> words);
  void put_in_buffer(std::uint64_t offset, std::size_t bytes, std::uint32_t generation,
                     std::uint64_t file_offset);
  void poison_range(std::uint64_t offset, std::size_t bytes);
  std::optional<std::string> check_buffer(std::uint64_t offset, std::size_t bytes);

  // I/O that ended well, as this side counts it.
  struct Tally {
    std::uint64_t reads, writes, read_bytes, write_bytes, commands;
  };
  void count(Direction direction, std::uint64_t length);
  const Tally &tally() const { return tally_; }

private:
  // The range and 1 MiB either side, or everything.
  std::optional<std::string> check_around(const Case &c, bool whole);
  void damage_buffer(const Case &c, Fault fault, std::uint32_t generation);
  void damage_disk(const Case &c, Fault fault, std::uint32_t generation);

  DmaBuf buffer_;
  Mover mover_;
  std::uint64_t command_bytes_;
  DiskRegion &region_;
  HostBuffer model_;
  std::uint32_t read_generation_ = 0;
  Tally tally_{};
};

// Ranges that have hurt somebody, or could: one sector to 8 MiB, either side of PRP-list
// pages, past the drive's limit; file offsets drawn from `random` inside the region.
std::vector<Case> directed_cases(std::uint64_t buffer_bytes, const DiskRegion &region,
                                 std::mt19937_64 &random, bool quick);
Case random_case(std::uint64_t buffer_bytes, const DiskRegion &region, std::uint32_t buffer_step,
                 std::mt19937_64 &random);

// Commands of up to 2 MiB, and I/O of up to 32 MiB in such commands. For a drive that takes them
// (dmabuf-lab run --mdts 9).
void run_long(const std::string &device);
// A hint of more than what the drive takes (QEMU's default, 512 KiB): an error of the drive,
// counted as such, and nothing has moved.
void run_over_limit(const std::string &device, Exporter large, Exporter small);

// Many transfers at once from two dma-bufs, each slot with its own range of buffer and
// drive; every one checked when it ends while the others fly. Returns how many ended.
std::uint64_t run_load(Exporter exporter, Path path, const std::string &device,
                       std::uint64_t region_base, unsigned depth, double seconds,
                       std::uint64_t seed);

} // namespace vmtest
