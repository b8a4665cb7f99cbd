// SPDX-License-Identifier: GPL-2.0-only
// Within direct I/O a file system may copy by the CPU: what it compresses, sums, keeps in its
// journal or has in the page cache for want of a whole block. The exporter is told of that as of
// any other access of the CPU, or the bytes are stale. Where a device moves them, nobody is told,
// and no I/O waits for a worker.
#include "attacks.hpp"
#include "lib/file_system.hpp"

#include <algorithm>
#include <fcntl.h>
#include <functional>
#include <linux/fsverity.h>
#include <sys/ioctl.h>

namespace vmtest {

namespace {

constexpr std::size_t bytes = 64u << 10;

struct Piece {
  std::size_t buffer, length, file;
};
constexpr Piece whole = {0, bytes, 0}, blocks = {8192, 12288, 4096}, sectors = {1024, 2560, 4608};
// The file ends before the buffer does: the rest of the buffer stays as it was.
constexpr Piece past_the_end = {0, bytes, bytes - 8192};

TestBuffer make_test_buffer(const Testexp &testexp, std::uint32_t flags) {
  dmabuf_testexp_create create{};
  create.bytes = bytes;
  create.seed = 1;
  create.flags = flags;
  create.segment_min = 4096;
  return testexp.make(create);
}

std::uint32_t next_generation() {
  static std::uint32_t generation = 10;
  return ++generation;
}

// By the ring, or by the ioctl.
int moved(Mover &mover, bool by_ring, Direction direction, const Piece &piece) {
  const auto length = static_cast<std::uint32_t>(piece.length);
  return by_ring ? mover.transfer(direction, piece.buffer, length, piece.file)
                 : mover.waited(direction, piece.buffer, length, piece.file);
}

constexpr off_t position = 4096;

// A descriptor whose position is none that a new one has.
UniqueFd open_at(const std::string &path, int flags) {
  UniqueFd file = open_target(path, flags);
  if (::lseek(file.get(), position, SEEK_SET) != position)
    die(path + ": lseek: " + errno_name(errno));
  return file;
}

std::uint64_t deferred_so_far(const Session &session, const Mover &mover) {
  dmabuf_rw_info info{};
  if (const int error = session.info(mover.entry().handle, info))
    die("INFO: " + errno_name(error));
  return info.deferred;
}

// What a file holds, by its file system.
void read_file_into(const std::string &path, std::span<Word> words) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file || ::pread(file.get(), words.data(), words.size_bytes(), 0) !=
                   static_cast<ssize_t>(words.size_bytes()))
    die(path + ": " + errno_name(errno));
}

