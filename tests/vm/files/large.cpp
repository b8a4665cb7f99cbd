// SPDX-License-Identifier: GPL-2.0-only
// A file past 4 GiB, on a disk past 4 GiB: an offset that loses its upper half goes to another
// place of the same file, which is looked at, too. Needs a drive of 8 GiB (dmabuf-lab run
// --drive-gib 8).
#include "files.hpp"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t gib = 1u << 30;
constexpr std::uint64_t wrap = 4 * gib;
constexpr std::uint64_t made_bytes = 5 * gib;
// Behind these, pieces that each begin an extent, longer than what ext4 keeps ready for a file: a
// table of extents that is cut to 32 bits has them in no order.
constexpr std::uint64_t piece = 16u << 20;
constexpr unsigned pieces = 4;
constexpr std::uint64_t file_bytes = made_bytes + pieces * piece;
// The file system begins past the first GiB, so that a byte past 4 GiB of the file is past 5 of the
// disk.
constexpr std::uint64_t start = gib + 512 * 7;
constexpr std::uint32_t part = 96u << 10;
constexpr std::uint32_t laid_down = 31, alias = 32, written = 33;

// mkfs.ext4 makes a file whose extents are written, and writes none of its bytes.
constexpr const char huge_file[] = R"([defaults]
make_hugefiles = true
hugefiles_size = 5G
num_hugefiles = 1
zero_hugefiles = false
[fs_types]
ext4 = {
  features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
}
)";

std::string the_only_file() {
  for (const auto &entry : std::filesystem::directory_iterator(mount_point))
    if (entry.is_regular_file() && entry.file_size() == made_bytes)
      return entry.path();
  die("mkfs made no file of 5 GiB");
}

// Zeros, by way of the file system.
std::string write_zeros(const FileSystem &fs) {
  const std::string path = fs.path("large");
  const UniqueFd file = open_target(path, O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC);
  HostBuffer zeros(16u << 20);
  std::ranges::fill(zeros.words(), 0);
  for (std::uint64_t at = 0; at < made_bytes; at += zeros.size())
    write_plain(file.get(), zeros.words(), at);
  return path;
}

// Where on the whole disk the byte is.
std::uint64_t on_disk(const std::string &path, std::uint64_t offset) {
  std::vector<std::uint64_t> room((sizeof(fiemap) + sizeof(fiemap_extent)) / 8 + 1);
  auto *const map = reinterpret_cast<fiemap *>(room.data());
  map->fm_start = offset;
  map->fm_length = 1;
  map->fm_extent_count = 1;
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (::ioctl(file.get(), FS_IOC_FIEMAP, map) != 0 || map->fm_mapped_extents != 1)
    die("FIEMAP: " + errno_name(errno));
  const fiemap_extent &extent = map->fm_extents[0];
  return start + extent.fe_physical + offset - extent.fe_logical;
}

// The pieces, and between them what belongs to the file `between`. Returns how many extents begin
// with one.
unsigned append_pieces(const std::string &path, const std::string &between) {
  const UniqueFd file = open_target(path, O_RDWR | O_DIRECT | O_CLOEXEC);
  const UniqueFd other = open_target(between, O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC);
  HostBuffer zeros(piece);
  std::ranges::fill(zeros.words(), 0);
  for (unsigned i = 0; i < pieces; ++i) {
    write_plain(file.get(), zeros.words(), made_bytes + i * piece);
    write_plain(other.get(), zeros.words(), i * piece);
  }
  if (::fsync(file.get()) != 0 || ::fsync(other.get()) != 0)
    die("fsync: " + errno_name(errno));
  unsigned apart = 0;
  for (unsigned i = 1; i < pieces; ++i) {
    const std::uint64_t at = made_bytes + i * piece;
    apart += on_disk(path, at) != on_disk(path, at - 1) + 1;
  }
  return apart;
}

// Parts that are moved: on both sides of 4 GiB, over it, and at the end; and where they would be in
// 32 bits.
constexpr std::uint64_t parts[] = {wrap - 2 * part,
                                   wrap - part / 2,
                                   wrap + part,
                                   wrap + gib / 2 + 4096,
                                   made_bytes - part / 2,
                                   made_bytes + piece - part / 2,
                                   made_bytes + 3 * piece,
                                   made_bytes + 2 * piece + part,
                                   file_bytes - part};

std::vector<std::uint64_t> aliases() {
  std::vector<std::uint64_t> all;
  for (const std::uint64_t at : parts)
    if (at >= wrap)
      all.push_back(at - wrap);
  return all;
}

void lay_down(const std::string &path) {
  const UniqueFd file = open_target(path, O_RDWR | O_DIRECT | O_CLOEXEC);
  HostBuffer buffer(part);
  const auto put = [&](std::uint32_t generation, std::uint64_t at) {
    fill_pattern(buffer.words(), generation, at);
    write_plain(file.get(), buffer.words(), at);
  };
  for (const std::uint64_t at : aliases())
    put(alias, at);
  for (const std::uint64_t at : parts)
    put(laid_down, at);
}

