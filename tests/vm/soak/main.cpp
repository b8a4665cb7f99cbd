// SPDX-License-Identifier: GPL-2.0-only
// Soak: mixed reads and writes at a queue depth of 128, on memory of all exporters at once and by
// all datapaths, with data that name their place; sessions, rings and mappings are made anew all
// the while. What the system holds for it must not grow.
//
// usage: soak [--seconds S] [--settle S] [--interval S] [--seed N]
// Every S seconds (--interval, 30) it is counted what is there; from --settle seconds (120) on, a
// line is laid through what was counted, and over the whole time it may rise by the tolerance below
// only.
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/sysfs.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <getopt.h>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

namespace vmtest {

namespace {

constexpr unsigned all_depth = 128;
constexpr std::uint64_t disk_base = 64u << 20;
constexpr std::uint32_t block = 16 << 10;
constexpr unsigned blocks_a_slot = 4;
constexpr unsigned turns_a_life = 400; // I/O of a session before it is made anew
constexpr double stuck_s = 150;

struct SoakOptions {
  double seconds = 1800, settle = 120, interval = 30;
  std::uint64_t seed = std::random_device{}();
};

// What a lane moves bytes to and from: memory of an exporter, or of the one that moves by itself.
class Memory {
public:
  Memory(std::optional<Exporter> exporter, const Testexp &testexp, std::size_t bytes,
         std::uint64_t seed) {
    if (exporter) {
      const std::size_t granule = size_granule(*exporter);
      auto made = DmaBuf::create(*exporter, (bytes + granule - 1) / granule * granule);
      if (!made)
        die(made.error());
      plain_.emplace(std::move(*made));
      return;
    }
    moving_ = testexp.make(gpu_buffer(bytes, seed));
    if (testexp.can_move())
      if (const int error = moving_.start_mover(20000, 0, DMABUF_TESTEXP_MOVER_MAPPED))
        die("MOVER_START: " + errno_name(error));
  }
  int fd() const { return plain_ ? plain_->fd() : moving_.fd(); }
  void put(std::span<const Word> words, std::uint64_t at) const {
    if (!plain_)
      return moving_.must_write(words, at);
    const CpuAccess access(*plain_, true);
    std::ranges::copy(words, plain_->words().subspan(at / sizeof(Word)).begin());
  }
  void get(std::span<Word> words, std::uint64_t at) const {
    if (!plain_)
      return moving_.must_read(words, at);
    const CpuAccess access(*plain_, false);
    std::ranges::copy(plain_->words().subspan(at / sizeof(Word), words.size()), words.begin());
  }

private:
  std::optional<DmaBuf> plain_;
  TestBuffer moving_;
};

// One exporter's share of the queue.
class Lane {
public:
  Lane(std::string name, std::optional<Exporter> exporter, const Testexp &testexp, unsigned depth,
       std::uint64_t base, std::uint64_t seed)
      : name_(std::move(name)), exporter_(exporter), testexp_(testexp), base_(base), random_(seed),
        seed_(seed), slots_(depth), target_(open_target("/dev/nvme0n1")) {
    for (const Path path : paths_here())
      if (exporter || path == Path::Premapped)
        paths_.push_back(path);
    // What was never written is read, too.
    DiskRegion(target_.get(), base_, std::size_t{depth} * blocks_a_slot * block)
        .lay_down_all(first_generation);
    for (Slot &slot : slots_)
      slot.generation.fill(first_generation);
  }
  static std::uint64_t bytes_on_disk(unsigned depth) {
    return std::uint64_t{depth} * blocks_a_slot * block;
  }

