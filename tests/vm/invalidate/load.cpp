// SPDX-License-Identifier: GPL-2.0-only
#include "invalidate.hpp"

#include <csignal>
#include <optional>
#include <sys/wait.h>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t mib = 1u << 20;
constexpr std::uint64_t sector = 512;
constexpr unsigned depth = 32;
constexpr std::uint64_t disk_base = 400 * mib;
constexpr std::size_t buffer_bytes = 1 * mib;
constexpr std::uint64_t stripe = buffer_bytes / depth; // of the buffer, one for each slot
constexpr std::uint64_t disk_stripe = 2 * stripe;      // of the drive
constexpr std::size_t region_bytes = depth * disk_stripe;

// One transfer at a time, in parts of the buffer and the drive that are this slot's alone.
struct Slot {
  std::uint64_t index = 0;
  Direction direction = Direction::Read;
  std::uint64_t buffer_offset = 0, file_offset = 0, length = 0;
  std::uint32_t generation = 0;
};

// A buffer, its mapping, a part of the drive, and what both must hold.
class Load {
public:
  Load(const InvalidateOptions &options, const TestBuffer &buffer)
      : buffer_(buffer), target_(open_target(options.nvme)), plain_(open_target(options.nvme)),
        ring_(2 * depth), mover_(session_, ring_, buffer.fd(), target_.get(), Path::Premapped),
        region_(plain_.get(), disk_base, region_bytes), model_(buffer_bytes / 8),
        found_(stripe / 8), random_(options.seed) {
    if (mover_.error())
      die(std::format("MAP: {}, {}", errno_name(mover_.error()),
                      reason_name(mover_.entry().reason)));
    region_.lay_down_all(1);
    fill_pattern(model_, buffer_poison, 0);
    buffer_.must_write(model_, 0);
  }

  void start(Slot &slot) {
    generation_ = generation_ < max_generation ? generation_ + 1 : 2;
    slot.generation = generation_;
    slot.length = sector * (1 + random_() % (stripe / sector));
    slot.buffer_offset =
        slot.index * stripe + sector * (random_() % ((stripe - slot.length) / sector + 1));
    slot.file_offset = disk_base + slot.index * disk_stripe +
                       sector * (random_() % ((disk_stripe - slot.length) / sector + 1));
    slot.direction = random_() % 2 ? Direction::Read : Direction::Write;
    const auto words = in_buffer(slot);
    if (slot.direction == Direction::Read) {
      region_.lay_down(slot.generation, slot.file_offset, slot.length);
    } else {
      fill_pattern(words, slot.generation, slot.file_offset);
      buffer_.must_write(words, slot.buffer_offset);
    }
    mover_.queue(slot.direction, slot.buffer_offset, static_cast<std::uint32_t>(slot.length),
                 slot.file_offset, slot.index);
  }

  // Compares the slot's whole part of the buffer, and of the drive after a write.
  std::optional<std::string> finish(Slot &slot) {
    std::optional<std::string> wrong;
    const auto words = in_buffer(slot);
    if (slot.direction == Direction::Read) {
      const auto expected = region_.expected(slot.file_offset, slot.length);
      std::copy(expected.begin(), expected.end(), words.begin());
    } else {
      fill_pattern(region_.expected(slot.file_offset, slot.length), slot.generation,
                   slot.file_offset);
      wrong = region_.check(disk_base + slot.index * disk_stripe, disk_stripe, 0);
    }
    moved_bytes_[slot.direction == Direction::Write] += slot.length;
    if (!wrong)
      wrong = check_stripe(slot.index);
    // What a read did not bring must not be taken for what the next one did.
    fill_pattern(words, buffer_poison, slot.buffer_offset);
    buffer_.must_write(words, slot.buffer_offset);
    return wrong;
  }

  std::optional<std::string> check_stripe(std::uint64_t index) {
    buffer_.must_read(found_, index * stripe);
    const auto mismatch =
        compare_words(found_, std::span(model_).subspan(index * stripe / 8, stripe / 8));
    if (!mismatch)
      return std::nullopt;
    return "in the buffer, " + describe(*mismatch, index * stripe);
  }

  std::optional<std::string> check_all() {
    if (auto wrong = region_.check_all())
      return wrong;
    for (std::uint64_t i = 0; i < depth; ++i)
      if (auto wrong = check_stripe(i))
        return wrong;
    return std::nullopt;
  }

