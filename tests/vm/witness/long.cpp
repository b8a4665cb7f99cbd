// SPDX-License-Identifier: GPL-2.0-only
// Commands of another length than the drive's usual one: four times as long on a drive that takes
// them, and longer than the drive takes.
#include "witness.hpp"

#include <cerrno>

namespace vmtest {

namespace {

constexpr std::uint64_t kib = 1024, mib = 1024 * kib, page = 4096, sector = 512;
// A command counts blocks of 512 bytes in 16 bits.
constexpr std::uint64_t most_blocks = 32 * mib;
constexpr std::uint64_t longest_io = 32 * mib;
// As far as QEMU goes: its drive takes no more than IOV_MAX pieces of memory.
constexpr std::uint32_t longest_command = 2 * mib;
constexpr std::uint64_t region_base = 64 * mib + page + sector;

DmaBuf make_buffer(Exporter exporter, std::size_t bytes) {
  auto buffer = DmaBuf::create(exporter, bytes);
  if (!buffer)
    die(std::format("{}: {}", name_of(exporter), buffer.error()));
  return std::move(*buffer);
}

std::vector<Case> long_cases(std::uint64_t buffer_bytes) {
  std::vector<Case> cases;
  std::uint64_t turn = 0;
  for (const std::uint64_t length : {1 * mib, 2 * mib, 3 * mib, 4 * mib, 8 * mib, longest_io})
    for (const std::uint64_t more : {std::uint64_t{0}, sector, std::uint64_t{0} - sector})
      for (const std::uint64_t offset : {std::uint64_t{0}, sector, 255 * page + 3584, 511 * page}) {
        const std::uint64_t bytes = length + more;
        if (offset + bytes <= buffer_bytes)
          cases.push_back({offset, bytes, region_base + sector * (turn++ % 61)});
      }
  return cases;
}

void long_commands(const std::string &device, Exporter exporter) {
  constexpr std::uint32_t hint = longest_command;
  const std::string name = std::format("long commands, {}", name_of(exporter));
  const double begin = now_s();
  Session session;
  Ring ring(8);
  const UniqueFd target = open_target(device), plain = open_target(device);
  DiskRegion region(plain.get(), region_base, longest_io + 2 * mib);
  Bench bench(session, ring, make_buffer(exporter, longest_io + 3 * mib), target.get(),
              Path::Premapped, 0, region, hint, hint);
  if (const int error = bench.mover().error()) {
    report().fail(name, "MAP: " + errno_name(error));
    return;
  }
  dmabuf_rw_info info{};
  session.info(bench.mover().entry().handle, info);
  report().check(info.max_command_bytes == hint, name + ": INFO.max_command_bytes",
                 std::to_string(info.max_command_bytes));
  std::uint32_t generation = 1;
  const auto cases = long_cases(bench.buffer().size());
  for (const Direction direction : {Direction::Read, Direction::Write}) {
    bench.begin(direction, ++generation);
    for (const Case &c : cases) {
      const auto wrong = direction == Direction::Read ? bench.read_case(c, true)
                                                      : bench.write_case(c, ++generation, true);
      report().check(
          !wrong,
          std::format("{}: {} of {} at {}", name, name_of(direction), c.length, c.buffer_offset),
          wrong.value_or(""));
    }
  }
  session.info(bench.mover().entry().handle, info);
  report().check(info.commands == bench.tally().commands, name + ": commands",
                 std::format("{} instead of {}", static_cast<std::uint64_t>(info.commands),
                             bench.tally().commands));
  report().check(info.errors == 0, name + ": no error", errno_name(info.last_error));
  report().note(
      std::format("{}: {} cases each way, {:.1f} s", name, cases.size(), now_s() - begin));
}

// The most that a command can say goes to the drive in one, which refuses it; a hint of more than
// that is cut to it.
void most_of_a_command(const std::string &device, std::uint64_t hint, Exporter exporter) {
  const std::string name = std::format("a hint of {} MiB", hint / mib);
  Session session;
  Ring ring(8);
  const UniqueFd target = open_target(device);
  const DmaBuf buffer = make_buffer(exporter, 2 * most_blocks);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped, 0, DMABUF_RW_DIR_READ,
              static_cast<std::uint32_t>(hint));
  if (!report().check(mover.error() == 0, name + ": MAP", errno_name(mover.error())))
    return;
  const auto info = [&] {
    dmabuf_rw_info result{};
    session.info(mover.entry().handle, result);
    return result;
  };
  report().check(info().max_command_bytes == most_blocks, name + ": INFO.max_command_bytes",
                 std::to_string(info().max_command_bytes));
  std::uint64_t commands = 0;
  for (const std::uint64_t length : {most_blocks, most_blocks + mib}) {
    commands += length == most_blocks ? 1 : 2;
    const int result =
        mover.transfer(Direction::Read, 0, static_cast<std::uint32_t>(length), region_base);
    report().check(result == -EOPNOTSUPP || result == -EIO,
                   std::format("{}: the drive refuses {} bytes", name, length), errno_name(result));
    report().check(info().last_reason == DMABUF_RW_REASON_DRIVE,
                   std::format("{}: the reason for {} bytes", name, length),
                   reason_name(info().last_reason));
    report().check(info().commands == commands,
                   std::format("{}: commands for {} bytes", name, length),
                   std::format("{} instead of {}", +info().commands, commands));
  }
}

} // namespace

