// SPDX-License-Identifier: GPL-2.0-only
// A worker's lives. Whatever happens to drive and memory meanwhile: an I/O that is reported good
// moved the right bytes, one that failed moved right ones or none, and nobody waits for ever.
#include "races.hpp"

#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <initializer_list>
#include <optional>
#include <sys/ioctl.h>
#include <sys/wait.h>

namespace vmtest {

namespace {

constexpr std::size_t slot_bytes = 128 << 10;
constexpr std::size_t guard = 64 << 10;
constexpr std::size_t buffer_bytes = 2 * guard + Layout::slots * slot_bytes;
constexpr std::uint64_t offset_of(unsigned slot) { return guard + slot * slot_bytes; }

enum class End { Orderly, CloseFlying, UnmapFlying, RingFlying, Fork, Count };

// What a call may say when the drive is going, gone or coming, its format changes, the memory is
// revoked, or another thread has unmapped the mapping.
bool defined(int error) {
  constexpr int errors[] = {ENODEV, EIO,    ENXIO,  ENOLINK, ETIMEDOUT, EOPNOTSUPP,
                            EINVAL, ENOENT, EAGAIN, EINTR,   ECANCELED, EMEDIUMTYPE};
  return std::ranges::contains(errors, -error);
}

// Zeroes, or a pattern, wherever its place is.
std::string whole_sector(std::span<const Word> words) {
  bool right = true;
  for (std::size_t i = 1; right && i < words.size(); ++i)
    right = words[i] == (words[0] ? words[0] + i : 0);
  return right ? "" : std::format("half a sector, at first {}", describe_word(words[0]));
}

} // namespace

std::string wrong_sectors(std::span<const Word> words, std::uint64_t offset,
                          std::span<const std::uint32_t> generations) {
  constexpr std::size_t sector = 512 / sizeof(Word);
  for (std::size_t at = 0; at < words.size(); at += sector) {
    const Word first = words[at];
    const auto generation = static_cast<std::uint32_t>(first >> (64 - generation_bits));
    const std::uint64_t where = offset + at * sizeof(Word);
    const bool zero = generations.empty() && first == 0;
    bool right = zero || ((generations.empty() || std::ranges::contains(generations, generation)) &&
                          first == pattern_word(generation, where));
    for (std::size_t i = 1; right && i < sector; ++i)
      right = words[at + i] == (zero ? 0 : pattern_word(generation, where + i * sizeof(Word)));
    if (!right)
      return std::format("sector at {} holds {}", where, describe_word(first));
  }
  return "";
}

// Everything that one life has, in the order in which it is made.
struct Worker::Life {
  struct Io {
    bool flying = false, write = false;
    std::uint64_t file_offset = 0;
    std::uint32_t length = 0, generation = 0;
    std::vector<std::uint32_t> allowed; // of a read
  };

  explicit Life(Worker &w, End e) : worker(w), world(w.world_), end(e) {}
  ~Life() {
    unshow();
    ring.reset();
    session.close();
    if (movable) {
      const std::lock_guard guarded(world.movables_lock);
      std::erase(world.movables, movable.get());
    }
  }

  unsigned pick(unsigned bound) { return static_cast<unsigned>(worker.random_() % bound); }

  bool make_memory() {
    if (world.can_move && pick(2) == 0) {
      movable = std::make_unique<Movable>();
      movable->buffer = world.testexp.make(gpu_buffer(buffer_bytes, worker.random_()));
      path = Path::Premapped;
    } else {
      constexpr Exporter exporters[] = {Exporter::UdmabufScattered, Exporter::Heap,
                                        Exporter::VirtioGpu, Exporter::Vgem, Exporter::Udmabuf};
      auto made =
          DmaBuf::create(this_or_other(exporters[pick(std::size(exporters))]), buffer_bytes);
      if (!made)
        die(made.error());
      plain.emplace(std::move(*made));
      path = world.paths[pick(static_cast<unsigned>(world.paths.size()))];
    }
    std::vector<Word> words(buffer_bytes / sizeof(Word));
    fill_pattern(words, buffer_poison, 0);
    if (!put(words, 0))
      return false;
    if (movable) {
      // From here on it moves.
      const std::lock_guard guarded(world.movables_lock);
      world.movables.push_back(movable.get());
    }
    return true;
  }
  int fd() const { return movable ? movable->buffer.fd() : plain->fd(); }
  // False while the memory is revoked.
  bool put(std::span<const Word> words, std::uint64_t at) {
    if (movable)
      return movable->buffer.write(words, at) == 0;
    const CpuAccess access(*plain, true);
    std::ranges::copy(words, plain->words().subspan(at / sizeof(Word)).begin());
    return true;
  }
  bool get(std::span<Word> words, std::uint64_t at) {
    if (movable)
      return movable->buffer.read(words, at) == 0 && movable->revokes == 0;
    const CpuAccess access(*plain, false);
    std::ranges::copy(plain->words().subspan(at / sizeof(Word), words.size()), words.begin());
    return true;
  }