  void run(const std::atomic<bool> &stop) {
    for (unsigned life = 0; !stop; ++life)
      live(paths_[life % paths_.size()], stop);
  }
  std::atomic<std::uint64_t> reads = 0, writes = 0, lives = 0;
  std::atomic<double> stamp = now_s();

private:
  static constexpr std::uint32_t first_generation = 4;
  struct Slot {
    std::array<std::uint32_t, blocks_a_slot> generation{};
    unsigned which = 0;
    bool write = false;
    std::uint32_t next = 0;
  };
  std::uint64_t place(unsigned slot) const {
    return base_ + (std::uint64_t{slot} * blocks_a_slot + slots_[slot].which) * block;
  }
  void start(Mover &mover, const Memory &memory, unsigned number) {
    Slot &slot = slots_[number];
    slot.which = static_cast<unsigned>(random_() % blocks_a_slot);
    slot.write = random_() % 2;
    std::vector<Word> words(block / sizeof(Word));
    if (slot.write) {
      slot.next = generation_;
      generation_ = generation_ + 1 < max_generation ? generation_ + 1 : first_generation + 1;
      fill_pattern(words, slot.next, place(number));
    } else {
      fill_pattern(words, buffer_poison, 0);
    }
    memory.put(words, std::uint64_t{number} * block);
    mover.queue(slot.write ? Direction::Write : Direction::Read, std::uint64_t{number} * block,
                block, place(number), number);
  }
  void finish(const Memory &memory, Path path, unsigned number, int result) {
    Slot &slot = slots_[number];
    stamp = now_s();
    const auto name = [&] {
      return std::format("{}, {}, {}", name_, name_of(path), slot.write ? "write" : "read");
    };
    if (!report().check(result == static_cast<int>(block), "an I/O ends well",
                        result < 0 ? name() + ": " + errno_name(result)
                                   : std::format("{}: {} bytes", name(), result)))
      return;
    if (slot.write) {
      slot.generation[slot.which] = slot.next;
      ++writes;
      return;
    }
    ++reads;
    std::vector<Word> got(block / sizeof(Word)), want(block / sizeof(Word));
    memory.get(got, std::uint64_t{number} * block);
    fill_pattern(want, slot.generation[slot.which], place(number));
    const auto wrong = compare_words(got, want);
    report().check(!wrong, "every byte of a read",
                   wrong ? name() + ": " + describe(*wrong, place(number)) : "");
  }
  void live(Path path, const std::atomic<bool> &stop) {
    const auto depth = static_cast<unsigned>(slots_.size());
    const Memory memory(exporter_, testexp_, std::size_t{depth} * block, seed_ + lives);
    Session session;
    Ring ring(depth);
    if (path == Path::Registered)
      ring.make_buffer_table(1);
    Mover mover(session, ring, memory.fd(), target_.get(), path);
    if (!report().check(mover.error() == 0, "MAP",
                        std::format("{}, {}: {} {}", name_, name_of(path),
                                    errno_name(mover.error()), reason_name(mover.entry().reason))))
      return;
    unsigned flying = 0, turns = 0;
    for (; flying < depth; ++flying)
      start(mover, memory, flying);
    while (flying) {
      const int count = ring.reap([&](std::uint64_t number, int result) {
        --flying;
        finish(memory, path, static_cast<unsigned>(number), result);
        if (!stop && ++turns < turns_a_life) {
          start(mover, memory, static_cast<unsigned>(number));
          ++flying;
        }
      });
      if (count < 0)
        die("io_uring_enter: " + errno_name(count));
    }
    report().check(mover.release() == 0, "UNMAP");
    ++lives;
  }

