// SPDX-License-Identifier: GPL-2.0-only
// What the module shows to those who watch it: every field of every trace event of a known
// sequence, and every column of debugfs' list of mappings, while nothing happens and under load.
// Each is compared with what this program knows, so that no address has room among them.
//
// usage: watch
// Destroys the data on /dev/nvme0n1. Needs tracefs and debugfs.
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <sys/stat.h>
#include <thread>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t kib = 1024, mib = 1024 * kib;
constexpr std::uint64_t disk_base = 64 * mib;
constexpr char node[] = "/dev/nvme0n1";
constexpr char mappings_file[] = "/sys/kernel/debug/dmabuf_rw/mappings";

std::uint64_t inode_of(int fd) {
  struct stat state{};
  if (::fstat(fd, &state) != 0)
    die("fstat of a dma-buf");
  return state.st_ino;
}

// A trace buffer of this program's own, with all events of the module.
class Trace {
public:
  Trace() {
    std::error_code error;
    std::filesystem::create_directory(folder_, error);
    if (error)
      die("no tracefs instance: " + error.message());
    write("events/dmabuf_rw/enable", "1");
    write("tracing_on", "1");
  }
  Trace(const Trace &) = delete;
  Trace &operator=(const Trace &) = delete;
  ~Trace() {
    write("events/dmabuf_rw/enable", "0");
    std::error_code ignored;
    std::filesystem::remove(folder_, ignored);
  }

  // "dmabuf_rw_map: session=…", in order.
  std::vector<std::string> events() const {
    std::vector<std::string> found;
    std::ifstream file(folder_ / "trace");
    for (std::string line; std::getline(file, line);)
      if (const auto at = line.find(": dmabuf_rw_"); at != std::string::npos)
        found.push_back(line.substr(at + 2));
    return found;
  }

private:
  void write(const char *file, const char *value) const {
    std::ofstream out(folder_ / file);
    if (!(out << value << std::flush))
      die(std::format("{} of tracefs", file));
  }
  std::filesystem::path folder_ = "/sys/kernel/tracing/instances/vmtest";
};

// One line of `mappings`.
struct Row {
  std::uint64_t session, pid, handle;
  std::string path, state;
  std::uint64_t dmabuf, bytes, segments, shared, reads, writes, commands, errors, moves;
};

constexpr char header[] = "session pid handle path state dmabuf bytes segments shared reads writes "
                          "commands errors moves";

// All rows; a line that is not one is a failure.
std::vector<Row> mappings() {
  std::ifstream file(mappings_file);
  if (!file)
    die(std::format("{} cannot be read", mappings_file));
  std::vector<Row> rows;
  std::string line;
  std::getline(file, line);
  std::istringstream first(line);
  std::string words;
  for (std::string word; first >> word;)
    words += (words.empty() ? "" : " ") + word;
  report().check(words == header, "mappings: the header", line);
  static const std::regex whole(
      R"(\s*(\d+)\s+(\d+)\s+0x([0-9a-f]+)\s+(\S+)\s+(\S+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*)");
  while (std::getline(file, line)) {
    std::smatch m;
    if (!report().check(std::regex_match(line, m, whole), "mappings: a line", line))
      continue;
    const auto number = [&](std::size_t i, int base = 10) {
      return std::stoull(m[i], nullptr, base);
    };
    rows.push_back({number(1), number(2), number(3, 16), m[4], m[5], number(6), number(7),
                    number(8), number(9), number(10), number(11), number(12), number(13),
                    number(14)});
  }
  return rows;
}

const Row *row_of(const std::vector<Row> &rows, std::uint32_t handle) {
  const auto at = std::ranges::find_if(rows, [&](const Row &row) {
    return row.handle == handle && row.pid == static_cast<std::uint64_t>(::getpid());
  });
  return at == rows.end() ? nullptr : &*at;
}