  dmabuf_rw_info info() {
    dmabuf_rw_info result{};
    if (const int error = session_.info(mover_.entry().handle, result))
      die("INFO: " + errno_name(error));
    return result;
  }

  Ring &ring() { return ring_; }
  Mover &mover() { return mover_; }
  std::uint64_t moved_bytes(Direction direction) const {
    return moved_bytes_[direction == Direction::Write];
  }

private:
  std::span<Word> in_buffer(const Slot &slot) {
    return std::span(model_).subspan(slot.buffer_offset / 8, slot.length / 8);
  }
  const TestBuffer &buffer_;
  Session session_;
  UniqueFd target_, plain_;
  Ring ring_;
  Mover mover_;
  DiskRegion region_;
  std::vector<Word> model_, found_;
  std::mt19937_64 random_;
  std::uint32_t generation_ = 1;
  std::uint64_t moved_bytes_[2] = {};
};

std::vector<Slot> make_slots() {
  std::vector<Slot> slots(depth);
  for (unsigned i = 0; i < depth; ++i)
    slots[i].index = i;
  return slots;
}

} // namespace

void test_moves_under_load(const InvalidateOptions &options, const Testexp &testexp) {
  const std::string name = "moves under load";
  const TestBuffer buffer = testexp.make(gpu_buffer(buffer_bytes, options.seed));
  {
    Load load(options, buffer);
    std::vector<Slot> slots = make_slots();
    std::uint64_t running = 0, done = 0;
    bool failed = false;
    if (const int error = buffer.start_mover(options.interval_us, 0, DMABUF_TESTEXP_MOVER_MAPPED))
      die("MOVER_START: " + errno_name(error));
    const double begin = now_s(), end = begin + options.seconds;
    for (Slot &slot : slots) {
      load.start(slot);
      ++running;
    }
    while (running) {
      const int count = load.ring().reap([&](std::uint64_t index, int result) {
        Slot &slot = slots[index];
        --running;
        ++done;
        std::optional<std::string> wrong;
        if (result != static_cast<int>(slot.length))
          wrong =
              std::format("result {} instead of {}",
                          result < 0 ? errno_name(result) : std::to_string(result), slot.length);
        else
          wrong = load.finish(slot);
        if (wrong) {
          report().fail(name,
                        std::format("{} of {} at buffer {}, file {}: {}", name_of(slot.direction),
                                    slot.length, slot.buffer_offset, slot.file_offset, *wrong));
          failed = true;
        }
        const double now = now_s();
        if (!failed && (now < end || (now < begin + 4 * options.seconds &&
                                      load.info().invalidations < options.moves))) {
          load.start(slot);
          ++running;
        }
      });
      if (count < 0)
        die("io_uring_enter: " + errno_name(count));
    }
    const double took = now_s() - begin;
    if (const int error = buffer.stop_mover())
      report().fail(name + ": MOVER_STOP", errno_name(error));
    report().check(!failed, name + ": every transfer right");
    const auto wrong = load.check_all();
    report().check(!wrong, name + ": all of drive and buffer at the end", wrong.value_or(""));
    const auto stats = buffer.must_stats();
    const auto info = load.info();
    report().check(
        info.invalidations >= options.moves, name + ": enough invalidations",
        std::format("{} of {}", static_cast<std::uint64_t>(info.invalidations), options.moves));
    report().check(stats.moves_failed == 0, name + ": no move failed",
                   std::format("{} failed", stats.moves_failed));
    report().check(info.errors == 0, name + ": INFO counts no error",
                   std::format("{}, the last {} {}", static_cast<std::uint64_t>(info.errors),
                               errno_name(info.last_error), reason_name(info.last_reason)));
    report().check(info.reads + info.writes == done, name + ": INFO counts every transfer");
    report().note(std::format(
        "{} transfers, {} MiB in, {} MiB out, {:.1f} s; {} moves, {} invalidations, {} deferred; "
        "invalidation {} us on average, {} us at most",
        done, load.moved_bytes(Direction::Read) >> 20, load.moved_bytes(Direction::Write) >> 20,
        took, static_cast<std::uint64_t>(stats.moves),
        static_cast<std::uint64_t>(info.invalidations), static_cast<std::uint64_t>(info.deferred),
        stats.moves ? stats.invalidate_ns / stats.moves / 1000 : 0,
        stats.invalidate_max_ns / 1000));
    if (const int error = load.mover().release())
      report().fail(name + ": UNMAP", errno_name(error));
  }
  check_nothing_left(buffer, name);
}

