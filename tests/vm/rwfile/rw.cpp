// SPDX-License-Identifier: GPL-2.0-only
// RW: the I/O of the uring_cmds, waited for. Each direction alone, plain I/O as the witness.
#include "rwfile.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <linux/fs.h>
#include <random>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 300u << 20;
constexpr std::size_t bytes = 2u << 20;

// A mapping of `dmabuf_fd` for the drive.
struct Mapped {
  Mapped(const Session &in, int dmabuf_fd, int target_fd, Path path,
         std::uint32_t directions = both_directions)
      : session(in), entry(map_entry(dmabuf_fd, target_fd, path, directions)) {
    if (const int error = session.map_one(entry))
      die(std::format("MAP: {}, {}", errno_name(error), reason_name(entry.reason)));
  }
  Mapped(const Mapped &) = delete;
  Mapped &operator=(const Mapped &) = delete;
  ~Mapped() { session.unmap_one(entry.handle); }

  const Session &session;
  dmabuf_rw_map_entry entry;
};

void expect_rw(const std::string &name, const Session &session, dmabuf_rw_io io, long wanted,
               std::uint32_t reason = DMABUF_RW_REASON_NONE) {
  io.moved = 0x5555;
  io.reason = 0x5555;
  const int error = rw(session, io);
  expect_result(name, error ? error : static_cast<long>(io.moved), wanted);
  report().check(io.reason == reason, name + ": reason",
                 std::format("{} instead of {}", reason_name(io.reason), reason_name(reason)));
  if (error)
    report().check(io.moved == 0, name + ": nothing moved");
}

// The whole buffer against what it must hold.
void expect_buffer(const std::string &name, const DmaBuf &buffer, std::span<const Word> wanted) {
  const CpuAccess access(buffer, true);
  const auto wrong = compare_words(buffer.words(), wanted);
  report().check(!wrong, name, wrong ? describe(*wrong, 0) : "");
}

struct Transfer {
  std::uint64_t offset, length, position;
};

std::vector<Transfer> transfers(std::uint32_t align, std::uint64_t seed) {
  std::vector<Transfer> all = {
      {0, 512, 0},          {0, bytes, 0},         {512, 4096, 512},        {4096, 131072, 4096},
      {3584, 262656, 1024}, {bytes - 512, 512, 0}, {align, 8192, bytes / 2}};
  std::mt19937_64 random(seed);
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t length = 512 * (1 + random() % 1024), room = bytes - length;
    all.push_back(
        {random() % (room + 1) / align * align, length, random() % (room + 1) / 512 * 512});
  }
  // The comparison is by words.
  for (Transfer &t : all)
    t.offset = t.offset / 8 * 8;
  return all;
}