  const std::string name_;
  const std::optional<Exporter> exporter_;
  const Testexp &testexp_;
  const std::uint64_t base_;
  std::mt19937_64 random_;
  const std::uint64_t seed_;
  std::vector<Slot> slots_;
  std::uint32_t generation_ = first_generation + 1;
  UniqueFd target_;
  std::vector<Path> paths_;
};

// What must not grow, and by how much the line through it may rise over the time it is watched. A
// little moves by itself: caches of the allocator, and the debug kernel's quarantine of freed
// memory.
struct Quantity {
  const char *name;
  double tolerance;
  double (*read)();
  std::vector<double> samples = {};
};

double of_meminfo(const std::string &key) {
  std::istringstream text(read_file("/proc/meminfo"));
  for (std::string line; std::getline(text, line);)
    if (line.starts_with(key + ":"))
      return std::strtod(line.c_str() + key.size() + 1, nullptr);
  die("/proc/meminfo has no " + key);
}

// Objects of the module's cache. With another one's of the same size, where the allocator has
// merged the two.
double bvec_objects() {
  // KASAN keeps what was freed for a while: shrinking the cache gives it back.
  std::ofstream("/sys/kernel/slab/bvec_io/shrink") << 1;
  const int objects = number_in("/sys/kernel/slab/bvec_io/objects");
  if (objects < 0)
    die("no cache bvec_io in /sys/kernel/slab");
  return objects;
}

// Objects of the caches whose names begin so.
double slab_objects(std::string_view prefix) {
  std::istringstream text(read_file("/proc/slabinfo"));
  double sum = 0;
  for (std::string line; std::getline(text, line);) {
    std::istringstream words(line);
    std::string name;
    double active = 0;
    if (words >> name >> active && name.starts_with(prefix))
      sum += active;
  }
  return sum;
}

// Least squares: how much it rises from the first to the last moment.
double rise(std::span<const double> at, std::span<const double> value) {
  double mean_at = 0, mean = 0, above = 0, below = 0;
  for (std::size_t i = 0; i < at.size(); ++i) {
    mean_at += at[i] / static_cast<double>(at.size());
    mean += value[i] / static_cast<double>(at.size());
  }
  for (std::size_t i = 0; i < at.size(); ++i) {
    above += (at[i] - mean_at) * (value[i] - mean);
    below += (at[i] - mean_at) * (at[i] - mean_at);
  }
  return below > 0 ? above / below * (at.back() - at.front()) : 0;
}

std::vector<Quantity> quantities() {
  return {
      {"KiB of memory in use", 48 << 10,
       [] { return of_meminfo("MemTotal") - of_meminfo("MemAvailable"); }},
      {"KiB of slabs that cannot be given back", 24 << 10, [] { return of_meminfo("SUnreclaim"); }},
      {"objects of bvec_io", 1024, bvec_objects},
      {"objects of kmalloc", 4000, [] { return slab_objects("kmalloc"); }},
      {"dma-bufs", 4, [] { return static_cast<double>(live_dmabufs().value_or(-1)); }},
      {"users of the module", 6,
       [] { return static_cast<double>(number_in("/sys/module/dmabuf_rw/refcnt")); }},
  };
}

void watch(const SoakOptions &options, std::span<const std::unique_ptr<Lane>> lanes) {
  auto all = quantities();
  std::vector<double> at;
  const double begin = now_s();
  double next = begin + options.settle;
  // As many as a line needs to say anything, however slow the machine is.
  while (now_s() < begin + options.seconds || at.size() < 8) {
    ::usleep(100000);
    const double now = now_s();
    for (const auto &lane : lanes)
      if (now - lane->stamp > stuck_s) {
        report().fail("everything goes on", std::format("a lane stands still for {} s", stuck_s));
        std::_Exit(report().finish("soak"));
      }
    if (now < next)
      continue;
    next = now + options.interval;
    at.push_back(now);
    for (Quantity &quantity : all)
      quantity.samples.push_back(quantity.read());
  }
  for (const Quantity &quantity : all) {
    const double rises = rise(at, quantity.samples);
    const auto text =
        std::format("{:.0f} to {:.0f}, the line rises by {:.1f}, {} may be",
                    quantity.samples.front(), quantity.samples.back(), rises, quantity.tolerance);
    report().note(std::format("{}: {}", quantity.name, text));
    report().check(rises <= quantity.tolerance, std::format("{}: flat", quantity.name), text);
  }
}

void run(const SoakOptions &options) {
  const long dmabufs = live_dmabufs().value_or(-1);
  {
    const Testexp testexp;
    std::vector<std::unique_ptr<Lane>> lanes;
    const std::size_t count = all_exporters.size() + 1;
    std::uint64_t base = disk_base;
    for (std::size_t i = 0; i < count; ++i) {
      // All of the depth, the rest to the first ones.
      const auto depth = static_cast<unsigned>(all_depth / count + (i < all_depth % count));
      const bool own = i < all_exporters.size();
      lanes.push_back(
          std::make_unique<Lane>(own ? std::string(name_of(all_exporters[i])) : "testexp",
                                 own ? std::optional(all_exporters[i]) : std::nullopt, testexp,
                                 depth, base, options.seed * 64 + i));
      base += Lane::bytes_on_disk(depth);
    }
    std::atomic<bool> stop = false;
    std::vector<std::jthread> threads;
    for (const auto &lane : lanes)
      threads.emplace_back([&lane = *lane, &stop] { lane.run(stop); });
    watch(options, lanes);
    stop = true;
    threads.clear();
    std::uint64_t reads = 0, writes = 0, lives = 0;
    for (const auto &lane : lanes) {
      report().check(lane->reads > 0 && lane->writes > 0,
                     "every exporter's memory was read and written");
      reads += lane->reads;
      writes += lane->writes;
      lives += lane->lives;
    }
    report().note(std::format("{} reads, {} writes, {} sessions; {} MiB compared", reads, writes,
                              lives, compared_bytes() >> 20));
  }
  report().check(wait_for([&] { return live_dmabufs() == dmabufs; }, 60), "no dma-buf is left",
                 std::format("{} before, {} after", dmabufs, live_dmabufs().value_or(-1)));
  report().check(wait_for([] { return number_in("/sys/module/dmabuf_rw/refcnt") == 0; }, 60),
                 "nobody uses the module afterwards");
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  SoakOptions options;
  static const option names[] = {{"seconds", 1, nullptr, 't'},
                                 {"settle", 1, nullptr, 'e'},
                                 {"interval", 1, nullptr, 'i'},
                                 {"seed", 1, nullptr, 's'},
                                 {}};
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    if (c == 't')
      options.seconds = std::atof(optarg);
    else if (c == 'e')
      options.settle = std::atof(optarg);
    else if (c == 'i')
      options.interval = std::atof(optarg);
    else if (c == 's')
      options.seed = std::strtoull(optarg, nullptr, 0);
    else
      die("usage: soak [--seconds S] [--settle S] [--interval S] [--seed N]");
  }
  report().note(std::format("seed {}", options.seed));
  run(options);
  return report().finish("soak");
}
