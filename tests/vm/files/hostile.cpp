// SPDX-License-Identifier: GPL-2.0-only
// A user who races MAP against everything that moves a file's blocks, so as to read what is in them
// when they are another's.
#include "files.hpp"

#include <algorithm>

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t file_bytes = 1u << 20;
constexpr std::uint32_t secret = 77777, own = 88888;
// Until so many rounds had it mapped, and so many were refused; the limit is for a hang.
constexpr unsigned enough = 12;
constexpr double limit_s = 300;

// A word of the other's file is told from one's own by its generation.
bool is_secret(Word word) { return (word >> (64 - generation_bits)) == secret; }

} // namespace

void test_hostile(const FileSystem &fs) {
  auto made = DmaBuf::create(Exporter::Udmabuf, file_bytes);
  if (!made)
    die(made.error());
  const DmaBuf buffer = std::move(*made);
  const std::string path = fs.path("mine");
  make_file(path, file_bytes, own);
  std::atomic<bool> stop = false;
  std::atomic<unsigned> punched = 0, refused_changes = 0;

  // Takes the file's blocks away and gives it new ones, again and again.
  const auto change = [&](unsigned how) {
    std::vector<Word> words(65536 / 8);
    while (!stop) {
      const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
      if (!file) {
        ++refused_changes;
        ::usleep(500);
        continue;
      }
      const off_t at = static_cast<off_t>((punched + how) % 16 * 65536);
      if (how % 2)
        ::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 65536);
      else if (::ftruncate(file.get(), at) == 0 && ::ftruncate(file.get(), file_bytes) != 0)
        break;
      ++punched;
      for (std::uint64_t fill = 0; fill < file_bytes; fill += 65536) {
        fill_pattern(words, own, fill);
        if (::pwrite(file.get(), words.data(), 65536, static_cast<off_t>(fill)) != 65536)
          break;
      }
      ::fdatasync(file.get());
    }
  };
  // The other user: writes files anew in whatever blocks are free.
  const auto other = [&] {
    std::vector<Word> words(65536 / 8);
    for (unsigned round = 0; !stop; ++round) {
      const std::string name = fs.path(std::format("other.{}", round % 8));
      const UniqueFd file(::open(name.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600));
      for (std::uint64_t at = 0; at < file_bytes; at += 65536) {
        fill_pattern(words, secret, at);
        if (::pwrite(file.get(), words.data(), 65536, static_cast<off_t>(at)) != 65536)
          break;
      }
      ::fdatasync(file.get());
    }
  };
  std::vector<std::jthread> threads;
  threads.emplace_back(change, 0u);
  threads.emplace_back(change, 1u);
  threads.emplace_back(other);

  const Session session;
  Ring ring(8);
  unsigned mapped = 0, refused_maps = 0, secrets = 0, holes = 0;
  const double begin = now_s();
  while ((mapped < enough || refused_maps < enough || punched < enough) && now_s() - begin < limit_s) {
    const HeldFile held(session, buffer.fd(), path, DMABUF_RW_DIR_READ);
    if (held.error()) {
      ++refused_maps;
      holes += held.entry().reason == DMABUF_RW_REASON_FILE_HOLE;
      continue;
    }
    ++mapped;
    for (unsigned i = 0; i < 4; ++i) {
      {
        const CpuAccess access(buffer, true);
        std::ranges::fill(buffer.words(), pattern_word(buffer_poison, 0));
      }
      const int got = held.move(&ring, Direction::Read, 0, file_bytes, 0);
      if (got != static_cast<int>(file_bytes)) {
        report().fail(fs.name() + ": a read of what is mapped", errno_name(got));
        break;
      }
      const CpuAccess access(buffer, false);
      secrets += static_cast<unsigned>(std::ranges::count_if(buffer.words(), is_secret));
    }
  }
  stop = true;
  threads.clear();
  report().check(secrets == 0, fs.name() + ": no byte of another's file is ever read",
                 std::format("{} words", secrets));
  report().check(mapped >= enough && refused_maps >= enough && punched >= enough,
                 fs.name() + ": the race was run",
                 std::format("{} mapped, {} refused, {} changes", mapped, refused_maps, punched.load()));
  report().note(std::format("{}: mapped {} times, refused {} times ({} for holes); blocks taken away {} times, "
                            "refused {} times",
                            fs.name(), mapped, refused_maps, holes, punched.load(), refused_changes.load()));
}

} // namespace vmtest