  bool make_mapping() {
    session = Session();
    dmabuf_rw_config config{};
    config.timeout_ms = 4000;
    if (const int error = session.config(config))
      die("CONFIG: " + errno_name(error));
    constexpr unsigned kinds[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0,
                                  IORING_SETUP_COOP_TASKRUN, IORING_SETUP_SQPOLL};
    unsigned flags = kinds[pick(std::size(kinds))];
    if (world.options.polled && path == Path::Premapped && pick(3) == 0)
      flags |= IORING_SETUP_IOPOLL;
    ring = std::make_unique<Ring>(2 * Layout::slots, flags);
    if (path == Path::Registered)
      ring->make_buffer_table(1);
    entry = map_entry(fd(), target.get(), path);
    if (path == Path::Premapped && pick(2) == 0)
      entry.max_command_hint = 4096u << pick(5);
    const int error = session.map_one(entry);
    if (error) {
      world.count(Kind::MapRefused);
      world.ended(std::format("MAP {}, {}", name_of(path), reason_name(entry.reason)), error,
                  defined(error));
      return false;
    }
    world.count(Kind::Map);
    if (path == Path::Registered) {
      const int enrolled = ring->enroll(session.fd(), entry.handle, 0);
      if (enrolled) {
        world.ended("REGISTER", enrolled, defined(enrolled));
        return false;
      }
    }
    Shown &shown = *world.shown[worker.number_];
    const std::lock_guard guarded(shown.lock);
    shown.session = session.fd();
    shown.handle = entry.handle;
    return true;
  }
  void unshow() {
    Shown &shown = *world.shown[worker.number_];
    const std::lock_guard guarded(shown.lock);
    shown.session = -1;
  }

  // Hands over what is queued. A thread of the kernel that takes it by itself looks up descriptors
  // when it does so: before that, none may be closed, for its number is another file's then.
  void hand_over() {
    const int status = ring->submit();
    if (status < 0 && status != -EINTR)
      die("io_uring_enter: " + errno_name(status));
    if (ring->raw()->flags & IORING_SETUP_SQPOLL)
      report().check(wait_for([&] { return io_uring_sq_ready(ring->raw()) == 0; }, 60),
                     "the ring's thread takes what is queued");
  }

  void start(unsigned slot) {
    Io &io = ios[slot];
    io.write = pick(2);
    if (io.write) {
      io.file_offset = end == End::RingFlying ? Layout::abandoned(worker.number_, slot)
                                              : Layout::waited(worker.number_, slot);
      io.length = Layout::block;
      io.generation = worker.generation_++ % max_generation;
      std::vector<Word> words(io.length / sizeof(Word));
      fill_pattern(words, io.generation, io.file_offset);
      if (!put(words, offset_of(slot)))
        return;
    } else {
      std::vector<Word> words(slot_bytes / sizeof(Word));
      fill_pattern(words, buffer_poison, offset_of(slot));
      if (!put(words, offset_of(slot)))
        return;
      if (pick(2)) {
        io.length = 4096 * (1 + pick(slot_bytes / 4096));
        io.file_offset =
            Layout::base +
            4096ul * pick(static_cast<unsigned>((Layout::read_only - io.length) / 4096));
        io.allowed = {Layout::fresh};
      } else {
        io.length = Layout::block;
        io.file_offset = Layout::waited(worker.number_, slot);
        io.allowed = worker.holds_[slot];
      }
    }
    if (entry.max_command_bytes && io.length > entry.max_command_bytes)
      world.count(Kind::Several);
    if (path != Path::Registered && pick(6) == 0) {
      dmabuf_rw_io waited{};
      waited.handle = entry.handle;
      waited.direction = io.write ? DMABUF_RW_DIR_WRITE : DMABUF_RW_DIR_READ;
      waited.buffer_offset = offset_of(slot);
      waited.file_offset = io.file_offset;
      waited.length = io.length;
      const int error = session.io(waited);
      world.count(Kind::Waited);
      finish(slot, error ? error : static_cast<int>(waited.moved));
      return;
    }
    if (path == Path::Registered)
      ring->queue_fixed(io.write ? Direction::Write : Direction::Read, target.get(), 0,
                        offset_of(slot), io.length, io.file_offset, slot);
    else
      ring->queue_command(
          session.fd(), io.write ? DMABUF_RW_URING_WRITE : DMABUF_RW_URING_READ, offset_of(slot),
          io.length, {.file_offset = io.file_offset, .handle = entry.handle, .flags = 0}, slot);
    io.flying = true;
    ++flying;
  }

