// SPDX-License-Identifier: GPL-2.0-only
// What the parts of the races share: the worker threads, and who gets in their way.
#pragma once

#include "lib/exporter.hpp"
#include "lib/hurt.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/sysfs.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace vmtest {

struct RacesOptions {
  std::uint64_t seed = std::random_device{}();
  double seconds = 30;        // and longer, until every kind of event has happened
  double limit = 300;         // but not longer than this
  unsigned threads = 4;       // workers on the first drive
  bool polled = false;        // rings that poll, too (nvme.poll_queues=1)
  std::set<std::string> only; // kinds of disturbance; none: all that are possible here
};

// What happens, each kind counted.
enum class Kind {
  Map,
  MapRefused,
  Unmap,
  Read,
  Write,
  Failed,
  Waited,
  Several,
  CloseFlying,
  UnmapFlying,
  RingFlying,
  UnmapOther,
  Fork,
  Kill,
  Move,
  Revoke,
  Unbind,
  Remove,
  PathLoss,
  Reset,
  Freeze,
  Unload,
  Format512,
  Format4096,
  FormatPi,
  Count
};
std::string_view name_of(Kind kind);

// A buffer that can be moved and revoked by somebody else while a worker uses it.
struct Movable {
  TestBuffer buffer;
  std::atomic<unsigned> revokes = 0;
};

// What a worker shows to the thread that unmaps other threads' mappings.
struct Shown {
  std::mutex lock;
  int session = -1;
  std::uint32_t handle = 0;
};

// Where a drive's data lie.
struct Layout {
  static constexpr std::uint64_t kib = 1024;
  static constexpr std::uint64_t base = 16u << 20;
  static constexpr std::size_t read_only = 2u << 20; // in generation 3, never written
  static constexpr std::size_t block = 64 * kib;     // written as a whole
  static constexpr unsigned slots = 6;               // blocks of a worker; of either kind
  static constexpr std::size_t canary = 64 * kib;    // around every worker's blocks
  static constexpr std::size_t stripe = 2 * canary + 2 * slots * block;
  static constexpr std::uint32_t fresh = 3;
  static std::uint64_t stripe_of(unsigned worker) { return base + read_only + worker * stripe; }
  // Blocks whose writes are all waited for, and those of writes that may be abandoned.
  static std::uint64_t waited(unsigned worker, unsigned slot) {
    return stripe_of(worker) + canary + slot * block;
  }
  static std::uint64_t abandoned(unsigned worker, unsigned slot) {
    return waited(worker, slots + slot);
  }
};

class World {
public:
  explicit World(const RacesOptions &chosen);

  void count(Kind kind) { ++counts[static_cast<std::size_t>(kind)]; }
  std::uint64_t counted(Kind kind) const { return counts[static_cast<std::size_t>(kind)]; }
  // An I/O or a MAP ended with this; prints the first of each that may not be.
  void ended(const std::string &what, int error, bool allowed);
  bool wanted(const std::string &disturbance) const {
    return options.only.empty() || options.only.contains(disturbance);
  }
  // A thread says that it gets on.
  void alive(unsigned thread) { stamps[thread] = now_s(); }

  const RacesOptions options;
  const Testexp testexp;
  const bool can_move;
  const std::vector<Path> paths;
  std::atomic<bool> stop = false;
  std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(Kind::Count)> counts{};
  std::vector<std::string> functions; // PCI functions of the first drive
  bool second = false;                // a drive that is formatted
  std::vector<std::unique_ptr<Shown>> shown;
  std::mutex movables_lock;
  std::vector<Movable *> movables;
  static constexpr unsigned max_threads = 64;
  std::array<std::atomic<double>, max_threads> stamps{};
  std::mutex errors_lock;
  std::map<std::string, std::uint64_t> errors;
};

// The node of the first drive, or of the namespace of the second one that is formatted; "" while
// it is not there.
std::string first_drive();
std::string second_drive();

// Whether every sector of `words` has the pattern of its offset in one of the generations; with
// no generations, in any or all zero. What is wrong otherwise.
std::string wrong_sectors(std::span<const Word> words, std::uint64_t offset,
                          std::span<const std::uint32_t> generations);

// One thread's lives: each makes a session, a ring and a mapping, does I/O and ends in some way.
class Worker {
public:
  Worker(World &world, unsigned number, bool loose);
  void run();
  // What the drive holds of this worker's blocks, by plain reads.
  void check_blocks(int plain) const;

private:
  struct Life;
  friend struct Life;
  World &world_;
  unsigned number_;
  bool loose_; // the drive is formatted now and then: no data are kept
  std::mt19937_64 random_;
  std::uint32_t generation_ = 16;
  // By slot: what the block may hold. The first one is certain when it is alone.
  std::array<std::vector<std::uint32_t>, Layout::slots> holds_;
};

// The threads that get in the way, numbered from `first` on.
std::vector<std::jthread> disturb(World &world, unsigned first);

} // namespace vmtest
