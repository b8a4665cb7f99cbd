// SPDX-License-Identifier: GPL-2.0-only
// A file in many pieces that is held: defragmenters leave it where it is, and MAP, which asks about
// each piece, can be killed.
#include "files.hpp"
#include "talk.hpp"

#include "lib/hurt.hpp"

#include <csignal>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t file_bytes = 4u << 20;
constexpr std::uint32_t block = 4096;

// Where on the disk the file is.
std::vector<std::pair<std::uint64_t, std::uint64_t>> places(const std::string &path) {
  constexpr unsigned most = 512;
  std::vector<std::byte> room(sizeof(fiemap) + most * sizeof(fiemap_extent));
  auto *const map = reinterpret_cast<fiemap *>(room.data());
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_extent_count = most;
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (::ioctl(file.get(), FS_IOC_FIEMAP, map) != 0)
    die("FIEMAP: " + errno_name(errno));
  std::vector<std::pair<std::uint64_t, std::uint64_t>> found;
  for (unsigned i = 0; i < map->fm_mapped_extents; ++i)
    found.emplace_back(map->fm_extents[i].fe_logical, map->fm_extents[i].fe_physical);
  return found;
}

} // namespace

// The defragmenters move a file in many pieces, and not while it is held.
void test_defragmented(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("fragments");
  const std::string tool = fs.name().starts_with("xfs") ? "xfs_fsr -v" : "e4defrag";
  const auto run = [&] {
    const int status = std::system(std::format("{} {} > /tmp/files.tool 2>&1", tool, path).c_str());
    return std::format("{} ended with {}: {}", tool, status, read_file("/tmp/files.tool"));
  };
  const PiecesFile file(fs, "fragments", file_bytes, 32768, 5);
  const auto before = places(path);
  report().check(before.size() > 50, fs.name() + ": a file in many pieces",
                 std::format("{} pieces", before.size()));
  const Session session;
  {
    const HeldFile held(session, buffer.fd(), path, DMABUF_RW_DIR_READ);
    report().check(held.error() == 0, fs.name() + ": MAP of many pieces", errno_name(held.error()));
    const std::string said = run();
    report().check(places(path) == before,
                   fs.name() + ": " + tool + " leaves what is held where it is", said);
  }
  // So that this says something: the same tool does move the same file.
  const std::string said = run();
  report().check(places(path).size() < before.size() / 2,
                 fs.name() + ": " + tool + " moves what is not held", said);
  file_holds(fs.name() + ": a file that was moved", path, 5);
  ::unlink(path.c_str());
}

// Whoever is killed while MAP asks the file system about one piece after the other waits for the
// answer about this one, and holds nothing any more.
void test_killed_in_map(const FileSystem &fs, const DmaBuf &buffer) {
  constexpr unsigned answer_ms = 20;
  const std::string path = fs.path("asked");
  const PiecesFile file(fs, "asked", file_bytes, 32768, 5);
  const int pieces = static_cast<int>(places(path).size());
  const Hurt hurt;
  const Talk talk;
  const pid_t child = ::fork();
  if (child == 0) {
    const Session session;
    talk.tell_parent();
    talk.wait_for_parent();
    const HeldFile held(session, buffer.fd(), path, DMABUF_RW_DIR_READ);
    ::_exit(held.error() ? exit_fail : exit_pass);
  }
  talk.wait_for_child();
  hurt.slow_thread("bmap", answer_ms, child);
  talk.tell_child();
  const bool asks = wait_for([&] { return hurt.slowed() >= 5; }, 60);
  const int before = hurt.slowed();
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  const int after = hurt.slowed();
  hurt.slow_off();
  report().check(asks && WIFSIGNALED(status), fs.name() + ": MAP is killed while it asks",
                 std::format("{} questions, status {:#x}", before, status));
  // Each piece takes two questions or more.
  report().check(pieces > 100 && after < 2 * pieces,
                 fs.name() + ": it asks no further about a file in many pieces",
                 std::format("{} pieces, {} questions before, {} in all", pieces, before, after));
  const auto can_write = [&] { return !!UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC)); };
  report().check(wait_for(can_write, 30), fs.name() + ": the file is not held then",
                 errno_name(errno));
  file_holds(fs.name() + ": the file is whole", path, 5);
  {
    const Session session;
    const HeldFile held(session, buffer.fd(), path);
    report().check(held.error() == 0 && !can_write(), fs.name() + ": the next MAP holds it",
                   errno_name(held.error()));
    const int got = held.move(nullptr, Direction::Write, 0, block, 0);
    report().check(got == static_cast<int>(block), fs.name() + ": and can write it",
                   errno_name(got));
  }
  ::unlink(path.c_str());
}

} // namespace vmtest
