// SPDX-License-Identifier: GPL-2.0-only
// Ranges, and commands of them.
#include "ranges.hpp"

#include <algorithm>
#include <numeric>

namespace vmtest {

std::uint32_t operation(Direction direction) {
  return direction == Direction::Read ? DMABUF_RW_URING_READV : DMABUF_RW_URING_WRITEV;
}

int move(Ring &ring, const Session &session, Direction direction, std::uint32_t handle,
         dmabuf_rw_range *ranges, std::uint32_t count, unsigned sqe_flags,
         std::uint64_t file_offset, std::uint32_t flags) {
  const dmabuf_rw_uring_io io{.file_offset = file_offset, .handle = handle, .flags = flags};
  return ring.command(session.fd(), operation(direction), reinterpret_cast<std::uintptr_t>(ranges),
                      count, io, sqe_flags);
}

int move(Ring &ring, const Session &session, Direction direction, std::uint32_t handle,
         Ranges &ranges, unsigned sqe_flags) {
  return move(ring, session, direction, handle, ranges.data(),
              static_cast<std::uint32_t>(ranges.size()), sqe_flags);
}

DmaBuf make_buffer(std::size_t size) {
  auto made = DmaBuf::create(Exporter::UdmabufScattered, size);
  if (!made)
    die(made.error());
  return std::move(*made);
}

Ranges deal(std::mt19937_64 &random, std::size_t count) {
  constexpr std::size_t pages = bytes / page;
  std::vector<std::size_t> cuts(pages - 1);
  std::iota(cuts.begin(), cuts.end(), 1);
  std::ranges::shuffle(cuts, random);
  cuts.resize(count * 2);
  std::ranges::sort(cuts);
  Ranges ranges(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t room = cuts[2 * i + 1] - cuts[2 * i];
    // Few are longer than a command; the first and the last sector may be left out.
    const std::size_t used = 1 + random() % std::min<std::size_t>(room, random() % 8 ? 2 : 24);
    ranges[i].buffer_offset = cuts[2 * i] * page;
    ranges[i].file_offset = disk_base + cuts[2 * i] * page;
    ranges[i].length = static_cast<std::uint32_t>(used * page);
    if (random() % 4 == 0) {
      ranges[i].length -= 512;
      ranges[i].file_offset += 512 * (random() % 2);
    }
  }
  std::ranges::shuffle(ranges, random);
  return ranges;
}

std::string results(const Ranges &ranges) {
  for (std::size_t i = 0; i < ranges.size(); ++i)
    if (ranges[i].error || ranges[i].moved != ranges[i].length)
      return std::format("range {}: {} of {} bytes, {}, {}", i, ranges[i].moved, ranges[i].length,
                         errno_name(ranges[i].error), reason_name(ranges[i].reason));
  return "";
}

bool all_moved(const std::string &name, int got, const Ranges &ranges) {
  const std::string wrong = results(ranges);
  return report().check(
      got == static_cast<int>(ranges.size()) && wrong.empty(), name,
      std::format("{}; {}", got < 0 ? errno_name(got) : std::to_string(got), wrong));
}

void expect(const std::string &name, int got, int want) {
  report().check(got == want, name,
                 std::format("{} instead of {}", got < 0 ? errno_name(got) : std::to_string(got),
                             want < 0 ? errno_name(want) : std::to_string(want)));
}

void queue(Mapped &mapped, Direction direction, Ranges &ranges, std::uint64_t user_data) {
  const dmabuf_rw_uring_io io{.file_offset = 0, .handle = mapped.entry.handle, .flags = 0};
  mapped.ring.queue_command(mapped.session.fd(), operation(direction),
                            reinterpret_cast<std::uintptr_t>(ranges.data()),
                            static_cast<std::uint32_t>(ranges.size()), io, user_data);
}

Ranges few(std::size_t count) {
  Ranges ranges(count);
  for (std::size_t i = 0; i < count; ++i)
    ranges[i] = {.file_offset = disk_base + i * page, .buffer_offset = i * page, .length = page};
  return ranges;
}

} // namespace vmtest