void both_ways(const RwOptions &options, Exporter exporter, Path path) {
  const std::string who = std::format("RW, {}, {}", name_of(path), name_of(exporter));
  const Session session;
  const UniqueFd target = open_target(options.nvme), plain = open_target(options.nvme);
  const DmaBuf buffer = must_make(exporter, bytes);
  DiskRegion region(plain.get(), disk_base, bytes);
  region.lay_down_all(9);
  HostBuffer model(bytes);
  std::uint64_t read_bytes = 0, written_bytes = 0, count = 0;
  std::uint32_t generation = 10;
  {
    const Mapped mapped(session, buffer.fd(), target.get(), path);
    for (const Transfer &t : transfers(std::max(8u, mapped.entry.buffer_align), options.seed)) {
      const std::string what =
          std::format("{} of {} at {}, on the drive at {}", who, t.length, t.offset, t.position);
      // A read alone: the drive was written by plain I/O, the buffer is looked at by the CPU.
      region.lay_down(++generation, disk_base + t.position, t.length);
      fill_pattern(model.words(), buffer_poison, 0);
      {
        const CpuAccess access(buffer, true);
        std::memcpy(buffer.words().data(), model.words().data(), bytes);
      }
      const auto part = model.words().subspan(t.offset / 8, t.length / 8);
      std::memcpy(part.data(), region.expected(disk_base + t.position, t.length).data(), t.length);
      expect_rw(
          what + ", read", session,
          rw_io(mapped.entry.handle, Direction::Read, t.offset, t.length, disk_base + t.position),
          static_cast<long>(t.length));
      expect_buffer(what + ", read: data", buffer, model.words());
      // A write alone: the buffer was filled by the CPU, the drive is read by plain I/O.
      fill_pattern(model.words(), ++generation, 0);
      {
        const CpuAccess access(buffer, true);
        std::memcpy(buffer.words().data(), model.words().data(), bytes);
      }
      std::memcpy(region.expected(disk_base + t.position, t.length).data(), part.data(), t.length);
      expect_rw(
          what + ", write", session,
          rw_io(mapped.entry.handle, Direction::Write, t.offset, t.length, disk_base + t.position),
          static_cast<long>(t.length));
      const auto wrong = region.check(disk_base + t.position, t.length, 65536);
      report().check(!wrong, what + ", write: data", wrong.value_or(""));
      ++count, read_bytes += t.length, written_bytes += t.length;
    }
    dmabuf_rw_info info{};
    session.info(mapped.entry.handle, info);
    report().check(
        info.reads == count && info.writes == count && info.read_bytes == read_bytes &&
            info.write_bytes == written_bytes && info.errors == 0 && info.commands >= 2 * count,
        who + ": counters",
        std::format("{} reads, {} writes, {} errors", info.reads, info.writes, info.errors));
  }
  const auto wrong = region.check_all();
  report().check(!wrong, who + ": the drive in the end", wrong.value_or(""));
}

// Pages of the target in the page cache are written back, and dropped.
void page_cache(const RwOptions &options) {
  const std::string who = "RW beside the page cache";
  const Session session;
  const UniqueFd target = open_target(options.nvme);
  const UniqueFd cached = open_target(options.nvme, O_RDWR | O_CLOEXEC);
  const DmaBuf buffer = must_make(Exporter::Udmabuf, 65536);
  const Mapped mapped(session, buffer.fd(), target.get(), Path::Premapped);
  HostBuffer host(65536);
  fill_pattern(host.words(), 77, 0);
  write_plain(cached.get(), host.words(), disk_base);
  expect_rw(who + ": read of what is dirty there", session,
            rw_io(mapped.entry.handle, Direction::Read, 0, 65536, disk_base), 65536);
  expect_buffer(who + ": it is the new data", buffer, host.words());
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), 78, 0);
  }
  read_plain(cached.get(), host.words(), disk_base);
  expect_rw(who + ": write", session,
            rw_io(mapped.entry.handle, Direction::Write, 0, 65536, disk_base), 65536);
  read_plain(cached.get(), host.words(), disk_base);
  HostBuffer wanted(65536);
  fill_pattern(wanted.words(), 78, 0);
  const auto wrong = compare_words(host.words(), wanted.words());
  report().check(!wrong, who + ": buffered reads see it", wrong ? describe(*wrong, 0) : "");
}

