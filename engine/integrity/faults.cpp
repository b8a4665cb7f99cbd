// SPDX-License-Identifier: GPL-2.0-only
// What the test exporter can do to an importer: lie, wait, move, take away. The last two a plug-in
// can do with its own memory.
#include "base/sizes.hpp"
#include "bench.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <linux/dmabuf_testexp.h>
#include <optional>
#include <sys/ioctl.h>
#include <thread>

namespace integrity {

using dmabuf::Disturbance;
using dmabuf::errno_text;
using dmabuf::fail;
using dmabuf::Result;
using dmabuf::strf;

namespace {

using ull = unsigned long long;
constexpr uint32_t kFirstId = 1; ///< of the one buffer that allocate_dmabuf() makes in its session

/// Options for the test exporter, doing what `words` say.
Options on_testexp(const Options &options, const char *words) {
  Options changed = options;
  changed.exporter = dmabuf::ExporterKind::testexp;
  changed.exporter_device = words;
  return changed;
}

struct Stand {
  std::unique_ptr<Region> region;
  std::unique_ptr<Mover> mover;
};

Result<Stand> stand(const Options &options) {
  auto region = Region::open(options);
  if (!region)
    return std::unexpected(std::move(region.error()));
  auto mover = Mover::open(options, (*region)->fd());
  if (!mover)
    return std::unexpected(std::move(mover.error()));
  return Stand{std::move(*region), std::move(*mover)};
}

bool absent(Outcome &outcome) {
  if (access(DMABUF_TESTEXP_DEVICE, F_OK) == 0)
    return false;
  outcome.missing = "dmabuf_testexp.ko is not loaded";
  return true;
}

/// Whether the memory that was asked for is somebody's own, and is to be disturbed by its owner.
bool is_own(const Options &options) { return options.exporter == dmabuf::ExporterKind::plugin; }

/// The owner of the memory, if it can do that; else the outcome says that it cannot.
dmabuf::MemoryOwner *owner_who_can(const Mover &mover, Disturbance what, Outcome &outcome) {
  dmabuf::MemoryOwner *const owner = mover.buffer().owner.get();
  if (owner && owner->can(what))
    return owner;
  outcome.not_applicable =
      strf("plug-in %s does not %s on demand: its table's disturbs says so",
           mover.buffer().maker.c_str(),
           what == Disturbance::move ? "move its memory" : "take its memory away");
  return nullptr;
}

/// Moves memory again and again, by a thread of its own, until it is stopped.
class Churn {
public:
  explicit Churn(dmabuf::MemoryOwner &owner) : owner_(owner), thread_([this] { run(); }) {}
  Churn(const Churn &) = delete;
  Churn &operator=(const Churn &) = delete;
  ~Churn() { stop(); }

  void stop() {
    stop_ = true;
    if (thread_.joinable())
      thread_.join();
  }