void test_revoke_under_load(const InvalidateOptions &options, const Testexp &testexp) {
  const std::string name = "revoke under load";
  const TestBuffer buffer = testexp.make(gpu_buffer(buffer_bytes, options.seed));
  {
    Load load(options, buffer);
    std::vector<Slot> slots = make_slots();
    std::uint64_t running = 0, good = 0, refused = 0, late = 0, other = 0;
    bool revoked = false;
    std::vector<bool> after(depth);
    const auto go = [&](Slot &slot) {
      after[slot.index] = revoked;
      load.start(slot);
      ++running;
    };
    for (Slot &slot : slots)
      go(slot);
    while (running) {
      const int count = load.ring().reap([&](std::uint64_t index, int result) {
        Slot &slot = slots[index];
        --running;
        if (result == static_cast<int>(slot.length)) {
          ++good;
          late += after[index];
        } else if (result == -ENODEV) {
          ++refused;
        } else {
          ++other;
          report().fail(name, "result " + errno_name(result));
        }
        if (good + refused + other < 2000 && (!revoked || refused < 64))
          go(slot);
      });
      if (count < 0)
        die("io_uring_enter: " + errno_name(count));
      if (good > 200 && !revoked) {
        const int error = buffer.revoke();
        revoked = true;
        report().check(error == 0, name + ": REVOKE", errno_name(error));
      }
    }
    report().check(other == 0 && refused > 0, name + ": transfers end with ENODEV",
                   std::format("{} did, {} otherwise", refused, other));
    report().check(late == 0, name + ": no transfer succeeds that began after it",
                   std::format("{} did", late));
    const auto info = load.info();
    report().check(info.state == DMABUF_RW_STATE_REVOKED, name + ": INFO.state",
                   std::to_string(info.state));
    report().check(info.last_reason == DMABUF_RW_REASON_REVOKED, name + ": INFO.last_reason",
                   reason_name(info.last_reason));
    report().check(info.last_error == ENODEV, name + ": INFO.last_error",
                   errno_name(info.last_error));
    const auto stats = buffer.must_stats();
    report().check(stats.mappings == 0, name + ": nothing mapped while revoked",
                   std::format("{} mappings", stats.mappings));
    Session second;
    auto entry = map_entry(buffer.fd(), open_target(options.nvme).release(), Path::Premapped);
    const int mapped = second.map_one(entry);
    report().check(mapped == -ENODEV && entry.reason == DMABUF_RW_REASON_REVOKED,
                   name + ": MAP of a revoked buffer",
                   std::format("{}, {}", errno_name(mapped), reason_name(entry.reason)));
    ::close(static_cast<int>(entry.target_fd));

    if (const int error = buffer.unrevoke())
      report().fail(name + ": UNREVOKE", errno_name(error));
    DiskRegion region(open_target(options.nvme).release(), disk_base, mib);
    const std::string wrong = check_transfer(buffer, load.mover(), region, 100);
    report().check(wrong.empty(), name + ": works again when given back", wrong);
    ::close(region.plain_fd());
    report().note(std::format("{} transfers, then {} refused", good, refused));
  }
  check_nothing_left(buffer, name);
}

namespace {

// Half of the slots write the buffer to the drive, half read from it, for ever.
[[noreturn]] void kill_victim(const InvalidateOptions &options, const TestBuffer &buffer,
                              int told) {
  Session session;
  Ring ring(2 * depth);
  UniqueFd target = open_target(options.nvme);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  const auto start = [&](std::uint64_t i) {
    mover.queue(i < depth / 2 ? Direction::Write : Direction::Read, i * stripe,
                static_cast<std::uint32_t>(stripe), disk_base + i * stripe, i);
  };
  for (std::uint64_t i = 0; i < depth; ++i)
    start(i);
  for (std::uint64_t done = 0;;) {
    const int count = ring.reap([&](std::uint64_t i, int result) {
      if (result != static_cast<int>(stripe)) {
        std::fprintf(stderr, "the victim's I/O: %s\n", errno_name(result).c_str());
        ::_exit(3);
      }
      ++done;
      start(i);
    });
    if (count < 0)
      ::_exit(4);
    if (done >= 2 * depth && told >= 0) {
      const char byte = 1;
      if (::write(told, &byte, 1) != 1)
        ::_exit(5);
      told = -1;
    }
  }
}

// Every sector is as before or as the victim would have left it, and all words agree.
std::optional<std::string> check_sectors(std::span<const Word> words, std::uint64_t offset,
                                         std::uint32_t before, std::uint64_t before_offset,
                                         std::uint32_t after) {
  for (std::size_t s = 0; s < words.size() / 64; ++s) {
    const std::uint64_t at = offset + s * sector;
    const bool fresh = words[s * 64] == pattern_word(after, at);
    for (std::size_t i = 0; i < 64; ++i) {
      const Word expected = fresh ? pattern_word(after, at + i * 8)
                                  : pattern_word(before, before_offset + s * sector + i * 8);
      if (words[s * 64 + i] != expected)
        return std::format("sector at {} holds {}", at, describe_word(words[s * 64 + i]));
    }
  }
  return std::nullopt;
}

} // namespace

