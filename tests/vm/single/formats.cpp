// SPDX-License-Identifier: GPL-2.0-only
// Namespaces of other formats than plain 512-byte blocks: what premapped refuses, by name, and that
// every path that takes them moves the right bytes, each direction alone.
//
// usage: formats        (dmabuf-lab run --formats)
// Destroys the data on all namespaces of /dev/nvme1.
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/sysfs.hpp"
#include "lib/target.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/blkzoned.h>
#include <sys/ioctl.h>

namespace vmtest {

namespace {

constexpr std::uint64_t kib = 1024, mib = 1024 * kib;
constexpr std::uint64_t zone_bytes = 4 * mib; // as the lab sets the drive up
constexpr std::size_t buffer_bytes = 1 * mib;
constexpr std::uint64_t margin = 64 * kib; // looked at on both sides, where writes may go anywhere

// A namespace of the lab's second drive.
struct Space {
  const char *name;
  unsigned number;       // on the drive, not the one in the device's name
  std::uint32_t refusal; // premapped's, or NONE
  std::uint32_t block;   // bytes
  bool zoned;
  std::string path;
};

// Protection information alone is the drive's business, which is told to make and to check it
// (PRACT). Any other metadata would have to come from the buffer.
constexpr auto served = DMABUF_RW_REASON_NONE, metadata = DMABUF_RW_REASON_METADATA;

Space spaces[] = {
    {"zoned", 1, DMABUF_RW_REASON_ZONED, 4096, true, {}},
    {"metadata", 2, metadata, 512, false, {}},
    {"protection information", 3, served, 512, false, {}},
    {"4 KiB blocks", 4, served, 4096, false, {}},
    {"extended protection information", 5, served, 512, false, {}},
    {"extended metadata", 6, metadata, 512, false, {}},
    {"4 KiB blocks with protection information", 7, served, 4096, false, {}},
    {"4 KiB blocks with extended protection information", 8, served, 4096, false, {}},
    {"4 KiB blocks with 64 bytes of metadata", 9, metadata, 4096, false, {}},
    {"protection information of type 3", 10, served, 512, false, {}},
    {"protection information with a 64-bit guard", 11, served, 512, false, {}},
    {"16 KiB blocks", 12, served, 16384, false, {}},
    {"protection information in 64 bytes of metadata", 13, metadata, 512, false, {}},
};

DmaBuf make_buffer() {
  auto buffer = DmaBuf::create(Exporter::UdmabufScattered, buffer_bytes);
  if (!buffer)
    die("udmabuf: " + buffer.error());
  return std::move(*buffer);
}

void reset_zone(int fd, std::uint64_t offset) {
  blk_zone_range range{offset >> 9, zone_bytes >> 9};
  if (::ioctl(fd, BLKRESETZONE, &range) != 0)
    die(std::format("BLKRESETZONE: {}", std::strerror(errno)));
}

// One namespace and one path that takes it.
class Pair {
public:
  Pair(const Space &space, Session &session, Ring &ring, DmaBuf &buffer, Path path,
       std::uint64_t base)
      : space_(space), name_(std::format("{} / {}", space.name, name_of(path))), buffer_(buffer),
        plain_(open_target(space.path)), file_(open_target(space.path)), base_(base),
        region_(plain_.get(), space.zoned ? base : base - margin,
                buffer_bytes + (space.zoned ? 0 : 2 * margin)),
        mover_(session, ring, buffer.fd(), file_.get(), path) {}

  void run() {
    if (!report().check(mover_.error() == 0, name_ + ": MAP", errno_name(mover_.error())))
      return;
    report().check(mover_.entry().length_align == space_.block,
                   name_ + ": MAP tells the block size",
                   std::format("{}", mover_.entry().length_align));
    read_direction();
    write_direction();
    refusals();
    const int status = mover_.release();
    report().check(status == 0, name_ + ": release", errno_name(status));
  }

private:
  void clear() {
    if (space_.zoned)
      reset_zone(plain_.get(), base_);
  }

  void fill_buffer(std::uint32_t generation) {
    const CpuAccess access(buffer_, true);
    fill_pattern(buffer_.words(), generation, base_);
  }

  // In order and without gaps, as zones are written.
  void move_all(Direction direction) {
    std::uint64_t done = 0;
    for (const std::uint64_t blocks : {1, 17, 3, 1 << 30}) {
      const std::uint64_t length =
          std::min<std::uint64_t>(blocks * space_.block, buffer_bytes - done);
      const int result =
          mover_.transfer(direction, done, static_cast<std::uint32_t>(length), base_ + done);
      report().check(result == static_cast<int>(length),
                     std::format("{}: {} {} bytes", name_, name_of(direction), length),
                     errno_name(result));
      done += length;
    }
  }

  void read_direction() {
    clear();
    region_.lay_down_all(1);
    fill_buffer(buffer_poison);
    move_all(Direction::Read);
    HostBuffer want(buffer_bytes);
    fill_pattern(want.words(), 1, base_);
    const CpuAccess access(buffer_, false);
    const auto mismatch = compare_words(buffer_.words(), want.words());
    report().check(!mismatch, name_ + ": every byte read",
                   mismatch ? describe(*mismatch, base_) : "");
  }

