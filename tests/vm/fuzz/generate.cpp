// SPDX-License-Identifier: GPL-2.0-only
#include "generate.hpp"

#include "fds.hpp"
#include "memory.hpp"

#include <algorithm>
#include <fcntl.h>
#include <liburing.h>
#include <linux/dmabuf_rw.h>
#include <numeric>

namespace vmtest::fuzz {

namespace {

constexpr std::uint64_t edges[] = {0,
                                   1,
                                   511,
                                   512,
                                   513,
                                   4095,
                                   4096,
                                   4097,
                                   65535,
                                   65536,
                                   (1ull << 31) - 1,
                                   1ull << 31,
                                   (1ull << 32) - 1,
                                   1ull << 32,
                                   (1ull << 63) - 1,
                                   1ull << 63,
                                   ~4095ull,
                                   ~511ull,
                                   ~0ull,
                                   of_size(-4096),
                                   of_size(-512),
                                   of_size(-1),
                                   of_size(0),
                                   of_size(1),
                                   of_size(512),
                                   of_size(4096)};
constexpr std::uint64_t usual_lengths[] = {512, 4096, 4096, 8192, 12288, 16384, 65536, 131072};

unsigned total_weight() {
  static const unsigned total =
      std::accumulate(types().begin(), types().end(), 0u,
                      [](unsigned sum, const Type &t) { return sum + t.weight; });
  return total;
}

} // namespace

std::uint64_t Generator::boundary() {
  if (random_.chance(1, 8))
    return random_.next() >> random_.below(64);
  return random_.one_of<std::uint64_t>(edges);
}

std::uint64_t Generator::any_fd() {
  switch (random_.below(8)) {
  case 0:
    return closed_fd;
  case 1:
    return random_.next() & 0xFFFFFFFF;
  case 2:
    return ~0u;
  case 3:
    return static_cast<std::uint64_t>(epoll_file);
  default: {
    constexpr Pool pools[] = {sessions, dmabufs, targets, rw_files, pipes};
    const Pool pool = random_.one_of<Pool>(pools);
    return static_cast<std::uint64_t>(pool.first) +
           random_.below(static_cast<unsigned>(pool.count));
  }
  }
}

std::uint64_t Generator::fd(int first, int count) {
  if (random_.chance(1, 50))
    return any_fd();
  return static_cast<std::uint64_t>(first) + random_.below(static_cast<unsigned>(count));
}

std::uint64_t Generator::timeout() {
  constexpr std::uint64_t patient[] = {0, 0, 10000, 30000, 60000, 3600000, 3600001, ~0u};
  constexpr std::uint64_t hasty[] = {1, 5, 20, 100};
  if (!taste_.avoid_known && random_.chance(1, 4))
    return random_.one_of<std::uint64_t>(hasty);
  return random_.one_of<std::uint64_t>(patient);
}

std::uint64_t Generator::ring_flags() {
  constexpr std::uint64_t usual[] = {0,
                                     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
                                     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
                                     IORING_SETUP_COOP_TASKRUN,
                                     IORING_SETUP_SINGLE_ISSUER,
                                     IORING_SETUP_SQPOLL,
                                     IORING_SETUP_IOPOLL};
  constexpr std::uint64_t extra[] = {IORING_SETUP_SQE128,     IORING_SETUP_CQE32,
                                     IORING_SETUP_IOPOLL,     IORING_SETUP_SUBMIT_ALL,
                                     IORING_SETUP_CLAMP,      IORING_SETUP_TASKRUN_FLAG,
                                     IORING_SETUP_ATTACH_WQ,  IORING_SETUP_HYBRID_IOPOLL,
                                     IORING_SETUP_R_DISABLED, IORING_SETUP_NO_SQARRAY};
  std::uint64_t flags = random_.one_of<std::uint64_t>(usual);
  while (random_.chance(1, 3))
    flags |= random_.one_of<std::uint64_t>(extra);
  return flags;
}

std::uint64_t Generator::bytes() {
  if (random_.chance(1, 6))
    return boundary();
  if (random_.chance(1, 2))
    return random_.one_of<std::uint64_t>(usual_lengths);
  return random_.below(20000);
}

std::uint64_t Generator::in(const Pool &pool) {
  return static_cast<std::uint64_t>(pool.first) + random_.below(static_cast<unsigned>(pool.count));
}

std::uint64_t Generator::boundary32() { return boundary() & 0xFFFFFFFF; }

std::uint64_t Generator::session() {
  // Mostly the first ones, so that handles meet their session.
  return random_.chance(2, 3) ? fd(sessions.first, 3) : fd(sessions.first, sessions.count);
}

std::uint64_t Generator::target() {
  if (random_.chance(1, 2)) // to begin with, what all datapaths take
    return static_cast<std::uint64_t>(random_.chance(1, 2) ? targets.first
                                                           : targets.first + targets.count - 1);
  return fd(targets.first, targets.count);
}

std::uint64_t Generator::target_master() {
  // Those that can be read and written, by one datapath or another.
  constexpr std::uint64_t usual[] = {0, 0, 1, 4, 7, 8, 9, 10, 13, 22, 23};
  return random_.chance(2, 3) ? random_.one_of<std::uint64_t>(usual)
                              : random_.below(static_cast<unsigned>(targets.count));
}

std::uint64_t Generator::path() {
  if (random_.chance(1, 40))
    return boundary32();
  return random_.chance(1, 2) ? DMABUF_RW_PATH_PREMAPPED : random_.below(DMABUF_RW_NR_PATHS);
}

// 1 … `last`, seldom anything.
std::uint64_t Generator::directions(unsigned last) {
  return random_.chance(1, 25) ? boundary32() : 1 + random_.below(last);
}

std::uint64_t Generator::zero() {
  if (random_.chance(59, 60))
    return 0;
  return random_.chance(1, 2) ? 1ull << random_.below(64) : boundary();
}

std::uint64_t Generator::buffer_offset() {
  switch (random_.below(8)) {
  case 0:
    return boundary();
  case 1:
    return random_.below(512) * 512;
  case 2:
    return random_.below(65536);
  case 3:
  case 4:
    return 0;
  default:
    return random_.below(16) * 4096;
  }
}

std::uint64_t Generator::file_offset() {
  switch (random_.below(8)) {
  case 0:
    return boundary();
  case 1:
    return random_.below(8192) * 512;
  default:
    return random_.below(2048) * 4096;
  }
}

std::uint64_t Generator::length() {
  if (random_.chance(1, 8))
    return boundary();
  return random_.chance(1, 8) ? random_.below(256) * 512
                              : random_.one_of<std::uint64_t>(usual_lengths);
}

std::uint64_t Generator::entries() {
  if (random_.chance(1, 60)) {
    // A thousand maps of one call take as long as thousands of calls.
    constexpr std::uint64_t odd[] = {0, 1025, 0xFFFFFFFF}, dear[] = {1023, 1024};
    return random_.chance(1, 50) ? random_.one_of<std::uint64_t>(dear)
                                 : random_.one_of<std::uint64_t>(odd);
  }
  return random_.chance(3, 4) ? 1 : 1 + random_.below(8);
}

std::uint64_t Generator::map_flags() {
  if (random_.chance(3, 4))
    return 0;
  return random_.chance(9, 10) ? random_.below(4) : boundary32();
}

std::uint64_t Generator::open_flags() {
  constexpr std::uint64_t usual[] = {
      O_RDWR, O_RDWR, O_RDONLY, O_WRONLY, O_RDWR | O_NONBLOCK, O_RDWR | O_CLOEXEC};
  return random_.chance(1, 25) ? boundary32() : random_.one_of<std::uint64_t>(usual);
}

std::uint64_t Generator::rwf_flags() {
  if (random_.chance(1, 2))
    return 0;
  return random_.chance(1, 10) ? boundary32() : 1ull << random_.below(9);
}

std::uint64_t Generator::sqe_flags() {
  std::uint64_t flags = 0;
  if (random_.chance(2, 3))
    return 0;
  do
    flags |= 1ull << random_.below(7);
  while (random_.chance(1, 3));
  return flags;
}

std::uint64_t Generator::command_flags() {
  if (random_.chance(14, 15))
    return 0;
  return random_.chance(3, 4) ? 1 + random_.below(3) : 1ull << random_.below(32);
}

std::uint64_t Generator::argument(const Arg &arg) {
  switch (arg.kind) {
  case Kind::Session:
    return session();
  case Kind::DmaBuf:
    return fd(dmabufs.first, dmabufs.count);
  case Kind::Target:
    return target();
  case Kind::Object:
    return random_.chance(2, 3) ? in(rw_files) : in(dmabufs);
  case Kind::RwSlot:
    return recent(recent_.rw, in(rw_files));
  case Kind::DmaBufSlot:
    return in(dmabufs);
  case Kind::TargetSlot:
    return in(targets);
  case Kind::TargetMaster:
    return target_master();
  case Kind::SessionSlot:
    return in(sessions);
  case Kind::Pipe:
    return random_.below(static_cast<unsigned>(pipes.count) / 2);
  case Kind::Ring:
    return recent(recent_.ring, random_.below(ring_slots));
  case Kind::Place:
    return random_.below(places);
  case Kind::Handle:
    return recent(recent_.handle, random_.below(handle_slots));
  case Kind::OfSession:
    return random_.chance(19, 20) ? 0 : fd(sessions.first, sessions.count);
  case Kind::Bend:
    return random_.chance(24, 25) ? 0 : random_.below(8);
  case Kind::Path:
    return path();
  case Kind::Directions:
    return directions(3);
  case Kind::Direction:
    return directions(2);
  case Kind::Zero:
    return zero();
  case Kind::Memory:
    return random_.chance(24, 25) ? 0 : 1 + random_.below(memory_kinds - 1);
  case Kind::BufferOffset:
    return buffer_offset();
  case Kind::FileOffset:
    return file_offset();
  case Kind::Length:
    return length();
  case Kind::Bytes:
    return bytes();
  case Kind::Position:
    return random_.chance(1, 4) ? boundary() : random_.below(65536);
  case Kind::Entries:
    return entries();
  case Kind::Timeout:
    return timeout();
  case Kind::MapFlags:
    return map_flags();
  case Kind::OpenFlags:
    return open_flags();
  case Kind::RwfFlags:
    return rwf_flags();
  case Kind::SqeFlags:
    return sqe_flags();
  case Kind::CommandFlags:
    return command_flags();
  case Kind::RingFlags:
    return ring_flags();
  case Kind::Submit:
    return random_.chance(1, 2) ? 2 : random_.below(4);
  case Kind::Index:
    return random_.chance(1, 30) ? boundary32() : random_.below(buffer_slots);
  case Kind::Choice:
    return random_.below(arg.limit);
  case Kind::Id:
    return random_.below(testexp_ids);
  }
  return 0;
}

std::uint64_t Generator::recent(const std::optional<std::uint64_t> &last, std::uint64_t other) {
  return last && random_.chance(2, 3) ? *last : other;
}

// The place in `recent_` that calls of this type fill, and which argument fills it.
std::pair<std::optional<std::uint64_t> *, std::size_t> Generator::defines(std::uint8_t type) {
  static const std::uint8_t map = type_by_name("map"), open = type_by_name("open"),
                            ring = type_by_name("ring_new");
  if (type == map)
    return {&recent_.handle, 1};
  if (type == open)
    return {&recent_.rw, 1};
  if (type == ring)
    return {&recent_.ring, 0};
  return {nullptr, 0};
}

void Generator::remember(const Call &made) {
  if (const auto [place, arg] = defines(made.type); place)
    *place = made.args[arg];
}

Call Generator::call() {
  std::uint64_t at = random_.below(total_weight());
  std::uint8_t type = 0;
  while (at >= types()[type].weight)
    at -= types()[type++].weight;
  Call made{.type = type};
  if (const auto [place, arg] = defines(type); place)
    place->reset(); // a new one
  const auto args = types()[type].args;
  for (std::size_t i = 0; i < args.size(); ++i)
    made.args[i] = argument(args[i]);
  return made;
}

Program Generator::make() {
  Program program;
  program.count = static_cast<std::uint32_t>(5 + random_.below(26));
  recent_ = {};
  for (Call &made : std::span(program.calls).first(program.count)) {
    made = call();
    remember(made);
  }
  return program;
}

Program Generator::mutate(const Program &program, const Program &other) {
  Program changed = program;
  recent_ = {};
  for (const Call &made : program.used())
    remember(made);
  const auto calls = [&] { return std::span(changed.calls).first(changed.count); };
  do {
    const auto at = static_cast<std::uint32_t>(random_.below(std::max(changed.count, 1u)));
    switch (random_.below(8)) {
    case 0: // one more
    case 1:
      if (changed.count < max_calls) {
        std::shift_right(changed.calls.begin() + at, changed.calls.begin() + ++changed.count, 1);
        changed.calls[at] = call();
      }
      break;
    case 2: // one less
      if (changed.count > 2) {
        std::shift_left(changed.calls.begin() + at, changed.calls.begin() + changed.count, 1);
        --changed.count;
      }
      break;
    case 3: // the end is another's
      for (const Call &taken : other.used())
        if (changed.count < max_calls && random_.chance(1, 2))
          changed.calls[changed.count++] = taken;
      break;
    default: { // another argument
      Call &victim = calls()[at];
      const auto args = types()[victim.type].args;
      if (args.empty())
        break;
      const std::size_t which = random_.below(args.size());
      victim.args[which] = argument(args[which]);
    }
    }
  } while (random_.chance(1, 2));
  return changed;
}

} // namespace vmtest::fuzz