void test_kill_under_load(const InvalidateOptions &options, const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(gpu_buffer(buffer_bytes, options.seed));
  const UniqueFd plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base, buffer_bytes);
  std::mt19937_64 random(options.seed);
  if (const int error = buffer.start_mover(options.interval_us))
    die("MOVER_START: " + errno_name(error));
  for (int round = 0; round < options.kills; ++round) {
    const std::string name = std::format("kill -9 while the buffer moves, round {}", round);
    const std::uint32_t generation = 10 + 2 * static_cast<std::uint32_t>(round);
    region.lay_down_all(generation);
    constexpr std::size_t half = buffer_bytes / 2;
    buffer.put_pattern(0, half, generation + 1, disk_base); // to be written
    buffer.put_pattern(half, half, buffer_poison, half);    // to be read into
    int pipe_fds[2];
    if (::pipe(pipe_fds) != 0)
      die("pipe");
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child < 0)
      die("fork");
    if (child == 0)
      kill_victim(options, buffer, pipe_fds[1]);
    ::close(pipe_fds[1]);
    char byte = 0;
    const bool began = ::read(pipe_fds[0], &byte, 1) == 1;
    ::close(pipe_fds[0]);
    ::usleep(static_cast<unsigned>(random() % 100000));
    ::kill(child, SIGKILL);
    int status = 0;
    const double begin = now_s();
    pid_t reaped = 0;
    while ((reaped = ::waitpid(child, &status, WNOHANG)) == 0 && now_s() - begin < 30)
      ::usleep(2000);
    report().check(reaped == child, name + ": the process ends", "still there after 30 s");
    report().check(began && WIFSIGNALED(status), name + ": it was doing I/O without errors",
                   std::format("wait status 0x{:x}", status));
    dmabuf_testexp_stats stats = buffer.must_stats();
    for (int tries = 0; tries < 250 && stats.attachments; ++tries) {
      ::usleep(20000);
      stats = buffer.must_stats();
    }
    report().check(stats.attachments == 0 && stats.mappings == 0, name + ": nothing left",
                   std::format("{} attachments, {} mappings", stats.attachments, stats.mappings));
    std::vector<Word> words(buffer_bytes / 8);
    HostBuffer host(buffer_bytes);
    read_plain(plain.get(), host.words(), disk_base);
    auto wrong = check_sectors(host.words().first(half / 8), disk_base, generation, disk_base,
                               generation + 1);
    if (!wrong) // the other half was only read
      wrong = check_sectors(host.words().subspan(half / 8), disk_base + half, generation,
                            disk_base + half, generation);
    report().check(!wrong, name + ": the drive holds only what was asked for", wrong.value_or(""));
    buffer.must_read(words, 0);
    wrong = check_sectors(std::span(words).first(half / 8), disk_base, generation + 1, disk_base,
                          generation + 1);
    if (!wrong)
      wrong = check_sectors(std::span(words).subspan(half / 8), disk_base + half, buffer_poison,
                            half, generation);
    report().check(!wrong, name + ": the buffer holds only what was asked for", wrong.value_or(""));
  }
  if (const int error = buffer.stop_mover())
    report().fail("kill -9: MOVER_STOP", errno_name(error));
  report().note(
      std::format("kill -9: {} moves", static_cast<std::uint64_t>(buffer.must_stats().moves)));
  check_nothing_left(buffer, "kill -9 while the buffer moves");
}

} // namespace vmtest