// Every column against INFO and what the caller knows.
void check_row(const std::string &name, const Session &session, std::uint32_t handle,
               std::string_view path, std::string_view state, int dmabuf) {
  const auto rows = mappings();
  const Row *row = row_of(rows, handle);
  if (!report().check(row != nullptr, "mappings: " + name + " is there"))
    return;
  dmabuf_rw_info info{};
  if (const int error = session.info(handle, info))
    die("INFO: " + errno_name(error));
  const struct {
    const char *column;
    std::uint64_t found, wanted;
  } columns[] = {
      {"dmabuf", row->dmabuf, inode_of(dmabuf)},  {"bytes", row->bytes, info.buffer_bytes},
      {"segments", row->segments, info.segments}, {"shared", row->shared, info.shared},
      {"reads", row->reads, info.reads},          {"writes", row->writes, info.writes},
      {"commands", row->commands, info.commands}, {"errors", row->errors, info.errors},
      {"moves", row->moves, info.invalidations}};
  for (const auto &c : columns)
    report().check(c.found == c.wanted, std::format("mappings: {}, {}", name, c.column),
                   std::format("{} instead of {}", c.found, c.wanted));
  report().check(row->path == path, "mappings: " + name + ", path", row->path);
  report().check(row->state == state, "mappings: " + name + ", state", row->state);
}

// One event that must come next; more of the same may follow when `again`.
struct Wanted {
  std::string text; // a regular expression
  bool again = false;
};

void check_events(const std::vector<std::string> &found, const std::vector<Wanted> &wanted) {
  std::size_t at = 0;
  for (const Wanted &want : wanted) {
    const std::regex pattern(want.text);
    if (!report().check(at < found.size() && std::regex_match(found[at], pattern),
                        "trace: " + want.text, at < found.size() ? found[at] : "no more events"))
      return;
    for (++at; want.again && at < found.size() && std::regex_match(found[at], pattern); ++at)
      ;
  }
  report().check(at == found.size(), "trace: nothing else", at < found.size() ? found[at] : "");
}

dmabuf_rw_map_entry must_map(const Session &session, dmabuf_rw_map_entry entry) {
  if (const int error = session.map_one(entry))
    die(std::format("MAP: {}, {}", errno_name(error), reason_name(entry.reason)));
  return entry;
}

DmaBuf must_make(Exporter exporter, std::uint64_t bytes) {
  auto made = DmaBuf::create(exporter, bytes);
  if (!made)
    die(made.error());
  return std::move(*made);
}

// Everything once, in a known order, and the events that each step must leave in the trace.
class Sequence {
public:
  explicit Sequence(const Testexp &testexp)
      : moves_(testexp.can_move()), buffer_(testexp.make(gpu_buffer(256 * kib, 5))) {}

  // All steps, with a trace of them.
  void run() {
    const Trace trace;
    map();
    premapped();
    bvec();
    refused();
    move();
    unmap();
    found_ = trace.events();
  }

  void check() const {
    check_events(found_, wanted_);
    for (const std::string &event : found_) {
      const auto at = event.find("wait_ns=");
      if (at == std::string::npos)
        continue;
      const std::uint64_t wait_ns = std::stoull(event.substr(at + 8));
      report().check(wait_ns > 0 && wait_ns <= invalidate_ns_,
                     "trace: the time the exporter had to wait",
                     std::format("{} ns of {}", wait_ns, invalidate_ns_));
    }
    const auto left = mappings();
    report().check(
        std::ranges::none_of(left, [&](const Row &row) { return row.session == number_; }),
        "mappings: what was unmapped is not there");
    report().note(std::format("{} events, session {}", found_.size(), number_));
  }

private:
  void map() {
    gpu_ = must_map(session_, map_entry(buffer_.fd(), target_.get(), Path::Premapped));
    // The session's number is the same in all of them; debugfs tells it.
    const auto rows = mappings();
    const Row *row = row_of(rows, gpu_.handle);
    if (!row)
      die("the mapping is not in debugfs");
    number_ = row->session;
    want_map(gpu_.handle, Path::Premapped, buffer_.size(), gpu_.segments);
    const UniqueFd cached = open_target(node, O_RDWR | O_CLOEXEC);
    auto refused = map_entry(buffer_.fd(), cached.get(), Path::Premapped);
    report().check(session_.map_one(refused) == -EOPNOTSUPP, "MAP without O_DIRECT is refused");
    want_map(0, Path::Premapped, 0, 0, -EOPNOTSUPP, DMABUF_RW_REASON_NOT_DIRECT);
    pages_ = must_map(session_, map_entry(plain_.fd(), target_.get(), Path::Bvec));
    want_map(pages_.handle, Path::Bvec, plain_.size(), pages_.segments);
    too_long_ = map_entry(plain_.fd(), target_.get(), Path::Premapped);
    too_long_.max_command_hint = 2 * mib; // more than QEMU's drive takes
    too_long_ = must_map(session_, too_long_);
    want_map(too_long_.handle, Path::Premapped, plain_.size(), too_long_.segments);
  }