void run_long(const std::string &device) {
  for (const Exporter exporter : {Exporter::UdmabufScattered, Exporter::Heap})
    long_commands(device, exporter);
}

void run_over_limit(const std::string &device, Exporter large, Exporter small) {
  constexpr std::uint32_t limit = 512 * kib; // QEMU's own
  constexpr std::uint64_t bytes = 4 * mib;
  const std::string name = "a hint over the drive's limit";
  for (const std::uint64_t hint : {most_blocks, 2 * most_blocks})
    most_of_a_command(device, hint, large);
  Session session;
  Ring ring(8);
  const UniqueFd target = open_target(device), plain = open_target(device);
  DiskRegion region(plain.get(), region_base, bytes);
  region.lay_down_all(3);
  const DmaBuf buffer = make_buffer(small, bytes);
  HostBuffer poison(bytes);
  fill_pattern(poison.words(), buffer_poison, 0);
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), buffer_poison, 0);
  }
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped, 0, both_directions,
              4 * limit);
  if (!report().check(mover.error() == 0, name + ": MAP", errno_name(mover.error())))
    return;
  std::uint64_t errors = 0;
  for (const Direction direction : {Direction::Read, Direction::Write})
    for (const bool waited : {false, true})
      for (const std::uint32_t length : {4 * limit, limit + 4096}) {
        const std::string what = std::format("{}, {} of {}{}", name, name_of(direction), length,
                                             waited ? ", waited for" : "");
        const int result = waited ? mover.waited(direction, 4096, length, region_base + mib)
                                  : mover.transfer(direction, 4096, length, region_base + mib);
        // The block layer's word for NVMe's "invalid field in command".
        report().check(result == -EOPNOTSUPP || result == -EIO, what, errno_name(result));
        dmabuf_rw_info info{};
        session.info(mover.entry().handle, info);
        report().check(info.errors == ++errors && info.last_reason == DMABUF_RW_REASON_DRIVE &&
                           static_cast<int>(info.last_error) == -result,
                       what + ": INFO tells",
                       std::format("{} errors, the last {}, {}",
                                   static_cast<std::uint64_t>(info.errors),
                                   errno_name(info.last_error), reason_name(info.last_reason)));
        report().check(info.reads == 0 && info.writes == 0, what + ": INFO counts no success");
        const auto wrong = region.check_all();
        report().check(!wrong, what + ": the drive is as it was", wrong.value_or(""));
        const CpuAccess access(buffer, false);
        const auto moved = compare_words(buffer.words(), poison.words());
        report().check(!moved, what + ": the dma-buf is as it was",
                       moved ? describe(*moved, 0) : "");
      }
  // What the drive takes goes on to work.
  const int result = mover.transfer(Direction::Read, 0, limit, region_base);
  report().check(result == static_cast<int>(limit), name + ": the limit itself",
                 errno_name(result));
  const CpuAccess access(buffer, false);
  const auto wrong =
      compare_words(buffer.words().first(limit / 8), region.expected(region_base, limit));
  report().check(!wrong, name + ": the limit itself, every byte", wrong ? describe(*wrong, 0) : "");
}

} // namespace vmtest
