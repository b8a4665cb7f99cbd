// SPDX-License-Identifier: GPL-2.0-only
// A file, or a part of the drive itself, is written with O_DSYNC and without, and durable.py looks
// what of it a power cut leaves: each write that was to be durable is there from its end on. QEMU
// logs what the drive gets (dmabuf-lab run --writes); this says how long the log was at each end.
#include "files.hpp"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <functional>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr const char drive[] = "/dev/nvme0n1";
constexpr std::uint64_t file_bytes = 1u << 20;
constexpr std::uint32_t piece = 64u << 10;
constexpr std::uint64_t raw_base = (64u << 20) + 512 * 7;

// For durable.py: a line of these words.
template <typename... Words> void say(const char *what, const Words &...words) {
  std::string line = what;
  ((line += std::format(" {}", words)), ...);
  std::puts(line.c_str());
  std::fflush(stdout);
}

// What is written: a file, or a part of the drive.
struct Place {
  std::string path;
  std::uint64_t base = 0; // of what is written, in the file
  bool file = true;
};

// Where the file is on the drive.
void say_extents(const std::string &path) {
  constexpr std::size_t most = 64;
  std::vector<std::uint64_t> room((sizeof(fiemap) + most * sizeof(fiemap_extent)) / 8);
  auto *const map = reinterpret_cast<fiemap *>(room.data());
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_flags = FIEMAP_FLAG_SYNC;
  map->fm_extent_count = most;
  if (::ioctl(fd.get(), FS_IOC_FIEMAP, map) != 0)
    die(path + ": FIEMAP: " + errno_name(errno));
  for (__u32 i = 0; i < map->fm_mapped_extents; ++i)
    say("extent", std::uint64_t{map->fm_extents[i].fe_logical},
        std::uint64_t{map->fm_extents[i].fe_physical}, std::uint64_t{map->fm_extents[i].fe_length});
}

void flush_drive() {
  const UniqueFd fd = open_target(drive, O_RDONLY | O_CLOEXEC);
  if (::fsync(fd.get()) != 0)
    die("fsync: " + errno_name(errno));
}

// Bytes that a write of one piece at this offset of buffer and place has moved.
using Write = std::function<int(std::uint64_t at)>;

class Durable {
public:
  Durable(Place place, const DmaBuf &buffer) : place_(std::move(place)), buffer_(buffer) {
    if (registered_ && ring_.make_buffer_table(1) < 0)
      die("no table of registered buffers");
  }

  void all() {
    for (const bool durable : {true, false}) {
      const int flags = durable ? O_DSYNC : 0;
      premapped(durable, flags);
      for (const bool by_ring : {true, false})
        by_pages(Path::Bvec, by_ring ? "bvec-ring" : "bvec-ioctl", durable, flags, by_ring);
      if (!registered_)
        continue;
      by_pages(Path::Registered, "registered", durable, flags, true);
      if (durable)
        by_pages(Path::Registered, "registered-RWF_DSYNC", durable, 0, true, RWF_DSYNC);
    }
  }

private:
  void way(const std::string &name, bool durable, const Write &write) {
    say("way", name, durable ? "durable" : "plain", ++generation_);
    {
      const CpuAccess access(buffer_, true);
      fill_pattern(buffer_.words(), generation_, 0);
    }
    for (std::uint64_t at = 0; at < file_bytes; at += piece) {
      const int got = write(at);
      if (!report().check(got == static_cast<int>(piece), name + ": a write", errno_name(got)))
        return;
      say("piece", at, log_entries());
    }
  }

  void premapped(bool durable, int flags) {
    if (!place_.file) {
      for (const bool by_ring : {true, false})
        by_pages(Path::Premapped, by_ring ? "premapped-ring" : "premapped-ioctl", durable, flags,
                 by_ring);
      return;
    }
    const HeldFile held(session_, buffer_.fd(), place_.path, both_directions, flags);
    if (!report().check(held.error() == 0, "MAP of a file that is held", errno_name(held.error())))
      return;
    for (Ring *const ring : {&ring_, static_cast<Ring *>(nullptr)})
      way(ring ? "premapped-ring" : "premapped-ioctl", durable,
          [&](std::uint64_t at) { return held.move(ring, Direction::Write, at, piece, at); });
  }

  void by_pages(Path path, const std::string &name, bool durable, int flags, bool by_ring,
                int rw_flags = 0) {
    const UniqueFd target = open_target(place_.path, O_RDWR | O_DIRECT | O_CLOEXEC | flags);
    Mover mover(session_, ring_, buffer_.fd(), target.get(), path);
    if (!report().check(mover.error() == 0, name + ": MAP", errno_name(mover.error())))
      return;
    way(name, durable, [&](std::uint64_t at) {
      if (rw_flags) {
        ring_.queue_fixed(Direction::Write, target.get(), 0, at, piece, place_.base + at, 0,
                          rw_flags);
        return ring_.run_one();
      }
      return by_ring ? mover.transfer(Direction::Write, at, piece, place_.base + at)
                     : mover.waited(Direction::Write, at, piece, place_.base + at);
    });
    report().check(mover.release() == 0, name + ": UNMAP");
  }

  const Place place_;
  const DmaBuf &buffer_;
  Session session_;
  Ring ring_ = Ring(8);
  const bool registered_ = std::ranges::contains(paths_here(), Path::Registered);
  std::uint32_t generation_ = 1;
};

void begin_and_write(const Place &place, const DmaBuf &buffer) {
  flush_drive();
  say("ready", log_entries());
  Durable(place, buffer).all();
  say("end", log_entries());
}

} // namespace

void test_durable(const std::string &type) {
  auto made = DmaBuf::create(Exporter::Udmabuf, file_bytes);
  if (!made)
    die(made.error());
  const DmaBuf buffer = std::move(*made);
  if (type != "raw") {
    const FileSystem fs(type, 0);
    const PiecesFile pieces(fs, "cut", file_bytes, 32768, 1);
    ::sync();
    say_extents(fs.path("cut"));
    begin_and_write({.path = fs.path("cut")}, buffer);
    return;
  }
  const UniqueFd plain = open_target(drive);
  HostBuffer host(file_bytes);
  fill_pattern(host.words(), 1, 0);
  write_plain(plain.get(), host.words(), raw_base);
  say("extent", 0, raw_base, file_bytes);
  begin_and_write({.path = drive, .base = raw_base, .file = false}, buffer);
}

} // namespace vmtest
