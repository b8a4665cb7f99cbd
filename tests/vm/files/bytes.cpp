// SPDX-License-Identifier: GPL-2.0-only
// Every byte of a file in many pieces, each direction for itself, against plain reads and writes.
#include "files.hpp"

#include "lib/vfio_bar.hpp"

#include <algorithm>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t file_bytes = 8u << 20;
constexpr std::uint64_t piece = 32u << 10;
// Of a file whose pieces are unlike: one long one, and short ones behind it, of which many share a
// stretch of the module's index of the file.
constexpr std::uint64_t whole = 7u << 20, short_piece = 8u << 10;
// An I/O of this size is in two pieces or more, wherever it begins.
constexpr std::uint32_t across = 96u << 10;
constexpr std::uint32_t block = 4096;

enum class Kind { Pages, Device, Bar };

std::string_view name_of(Kind kind) {
  return kind == Kind::Pages ? "pages" : kind == Kind::Device ? "device memory" : "a PCI BAR";
}

// Memory that a CPU can look at: pages, a device's by its exporter, or a PCI BAR by vfio-pci.
class Memory {
public:
  explicit Memory(Kind kind) {
    if (kind == Kind::Device) {
      exporter_.emplace();
      device_ = exporter_->make(gpu_buffer(file_bytes, 1));
      return;
    }
    if (kind == Kind::Bar) {
      // Once: the CPU's view of it stays to the end of the program.
      static const auto opened = VfioBar::open();
      if (!opened)
        die(opened.error());
      bar_ = &*opened;
      auto fd = bar_->export_range(file_bytes);
      if (!fd)
        die(fd.error());
      bar_fd_ = std::move(*fd);
      return;
    }
    auto made = DmaBuf::create(Exporter::UdmabufScattered, file_bytes);
    if (!made)
      die(made.error());
    pages_ = std::move(*made);
  }
  int fd() const { return pages_ ? pages_->fd() : bar_ ? bar_fd_.get() : device_.fd(); }
  void put(std::uint32_t generation) {
    if (bar_)
      return fill_pattern(bar_->words().first(file_bytes / 8), generation, 0);
    if (!pages_)
      return device_.put_pattern(0, file_bytes, generation, 0);
    const CpuAccess access(*pages_, true);
    fill_pattern(pages_->words(), generation, 0);
  }
  std::vector<Word> get() {
    std::vector<Word> words(file_bytes / 8);
    if (bar_) {
      std::ranges::copy(bar_->words().first(words.size()), words.begin());
      return words;
    }
    if (!pages_) {
      device_.must_read(words, 0);
      return words;
    }
    const CpuAccess access(*pages_, false);
    std::ranges::copy(pages_->words(), words.begin());
    return words;
  }

private:
  std::optional<Testexp> exporter_;
  TestBuffer device_;
  std::optional<DmaBuf> pages_;
  const VfioBar *bar_ = nullptr;
  UniqueFd bar_fd_;
};

// The whole file, in I/Os of `length`.
bool move_all(const HeldFile &held, Ring *ring, Direction direction, std::uint32_t length) {
  for (std::uint64_t at = 0; at < file_bytes; at += length) {
    const auto part = static_cast<std::uint32_t>(std::min<std::uint64_t>(length, file_bytes - at));
    const int moved = held.move(ring, direction, at, part, at);
    if (moved != static_cast<int>(part)) {
      report().fail(std::format("{} of {} bytes at {}", name_of(direction), part, at),
                    errno_name(moved));
      return false;
    }
  }
  return true;
}

void both_ways(const FileSystem &fs, Memory &memory, const std::string &what, bool unlike) {
  const std::string path = fs.path("pieces");
  const Session session;
  Ring ring(8);
  const PiecesFile file(fs, "pieces", file_bytes, unlike ? short_piece : piece, 3,
                        unlike ? whole : 0);
  std::uint32_t generation = 4;
  for (const std::uint32_t length : {block, across, static_cast<std::uint32_t>(1u << 20)})
    for (const bool by_ring : {true, false}) {
      const std::string how = std::format("{}, {}: {} bytes by {}", fs.name(), what, length,
                                          by_ring ? "io_uring" : "the ioctl");
      Ring *const way = by_ring ? &ring : nullptr;
      // Read alone: the file was written plainly.
      {
        const HeldFile held(session, memory.fd(), path, DMABUF_RW_DIR_READ);
        if (!report().check(held.error() == 0, how + ": MAP",
                            errno_name(held.error()) + " " + reason_name(held.entry().reason)))
          return;
        const auto info = held.info();
        report().check(info.extents > 100 && info.held_bytes == file_bytes,
                       how + ": INFO has the file's extents",
                       std::format("{} extents, {} bytes", info.extents + 0, info.held_bytes + 0));
        memory.put(buffer_poison);
        if (!move_all(held, way, Direction::Read, length))
          return;
        std::vector<Word> wanted(file_bytes / 8);
        fill_pattern(wanted, generation - 1, 0);
        const auto bad = compare_words(memory.get(), wanted);
        report().check(!bad, how + ": reads", bad ? describe(*bad, 0) : "");
      }
      // Write alone: it is read plainly.
      {
        const HeldFile held(session, memory.fd(), path, DMABUF_RW_DIR_WRITE);
        if (!report().check(held.error() == 0, how + ": MAP for writing", errno_name(held.error())))
          return;
        memory.put(generation);
        if (!move_all(held, way, Direction::Write, length))
          return;
        file_holds(how + ": writes, read while it is held", path, generation);
      }
      file_holds(how + ": writes", path, generation++);
    }
  report().check(file.between_untouched(),
                 std::format("{}, {}: what lies between the pieces is untouched", fs.name(), what));
  ::unlink(path.c_str());
}