  void finish(unsigned slot, int result) {
    Io &io = ios[slot];
    const bool good = result == static_cast<int>(io.length);
    if (good)
      world.count(io.write ? Kind::Write : Kind::Read);
    else {
      world.count(Kind::Failed);
      // To the block layer a disk that went away is one of no size.
      const bool no_size =
          path != Path::Premapped &&
          (result == -ENOSPC || (result >= 0 && result < static_cast<int>(io.length)));
      // A command in old blocks, or with checksums that were not there when it was made.
      const bool formatted = worker.loose_ && (result == -EILSEQ || result == -EREMOTEIO);
      world.ended(std::format("{} {}{}", io.write ? "WRITE" : "READ", name_of(path),
                              worker.loose_ ? ", formatted drive" : ""),
                  result, defined(result) || no_size || formatted);
    }
    if (io.write) {
      if (end == End::RingFlying)
        return;
      auto &holds = worker.holds_[slot];
      if (good)
        holds.clear();
      holds.push_back(io.generation);
      return;
    }
    std::vector<Word> words(slot_bytes / sizeof(Word));
    if (!get(words, offset_of(slot)))
      return;
    // A read that failed moved a part of it, or nothing.
    const auto got = std::span(words).first(io.length / sizeof(Word));
    std::string wrong;
    for (std::size_t at = 0; at < words.size() && wrong.empty(); at += 64) {
      const auto sector = std::span(words).subspan(at, 64);
      const std::uint64_t place = offset_of(slot) + at * sizeof(Word);
      const std::uint32_t poison[] = {buffer_poison};
      const bool kept = wrong_sectors(sector, place, poison).empty();
      if (at >= got.size())
        wrong = kept ? "" : std::format("behind the end, {}", describe_word(sector[0]));
      else if (worker.loose_)
        // From a format to when the kernel has looked, ordinary I/O counts in old blocks as well:
        // it may move less, and from another place. It moves no part of a sector, and nothing else.
        wrong = kept ? "" : whole_sector(sector);
      else if (good || !kept)
        wrong = wrong_sectors(sector, io.file_offset + at * sizeof(Word), io.allowed);
    }
    if (!wrong.empty())
      report().fail(std::format("READ {} of {} bytes that ended with {}", name_of(path), io.length,
                                result < 0 ? errno_name(result) : std::to_string(result)),
                    wrong);
    else
      report().pass("the bytes of a read");
  }

  void reap_all() {
    while (flying > 0) {
      const int count = ring->reap([&](std::uint64_t slot, int result) {
        --flying;
        ios[slot].flying = false;
        finish(static_cast<unsigned>(slot), result);
      });
      if (count < 0)
        die("io_uring_enter: " + errno_name(count));
    }
    world.alive(worker.number_);
  }

  // The child has all that the parent has, and reads into the last slot, which the parent leaves
  // alone. Nothing but system calls after fork().
  pid_t fork_reader() {
    dmabuf_rw_io io{};
    io.handle = entry.handle;
    io.direction = DMABUF_RW_DIR_READ;
    io.buffer_offset = offset_of(Layout::slots - 1);
    io.file_offset = Layout::base;
    io.length = slot_bytes;
    const int session_fd = session.fd();
    const pid_t child = ::fork();
    if (child < 0)
      die("fork");
    if (child == 0) {
      for (int i = 0; i < 6; ++i)
        ::ioctl(session_fd, DMABUF_RW_IOC_IO, &io);
      ::_exit(0);
    }
    world.count(Kind::Fork);
    return child;
  }
  void await(pid_t child) {
    if (pick(2)) {
      ::usleep(pick(5000));
      ::kill(child, SIGKILL);
      world.count(Kind::Kill);
    }
    int status = 0;
    ::waitpid(child, &status, 0); // for ever: main() looks after that
    world.alive(worker.number_);
  }