// bvec, a file through the page cache: short at its end, longer after a write.
void short_file() {
  const std::string who = "RW, a file";
  const Session session;
  const DmaBuf buffer = must_make(Exporter::Udmabuf, 65536);
  const UniqueFd file(::open("/tmp/vmtest-rw", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  Bytes data(10000), found(10000);
  fill_random(data, 3);
  if (!file || ::pwrite(file.get(), data.data(), data.size(), 0) != 10000)
    die("cannot write /tmp/vmtest-rw");
  {
    const Mapped mapped(session, buffer.fd(), file.get(), Path::Bvec);
    const std::uint32_t handle = mapped.entry.handle;
    expect_rw(who + ": read to its end", session, rw_io(handle, Direction::Read, 100, 8192, 8001),
              1999);
    {
      const CpuAccess access(buffer, true);
      const auto *at = reinterpret_cast<const std::byte *>(buffer.words().data());
      const std::string wrong = differ({at + 100, 1999}, std::span(data).subspan(8001));
      report().check(wrong.empty(), who + ": its data", wrong);
    }
    expect_rw(who + ": read past its end", session, rw_io(handle, Direction::Read, 0, 10, 10000),
              0);
    expect_rw(who + ": write past its end", session,
              rw_io(handle, Direction::Write, 100, 999, 9500), 999);
    expect_result(who + ": its size", ::lseek(file.get(), 0, SEEK_END), 10499);
    found.resize(999);
    expect_result(who + ": plain read", ::pread(file.get(), found.data(), 999, 9500), 999);
    const std::string wrong = differ(found, std::span(data).subspan(8001, 999));
    report().check(wrong.empty(), who + ": what was written", wrong);
    expect_rw(who + ": offsets past what a file may have", session,
              rw_io(handle, Direction::Read, 0, 4096, 1ull << 63), -EINVAL, DMABUF_RW_REASON_RANGE);
  }
  ::unlink("/tmp/vmtest-rw");
}

struct BadRange {
  const char *name;
  std::uint64_t offset, length, position;
};

std::vector<BadRange> bad_ranges(std::uint64_t size, std::uint64_t disk, std::uint64_t most) {
  return {{"no bytes", 0, 0, disk_base},
          {"more than QUERY says", 0, most + 4096, disk_base},
          {"4 GiB and a page", 0, (1ull << 32) + 4096, disk_base},
          {"2^64 - 4096 bytes", 0, ~0ull << 12, disk_base},
          {"one block past the buffer", size - 4096, 8192, disk_base},
          {"from the buffer's end", size, 4096, disk_base},
          {"an offset that wraps", ~0ull << 12, 8192, disk_base},
          {"an offset past 2^63", 1ull << 63, 4096, disk_base},
          {"past the drive", 0, 8192, disk - 4096},
          {"from the drive's end", 0, 4096, disk},
          {"a position that wraps", 0, 8192, ~0ull << 12},
          {"a position past 2^63", 0, 4096, 1ull << 63},
          {"a length that is no block", 0, 513, disk_base},
          {"a position that is no block", 0, 4096, disk_base + 1}};
}

// Mappings for one direction, asked for the other.
void wrong_directions(const std::string &who, const Session &session, const dmabuf_rw_io &good,
                      std::uint32_t reads, std::uint32_t writes) {
  dmabuf_rw_io io = good;
  io.handle = writes;
  expect_rw(who + ": read of a mapping for writes", session, io, -EACCES,
            DMABUF_RW_REASON_DIRECTION);
  io.handle = reads;
  io.direction = DMABUF_RW_DIR_WRITE;
  expect_rw(who + ": write of a mapping for reads", session, io, -EACCES,
            DMABUF_RW_REASON_DIRECTION);
  dmabuf_rw_info info{};
  session.info(reads, info);
  report().check(info.last_error == EACCES && info.last_reason == DMABUF_RW_REASON_DIRECTION &&
                     info.errors == 1,
                 who + ": INFO tells that, too", reason_name(info.last_reason));
}

// RW of one mapping, refused in every way; then drive and dma-buf are as they were.
class Refusals {
public:
  Refusals(const RwOptions &options, Path path)
      : who_(std::format("RW, {}", name_of(path))), path_(path), target_(open_target(options.nvme)),
        plain_(open_target(options.nvme)) {
    region_.lay_down_all(5);
    fill_pattern(poison_.words(), buffer_poison, 0);
    const CpuAccess access(buffer_, true);
    std::memcpy(buffer_.words().data(), poison_.words().data(), bytes);
  }

  void run() {
    const Mapped mapped(session_, buffer_.fd(), target_.get(), path_),
        reads(session_, buffer_.fd(), target_.get(), path_, DMABUF_RW_DIR_READ),
        writes(session_, buffer_.fd(), target_.get(), path_, DMABUF_RW_DIR_WRITE);
    good_ = rw_io(mapped.entry.handle, Direction::Read, 0, 4096, disk_base);
    arguments();
    ranges(mapped.entry.buffer_align);
    wrong_directions(who_, session_, good_, reads.entry.handle, writes.entry.handle);
    const Session other;
    expect_rw(who_ + ": a handle of another session", other, good_, -ENOENT,
              DMABUF_RW_REASON_HANDLE);
    if (path_ == Path::Premapped)
      read_only_drive();
    expect_result(who_ + ": a structure that is not there",
                  outcome(::ioctl(session_.fd(), DMABUF_RW_IOC_IO, nullptr)), -EFAULT);
    const auto wrong = region_.check_all();
    report().check(!wrong, who_ + ": the drive is as it was", wrong.value_or(""));
    expect_buffer(who_ + ": the dma-buf is as it was", buffer_, poison_.words());
    if (!older_kernel())
      registered();
  }

private:
  using Io = dmabuf_rw_io;

  // In both directions.
  void refused(const std::string &what, auto spoil, int error, std::uint32_t reason) {
    for (const Direction direction : {Direction::Read, Direction::Write}) {
      Io io = good_;
      io.direction = direction == Direction::Read ? DMABUF_RW_DIR_READ : DMABUF_RW_DIR_WRITE;
      spoil(io);
      expect_rw(std::format("{}, {}: {}", who_, name_of(direction), what), session_, io, -error,
                reason);
    }
  }

  void arguments() {
    std::uint32_t gone = 0;
    {
      const Mapped shortly(session_, buffer_.fd(), target_.get(), path_);
      gone = shortly.entry.handle;
    }
    for (const std::uint32_t handle : {0u, 1u, ~0u, gone, good_.handle ^ (1u << 20)})
      refused(
          std::format("handle 0x{:x}", handle), [=](Io &io) { io.handle = handle; }, ENOENT,
          DMABUF_RW_REASON_HANDLE);
    for (const std::uint32_t direction : {0u, 3u, 4u, ~0u})
      refused(
          std::format("direction {}", direction), [=](Io &io) { io.direction = direction; }, EINVAL,
          DMABUF_RW_REASON_ARGUMENT);
    for (int bit = 0; bit < 32; ++bit)
      refused(
          std::format("flag bit {}", bit), [=](Io &io) { io.flags = 1u << bit; }, EINVAL,
          DMABUF_RW_REASON_ARGUMENT);
    for (int i = 0; i < 2; ++i)
      refused("padding", [=](Io &io) { io.reserved[i] = 1; }, EINVAL, DMABUF_RW_REASON_ARGUMENT);
  }

  void ranges(std::uint32_t buffer_align) {
    dmabuf_rw_query query{};
    session_.query(query);
    const std::uint64_t disk = block_device_bytes(plain_.get());
    for (const BadRange &r : bad_ranges(bytes, disk, query.max_io_bytes)) {
      // Past its end the block layer reads 0 bytes, and has no space for any.
      const bool end = path_ == Path::Bvec && (r.position == disk || r.position == disk - 4096);
      if (!end)
        refused(
            r.name,
            [&](Io &io) {
              io.buffer_offset = r.offset, io.length = r.length, io.file_offset = r.position;
            },
            EINVAL, DMABUF_RW_REASON_RANGE);
    }
    if (buffer_align > 1)
      refused(
          "a misaligned buffer offset", [](Io &io) { io.buffer_offset = 1; }, EINVAL,
          DMABUF_RW_REASON_RANGE);
  }

  void read_only_drive() {
    int value = 1;
    ::ioctl(plain_.get(), BLKROSET, &value);
    Io io = good_;
    io.direction = DMABUF_RW_DIR_WRITE;
    expect_rw(who_ + ": write to a read-only drive", session_, io, -EPERM,
              DMABUF_RW_REASON_READ_ONLY);
    value = 0;
    ::ioctl(plain_.get(), BLKROSET, &value);
  }

  void registered() {
    const Mapped mapping(session_, buffer_.fd(), target_.get(), Path::Registered);
    Io io = good_;
    io.handle = mapping.entry.handle;
    expect_rw(who_ + ": a registered mapping", session_, io, -EOPNOTSUPP, DMABUF_RW_REASON_HANDLE);
  }

  const std::string who_;
  const Path path_;
  const Session session_;
  const UniqueFd target_, plain_;
  const DmaBuf buffer_ = must_make(Exporter::Udmabuf, bytes);
  DiskRegion region_{plain_.get(), disk_base, bytes};
  HostBuffer poison_{bytes};
  Io good_{};
};

// Until nobody is attached to the buffer, and nothing was written where it had been.
void nothing_left(const TestBuffer &buffer, const std::string &name) {
  dmabuf_testexp_stats stats = buffer.must_stats();
  for (int tries = 0; tries < 250 && (stats.attachments || stats.mappings); ++tries) {
    ::usleep(20000);
    stats = buffer.must_stats();
  }
  report().check(stats.attachments == 0 && stats.mappings == 0 && stats.maps == stats.unmaps,
                 name + ": nothing is left", std::format("{} attachments", stats.attachments));
  for (int i = 0; i < 5; ++i)
    expect_result(name + ": the buffer can be moved", buffer.move(), 0);
  stats = buffer.must_stats();
  report().check(stats.stray_words == 0, name + ": nobody wrote to memory that was taken away",
                 std::format("{} words", stats.stray_words));
}

void fences(const TestBuffer &buffer, int target) {
  const std::string who = "RW and a fence";
  constexpr double timeout = 0.5;
  const Session session = session_with_timeout(static_cast<std::uint32_t>(timeout * 1000));
  const Mapped mapped(session, buffer.fd(), target, Path::Premapped);
  const auto io = rw_io(mapped.entry.handle, Direction::Read, 0, 65536, disk_base);
  double begin = now_s();
  buffer.add_fence(DMABUF_TESTEXP_USAGE_READ, 200);
  expect_rw(who, session, io, 65536);
  report().check(waited(now_s() - begin, 0.2), who + ": waits",
                 std::format("{:.4f} s", now_s() - begin));
  buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER);
  begin = now_s();
  expect_rw(who + " that never signals", session, io, -ETIMEDOUT, DMABUF_RW_REASON_FENCE_TIMEOUT);
  const double took = now_s() - begin;
  report().check(waited(took, timeout) && took < timeout + 2, who + ": the time-out",
                 std::format("{:.3f} s", took));
  buffer.signal();
  expect_rw(who + " once it has signalled", session, io, 65536);
}

// Killed while it waits for a fence, and while it reads for all it can.
void killed(const RwOptions &options, const TestBuffer &buffer, bool fenced, int delay_ms) {
  const std::string who = fenced ? "RW killed in the wait for a fence" : "RW killed in the middle";
  if (fenced)
    buffer.add_fence(DMABUF_TESTEXP_USAGE_WRITE, 0, DMABUF_TESTEXP_FENCE_NEVER);
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    const Session session;
    const UniqueFd target = open_target(options.nvme);
    auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
    if (session.map_one(entry))
      ::_exit(4);
    auto io = rw_io(entry.handle, Direction::Read, 0, buffer.size(), disk_base);
    while (rw(session, io) == 0 && !fenced)
      ;
    ::_exit(3);
  }
  for (int tries = 0; tries < 500 && buffer.must_stats().mappings == 0; ++tries)
    ::usleep(5000);
  report().check(wait_child(child, delay_ms / 1000.0) == -1, who + ": it is at it");
  const double begin = now_s();
  ::kill(child, SIGKILL);
  const int status = wait_child(child, 10);
  report().check(status != -1 && WIFSIGNALED(status), who + ": it ends",
                 std::format("0x{:x}", status));
  report().check(now_s() - begin < 5, who + ": at once");
  if (fenced)
    report().check(buffer.must_stats().fences == 1, who + ": the fence is pending");
  buffer.signal();
  nothing_left(buffer, who);
}