  void write_direction() {
    if (!space_.zoned)
      region_.lay_down_all(disk_poison);
    clear();
    fill_buffer(2);
    move_all(Direction::Write);
    fill_pattern(region_.expected(base_, buffer_bytes), 2, base_);
    const auto wrong = region_.check_all();
    report().check(!wrong, name_ + ": every byte written, none beside", wrong.value_or(""));
  }

  // What the format forbids is an error, and nothing is changed by it.
  void refusals() {
    if (space_.block > 512) {
      const int result = mover_.transfer(Direction::Write, 0, 512, base_);
      report().check(result == -EINVAL, name_ + ": less than a block is refused",
                     errno_name(result));
    }
    if (space_.zoned) {
      // The zone is written up to buffer_bytes, and neither before nor far behind that may be.
      const int again = mover_.transfer(Direction::Write, 0, 4096, base_);
      report().check(again == -EIO, name_ + ": a zone is not written twice", errno_name(again));
      const int ahead = mover_.transfer(Direction::Write, 0, 4096, base_ + 2 * mib);
      report().check(ahead == -EIO, name_ + ": a zone is not written with a gap",
                     errno_name(ahead));
    }
    const auto wrong = region_.check_all();
    report().check(!wrong, name_ + ": a refusal changes nothing", wrong.value_or(""));
  }

  const Space &space_;
  std::string name_;
  DmaBuf &buffer_;
  UniqueFd plain_, file_;
  std::uint64_t base_;
  DiskRegion region_;
  Mover mover_;
};

// MAP by name refuses, and AUTO says why it passed premapped over.
void check_refusal(const Space &space, Session &session, DmaBuf &buffer) {
  const UniqueFd file = open_target(space.path);
  auto entry = map_entry(buffer.fd(), file.get(), Path::Premapped);
  const int error = session.map_one(entry);
  report().check(error == -EOPNOTSUPP && entry.reason == space.refusal,
                 std::format("{} / premapped is refused", space.name),
                 std::format("{} {}", errno_name(error), reason_name(entry.reason)));
  entry = map_entry(buffer.fd(), file.get(), Path::Auto);
  const int status = session.map_one(entry);
  report().check(status == 0 && entry.path != DMABUF_RW_PATH_PREMAPPED &&
                     entry.refused[DMABUF_RW_PATH_PREMAPPED] == space.refusal,
                 std::format("{} / auto takes another path, and says why", space.name),
                 std::format("{}, path {}, {}", errno_name(status), entry.path,
                             reason_name(entry.refused[DMABUF_RW_PATH_PREMAPPED])));
  if (status == 0)
    report().check(session.unmap_one(entry.handle) == 0, "UNMAP");
}

// A hint of less than a block: commands of a block each.
void check_small_hint(const Space &space, Session &session, Ring &ring, DmaBuf &buffer) {
  const UniqueFd file = open_target(space.path);
  auto entry = map_entry(buffer.fd(), file.get(), Path::Premapped);
  entry.max_command_hint = 4096;
  const int error = session.map_one(entry);
  if (!report().check(error == 0, std::format("{}: MAP with a hint of 4096", space.name),
                      errno_name(error)))
    return;
  const std::uint32_t length = 4 * space.block;
  const int got = ring.command(session.fd(), DMABUF_RW_URING_READ, 0, length,
                               {.file_offset = zone_bytes, .handle = entry.handle, .flags = 0});
  report().check(got == static_cast<int>(length),
                 std::format("{}: I/O with a hint of 4096", space.name), errno_name(got));
  report().check(session.unmap_one(entry.handle) == 0, "UNMAP");
}

void run() {
  Session session;
  DmaBuf buffer = make_buffer();
  for (Space &space : spaces) {
    space.path = formats_namespace(space.number);
    if (block_device_bytes(open_target(space.path, O_RDONLY | O_CLOEXEC).get()) == 0) {
      report().skip(space.name, "Linux cannot use its blocks: the device has no sectors");
      continue;
    }
    std::uint64_t base = zone_bytes;
    if (space.refusal != DMABUF_RW_REASON_NONE)
      check_refusal(space, session, buffer);
    for (const Path path : paths_here()) {
      if (path == Path::Premapped && space.refusal != DMABUF_RW_REASON_NONE)
        continue;
      Ring ring(8);
      if (path == Path::Registered && ring.make_buffer_table(1) < 0)
        die("no table of registered buffers");
      Pair(space, session, ring, buffer, path, base).run();
      if (path == Path::Premapped)
        check_small_hint(space, session, ring, buffer);
      base += zone_bytes;
    }
  }
  report().note(std::format("{} MiB compared", compared_bytes() >> 20));
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  if (argc > 1)
    die("usage: formats [--allow-skip NAME]...");
  run();
  return report().finish("formats");
}
