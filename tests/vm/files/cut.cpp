// SPDX-License-Identifier: GPL-2.0-only
// A file is held and written, and power_cut.py looks what of it a power cut leaves. QEMU logs what
// the drive gets (dmabuf-lab run --writes); this says how long the log was at each moment that
// counts.
#include "files.hpp"

#include <cinttypes>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <thread>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t file_bytes = 1u << 20;
constexpr std::uint32_t piece = 64u << 10;

// For power_cut.py: WHAT, the generation of the whole file, and how long the log is.
void say(const char *what, std::uint32_t generation) {
  std::printf("%s %u %" PRIu64 "\n", what, generation, log_entries());
  std::fflush(stdout);
}

bool write_all(const HeldFile &held, Ring *ring, const DmaBuf &buffer, std::uint32_t generation) {
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), generation, 0);
  }
  for (std::uint64_t at = 0; at < file_bytes; at += piece) {
    const int got = held.move(ring, Direction::Write, at, piece, at);
    if (!report().check(got == static_cast<int>(piece), "a write of what is held", errno_name(got)))
      return false;
  }
  return true;
}

} // namespace

void test_cut(const std::string &type) {
  auto made = DmaBuf::create(Exporter::Udmabuf, file_bytes);
  if (!made)
    die(made.error());
  const DmaBuf buffer = std::move(*made);
  say("begin", 0);
  const FileSystem fs(type, 0);
  const std::string path = fs.path("cut");
  const PiecesFile pieces(fs, "cut", file_bytes, 32768, 1);
  ::sync();
  // A journal ends its commits by FUA, which QEMU's drive takes for nothing.
  const UniqueFd drive = open_target("/dev/nvme0n1", O_RDONLY | O_CLOEXEC);
  if (::fsync(drive.get()) != 0)
    die("fsync: " + errno_name(errno));
  std::uint32_t generation = 1;
  say("synced", generation);
  const Session session;
  Ring ring(8);
  // Beside it the file system has much to put into its journal.
  std::atomic<bool> stop = false;
  std::jthread busy([&] {
    for (unsigned round = 0; !stop; ++round) {
      const std::string name = fs.path(std::format("busy.{}", round % 32));
      make_file(name, 4096 * (1 + round % 9), 2);
      std::filesystem::rename(name, fs.path(std::format("moved.{}", round % 16)));
    }
  });
  // However this ends, that ends before it is waited for.
  const struct Stop {
    std::atomic<bool> &flag;
    ~Stop() { flag = true; }
  } at_the_end{stop};
  {
    const HeldFile held(session, buffer.fd(), path);
    report().check(held.error() == 0, fs.name() + ": MAP", errno_name(held.error()));
    for (Ring *const way : {&ring, static_cast<Ring *>(nullptr)}) {
      if (!write_all(held, way, buffer, ++generation))
        return;
      report().check(held.sync() == 0, fs.name() + ": fsync");
      say("synced", generation);
    }
    stop = true;
    busy.join();
    ::sync();
    // Again at once, by when the file's time is not due and the journal has nothing: only fsync's
    // own flush is left.
    for (int round = 0; round < 2; ++round) {
      if (!write_all(held, &ring, buffer, ++generation))
        return;
      report().check(held.sync() == 0, fs.name() + ": fsync alone");
      say("synced", generation);
    }
    // What nobody asked to keep may be lost: if it is not, what is looked at here shows nothing.
    for (int round = 0; round < 2; ++round) {
      if (!write_all(held, &ring, buffer, ++generation))
        return;
      say("unsynced", generation);
    }
  }
}

} // namespace vmtest