class Copied {
public:
  // The file is open for reading and writing, unless `read_only`.
  Copied(std::string name, std::string path, const TestBuffer &buffer, bool read_only = false)
      : name_(std::move(name)), path_(std::move(path)), buffer_(buffer),
        target_(open_at(path_, (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC)),
        mover_(session_, ring_, buffer.fd(), target_.get(), Path::Bvec, 0,
               read_only ? std::uint32_t{DMABUF_RW_DIR_READ} : both_directions) {
    if (mover_.error())
      die(name_ + ": MAP: " + errno_name(mover_.error()));
    report().check(::lseek(target_.get(), 0, SEEK_CUR) == position,
                   name_ + ": MAP leaves the descriptor's position where it is");
    read_file_into(path_, file_.words());
  }

  void read(const Piece &piece) {
    for (const bool by_ring : {true, false}) {
      buffer_.put_pattern(0, bytes, 5, 0);
      const std::size_t there = std::min(piece.length, bytes - piece.file);
      const int got = announced(by_ring, Direction::Read, piece);
      report().check(got == static_cast<int>(there), label("READ", by_ring, piece),
                     errno_name(got));
      fill_pattern(want_.words(), 5, 0);
      std::ranges::copy(file_.words().subspan(piece.file / 8, there / 8),
                        want_.words().subspan(piece.buffer / 8).begin());
      buffer_.must_read(found_.words(), 0);
      // Direct I/O may clear what was asked for beyond the end of the file.
      if (const auto beyond = want_.words().subspan((piece.buffer + there) / 8);
          there < piece.length && found_.words()[(piece.buffer + there) / 8] == 0)
        std::ranges::fill(beyond.first((piece.length - there) / 8), Word{0});
      compare(label("READ", by_ring, piece) + ": every byte of the dma-buf", found_.words(),
              want_.words());
    }
  }

  void write(const Piece &piece) {
    for (const bool by_ring : {true, false}) {
      const std::uint32_t generation = next_generation();
      buffer_.put_pattern(0, bytes, generation, 0);
      if (before_write_)
        before_write_();
      const int put = announced(by_ring, Direction::Write, piece);
      report().check(put == static_cast<int>(piece.length), label("WRITE", by_ring, piece),
                     errno_name(put));
      fill_pattern(want_.words(), generation, 0);
      std::ranges::copy(want_.words().subspan(piece.buffer / 8, piece.length / 8),
                        file_.words().subspan(piece.file / 8).begin());
      read_file_into(path_, found_.words());
      compare(label("WRITE", by_ring, piece) + ": every byte of the file", found_.words(),
              file_.words());
    }
  }

  void all() {
    for (const Piece &piece : {whole, blocks, sectors}) {
      write(piece);
      read(piece);
    }
    read(past_the_end);
    ended_as_begun();
  }

  void ended_as_begun() const {
    const auto stats = buffer_.must_stats();
    for (int dir = 0; dir < DMABUF_TESTEXP_NR_DIRS; ++dir)
      report().check(stats.cpu_begins[dir] == stats.cpu_ends[dir],
                     std::format("{}: accesses of direction {} end as they began", name_, dir));
  }
  // Called before each write.
  void before_write(std::function<void()> call) { before_write_ = std::move(call); }

private:
  // One I/O, of which the exporter is told in its direction, and in no other; by the ring from a
  // worker.
  int announced(bool by_ring, Direction direction, const Piece &piece) {
    const bool fills = direction == Direction::Read;
    const int told = fills ? DMABUF_TESTEXP_DIR_BIDIRECTIONAL : DMABUF_TESTEXP_DIR_FROM_DEVICE;
    const auto before = buffer_.must_stats();
    const std::uint64_t deferred = deferred_so_far(session_, mover_);
    const int result = moved(mover_, by_ring, direction, piece);
    const auto after = buffer_.must_stats();
    const std::string what = label(fills ? "READ" : "WRITE", by_ring, piece);
    for (int dir = 0; dir < DMABUF_TESTEXP_NR_DIRS; ++dir) {
      const std::uint32_t begun = after.cpu_begins[dir] - before.cpu_begins[dir];
      report().check(dir == told ? begun > 0 : begun == 0,
                     std::format("{}: the exporter is told of direction {} alone", what, told),
                     std::format("{} accesses of direction {}", begun, dir));
    }
    if (by_ring)
      report().check(deferred_so_far(session_, mover_) > deferred,
                     what + ": who submits does not wait for the exporter");
    return result;
  }
  std::string label(std::string_view what, bool by_ring, const Piece &piece) const {
    return std::format("{}: {} of {} bytes at {} by {}", name_, what, piece.length, piece.file,
                       by_ring ? "the ring" : "the ioctl");
  }
  static void compare(const std::string &what, std::span<const Word> found,
                      std::span<const Word> want) {
    const auto wrong = compare_words(found, want);
    report().check(!wrong, what, wrong ? describe(*wrong, 0) : "");
  }

  std::string name_, path_;
  const TestBuffer &buffer_;
  UniqueFd target_;
  Session session_;
  Ring ring_ = Ring(8);
  Mover mover_;
  std::function<void()> before_write_;
  HostBuffer file_ = HostBuffer(bytes), want_ = HostBuffer(bytes), found_ = HostBuffer(bytes);
};

struct System {
  const char *name, *type, *options;
};
// The last one hands the bytes to the drive: to tell the exporter of that harms nothing.
constexpr System systems[] = {{"btrfs that compresses", "btrfs", "compress-force=zstd"},
                              {"btrfs", "btrfs", nullptr},
                              {"ext4 with data=journal", "ext4", "data=journal"},
                              {"btrfs with nodatacow", "btrfs", "nodatacow"}};

void on_system(const System &system, const TestBuffer &buffer) {
  const FileSystem fs(system.type, 0, 512u << 20, system.options);
  const std::string path = fs.path("file");
  make_file(path, bytes, 4);
  Copied(system.name, path, buffer).all();
}

// Data goes through the journal from the middle of a mapping's life on.
void journal_later(const TestBuffer &buffer) {
  const FileSystem fs("ext4", 0, 512u << 20, "nodelalloc");
  const std::string path = fs.path("file");
  make_file(path, bytes, 4);
  Copied copied("ext4, its data in the journal since it is mapped", path, buffer);
  shell("chattr +j " + path);
  copied.all();
}

// The same with fs-verity, after which nobody reads but by the page cache.
void verity_later(const TestBuffer &buffer) {
  if (!ext4_has_verity())
    return report().skip("verity", "this kernel has no fs-verity");
  const FileSystem fs("ext4", 0);
  const std::string path = fs.path("file");
  make_file(path, bytes, 4);
  Copied copied("ext4, with fs-verity since it is mapped", path, buffer, true);
  const UniqueFd file = open_target(path, O_RDONLY | O_CLOEXEC);
  fsverity_enable_arg arg{};
  arg.version = 1;
  arg.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
  arg.block_size = 4096;
  if (::ioctl(file.get(), FS_IOC_ENABLE_VERITY, &arg) != 0)
    die("FS_IOC_ENABLE_VERITY: " + errno_name(errno));
  for (const Piece &piece : {whole, blocks, past_the_end})
    copied.read(piece);
  copied.ended_as_begun();
}

// xfs takes what is no whole block through the page cache, where the block is another file's, too.
void shared_blocks(const TestBuffer &buffer) {
  const FileSystem fs("xfs", 0);
  const std::string path = fs.path("file");
  make_file(path, bytes, 4);
  Copied copied("xfs, blocks that are shared", path, buffer);
  // Anew each time: a write gives the file blocks of its own.
  copied.before_write([&] { shell(std::format("cp --reflink=always {0} {0}.twin", path)); });
  copied.write(sectors);
  copied.read(sectors);
  copied.ended_as_begun();
}

// What is in no block of a plain file is cleared by the CPU, in the middle of the file or past its
// end.
void holes(const char *type, const TestBuffer &buffer) {
  const FileSystem fs(type, 0);
  const std::string path = fs.path("file");
  make_file(path, bytes, 4);
  Copied whole_file(std::format("{}, past the end", type), path, buffer, true);
  whole_file.read(past_the_end);
  whole_file.ended_as_begun();
  shell(std::format("fallocate --punch-hole --offset 8192 --length 16384 {}", path));
  Copied copied(std::format("{}, with a hole", type), path, buffer, true);
  copied.read(whole);
  copied.read(blocks);
  copied.ended_as_begun();
}

// The same where the blocks of a file are no fewer than its size takes: those that list its pieces
// count, too, and those that were allocated and never written.
void hidden_holes(const char *type, const TestBuffer &buffer) {
  const FileSystem fs(type, 0);
  const PiecesFile made(fs, "pieces", bytes, 8192, 4);
  shell(std::format("fallocate --punch-hole --offset 12288 --length 4096 {}", fs.path("pieces")));
  shell(std::format("fallocate --length {} {}", bytes, fs.path("unwritten")));
  for (const char *const name : {"pieces", "unwritten"}) {
    Copied copied(std::format("{}, {}", type, name), fs.path(name), buffer, true);
    copied.read(whole);
    copied.read(blocks);
    copied.ended_as_begun();
  }
}

// A disk that sums each block needs pages that nobody changes meanwhile, and xfs copies direct I/O
// for it: here the sum goes to the drive beside the block. ext4 does not copy; to tell the exporter
// harms nothing.
void summed(const std::string &type, const std::string &disk, const TestBuffer &buffer) {
  const FileSystem fs(type, FileSystem::Disk{disk});
  const std::string path = fs.path("file");
  make_file(path, bytes, 4);
  Copied copied(fs.name() + ", which is summed", path, buffer);
  const Hurt hurt;
  const auto copies = [&](const char *what, const std::function<void()> &two_ios) {
    hurt.watch_rights("bio_iov_iter_bounce");
    two_ios();
    const int calls = hurt.rights().by_root;
    hurt.rights_off();
    report().check(type == "xfs" ? calls >= 2 : calls == 0,
                   std::format("{}: {}: xfs copies, and ext4 does not", fs.name(), what),
                   std::format("{} copies", calls));
  };
  for (const Piece &piece : {whole, blocks}) {
    copies("WRITE", [&] { copied.write(piece); });
    copies("READ", [&] { copied.read(piece); });
  }
  copied.read(past_the_end);
  copied.ended_as_begun();
}

// A device moves the bytes: the exporter hears nothing, and the submitter's call sends the I/O.
void by_device(const std::string &name, const std::string &path, const Testexp &testexp) {
  const TestBuffer buffer = make_test_buffer(testexp, 0);
  const UniqueFd target = open_target(path);
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Bvec);
  if (mover.error())
    die(name + ": MAP: " + errno_name(mover.error()));
  const auto deferred = [&] { return deferred_so_far(session, mover); };
  const auto before = buffer.must_stats();
  std::uint64_t waited = 0;
  // The first two may have to wait for the file's times.
  for (const Direction direction : {Direction::Write, Direction::Read, Direction::Read}) {
    waited = deferred();
    const int got = moved(mover, true, direction, blocks);
    report().check(got == static_cast<int>(blocks.length), name, errno_name(got));
  }
  report().check(deferred() == waited, name + ": a READ waits for no worker");
  const auto after = buffer.must_stats();
  for (int dir = 0; dir < DMABUF_TESTEXP_NR_DIRS; ++dir)
    report().check(after.cpu_begins[dir] == before.cpu_begins[dir],
                   name + ": the exporter is told nothing");
}

} // namespace

