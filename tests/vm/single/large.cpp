// SPDX-License-Identifier: GPL-2.0-only
// A dma-buf of more than 4 GiB: no count of bytes wraps. Blocks around each GiB are moved, each
// direction alone, and compared with plain I/O; what cannot take such a buffer says so.
//
// usage: large   (needs about 6 GiB of memory: dmabuf-lab run --memory 7168)
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/target.hpp"

#include <algorithm>
#include <vector>

namespace vmtest {

namespace {

constexpr std::size_t gib = 1ul << 30;
constexpr std::size_t buffer_bytes = 5 * gib;
constexpr std::uint64_t disk_base = 256u << 20;
constexpr std::uint32_t block = 1u << 20;

// Blocks that begin before, at and after each GiB, and the last one.
std::vector<std::uint64_t> offsets() {
  std::vector<std::uint64_t> all = {0};
  for (std::size_t boundary = gib; boundary <= 4 * gib; boundary += gib)
    for (const std::size_t before : {block / 2 + 512ul, 0ul})
      all.push_back(boundary - before);
  all.push_back(buffer_bytes - block);
  return all;
}

std::span<Word> part(const DmaBuf &buffer, std::uint64_t offset) {
  return buffer.words().subspan(offset / sizeof(Word), block / sizeof(Word));
}

void check_path(Path path, const DmaBuf &buffer, int target) {
  Session session;
  Ring ring(8);
  DiskRegion disk(target, disk_base, 2 * block);
  Mover mover(session, ring, buffer.fd(), target, path);
  const auto name = name_of(path);
  if (!report().check(
          mover.error() == 0, std::format("{}: map 5 GiB", name),
          std::format("{} {}", errno_name(mover.error()), reason_name(mover.entry().reason))))
    return;
  report().check(mover.entry().buffer_bytes == buffer_bytes, std::format("{}: size", name));

  std::uint32_t generation = 1;
  for (const std::uint64_t offset : offsets()) {
    disk.lay_down_all(++generation);
    {
      const CpuAccess access(buffer, true);
      std::ranges::fill(part(buffer, offset), pattern_word(buffer_poison, 0));
    }
    int result = mover.transfer(Direction::Read, offset, block, disk_base);
    const auto at = std::format("{}: at {}", name, offset);
    report().check(result == static_cast<int>(block), at + " read", errno_name(result));
    {
      const CpuAccess access(buffer, true);
      const auto wrong = compare_words(part(buffer, offset), disk.expected(disk_base, block));
      report().check(!wrong, at + " every byte read", wrong ? describe(*wrong, disk_base) : "");
      fill_pattern(part(buffer, offset), ++generation, disk_base);
    }
    fill_pattern(disk.expected(disk_base, block), generation, disk_base);
    result = mover.transfer(Direction::Write, offset, block, disk_base);
    report().check(result == static_cast<int>(block), at + " write", errno_name(result));
    const auto bad = disk.check_all();
    report().check(!bad, at + " every byte written", bad.value_or(""));
  }
  const int past = mover.transfer(Direction::Read, buffer_bytes - block + 4096, block, disk_base);
  report().check(past == -EINVAL, std::format("{}: past the end", name), errno_name(past));
  dmabuf_rw_info info = {};
  session.info(mover.entry().handle, info);
  report().note(std::format("{}: {} segments, the largest {} bytes, mapped in {} ms", name,
                            info.segments, info.largest_segment, info.map_ns / 1000000));
}

// One I/O of many commands, over a boundary of 4 GiB: all of it is moved.
void check_long(const DmaBuf &buffer, int target) {
  constexpr std::uint32_t length = 96u << 20;
  constexpr std::uint64_t offset = 4 * gib - length / 2 + 512;
  Session session;
  Ring ring(8);
  DiskRegion disk(target, disk_base, length);
  Mover mover(session, ring, buffer.fd(), target, Path::Premapped);
  if (!report().check(mover.error() == 0, "96 MiB: map", errno_name(mover.error())))
    return;
  const auto words = buffer.words().subspan(offset / sizeof(Word), length / sizeof(Word));
  for (const bool waited : {false, true}) {
    const std::string name = waited ? "96 MiB, waited for" : "96 MiB";
    const auto move = [&](Direction direction) {
      return waited ? mover.waited(direction, offset, length, disk_base)
                    : mover.transfer(direction, offset, length, disk_base);
    };
    disk.lay_down_all(3 + waited);
    int result = move(Direction::Read);
    report().check(result == static_cast<int>(length), name + ": read", errno_name(result));
    {
      const CpuAccess access(buffer, true);
      const auto wrong = compare_words(words, disk.expected(disk_base, length));
      report().check(!wrong, name + ": every byte read", wrong ? describe(*wrong, disk_base) : "");
      fill_pattern(words, 5 + waited, disk_base);
    }
    fill_pattern(disk.expected(disk_base, length), 5 + waited, disk_base);
    result = move(Direction::Write);
    report().check(result == static_cast<int>(length), name + ": write", errno_name(result));
    const auto bad = disk.check_all();
    report().check(!bad, name + ": every byte written", bad.value_or(""));
  }
}

void check_registered(const DmaBuf &buffer, int target) {
  Session session;
  auto entry = map_entry(buffer.fd(), target, Path::Registered);
  const int result = session.map_one(entry);
  report().check(result == -EOPNOTSUPP && (entry.reason == DMABUF_RW_REASON_SIZE_CAP ||
                                           entry.reason == DMABUF_RW_REASON_KERNEL),
                 "registered refuses 5 GiB by name",
                 std::format("{} {}", errno_name(result), reason_name(entry.reason)));
}

} // namespace

} // namespace vmtest

int main() {
  using namespace vmtest;
  const UniqueFd target = open_target("/dev/nvme0n1");
  const auto buffer = DmaBuf::create(Exporter::Udmabuf, buffer_bytes);
  if (!buffer)
    die(buffer.error());
  check_path(Path::Premapped, *buffer, target.get());
  check_path(Path::Bvec, *buffer, target.get());
  check_long(*buffer, target.get());
  check_registered(*buffer, target.get());
  return report().finish("large");
}
