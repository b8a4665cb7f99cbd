// SPDX-License-Identifier: GPL-2.0-only
// Many I/Os in flight, of all sizes, every byte checked; and what ends with I/O in flight.
#include "base/sizes.hpp"
#include "bench.hpp"
#include "names.hpp"

#include <algorithm>
#include <cerrno>

namespace integrity {

using dmabuf::fail;
using dmabuf::Result;
using dmabuf::strf;

namespace {

using ull = unsigned long long;
constexpr uint64_t kCell = 256u << 10; ///< longest I/O, and what one owns of the drive

struct Flight {
  uint64_t cell = 0, bytes = 0, drive_offset = 0;
};

std::string where(const Flight &f, const Wrong &wrong) {
  return strf("%llu bytes at drive offset %llu: %llu words, the first 0x%llx instead of 0x%llx",
              static_cast<ull>(f.bytes), static_cast<ull>(f.drive_offset),
              static_cast<ull>(wrong.words), static_cast<ull>(wrong.found),
              static_cast<ull>(wrong.expected));
}

} // namespace

Result<void> load(const Options &options, Mover &mover, Region &region, Way way, Outcome &outcome) {
  const bool read = way == Way::read;
  if (auto ok = region.lay_down(read ? options.generation : kDrivePoison); !ok)
    return ok;
  const uint64_t cells = region.size() / kCell;
  const unsigned depth =
      static_cast<unsigned>(std::min<uint64_t>({options.depth, mover.size() / kCell, cells / 2}));
  if (!depth)
    return fail(EINVAL, "the buffer or the region is too small for a load");
  std::vector<Flight> flights(depth);
  std::vector<bool> busy(cells);
  std::mt19937 dice(options.seed);
  HostBuffer again(kCell);
  uint32_t generation = options.generation;
  uint64_t moved = 0;
  unsigned in_flight = 0;
  std::string trouble;
  BufferMemory &memory = mover.memory();
  memory.begin_cpu();
  memory.poison(0, memory.size());
  memory.end_cpu();

  // A cell belongs to one I/O at a time, so that what it must hold is known.
  const auto start = [&](unsigned slot) {
    Flight &f = flights[slot];
    do
      f.cell = dice() % cells;
    while (busy[f.cell]);
    busy[f.cell] = true;
    f.bytes = region.block() * (1 + dice() % (kCell / region.block()));
    f.bytes = std::min<uint64_t>(f.bytes, kCell >> dice() % 6);
    f.drive_offset = region.begin() + f.cell * kCell;
    if (!read) {
      generation = std::min(generation + 1, kLastGeneration);
      memory.begin_cpu();
      memory.put(generation, slot * kCell, f.bytes, f.drive_offset);
      memory.end_cpu();
      fill(region.expected(f.drive_offset, f.bytes), generation, f.drive_offset);
    }
    mover.queue(way, slot * kCell, static_cast<uint32_t>(f.bytes), f.drive_offset, slot);
    in_flight++;
  };
  const auto check = [&](unsigned slot) {
    const Flight &f = flights[slot];
    memory.begin_cpu();
    const auto found = memory.look(slot * kCell, f.bytes);
    const auto expected = region.expected(f.drive_offset, f.bytes);
    const Wrong wrong =
        compare(found, expected, kBufferPoison, options.generation, region.drive_bytes());
    outcome.compared += f.bytes;
    if (wrong.words) {
      const auto plain = again.at(0, f.bytes);
      if (auto ok = region.read(plain, f.drive_offset); !ok)
        trouble = ok.error().message;
      else if (std::ranges::equal(plain, found))
        outcome.find("DRIVE_CORRUPTED", "plain reads give the same wrong data: " + where(f, wrong),
                     wrong.words);
      else
        judge(wrong, way, true, where(f, wrong), outcome);
    }
    memory.poison(slot * kCell, kCell);
    memory.end_cpu();
  };

  for (unsigned slot = 0; slot < depth; slot++)
    start(slot);
  while (in_flight) {
    auto ok = mover.reap([&](uint64_t id, int result) {
      const auto slot = static_cast<unsigned>(id);
      Flight &f = flights[slot];
      in_flight--;
      outcome.transfers++;
      busy[f.cell] = false;
      if (result != static_cast<int>(f.bytes))
        outcome.find("IO_ERROR", strf("%llu bytes at drive offset %llu gave %s",
                                      static_cast<ull>(f.bytes), static_cast<ull>(f.drive_offset),
                                      result < 0 ? dmabuf::errno_name(result).c_str() : "too few"));
      else if (read)
        check(slot);
      moved += f.bytes;
      if (moved < options.load_bytes && trouble.empty())
        start(slot);
    });
    if (!ok)
      return ok;
  }
  if (!trouble.empty())
    return fail(EIO, trouble);
  if (auto ok = memory.trouble(); !ok)
    return ok;
  name_load(outcome);
  if (read)
    return {};
  HostBuffer plain(kCell);
  for (uint64_t at = 0; at + kCell <= region.size(); at += kCell) {
    const uint64_t offset = region.begin() + at;
    if (auto ok = region.read(plain.words(), offset); !ok)
      return ok;
    const Wrong wrong = compare(plain.words(), region.expected(offset, kCell), kDrivePoison,
                                generation, region.drive_bytes());
    outcome.compared += kCell;
    judge(wrong, way, true, where({0, kCell, offset}, wrong), outcome);
  }
  name_load(outcome);
  return {};
}

Result<Outcome> run_load(const Options &options) {
  auto region = Region::open(options);
  if (!region)
    return std::unexpected(std::move(region.error()));
  auto mover = Mover::open(options, (*region)->fd());
  if (!mover)
    return std::unexpected(std::move(mover.error()));
  Outcome outcome;
  (*mover)->say_place(outcome);
  if (const auto agree = copies_agree((*mover)->memory(), outcome); !agree)
    return std::unexpected(agree.error());
  else if (!*agree)
    return outcome;
  for (const Way way : {Way::read, Way::write})
    if (auto ok = load(options, **mover, **region, way, outcome); !ok)
      return std::unexpected(std::move(ok.error()));
  if (const auto info = (*mover)->info()) {
    outcome.fact("invalidations", info->invalidations);
    outcome.fact("module_errors", info->errors);
    outcome.fact("deferred", info->deferred);
  }
  return outcome;
}

Result<Outcome> run_close(const Options &options) {
  auto region = Region::open(options);
  if (!region)
    return std::unexpected(std::move(region.error()));
  Outcome outcome;
  double longest = 0;
  constexpr unsigned kTimes = 5;
  for (unsigned i = 0; i < kTimes; i++) {
    auto mover = Mover::open(options, (*region)->fd());
    if (!mover)
      return std::unexpected(std::move(mover.error()));
    const unsigned depth =
        static_cast<unsigned>(std::min<uint64_t>(options.depth, (*mover)->size() / kCell));
    for (unsigned slot = 0; slot < depth; slot++)
      (*mover)->queue(Way::read, slot * kCell, kCell, options.offset + slot * kCell % options.bytes,
                      slot);
    if (auto ok = (*mover)->submit(); !ok)
      return std::unexpected(std::move(ok.error()));
    const double begin = now_s();
    mover->reset(); // ring, mapping, session and buffer, with all of it in flight
    longest = std::max(longest, now_s() - begin);
    outcome.transfers += depth;
  }
  outcome.fact("longest_us", static_cast<uint64_t>(longest * 1e6));
  if (longest * 1000 > options.limit_ms)
    outcome.find("CLOSE_HANG", strf("closing with I/O in flight took %.1f s", longest));
  // The drive goes on as if nothing had been.
  auto mover = Mover::open(options, (*region)->fd());
  if (!mover)
    return std::unexpected(std::move(mover.error()));
  (*mover)->say_place(outcome);
  Options some = options;
  some.load_bytes = 4u << 20;
  if (auto ok = load(some, **mover, **region, Way::read, outcome); !ok)
    return std::unexpected(std::move(ok.error()));
  return outcome;
}

} // namespace integrity