void attack_cpu_sums() {
  constexpr unsigned four_kib_blocks_with_sums = 7;
  const std::string disk = formats_namespace(four_kib_blocks_with_sums);
  const std::string format = read_file("/sys/block" + disk.substr(4) + "/integrity/format");
  if (!format.starts_with("T10-DIF"))
    die(disk + ": no sums: " + format);
  const Testexp testexp;
  const TestBuffer buffer = make_test_buffer(testexp, DMABUF_TESTEXP_SHADOW);
  for (const char *const type : {"xfs", "ext4"})
    summed(type, disk, buffer);
}

void attack_cpu_copies() {
  const Testexp testexp;
  const TestBuffer buffer = make_test_buffer(testexp, DMABUF_TESTEXP_SHADOW);
  for (const System &system : systems)
    on_system(system, buffer);
  journal_later(buffer);
  verity_later(buffer);
  shared_blocks(buffer);
  for (const char *const type : {"ext4", "xfs"}) {
    holes(type, buffer);
    hidden_holes(type, buffer);
  }
  by_device("the drive", drive, testexp);
  for (const char *const type : {"ext4", "xfs"}) {
    const FileSystem fs(type, 0);
    make_file(fs.path("file"), bytes, 4);
    by_device(type, fs.path("file"), testexp);
  }
}

} // namespace vmtest