// The whole file by one command of many ranges, the last first.
bool move_ranges(const HeldFile &held, const Session &session, Ring &ring, Direction direction) {
  constexpr std::uint32_t length = 2 * piece;
  std::vector<dmabuf_rw_range> ranges(file_bytes / length);
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const std::uint64_t at = (ranges.size() - 1 - i) * length;
    ranges[i] = {.file_offset = at, .buffer_offset = at, .length = length};
  }
  const dmabuf_rw_uring_io io{.file_offset = 0, .handle = held.entry().handle, .flags = 0};
  const int good = ring.command(
      session.fd(), direction == Direction::Read ? DMABUF_RW_URING_READV : DMABUF_RW_URING_WRITEV,
      reinterpret_cast<std::uintptr_t>(ranges.data()), static_cast<std::uint32_t>(ranges.size()),
      io);
  return report().check(good == static_cast<int>(ranges.size()) &&
                            std::ranges::all_of(ranges,
                                                [](const dmabuf_rw_range &range) {
                                                  return range.moved == length && !range.error &&
                                                         !range.reason;
                                                }),
                        std::format("{} ranges of a file: {}", ranges.size(), name_of(direction)),
                        good < 0 ? errno_name(good) : std::to_string(good));
}

// Ranges are those of the file, not of the device that it is on.
void ranges_of_file(const FileSystem &fs, Memory &memory) {
  const std::string path = fs.path("ranges");
  const Session session;
  Ring ring(8);
  const std::string what = fs.name() + ", ranges of a file";
  make_file(path, file_bytes, 10);
  const HeldFile held(session, memory.fd(), path);
  if (!report().check(held.error() == 0, what + ": MAP", errno_name(held.error())))
    return;
  memory.put(buffer_poison);
  if (!move_ranges(held, session, ring, Direction::Read))
    return;
  std::vector<Word> wanted(file_bytes / 8);
  fill_pattern(wanted, 10, 0);
  const auto bad = compare_words(memory.get(), wanted);
  report().check(!bad, what + ": reads", bad ? describe(*bad, 0) : "");
  memory.put(11);
  if (move_ranges(held, session, ring, Direction::Write))
    file_holds(what + ": writes", path, 11);
}

// A file that ends inside a block.
void last_block(const FileSystem &fs, Memory &memory) {
  const std::string path = fs.path("tail");
  constexpr std::uint64_t size = 3 * block + 1234;
  make_file(path, size, 7);
  const Session session;
  Ring ring(8);
  const HeldFile held(session, memory.fd(), path);
  const std::string what = fs.name() + ", a file that ends inside a block";
  if (!report().check(held.error() == 0, what + ": MAP", errno_name(held.error())))
    return;
  std::vector<Word> expected((size + 7) / 8);
  fill_pattern(expected, 7, 0);
  for (Ring *const way : {&ring, static_cast<Ring *>(nullptr)}) {
    memory.put(buffer_poison);
    int got = held.move(way, Direction::Read, 0, 3 * block, 0);
    report().check(got == 3 * block, what + ": what comes before", errno_name(got));
    got = held.move(way, Direction::Read, 3 * block, 1536, 3 * block);
    report().check(got == 1234, what + ": the last block counts as far as the end",
                   std::format("{}", got));
    const std::vector<Word> got_words = memory.get();
    const auto bad =
        compare_words(std::span(got_words).first(size / 8), std::span(expected).first(size / 8));
    report().check(!bad, what + ": its bytes", bad ? describe(*bad, 0) : "");
    got = held.move(way, Direction::Read, 0, 2048, 3 * block);
    report().check(got == -EINVAL, what + ": a read past the last block", errno_name(got));
    got = held.move(way, Direction::Read, 0, 512, 4 * block);
    report().check(got == -EINVAL, what + ": a read past the end", errno_name(got));
    got = held.move(way, Direction::Write, 0, 1536, 3 * block);
    report().check(got == -EINVAL, what + ": a write past the end", errno_name(got));
    file_is(what + ": what is refused writes nothing", path, expected, size);
    // Of another generation than the rest of the file, and no more of it than was asked for.
    const std::uint32_t generation = way ? 8 : 9;
    memory.put(generation);
    got = held.move(way, Direction::Write, 3 * block, 512, 3 * block);
    report().check(got == 512, what + ": a write before the end", errno_name(got));
    fill_pattern(std::span(expected).subspan(3 * block / 8, 512 / 8), generation, 3 * block);
    file_is(what + ": written before the end", path, expected, size);
  }
}

void test_kind(const FileSystem &fs, Kind kind) {
  Memory memory(kind);
  both_ways(fs, memory, std::string(name_of(kind)), false);
  if (kind == Kind::Pages)
    both_ways(fs, memory, std::string(name_of(kind)) + ", unlike pieces", true);
  last_block(fs, memory);
  ranges_of_file(fs, memory);
}

} // namespace

void test_bytes(const FileSystem &fs) {
  test_kind(fs, Kind::Pages);
  test_kind(fs, Kind::Device);
}

// A device's memory without its driver's help: the drive reaches it by its address on the bus.
void test_bar(const FileSystem &fs) { test_kind(fs, Kind::Bar); }

} // namespace vmtest
