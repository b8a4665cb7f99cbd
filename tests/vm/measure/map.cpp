// SPDX-License-Identifier: GPL-2.0-only
// MAP: the first of a dma-buf for a drive, another one of the same, many in one call.
//
// map how=first|again|each|batch memory=… bytes=… [count=N]
//
// first: MAP of a dma-buf that is not mapped for the drive. again: while such a mapping exists.
// each: MAP of count dma-bufs, a call for each. batch: the same in one call. UNMAP is a figure of
// its own. Instructions per call, or per count of them.
#include "measure.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <unistd.h>

namespace measure {

namespace {

// What the UNMAP before has left to the kernel's threads, it does meanwhile.
constexpr unsigned settle_us = 30000;

class MapCost : public Bench {
public:
  explicit MapCost(const Case &what)
      : how_(what.text("how")), target_(open_target("/dev/nvme0n1")) {
    const std::uint64_t count = what.number("count", 1);
    const std::uint64_t bytes = what.number("bytes");
    for (std::uint64_t i = 0; i < count; ++i) {
      buffers_.push_back(fresh_dmabuf(what.text("memory"), bytes));
      entries_.push_back(map_entry(buffers_.back().fd(), target_.get(), Path::Premapped));
    }
    if (how_ == "again") {
      kept_ = entries_;
      map(kept_);
    } else if (how_ != "first" && how_ != "each" && how_ != "batch") {
      die("how is first, again, each or batch, not " + how_);
    }
  }

  ~MapCost() override {
    if (!kept_.empty())
      unmap(kept_);
  }

  // The kernel's allocators do their housekeeping now and then: the median of five.
  Figures run() override {
    std::array<Round, 5> rounds;
    std::ranges::generate(rounds, [this] { return round(); });
    const auto middle = [&](auto member) {
      std::ranges::nth_element(rounds, rounds.begin() + 2, {}, member);
      return rounds[2].*member / ticks_per_instruction;
    };
    return {{"instructions", middle(&Round::map)},
            {"unmap", middle(&Round::unmap)},
            {"segments", rounds[0].segments}};
  }

private:
  struct Round {
    double map, unmap; // ticks
    std::uint32_t segments;
  };

  Round round() {
    auto entries = entries_;
    ::usleep(settle_us);
    const std::uint64_t start = now();
    if (how_ == "each")
      for (auto &entry : entries)
        map({&entry, 1});
    else
      map(entries);
    const std::uint64_t mapped = now();
    const std::uint32_t segments = entries[0].segments;
    unmap(entries);
    const std::uint64_t end = now();
    return {.map = static_cast<double>(mapped - start),
            .unmap = static_cast<double>(end - mapped),
            .segments = segments};
  }

  void map(std::span<dmabuf_rw_map_entry> entries) {
    if (const int error = session_.map(entries))
      die("MAP: " + errno_name(error));
    for (const auto &entry : entries)
      if (entry.error)
        die(std::format("MAP: {} {}", errno_name(entry.error), reason_name(entry.reason)));
  }

  void unmap(const std::vector<dmabuf_rw_map_entry> &entries) {
    std::vector<std::uint32_t> handles;
    for (const auto &entry : entries)
      handles.push_back(entry.handle);
    if (const int error = session_.unmap(handles))
      die("UNMAP: " + errno_name(error));
  }

  std::string how_;
  UniqueFd target_;
  Session session_;
  std::vector<DmaBuf> buffers_;
  std::vector<dmabuf_rw_map_entry> entries_, kept_;
};

} // namespace

std::unique_ptr<Bench> make_map(const Case &what) { return std::make_unique<MapCost>(what); }

} // namespace measure