  void premapped() {
    report().check(command(gpu_.handle, Direction::Read, 4096, 65536, disk_base + 512) == 65536,
                   "read, premapped");
    want_io(gpu_.handle, Direction::Read, 4096, 65536, disk_base + 512, 65536);
    report().check(command(gpu_.handle, Direction::Write, 8192, 4096, disk_base + mib) == 4096,
                   "write, premapped");
    want_io(gpu_.handle, Direction::Write, 8192, 4096, disk_base + mib, 4096);
    report().check(waited(gpu_.handle, DMABUF_RW_DIR_READ) == 0, "read, premapped, waited for");
    want_io(gpu_.handle, Direction::Read, 12288, 8192, disk_base, 8192);
  }

  void bvec() {
    report().check(command(pages_.handle, Direction::Read, 0, 4096, disk_base) == 4096,
                   "read, bvec");
    // Once more from a worker where the block layer would have had to wait.
    want_io(pages_.handle, Direction::Read, 0, 4096, disk_base, 4096, true);
    report().check(waited(pages_.handle, DMABUF_RW_DIR_WRITE) == 0, "write, bvec, waited for");
    want_io(pages_.handle, Direction::Write, 12288, 8192, disk_base, 8192);
  }

  void refused() {
    const int error = command(too_long_.handle, Direction::Read, 0, 2 * mib, disk_base);
    report().check(error < 0, "a command that is too long fails", errno_name(error));
    want_io(too_long_.handle, Direction::Read, 0, 2 * mib, disk_base, error);
    // What is refused before the drive is asked is not seen.
    report().check(command(gpu_.handle, Direction::Read, 0, 513, disk_base) == -EINVAL,
                   "a length that is no block is refused");
  }

  void move() {
    if (!moves_)
      return report().skip("MOVE", "this kernel pins mapped buffers");
    report().check(buffer_.move(0, &invalidate_ns_) == 0, "MOVE");
    wanted_.push_back(
        {std::format(R"(dmabuf_rw_invalidate: dmabuf_inode={} mappings=1 wait_ns=\d+)",
                     inode_of(buffer_.fd()))});
    check_row("memory that was moved", session_, gpu_.handle, "premapped", "invalidated",
              buffer_.fd());
    report().check(command(gpu_.handle, Direction::Read, 0, 4096, disk_base) == 4096,
                   "read after MOVE");
    want_io(gpu_.handle, Direction::Read, 0, 4096, disk_base, 4096);
  }

  void unmap() {
    check_row("premapped", session_, gpu_.handle, "premapped", "live", buffer_.fd());
    check_row("bvec", session_, pages_.handle, "bvec", "live", plain_.fd());
    check_row("one with an error", session_, too_long_.handle, "premapped", "live", plain_.fd());
    const std::uint32_t handles[] = {gpu_.handle, pages_.handle, too_long_.handle};
    report().check(session_.unmap(handles) == 0, "UNMAP");
    for (const std::uint32_t handle : handles)
      wanted_.push_back(
          {std::format("dmabuf_rw_unmap: session={} handle=0x{:x}", number_, handle)});
  }

  int command(std::uint32_t handle, Direction direction, std::uint64_t offset, std::uint32_t length,
              std::uint64_t position) {
    return ring_.command(
        session_.fd(), direction == Direction::Read ? DMABUF_RW_URING_READ : DMABUF_RW_URING_WRITE,
        offset, length, {.file_offset = position, .handle = handle, .flags = 0});
  }

  int waited(std::uint32_t handle, std::uint32_t direction) {
    dmabuf_rw_io io{};
    io.handle = handle;
    io.direction = direction;
    io.buffer_offset = 12288;
    io.file_offset = disk_base;
    io.length = 8192;
    return session_.io(io);
  }

  void want_map(std::uint32_t handle, Path path, std::uint64_t bytes, unsigned segments,
                int error = 0, unsigned reason = 0) {
    wanted_.push_back({std::format("dmabuf_rw_map: session={} handle=0x{:x} path={} bytes={} "
                                   "segments={} error={} reason={}",
                                   number_, handle, static_cast<unsigned>(path), bytes, segments,
                                   error, reason)});
  }

  void want_io(std::uint32_t handle, Direction direction, std::uint64_t offset,
               std::uint32_t length, std::uint64_t position, long result, bool again = false) {
    wanted_.push_back({std::format("dmabuf_rw_submit: session={} handle=0x{:x} {} file_offset={} "
                                   "buffer_offset={} bytes={}",
                                   number_, handle, name_of(direction), position, offset, length),
                       again});
    wanted_.push_back({std::format("dmabuf_rw_complete: session={} handle=0x{:x} {} result={}",
                                   number_, handle, name_of(direction), result)});
  }