// Reads with the memory moving, revoked and given back meanwhile.
void moving(const RwOptions &options, const TestBuffer &buffer, int target, DiskRegion &region) {
  const std::string who = "RW while the memory moves";
  const Session session;
  const Mapped mapped(session, buffer.fd(), target, Path::Premapped);
  const std::size_t size = buffer.size();
  std::vector<Word> words(size / 8);
  if (const int error = buffer.start_mover(500, 0, DMABUF_TESTEXP_MOVER_MAPPED))
    die("MOVER_START: " + errno_name(error));
  const double end = now_s() + options.seconds, limit = end + 60;
  std::uint32_t generation = 100;
  std::uint64_t rounds = 0;
  const auto enough = [&] {
    return now_s() >= end && rounds >= 3 && buffer.must_stats().moves >= 10;
  };
  while (!enough() && now_s() < limit) {
    region.lay_down(++generation, disk_base, size);
    expect_rw(who + ", read", session,
              rw_io(mapped.entry.handle, Direction::Read, 0, size, disk_base),
              static_cast<long>(size));
    buffer.must_read(words, 0);
    auto wrong = compare_words(words, region.expected(disk_base, size));
    report().check(!wrong, who + ", read: data", wrong ? describe(*wrong, 0) : "");
    buffer.put_pattern(0, size, ++generation, disk_base);
    expect_rw(who + ", write", session,
              rw_io(mapped.entry.handle, Direction::Write, 0, size, disk_base),
              static_cast<long>(size));
    fill_pattern(region.expected(disk_base, size), generation, disk_base);
    const auto bad = region.check(disk_base, size, 0);
    report().check(!bad, who + ", write: data", bad.value_or(""));
    ++rounds;
  }
  buffer.stop_mover();
  const auto stats = buffer.must_stats();
  report().check(stats.moves >= 10 && rounds >= 3, who + ": it moved");
  report().note(std::format("{}: {} moves, {} rounds", who, stats.moves, rounds));

  const auto io = rw_io(mapped.entry.handle, Direction::Read, 0, 65536, disk_base);
  buffer.revoke();
  for (int i = 0; i < 2; ++i)
    expect_rw("RW of revoked memory", session, io, -ENODEV, DMABUF_RW_REASON_REVOKED);
  buffer.unrevoke();
  expect_rw("RW of what came back", session, io, 65536);

  // UNMAP with an RW in flight: it ends with its data, or meets no mapping.
  std::atomic<bool> stop = false;
  auto entry = map_entry(buffer.fd(), target, Path::Premapped);
  std::jthread worker([&] {
    while (!stop) {
      auto mine = rw_io(entry.handle, Direction::Read, 0, size, disk_base);
      const int error = rw(session, mine);
      if (error && error != -ENOENT)
        report().fail("RW beside UNMAP", errno_name(error));
    }
  });
  for (int i = 0; i < 30; ++i) {
    auto next = map_entry(buffer.fd(), target, Path::Premapped);
    expect_result("MAP beside RW", session.map_one(next), 0);
    entry.handle = next.handle;
    ::usleep(3000);
    expect_result("UNMAP beside RW", session.unmap_one(next.handle), 0);
  }
  stop = true;
}

} // namespace

void test_rw(const RwOptions &options) {
  for (const Path path : {Path::Premapped, Path::Bvec}) {
    for (const Exporter exporter : {Exporter::UdmabufScattered, Exporter::VirtioGpu})
      both_ways(options, exporter, path);
    Refusals(options, path).run();
  }
  page_cache(options);
  short_file();
}

void test_rw_waits(const RwOptions &options) {
  const Testexp testexp;
  const TestBuffer buffer = testexp.make(gpu_buffer(1u << 20, options.seed));
  const UniqueFd target = open_target(options.nvme), plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base, buffer.size());
  region.lay_down_all(1);
  fences(buffer, target.get());
  killed(options, buffer, true, 300);
  for (int i = 0; i < options.kills; ++i)
    killed(options, buffer, false, 20 + i * 13);
  if (testexp.can_move())
    moving(options, buffer, target.get(), region);
  else
    report().skip("RW while the memory moves", "this kernel pins mapped buffers");
  nothing_left(buffer, "RW");
}

} // namespace vmtest