  uint64_t moves() const { return moves_; }
  // After stop():
  uint64_t busy() const { return busy_; }
  uint64_t stray_bytes() const { return stray_bytes_; }
  double longest_s() const { return longest_s_; }
  const std::optional<dmabuf::Error> &error() const { return error_; }

private:
  void run() {
    while (!stop_) {
      const double begin = now_s();
      const auto seen = owner_.disturb(Disturbance::move);
      longest_s_ = std::max(longest_s_, now_s() - begin);
      if (seen) {
        moves_++;
        stray_bytes_ = seen->stray_bytes;
      } else if (seen.error().code == EBUSY) {
        busy_++;
      } else {
        error_ = seen.error();
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  dmabuf::MemoryOwner &owner_;
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> moves_ = 0;
  uint64_t busy_ = 0, stray_bytes_ = 0;
  double longest_s_ = 0;
  std::optional<dmabuf::Error> error_;
  std::thread thread_; ///< the last one, as it uses the others
};

/// run_invalidate() on memory that its owner moves.
Result<Outcome> invalidate_own(const Options &options) {
  constexpr uint64_t kLeastMoves = 20;
  constexpr unsigned kMoreRounds = 3;
  Outcome outcome;
  auto bench = stand(options);
  if (!bench)
    return std::unexpected(std::move(bench.error()));
  Mover &mover = *bench->mover;
  dmabuf::MemoryOwner *const owner = owner_who_can(mover, Disturbance::move, outcome);
  if (!owner)
    return outcome;
  if (options.path != DMABUF_RW_PATH_PREMAPPED) {
    outcome.not_applicable = "only premapped lets memory move; the others keep it in place";
    return outcome;
  }
  if (!(mover.session().query().features & DMABUF_RW_FEAT_INVALIDATE)) {
    outcome.not_applicable = "this kernel keeps mapped dma-bufs where they are";
    return outcome;
  }
  mover.say_place(outcome);
  if (const auto agree = copies_agree(mover.memory(), outcome); !agree)
    return std::unexpected(agree.error());
  else if (!*agree)
    return outcome;
  Churn churn(*owner);
  for (const Way way : {Way::read, Way::write})
    if (auto ok = load(options, mover, *bench->region, way, outcome); !ok)
      return std::unexpected(std::move(ok.error()));
  // For an owner that is slow; dmabuf-qual knows how much that may write.
  for (unsigned round = 0; round < kMoreRounds && churn.moves() < kLeastMoves; round++)
    if (auto ok = load(options, mover, *bench->region, Way::read, outcome); !ok)
      return std::unexpected(std::move(ok.error()));
  churn.stop();
  if (churn.error())
    return std::unexpected(*churn.error());
  outcome.fact("moves", churn.moves());
  outcome.fact("busy", churn.busy());
  outcome.fact("longest_us", static_cast<uint64_t>(churn.longest_s() * 1e6));
  const auto info = mover.info();
  if (!info)
    return std::unexpected(info.error());
  // Not "invalidations", which are moves that nobody asked for.
  outcome.fact("told", info->invalidations);
  if (churn.moves() && !info->invalidations)
    outcome.find("MOVE_UNTOLD",
                 strf("the plug-in moved the memory %llu times and did not tell its importer once",
                      static_cast<ull>(churn.moves())));
  if (!churn.moves())
    outcome.find("NOTHING_MOVED", strf("the plug-in did not move the memory once; it said EBUSY "
                                       "%llu times",
                                       static_cast<ull>(churn.busy())));
  if (churn.stray_bytes())
    outcome.find("STRAY_DMA", "memory that the buffer had left was written", churn.stray_bytes());
  if (churn.longest_s() * 1000 > options.limit_ms)
    outcome.find("INVALIDATE_HANG",
                 strf("letting go of the memory took %.1f s", churn.longest_s()));
  return outcome;
}

/// Takes memory away and, where that can be, gives it back.
struct Taker {
  std::function<Result<void>()> revoke, restore; ///< restore: empty where there is no way back
};

Result<void> disturbed(dmabuf::MemoryOwner &owner, Disturbance what) {
  const auto seen = owner.disturb(what);
  if (!seen)
    return std::unexpected(seen.error());
  return {};
}

Taker taker_of(dmabuf::MemoryOwner &owner) {
  Taker taker;
  taker.revoke = [&owner] { return disturbed(owner, Disturbance::revoke); };
  if (owner.can(Disturbance::restore))
    taker.restore = [&owner] { return disturbed(owner, Disturbance::restore); };
  return taker;
}

/// Of the test exporter, by the buffer's session.
Taker taker_of(int control) {
  Taker taker;
  taker.revoke = [control]() -> Result<void> {
    dmabuf_testexp_move revoke = {};
    revoke.id = kFirstId;
    if (ioctl(control, DMABUF_TESTEXP_IOC_REVOKE, &revoke) < 0)
      return fail(errno, errno_text("the test exporter does not take the memory away", errno));
    return {};
  };
  taker.restore = [control]() -> Result<void> {
    dmabuf_testexp_id id = {.id = kFirstId, .flags = 0};
    if (ioctl(control, DMABUF_TESTEXP_IOC_UNREVOKE, &id) < 0)
      return fail(errno, errno_text("the test exporter does not give the memory back", errno));
    return {};
  };
  return taker;
}

} // namespace

Result<Outcome> run_liar(const Options &options) {
  Outcome outcome;
  if (absent(outcome))
    return outcome;
  auto region = Region::open(options);
  if (!region)
    return std::unexpected(std::move(region.error()));
  dmabuf::UniqueFd control(open(DMABUF_TESTEXP_DEVICE, O_RDWR | O_CLOEXEC));
  if (!control)
    return fail(errno, errno_text("cannot open " DMABUF_TESTEXP_DEVICE, errno));
  struct Lie {
    uint32_t flag, misalign;
    const char *name, *what;
  };
  constexpr Lie kLies[] = {
      {DMABUF_TESTEXP_SEG_4G, 0, "SG_4G_TRUNCATED", "4 GiB more than its pieces hold"},
      {DMABUF_TESTEXP_SEG_4G_ZERO, 0, "SG_4G_TRUNCATED", "a piece whose length wrapped to 0"},
      {DMABUF_TESTEXP_SUM_SHORT, 0, "SG_4G_TRUNCATED", "pieces shorter than the buffer"},
      {DMABUF_TESTEXP_SUM_LONG, 0, "SG_4G_TRUNCATED", "pieces longer than the buffer"},
      {DMABUF_TESTEXP_MISALIGN_START, 512, "SEGMENT_MISALIGNED", "pieces that begin in a page"},
      {DMABUF_TESTEXP_MISALIGN_LENGTH, 512, "SEGMENT_MISALIGNED", "pieces that end in a page"},
  };
  auto session = dmabuf::Session::open();
  if (!session)
    return std::unexpected(std::move(session.error()));
  for (const Lie &lie : kLies) {
    dmabuf_testexp_create create = {};
    create.bytes = 1u << 20;
    create.seed = options.seed;
    create.flags = DMABUF_TESTEXP_NO_CPU | lie.flag;
    create.segment_min = dmabuf::kPage;
    create.segment_max = 16 * dmabuf::kPage;
    create.misalign = lie.misalign;
    if (ioctl(control.get(), DMABUF_TESTEXP_IOC_CREATE, &create) < 0)
      return fail(errno, errno_text("the test exporter made no buffer", errno));
    dmabuf::UniqueFd fd(static_cast<int>(create.fd));
    // Only mapped, never used: an importer that believes it would damage the machine.
    const auto entry = session->map({.dmabuf_fd = fd.get(),
                                     .target_fd = (*region)->fd(),
                                     .path = DMABUF_RW_PATH_PREMAPPED,
                                     .directions = DMABUF_RW_DIR_READ},
                                    options.device);
    outcome.transfers++;
    if (entry) {
      outcome.find(lie.name, strf("a buffer with %s was accepted", lie.what));
      (void)session->unmap(entry->handle);
    }
    dmabuf_testexp_id id = {.id = create.id, .flags = 0};
    ioctl(control.get(), DMABUF_TESTEXP_IOC_DESTROY, &id);
  }
  return outcome;
}

Result<Outcome> run_fence(const Options &options) {
  Outcome outcome;
  if (absent(outcome))
    return outcome;
  constexpr unsigned kTimeoutMs = 300;
  Options hasty = on_testexp(options, "");
  hasty.timeout_ms = kTimeoutMs;
  auto bench = stand(hasty);
  if (!bench)
    return std::unexpected(std::move(bench.error()));
  Mover &mover = *bench->mover;
  const int control = mover.buffer().keeper.get();
  dmabuf_testexp_fence fence = {};
  fence.id = kFirstId;
  fence.usage = DMABUF_TESTEXP_USAGE_WRITE;
  fence.flags = DMABUF_TESTEXP_FENCE_NEVER;
  if (ioctl(control, DMABUF_TESTEXP_IOC_FENCE_ADD, &fence) < 0)
    return fail(errno, errno_text("the test exporter took no fence", errno));
  const double begin = now_s();
  const int result = mover.transfer(Way::read, 0, dmabuf::kPage, options.offset);
  const double took = now_s() - begin;
  outcome.transfers = 2;
  outcome.fact("waited_ms", static_cast<uint64_t>(took * 1000));
  if (result >= 0)
    outcome.find("FENCE_IGNORED", "I/O went ahead of a fence that has not signalled");
  else if (took * 1000 > kTimeoutMs + options.limit_ms)
    outcome.find("FENCE_HANG", strf("I/O behind a fence that never signals took %.1f s to fail, "
                                    "with a time-out of %u ms",
                                    took, kTimeoutMs));
  dmabuf_testexp_signal signal = {.id = kFirstId, .flags = 0, .fence = 0, .signalled = 0};
  ioctl(control, DMABUF_TESTEXP_IOC_FENCE_SIGNAL, &signal);
  if (mover.transfer(Way::read, 0, dmabuf::kPage, options.offset) !=
      static_cast<int>(dmabuf::kPage))
    outcome.find("FENCE_HANG", "I/O does not work after the fence has signalled");
  return outcome;
}

Result<Outcome> run_invalidate(const Options &options) {
  if (is_own(options))
    return invalidate_own(options);
  Outcome outcome;
  if (absent(outcome))
    return outcome;
  auto bench = stand(on_testexp(options, "move-1000"));
  if (!bench && bench.error().code == EOPNOTSUPP) {
    outcome.not_applicable = "this kernel keeps mapped dma-bufs where they are";
    return outcome;
  }
  if (!bench)
    return std::unexpected(std::move(bench.error()));
  for (const Way way : {Way::read, Way::write})
    if (auto ok = load(options, *bench->mover, *bench->region, way, outcome); !ok)
      return std::unexpected(std::move(ok.error()));
  const int control = bench->mover->buffer().keeper.get();
  dmabuf_testexp_id id = {.id = kFirstId, .flags = 0};
  ioctl(control, DMABUF_TESTEXP_IOC_MOVER_STOP, &id);
  dmabuf_testexp_stats stats = {};
  stats.id = kFirstId;
  if (ioctl(control, DMABUF_TESTEXP_IOC_STATS, &stats) < 0)
    return fail(errno, errno_text("the test exporter gives no STATS", errno));
  outcome.fact("moves", stats.moves);
  outcome.fact("longest_us", stats.invalidate_max_ns / 1000);
  if (!stats.moves)
    outcome.find("NOTHING_MOVED", "the exporter did not move the memory once");
  if (stats.stray_words)
    outcome.find("STRAY_DMA", "memory that the buffer had left was written", stats.stray_words);
  if (stats.invalidate_max_ns / 1000000 > options.limit_ms)
    outcome.find("INVALIDATE_HANG", strf("letting go of the memory took %llu ms",
                                         static_cast<ull>(stats.invalidate_max_ns / 1000000)));
  return outcome;
}

Result<Outcome> run_revoke(const Options &options) {
  Outcome outcome;
  const bool own = is_own(options);
  if (!own && absent(outcome))
    return outcome;
  auto bench = stand(own ? options : on_testexp(options, ""));
  if (!bench)
    return std::unexpected(std::move(bench.error()));
  Mover &mover = *bench->mover;
  Taker taker;
  if (own) {
    dmabuf::MemoryOwner *const owner = owner_who_can(mover, Disturbance::revoke, outcome);
    if (!owner)
      return outcome;
    mover.say_place(outcome);
    taker = taker_of(*owner);
  } else {
    taker = taker_of(mover.buffer().keeper.get());
  }
  unsigned in_flight = 0, good = 0, refused = 0;
  const auto put = [&] { mover.queue(Way::read, 0, 64u << 10, options.offset, in_flight++); };
  for (unsigned i = 0; i < options.depth; i++)
    put();
  if (auto ok = mover.submit(); !ok)
    return std::unexpected(std::move(ok.error()));
  const double begin = now_s();
  if (auto ok = taker.revoke(); !ok)
    return std::unexpected(std::move(ok.error()));
  put(); // and one that comes too late
  while (in_flight)
    if (auto ok = mover.reap([&](uint64_t, int result) {
          in_flight--;
          (result > 0 ? good : refused)++;
        });
        !ok)
      return std::unexpected(std::move(ok.error()));
  const double took = now_s() - begin;
  outcome.transfers = good + refused;
  outcome.fact("ended_well", good);
  outcome.fact("refused", refused);
  if (took * 1000 > options.limit_ms)
    outcome.find("INVALIDATE_HANG", strf("taking memory away under I/O took %.1f s", took));
  if (!refused)
    outcome.find("REVOKE_IGNORED", "I/O to memory that was taken away ended with success");
  outcome.fact("restored", taker.restore ? 1 : 0);
  if (!taker.restore)
    return outcome;
  if (auto ok = taker.restore(); !ok)
    return std::unexpected(std::move(ok.error()));
  Options some = options;
  some.load_bytes = 4u << 20;
  if (auto ok = load(some, mover, *bench->region, Way::read, outcome); !ok)
    return std::unexpected(std::move(ok.error()));
  return outcome;
}

} // namespace integrity