  bool moves_;
  TestBuffer buffer_;
  DmaBuf plain_ = must_make(Exporter::UdmabufScattered, 4 * mib);
  UniqueFd target_ = open_target(node);
  Session session_;
  Ring ring_{8};
  dmabuf_rw_map_entry gpu_{}, pages_{}, too_long_{};
  std::uint64_t number_ = 0, invalidate_ns_ = 0; // the session's, in the trace; of MOVE
  std::vector<Wanted> wanted_;
  std::vector<std::string> found_;
};

void known_sequence(const Testexp &testexp) {
  Sequence sequence(testexp);
  sequence.run();
  sequence.check();
}

// The list is read, and holds what it should, while mappings come and go, move and do I/O.
void under_load(const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(gpu_buffer(mib, 6));
  const UniqueFd target = open_target(node);
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> done = 0, maps = 0, bad = 0;
  Session session;
  auto kept = must_map(session, map_entry(buffer.fd(), target.get(), Path::Premapped));
  if (testexp.can_move())
    if (const int error = buffer.start_mover(1000, 0, DMABUF_TESTEXP_MOVER_MAPPED))
      die("MOVER_START: " + errno_name(error));
  std::vector<std::jthread> threads;
  threads.emplace_back([&] {
    Ring ring(16, 0);
    while (!stop) {
      for (std::uint64_t i = 0; i < 16; ++i)
        ring.queue_command(
            session.fd(), DMABUF_RW_URING_READ, i * 65536, 65536,
            {.file_offset = disk_base + i * 65536, .handle = kept.handle, .flags = 0});
      for (int left = 16; left > 0;)
        left -= std::max(0, ring.reap([&](std::uint64_t, int result) { bad += result != 65536; }));
      done += 16;
    }
  });
  threads.emplace_back([&] {
    Session other;
    while (!stop) {
      auto entry = must_map(other, map_entry(buffer.fd(), target.get(), Path::Premapped));
      bad += other.unmap_one(entry.handle) != 0;
      ++maps;
    }
  });
  std::uint64_t last_reads = 0, last_commands = 0, grown = 0, looks = 0;
  bool steady = true, found = true;
  const double begin = now_s();
  while (now_s() - begin < 120 && (grown < 20 || looks < 100 || maps < 100)) {
    const auto rows = mappings();
    const Row *row = row_of(rows, kept.handle);
    ++looks;
    found &= row != nullptr;
    if (!row)
      break;
    steady &= row->reads >= last_reads && row->commands >= last_commands &&
              row->commands >= row->reads && row->errors == 0 && row->bytes == buffer.size() &&
              row->dmabuf == inode_of(buffer.fd()) && row->path == "premapped" &&
              (row->state == "live" || row->state == "invalidated") && row->shared >= 1 &&
              row->shared <= 2;
    grown += row->reads > last_reads;
    last_reads = row->reads, last_commands = row->commands;
  }
  stop = true;
  threads.clear();
  buffer.stop_mover();
  report().check(found, "mappings under load: the one that stays is always there");
  report().check(steady, "mappings under load: every column is plausible");
  report().check(grown >= 20 && looks >= 100 && maps >= 100, "mappings under load: enough happened",
                 std::format("{} looks, {} saw more reads, {} MAPs", looks, grown, maps.load()));
  report().check(bad == 0, "mappings under load: I/O and UNMAP go well",
                 std::format("{} did not", bad.load()));
  // The last move may have come after the last read.
  dmabuf_rw_info info{};
  session.info(kept.handle, info);
  check_row("after the load", session, kept.handle, "premapped",
            info.state == DMABUF_RW_STATE_LIVE ? "live" : "invalidated", buffer.fd());
  report().note(
      std::format("{} looks beside {} reads and {} MAPs", looks, done.load(), maps.load()));
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  if (argc > 1)
    die("usage: watch [--allow-skip NAME]...");
  {
    const Testexp testexp;
    known_sequence(testexp);
    under_load(testexp);
  }
  const int unloaded = unload_module("dmabuf_testexp", 10);
  report().check(unloaded == 0, "dmabuf_testexp can be removed at the end", errno_name(unloaded));
  return report().finish("watch");
}