  void live() {
    const unsigned slots = end == End::Fork ? Layout::slots - 1 : Layout::slots;
    const pid_t child = end == End::Fork ? fork_reader() : -1;
    const unsigned rounds = 1 + pick(6);
    for (unsigned round = 0; round < rounds && !world.stop; ++round) {
      for (unsigned slot = 0; slot < slots; ++slot)
        if (!ios[slot].flying)
          start(slot);
      if (round + 1 < rounds || end == End::Orderly)
        reap_all();
    }
    hand_over();
    if (end == End::Orderly || end == End::Fork)
      reap_all();
    const bool flew = flying > 0;
    unshow();
    if (end == End::RingFlying) {
      if (flew)
        world.count(Kind::RingFlying);
      ring.reset();
    } else if (end == End::CloseFlying) {
      session.close();
      if (flew)
        world.count(Kind::CloseFlying);
      reap_all();
    } else {
      // What another thread unmapped is not there any more.
      const int error = session.unmap_one(entry.handle);
      world.ended("UNMAP", error, error == 0 || error == -ENOENT);
      if (!error)
        world.count(Kind::Unmap);
      if (flew && !error)
        world.count(Kind::UnmapFlying);
      reap_all();
    }
    if (child > 0) {
      if (pick(2))
        session.close();
      await(child);
    }
    check_guards();
  }

  void check_guards() {
    std::vector<Word> words(guard / sizeof(Word));
    for (const std::uint64_t at : {std::uint64_t{0}, offset_of(Layout::slots)}) {
      const std::uint32_t poison[] = {buffer_poison};
      if (!get(words, at))
        return;
      const std::string wrong = wrong_sectors(words, at, poison);
      report().check(wrong.empty(), "nothing was read to beside the slots", wrong);
    }
  }

  Worker &worker;
  World &world;
  const End end;
  Path path = Path::Premapped;
  std::unique_ptr<Movable> movable;
  std::optional<DmaBuf> plain;
  UniqueFd target;
  Session session{UniqueFd()};
  std::unique_ptr<Ring> ring;
  dmabuf_rw_map_entry entry{};
  std::array<Io, Layout::slots> ios;
  unsigned flying = 0;
};

Worker::Worker(World &world, unsigned number, bool loose)
    : world_(world), number_(number), loose_(loose),
      random_(world.options.seed * 1000003 + number) {
  for (auto &holds : holds_)
    holds = {Layout::fresh};
}

void Worker::run() {
  while (!world_.stop) {
    world_.alive(number_);
    Life life(*this, static_cast<End>(random_() % static_cast<unsigned>(End::Count)));
    const std::string node = loose_ ? second_drive() : first_drive();
    if (!node.empty())
      life.target = UniqueFd(::open(node.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
    if (!life.target) {
      ::usleep(5000);
      continue;
    }
    if (life.make_memory() && life.make_mapping())
      life.live();
  }
}

void Worker::check_blocks(int plain) const {
  HostBuffer host(Layout::block);
  for (unsigned slot = 0; slot < Layout::slots; ++slot) {
    const std::uint64_t at = Layout::waited(number_, slot);
    read_plain(plain, host.words(), at);
    const std::string wrong = wrong_sectors(host.words(), at, holds_[slot]);
    report().check(wrong.empty(), std::format("worker {}: what was written is there", number_),
                   wrong);
    // Of what was abandoned, any may be there, in its place.
    const std::uint64_t other = Layout::abandoned(number_, slot);
    read_plain(plain, host.words(), other);
    const std::string strayed = wrong_sectors(host.words(), other, {});
    report().check(strayed.empty(), std::format("worker {}: what was abandoned", number_), strayed);
  }
  for (const std::uint64_t at :
       {Layout::stripe_of(number_), Layout::stripe_of(number_) + Layout::stripe - Layout::canary}) {
    HostBuffer canary(Layout::canary);
    read_plain(plain, canary.words(), at);
    const std::uint32_t poison[] = {disk_poison};
    const std::string wrong = wrong_sectors(canary.words(), at, poison);
    report().check(wrong.empty(), std::format("worker {}: nothing beside its blocks", number_),
                   wrong);
  }
}

} // namespace vmtest