void holds(const std::string &what, const std::string &path, std::uint32_t generation,
           std::uint64_t at) {
  const UniqueFd file = open_target(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
  HostBuffer found(part), wanted(part);
  read_plain(file.get(), found.words(), at);
  fill_pattern(wanted.words(), generation, at);
  const auto bad = compare_words(found.words(), wanted.words());
  report().check(!bad, std::format("{}: at byte {}", what, at), bad ? describe(*bad, at) : "");
}

// MAP, timed: the whole file is looked up.
HeldFile &map_timed(std::optional<HeldFile> &held, const FileSystem &fs, const Session &session,
                    const DmaBuf &buffer, const std::string &path, std::uint32_t directions) {
  const double begin = now_s();
  held.emplace(session, buffer.fd(), path, directions);
  const double took = now_s() - begin;
  if (held->error())
    die(std::format("{}: MAP of 5 GiB: {} {}", fs.name(), errno_name(held->error()),
                    reason_name(held->entry().reason)));
  report().note(std::format("{}: MAP of 5 GiB in {} extents took {:.3f} s", fs.name(),
                            held->info().extents + 0, took));
  return *held;
}

// A short file far behind on the disk: what is to be added to an offset in it does not fit into 32
// bits.
void test_far(const FileSystem &fs, const Session &session, const DmaBuf &buffer,
              const std::string &path) {
  constexpr std::uint64_t at = 2 * piece + 4096;
  report().check(on_disk(path, at) - at > wrap,
                 fs.name() + ": a short file is more than 4 GiB behind");
  {
    const UniqueFd file = open_target(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    HostBuffer bytes(part);
    fill_pattern(bytes.words(), laid_down, at);
    write_plain(file.get(), bytes.words(), at);
  }
  {
    const CpuAccess access(buffer, true);
    std::ranges::fill(buffer.words(), pattern_word(buffer_poison, 0));
  }
  Ring ring(8);
  const HeldFile held(session, buffer.fd(), path, DMABUF_RW_DIR_READ);
  if (held.error())
    die(std::format("{}: MAP of a short file: {}", fs.name(), errno_name(held.error())));
  const int got = held.move(&ring, Direction::Read, 0, part, at);
  report().check(got == static_cast<int>(part), fs.name() + ": a read far behind", errno_name(got));
  const CpuAccess access(buffer, false);
  std::vector<Word> wanted(part / 8);
  fill_pattern(wanted, laid_down, at);
  const auto bad = compare_words(buffer.words().first(part / 8), wanted);
  report().check(!bad, fs.name() + ": the bytes of a short file far behind",
                 bad ? describe(*bad, at) : "");
}

} // namespace

void test_large(const std::string &type) {
  std::ofstream("/tmp/files.mke2fs") << huge_file;
  ::setenv("MKE2FS_CONFIG", "/tmp/files.mke2fs", 1);
  const FileSystem fs(type, start, 6 * gib + gib / 2);
  ::unsetenv("MKE2FS_CONFIG");
  const double begin = now_s();
  const std::string path = type == "ext4" ? the_only_file() : write_zeros(fs);
  report().note(std::format("{}: 5 GiB made in {:.1f} s", fs.name(), now_s() - begin));
  report().check(append_pieces(path, fs.path("between")) >= 2,
                 fs.name() + ": several extents begin past 4 GiB of the file");
  report().check(on_disk(path, made_bytes - 1) > wrap,
                 fs.name() + ": the file goes past 4 GiB of the disk");
  lay_down(path);

  auto made = DmaBuf::create(Exporter::UdmabufScattered, part * std::size(parts));
  if (!made)
    die(made.error());
  const DmaBuf buffer = std::move(*made);
  const Session session;
  Ring ring(8);
  std::optional<HeldFile> held;
  {
    const HeldFile &reads = map_timed(held, fs, session, buffer, path, DMABUF_RW_DIR_READ);
    for (Ring *const way : {&ring, static_cast<Ring *>(nullptr)}) {
      {
        const CpuAccess access(buffer, true);
        std::ranges::fill(buffer.words(), pattern_word(buffer_poison, 0));
      }
      for (std::size_t i = 0; i < std::size(parts); ++i) {
        const int got = reads.move(way, Direction::Read, i * part, part, parts[i]);
        report().check(got == static_cast<int>(part), fs.name() + ": a read past 4 GiB",
                       errno_name(got));
      }
      const CpuAccess access(buffer, false);
      for (std::size_t i = 0; i < std::size(parts); ++i) {
        std::vector<Word> wanted(part / 8);
        fill_pattern(wanted, laid_down, parts[i]);
        const auto bad = compare_words(buffer.words().subspan(i * part / 8, part / 8), wanted);
        report().check(!bad, std::format("{}: read at byte {}", fs.name(), parts[i]),
                       bad ? describe(*bad, parts[i]) : "");
      }
    }
    const int got = reads.move(&ring, Direction::Read, 0, 4096, file_bytes);
    report().check(got == -EINVAL, fs.name() + ": a read past the end of 5 GiB", errno_name(got));
  }
  held.reset();
  {
    const HeldFile &writes = map_timed(held, fs, session, buffer, path, DMABUF_RW_DIR_WRITE);
    {
      const CpuAccess access(buffer, true);
      for (std::size_t i = 0; i < std::size(parts); ++i)
        fill_pattern(buffer.words().subspan(i * part / 8, part / 8), written, parts[i]);
    }
    for (std::size_t i = 0; i < std::size(parts); ++i) {
      const int got =
          writes.move(i % 2 ? &ring : nullptr, Direction::Write, i * part, part, parts[i]);
      report().check(got == static_cast<int>(part), fs.name() + ": a write past 4 GiB",
                     errno_name(got));
    }
  }
  held.reset();
  for (const std::uint64_t at : parts)
    holds(fs.name() + ": written", path, written, at);
  test_far(fs, session, buffer, fs.path("between"));
  for (const std::uint64_t at : aliases())
    holds(fs.name() + ": what a write cut to 32 bits would hit", path, alias, at);
}

} // namespace vmtest
