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

/// Many I/Os of one direction.
class Load {
public:
  Load(const Options &options, Mover &mover, Region &region, Way way, Outcome &outcome)
      : options_(options), mover_(mover), memory_(mover.memory()), region_(region), way_(way),
        outcome_(outcome), busy_(region.size() / kCell), dice_(options.seed),
        generation_(options.generation) {}

  Result<void> run() {
    if (auto ok = region_.lay_down(reads() ? options_.generation : kDrivePoison); !ok)
      return ok;
    const auto depth = static_cast<unsigned>(
        std::min<uint64_t>({options_.depth, mover_.size() / kCell, busy_.size() / 2}));
    if (!depth)
      return fail(EINVAL, "the buffer or the region is too small for a load");
    flights_.resize(depth);
    memory_.begin_cpu();
    memory_.poison(0, memory_.size());
    memory_.end_cpu();
    for (unsigned slot = 0; slot < depth; slot++)
      start(slot);
    while (in_flight_)
      if (auto ok = mover_.reap(
              [this](uint64_t id, int result) { ended(static_cast<unsigned>(id), result); });
          !ok)
        return ok;
    if (!trouble_.empty())
      return fail(EIO, trouble_);
    if (auto ok = memory_.trouble(); !ok)
      return ok;
    name_load(outcome_);
    return reads() ? Result<void>{} : look_at_drive();
  }

private:
  bool reads() const { return way_ == Way::read; }

  /// A cell belongs to one I/O at a time, so that what it must hold is known.
  void start(unsigned slot) {
    Flight &f = flights_[slot];
    do
      f.cell = dice_() % busy_.size();
    while (busy_[f.cell]);
    busy_[f.cell] = true;
    f.bytes = region_.block() * (1 + dice_() % (kCell / region_.block()));
    f.bytes = std::min<uint64_t>(f.bytes, kCell >> dice_() % 6);
    f.drive_offset = region_.begin() + f.cell * kCell;
    if (!reads()) {
      generation_ = std::min(generation_ + 1, kLastGeneration);
      memory_.begin_cpu();
      memory_.put(generation_, slot * kCell, f.bytes, f.drive_offset);
      memory_.end_cpu();
      fill(region_.expected(f.drive_offset, f.bytes), generation_, f.drive_offset);
    }
    mover_.queue(way_, slot * kCell, static_cast<uint32_t>(f.bytes), f.drive_offset, slot);
    in_flight_++;
  }

  void ended(unsigned slot, int result) {
    const Flight &f = flights_[slot];
    in_flight_--;
    outcome_.transfers++;
    busy_[f.cell] = false;
    if (result != static_cast<int>(f.bytes))
      outcome_.find("IO_ERROR", strf("%llu bytes at drive offset %llu gave %s",
                                     static_cast<ull>(f.bytes), static_cast<ull>(f.drive_offset),
                                     result < 0 ? dmabuf::errno_name(result).c_str() : "too few"));
    else if (reads())
      check(slot);
    moved_ += f.bytes;
    if (moved_ < options_.load_bytes && trouble_.empty())
      start(slot);
  }

  void check(unsigned slot) {
    const Flight &f = flights_[slot];
    memory_.begin_cpu();
    const auto found = memory_.look(slot * kCell, f.bytes);
    const auto expected = region_.expected(f.drive_offset, f.bytes);
    const Wrong wrong =
        compare(found, expected, kBufferPoison, options_.generation, region_.drive_bytes());
    outcome_.compared += f.bytes;
    if (wrong.words) {
      const auto plain = again_.at(0, f.bytes);
      if (auto ok = region_.read(plain, f.drive_offset); !ok)
        trouble_ = ok.error().message;
      else if (std::ranges::equal(plain, found))
        outcome_.find("DRIVE_CORRUPTED", "plain reads give the same wrong data: " + where(f, wrong),
                      wrong.words);
      else
        judge(wrong, way_, true, where(f, wrong), outcome_);
    }
    memory_.poison(slot * kCell, kCell);
    memory_.end_cpu();
  }

  /// After writes.
  Result<void> look_at_drive() {
    for (uint64_t at = 0; at + kCell <= region_.size(); at += kCell) {
      const uint64_t offset = region_.begin() + at;
      if (auto ok = region_.read(again_.words(), offset); !ok)
        return ok;
      const Wrong wrong = compare(again_.words(), region_.expected(offset, kCell), kDrivePoison,
                                  generation_, region_.drive_bytes());
      outcome_.compared += kCell;
      judge(wrong, way_, true, where({0, kCell, offset}, wrong), outcome_);
    }
    name_load(outcome_);
    return {};
  }

  const Options &options_;
  Mover &mover_;
  BufferMemory &memory_;
  Region &region_;
  Way way_;
  Outcome &outcome_;
  std::vector<Flight> flights_;
  std::vector<bool> busy_; ///< cells
  std::mt19937 dice_;
  HostBuffer again_{kCell}; ///< what plain reads give
  uint32_t generation_;
  uint64_t moved_ = 0;
  unsigned in_flight_ = 0;
  std::string trouble_;
};

} // namespace

Result<void> load(const Options &options, Mover &mover, Region &region, Way way, Outcome &outcome) {
  return Load(options, mover, region, way, outcome).run();
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
