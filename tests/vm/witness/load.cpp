// SPDX-License-Identifier: GPL-2.0-only
#include "witness.hpp"

#include <memory>

namespace vmtest {

namespace {

constexpr std::uint64_t sector = 512;
constexpr std::uint64_t page = 4096;

// One transfer at a time, in a stripe of dma-buf and drive that is this slot's alone.
struct Slot {
  Bench *bench;
  std::uint64_t buffer_base, buffer_bytes, disk_base, disk_bytes;
  Direction direction;
  Case now;
  std::uint32_t generation;
};

void start(Slot &slot, std::uint64_t index, std::uint32_t generation, std::mt19937_64 &random) {
  const std::uint64_t limit = std::min(slot.buffer_bytes - page, slot.disk_bytes);
  std::uint64_t length = sector << (random() % 11);
  length = std::min(limit, sector * (1 + random() % (length / sector)));
  slot.now.length = length;
  slot.now.buffer_offset =
      slot.buffer_base + sector * (random() % ((slot.buffer_bytes - length) / sector + 1));
  slot.now.file_offset =
      slot.disk_base + sector * (random() % ((slot.disk_bytes - length) / sector + 1));
  slot.generation = generation;
  slot.direction = random() % 2 ? Direction::Read : Direction::Write;
  if (slot.direction == Direction::Read) {
    // Fresh data by plain pwrite now and then, else what an earlier, checked write left.
    if (random() % 2)
      slot.bench->region().lay_down(generation, slot.now.file_offset, length);
  } else {
    slot.bench->put_in_buffer(slot.now.buffer_offset, length, generation, slot.now.file_offset);
  }
  slot.bench->mover().queue(slot.direction, slot.now.buffer_offset,
                            static_cast<std::uint32_t>(length), slot.now.file_offset, index);
}

std::optional<std::string> finish(Slot &slot, int result) {
  if (result != static_cast<int>(slot.now.length))
    return std::format("result {} instead of {}",
                       result < 0 ? errno_name(result) : std::to_string(result), slot.now.length);
  slot.bench->count(slot.direction, slot.now.length);
  DiskRegion &region = slot.bench->region();
  std::optional<std::string> wrong;
  if (slot.direction == Direction::Read) {
    slot.bench->expect_in_buffer(slot.now.buffer_offset,
                                 region.expected(slot.now.file_offset, slot.now.length));
  } else {
    fill_pattern(region.expected(slot.now.file_offset, slot.now.length), slot.generation,
                 slot.now.file_offset);
    wrong = region.check(slot.disk_base, slot.disk_bytes, 0);
  }
  if (!wrong)
    wrong = slot.bench->check_buffer(slot.buffer_base, slot.buffer_bytes);
  slot.bench->poison_range(slot.now.buffer_offset, slot.now.length);
  return wrong;
}

} // namespace

std::uint64_t run_load(Exporter exporter, Path path, const std::string &device,
                       std::uint64_t region_base, unsigned depth, double seconds,
                       std::uint64_t seed) {
  constexpr std::size_t bytes = 8u << 20;
  const std::string name =
      std::format("load {} {} depth {} seed {}", name_of(exporter), name_of(path), depth, seed);
  std::mt19937_64 random(seed);
  Session session;
  Ring ring(2 * depth);
  if (path == Path::Registered && ring.make_buffer_table(2) < 0)
    die("no table of registered buffers");
  UniqueFd target = open_target(device), plain = open_target(device);
  DiskRegion region(plain.get(), region_base, 2 * bytes);
  region.lay_down_all(1);
  std::vector<std::unique_ptr<Bench>> benches;
  for (unsigned i = 0; i < 2; ++i) {
    auto buffer = DmaBuf::create(exporter, bytes);
    if (!buffer) {
      report().fail(name, buffer.error());
      return 0;
    }
    benches.push_back(
        std::make_unique<Bench>(session, ring, std::move(*buffer), target.get(), path, i, region,
                                path == Path::Premapped ? block_layer_limit(device) : 0));
    if (const int error = benches.back()->mover().error()) {
      report().fail(name, std::format("MAP: {}, {}", errno_name(error),
                                      reason_name(benches.back()->mover().entry().reason)));
      return 0;
    }
  }

  std::vector<Slot> slots(depth);
  const std::uint64_t buffer_stripe = bytes / ((depth + 1) / 2) & ~(page - 1);
  const std::uint64_t disk_stripe = 2 * bytes / depth & ~(page - 1);
  for (unsigned i = 0; i < depth; ++i)
    slots[i] = {.bench = benches[i % 2].get(),
                .buffer_base = i / 2 * buffer_stripe,
                .buffer_bytes = buffer_stripe,
                .disk_base = region_base + i * disk_stripe,
                .disk_bytes = disk_stripe,
                .direction = Direction::Read,
                .now = {},
                .generation = 0};
  std::uint32_t generation = 2;
  std::uint64_t done = 0, started = 0;
  bool failed = false;
  for (unsigned i = 0; i < depth; ++i, ++started)
    start(slots[i], i, generation++, random);
  const double end = now_s() + seconds;
  while (started > done) {
    const int count = ring.reap([&](std::uint64_t index, int result) {
      ++done;
      Slot &slot = slots[index];
      if (auto wrong = finish(slot, result)) {
        report().fail(name, std::format("{} of {} at buffer {}, file {}: {}",
                                        name_of(slot.direction), slot.now.length,
                                        slot.now.buffer_offset, slot.now.file_offset, *wrong));
        failed = true;
      }
      if (!failed && now_s() < end) {
        generation = generation < max_generation ? generation + 1 : 2;
        start(slot, index, generation, random);
        ++started;
      }
    });
    if (count < 0)
      die(std::format("io_uring_enter: {}", errno_name(count)));
  }
  if (const auto wrong = region.check_all())
    report().fail(name + ", whole range at the end", *wrong);
  for (auto &bench : benches)
    if (const auto wrong = bench->check_buffer(0, bench->buffer().size()))
      report().fail(name + ", whole dma-buf at the end", *wrong);
  for (auto &bench : benches)
    if (const int error = bench->mover().release())
      report().fail(name + ", release", errno_name(error));
  if (!failed)
    report().pass(name);
  report().note(std::format("{}: {} transfers", name, done));
  return done;
}

} // namespace vmtest
