// SPDX-License-Identifier: GPL-2.0-only
// A write through a target opened with O_DSYNC or O_SYNC is in the medium when it has ended: the
// drive's command says so (FUA), as it does for pwrite(2).
#include "attacks.hpp"

#include <fcntl.h>

namespace vmtest {

namespace {

constexpr std::uint32_t block = 4096;

// Commands at `position` with this in their control word.
std::size_t commands(const Trace &trace, std::string_view name, std::uint64_t position, bool fua) {
  return trace.count(
      {name, std::format("slba={},", position / 512), fua ? "ctrl=0x4000," : "ctrl=0x0,"});
}

std::size_t writes(const Trace &trace, std::uint64_t position, bool fua) {
  return commands(trace, "nvme_cmd_write", position, fua);
}

void one_kind(const char *kind, int flags, std::uint64_t base) {
  const bool durable = flags != 0;
  const UniqueFd target = open_target(drive, O_RDWR | O_DIRECT | O_CLOEXEC | flags);
  const DmaBuf buffer = make_buffer(65536);
  HostBuffer host(block);
  fill_pattern(host.words(), 1, base);
  Session session;
  Ring ring(8);
  const Trace trace{"nvme/nvme_setup_cmd"};
  const auto check = [&](std::string_view how, std::uint64_t position) {
    const std::size_t right = writes(trace, position, durable);
    const std::size_t wrong = writes(trace, position, !durable);
    report().check(right == 1 && wrong == 0, std::format("{}, {}", kind, how),
                   std::format("{} commands with FUA, {} without", durable ? right : wrong,
                               durable ? wrong : right));
  };
  write_plain(target.get(), host.words(), base);
  check("pwrite, for comparison", base);

  for (const Path path : {Path::Premapped, Path::Bvec}) {
    Mover mover(session, ring, buffer.fd(), target.get(), path);
    const std::uint64_t own = base + (static_cast<std::uint64_t>(path) << 20);
    if (!report().check(mover.error() == 0, std::format("{}, {}: MAP", kind, name_of(path)),
                        errno_name(mover.error())))
      continue;
    const int written = mover.transfer(Direction::Write, 0, block, own);
    report().check(written == static_cast<int>(block), "WRITE", errno_name(written));
    check(std::format("WRITE by {}", name_of(path)), own);
    const auto waited =
        waited_io(session, mover.entry().handle, Direction::Write, 0, block, own + 65536);
    report().check(waited.moved == block, "IO", errno_name(waited.error));
    check(std::format("IO by {}", name_of(path)), own + 65536);
  }
  // And a read of such a target is a plain read.
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  const int got = mover.transfer(Direction::Read, 0, block, base);
  report().check(
      got == static_cast<int>(block) &&
          trace.count({"nvme_cmd_read", std::format("slba={},", base / 512), "ctrl=0x0,"}) == 1,
      std::format("{}: READ by premapped is without FUA", kind));
}

// READs have FUA if the mapping was asked for that, and its WRITEs have not for it.
void forced_reads(std::uint64_t base) {
  constexpr std::uint32_t length = 4 * block;
  const UniqueFd target = open_target(drive, O_RDWR | O_DIRECT | O_CLOEXEC);
  const DmaBuf buffer = make_buffer(65536);
  Session session;
  Ring ring(8);
  const auto map = [&](Path path, std::uint32_t flags, std::uint32_t hint = 0) {
    dmabuf_rw_map_entry entry = map_entry(buffer.fd(), target.get(), path, both_directions);
    entry.flags = flags;
    entry.max_command_hint = hint;
    (void)session.map_one(entry);
    return entry;
  };
  for (const Path path : {Path::Auto, Path::Registered, Path::Bvec})
    report().check(map(path, DMABUF_RW_MAP_READ_FUA).reason == DMABUF_RW_REASON_ARGUMENT,
                   std::format("{}: MAP_READ_FUA is refused", name_of(path)));
  report().check(map(Path::Premapped, 1u << 31).reason == DMABUF_RW_REASON_ARGUMENT,
                 "an unknown flag of a MAP entry is refused");

  // As one command, as four, and by the ioctl.
  std::uint64_t at = base;
  for (const std::uint32_t flags : {0u, std::uint32_t{DMABUF_RW_MAP_READ_FUA}})
    for (const std::uint32_t hint : {0u, block}) {
      const bool forced = flags != 0;
      const dmabuf_rw_map_entry entry = map(Path::Premapped, flags, hint);
      if (!report().check(entry.error == 0, "MAP", errno_name(-static_cast<int>(entry.error))))
        continue;
      const Trace trace{"nvme/nvme_setup_cmd"};
      const auto moved = [&](std::uint32_t op) {
        return ring.command(session.fd(), op, 0, length,
                            {.file_offset = at, .handle = entry.handle, .flags = 0});
      };
      report().check(moved(DMABUF_RW_URING_WRITE) == static_cast<int>(length) &&
                         moved(DMABUF_RW_URING_READ) == static_cast<int>(length),
                     "WRITE and READ");
      for (std::uint64_t part = at; part < at + length; part += hint ? hint : length) {
        report().check(commands(trace, "nvme_cmd_read", part, forced) == 1 &&
                           commands(trace, "nvme_cmd_read", part, !forced) == 0,
                       std::format("READ at {}, flags {}", part - at, flags));
        report().check(writes(trace, part, false) == 1, "WRITE is without FUA");
      }
      const auto waited = waited_io(session, entry.handle, Direction::Read, 0, length, at);
      report().check(waited.moved == length && commands(trace, "nvme_cmd_read", at, forced) == 2,
                     std::format("IO, flags {}", flags));
      at += 1u << 20;
    }
}

} // namespace

void attack_durability() {
  one_kind("O_DSYNC", O_DSYNC, attack_base);
  one_kind("O_SYNC", O_SYNC, attack_base + (8u << 20));
  one_kind("neither", 0, attack_base + (16u << 20));
  forced_reads(attack_base + (24u << 20));
}

} // namespace vmtest
