// SPDX-License-Identifier: GPL-2.0-only
// A partition that becomes smaller, or is read anew, under a file that is held.
#include "files.hpp"

#include <algorithm>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t start = (64u << 20) + 512 * 7;
constexpr std::uint64_t part_bytes = 512u << 20;
constexpr std::uint64_t file_bytes = 4u << 20;
constexpr std::uint32_t block = 4096;

} // namespace

void test_shrink(const std::string &type) {
  const FileSystem fs(type, start, part_bytes);
  const std::string path = fs.path("shrink");
  make_file(path, file_bytes, 5);
  auto made = DmaBuf::create(Exporter::Udmabuf, file_bytes);
  if (!made)
    die(made.error());
  const DmaBuf buffer = std::move(*made);
  const auto fill = [&](std::uint32_t generation) {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), generation, 0);
  };
  const Session session;
  Ring ring(8);
  std::optional<HeldFile> held;
  held.emplace(session, buffer.fd(), path);
  if (!report().check(held->error() == 0, fs.name() + ": MAP", errno_name(held->error())))
    return;
  const UniqueFd disk = open_target("/dev/nvme0n1", O_RDONLY | O_CLOEXEC);
  const auto read_anew = [&] { return result_of(::ioctl(disk.get(), BLKRRPART)); };
  int got = read_anew();
  report().check(got == -EBUSY, fs.name() + ": BLKRRPART while mounted", errno_name(got));

  // Smaller than where the file is: from there on nothing is the file's any more.
  for (Ring *const way : {&ring, static_cast<Ring *>(nullptr)}) {
    const std::string what = std::format("{}, by {}", fs.name(), way ? "io_uring" : "the ioctl");
    fill(6);
    got = fs.resize(1u << 20);
    if (!report().check(got == 0, what + ": the partition becomes smaller", errno_name(got)))
      return;
    for (const Direction direction : {Direction::Read, Direction::Write}) {
      got = held->move(way, direction, 0, block, 0);
      report().check(
          got == -EINVAL && held->info().last_reason == DMABUF_RW_REASON_RANGE,
          std::format("{}: a {} past the end of the partition", what, name_of(direction)),
          errno_name(got) + " " + reason_name(held->info().last_reason));
    }
    got = fs.resize(part_bytes);
    report().check(got == 0, what + ": it is as large as before", errno_name(got));
    got = held->move(way, Direction::Read, 0, file_bytes, 0);
    const CpuAccess access(buffer, false);
    std::vector<Word> wanted(file_bytes / 8);
    fill_pattern(wanted, 5, 0);
    const auto bad = compare_words(buffer.words(), wanted);
    report().check(got == static_cast<int>(file_bytes) && !bad, what + ": and the file as it was",
                   bad ? describe(*bad, 0) : errno_name(got));
  }
  fill(7);
  got = held->move(&ring, Direction::Write, 0, file_bytes, 0);
  report().check(got == static_cast<int>(file_bytes), fs.name() + ": it is written again",
                 errno_name(got));
  held.reset();
  file_holds(fs.name() + ": what was written after that", path, 7);
}

} // namespace vmtest
