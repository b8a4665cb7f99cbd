// SPDX-License-Identifier: GPL-2.0-only
// Every call of the module with every one of its allocations refused in turn: it succeeds, or
// fails with ENOMEM or what the exporter makes of it, and leaves nothing behind.
//
// usage: faults [--timeouts]        (dmabuf-lab run --kernel debug --errors)
// Needs fault injection. The first allocation of a call fails, then the second, and so on, until
// one goes through in which nothing was left to fail. On a multipath head (--paths 2) MAP makes the
// mapping ready for a path that it chooses. --timeouts: completions are lost instead, until the
// driver resets the drive, with its messages in the kernel log.
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/sysfs.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace vmtest {

namespace {

constexpr std::size_t buffer_bytes = 64 << 10;
constexpr unsigned most_allocations = 500; // of one call; more must be a mistake of this program

void setting(const std::string &file, const char *value) {
  std::ofstream out("/sys/kernel/debug/" + file);
  if (!(out << value << std::flush))
    die(std::format("{}: this kernel injects no faults (dmabuf-lab run --kernel debug)", file));
}

// Addresses of a kernel function, as "0x…" up to the next one. Where there is only gcc's variant of
// it (.isra.0), of that.
std::pair<std::string, std::string> range_of(const std::string &function,
                                             const std::string &module = "") {
  std::ifstream in("/proc/kallsyms");
  std::map<std::uint64_t, std::string> sorted;
  for (std::string line; std::getline(in, line);) {
    std::uint64_t address = 0;
    char name[256]{};
    // A module's own functions only, where it is named.
    if ((module.empty() || line.contains(module)) &&
        std::sscanf(line.c_str(), "%lx %*c %255s", &address, name) == 2)
      sorted.emplace(address, name);
  }
  for (const bool variants : {false, true})
    for (auto at = sorted.begin(); at != sorted.end(); ++at)
      if ((variants ? at->second.starts_with(function + ".isra.") : at->second == function) &&
          std::next(at) != sorted.end())
        return {std::format("{:#x}", at->first), std::format("{:#x}", std::next(at)->first)};
  die(std::format("this kernel has no {}: its DMA debugging cannot be spared", function));
}

// This thread's countdown: the n-th allocation from now fails.
class Countdown {
public:
  Countdown() : fd_(::open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC)) {
    if (!fd_)
      die(std::format("fail-nth: {}", std::strerror(errno)));
    // Every allocation that may wait, and without a word in the log.
    setting("failslab/ignore-gfp-wait", "N");
    setting("failslab/verbose", "0");
    setting("fail_page_alloc/ignore-gfp-wait", "N");
    setting("fail_page_alloc/min-order", "0");
    setting("fail_page_alloc/verbose", "0");
    // DMA debugging turns itself off when it is out of memory: what it needs is not refused.
    const auto [start, end] = range_of("add_dma_entry");
    for (const std::string kind : {"failslab", "fail_page_alloc"}) {
      setting(kind + "/stacktrace-depth", "32");
      setting(kind + "/reject-start", start.c_str());
      setting(kind + "/reject-end", end.c_str());
    }
  }

  void start(unsigned n) {
    const std::string text = std::to_string(n);
    if (::pwrite(fd_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
      die("fail-nth cannot be set");
  }

  // Ends it; whether an allocation was refused.
  bool stop() {
    char text[16]{};
    const ssize_t got = ::pread(fd_.get(), text, sizeof(text) - 1, 0);
    unsigned left = 0;
    if (got <= 0 || std::from_chars(text, text + got, left).ec != std::errc())
      die("fail-nth cannot be read");
    start(0);
    return left == 0;
  }

private:
  UniqueFd fd_;
};

// What one call did: a result as the kernel gave it, and whether that may be.
struct Result {
  long value;   // 0 or more, or a negative errno
  bool allowed; // with a refused allocation; success always is
};

class Faults {
public:
  // `call` does it once and undoes it: called with allocations failing up to the end of what it
  // passes to `watched`.
  using Watched = std::function<void(const std::function<void()> &)>;
  // `least`: so many allocations it has at least; 0 for what needs no memory.
  void every(const std::string &name, const std::function<Result(const Watched &)> &call,
             unsigned least = 1) {
    std::map<long, unsigned> seen;
    unsigned n = 1;
    for (; n <= most_allocations; ++n) {
      bool refused = false;
      const Result result = call([&](const std::function<void()> &body) {
        countdown_.start(n);
        body();
        refused = countdown_.stop();
      });
      ++seen[result.value < 0 ? result.value : 0];
      report().check(result.value >= 0 || (refused && result.allowed),
                     std::format("{}, allocation {} refused", name, n), errno_name(result.value));
      if (!refused)
        break;
    }
    report().check(n > least && n <= most_allocations,
                   name + ": there was something to refuse, and an end",
                   std::format("{} allocations", n - 1));
    std::string results;
    for (const auto &[value, count] : seen)
      results += std::format(" {} x {},", count, value ? errno_name(value) : "success");
    results.pop_back();
    report().note(std::format("{}: {} allocations refused:{}", name, n - 1, results));
  }

private:
  Countdown countdown_;
};

// What an exporter may turn a refused allocation into, besides ENOMEM.
bool map_error_allowed(const dmabuf_rw_map_entry &entry) {
  if (entry.error == ENOMEM)
    return entry.reason == DMABUF_RW_REASON_NO_MEMORY;
  return entry.error == EOPNOTSUPP &&
         (entry.reason == DMABUF_RW_REASON_NO_CPU_VIEW || entry.reason == DMABUF_RW_REASON_MAP ||
          entry.reason == DMABUF_RW_REASON_ATTACH);
}

struct Memory {
  std::string name;
  int fd;
};

void maps(Faults &faults, const Memory &memory, int target, Path path) {
  faults.every(
      std::format("MAP {} of {}", name_of(path), memory.name), [&](const Faults::Watched &watched) {
        const Session session;
        auto entry = map_entry(memory.fd, target, path);
        dmabuf_rw_map map{};
        map.entries = reinterpret_cast<std::uintptr_t>(&entry);
        map.nr_entries = 1;
        int status = 0;
        watched([&] { status = ::ioctl(session.fd(), DMABUF_RW_IOC_MAP, &map) ? -errno : 0; });
        if (status)
          return Result{status, status == -ENOMEM};
        if (entry.error)
          return Result{-static_cast<long>(entry.error), map_error_allowed(entry)};
        report().check(session.unmap_one(entry.handle) == 0, "UNMAP");
        return Result{0, true};
      });
}

// MAP where the attachment is there already, and UNMAP that leaves it.
void maps_again(Faults &faults, const Memory &memory, int target) {
  const Session other;
  auto kept = map_entry(memory.fd, target, Path::Premapped);
  if (other.map_one(kept) != 0)
    die("MAP");
  maps(faults, {memory.name + ", attached already", memory.fd}, target, Path::Premapped);
  dmabuf_rw_info info{};
  report().check(other.info(kept.handle, info) == 0 && info.shared == 1,
                 "only the mapping that was there shares the attachment");
}

void sessions(Faults &faults) {
  faults.every("open", [&](const Faults::Watched &watched) {
    int fd = -1, error = 0;
    watched([&] {
      fd = ::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC);
      error = fd < 0 ? -errno : 0;
    });
    const UniqueFd closes(fd);
    return Result{error, error == -ENOMEM || error == -ENFILE};
  });
}

// READ by a command, or by several of `hint` bytes: moves all, or says that it could not.
void transfers(Faults &faults, const DmaBuf &buffer, DiskRegion &region, int target, Path path,
               std::uint32_t hint = 0) {
  const Session session;
  auto entry = map_entry(buffer.fd(), target, path);
  entry.max_command_hint = hint;
  if (session.map_one(entry) != 0)
    die("MAP");
  std::uint32_t generation = 0;
  const std::string name =
      std::format("READ {}{}", name_of(path), hint ? ", several commands" : "");
  faults.every(name, [&](const Faults::Watched &watched) {
    Ring ring(8);
    region.lay_down_all(++generation);
    {
      const CpuAccess access(buffer, true);
      fill_pattern(buffer.words(), buffer_poison, 0);
    }
    const dmabuf_rw_uring_io io{region.base(), entry.handle, 0};
    ring.queue_command(session.fd(), DMABUF_RW_URING_READ, 0, buffer_bytes, io);
    int submitted = 0;
    watched([&] { submitted = io_uring_submit(ring.raw()); });
    if (submitted < 0) {
      // io_uring itself had no memory: nothing was taken from the queue.
      return Result{submitted, submitted == -ENOMEM || submitted == -EAGAIN};
    }
    long result = 0;
    ring.reap([&](std::uint64_t, int value) { result = value; });
    const CpuAccess access(buffer, false);
    HostBuffer want(buffer_bytes);
    fill_pattern(want.words(), result < 0 ? buffer_poison : generation,
                 result < 0 ? 0 : region.base());
    const auto wrong = compare_words(buffer.words(), want.words());
    report().check(!wrong,
                   std::format("{} that ended with {}: every byte", name, errno_name(result)),
                   wrong ? describe(*wrong, 0) : "");
    // Not EAGAIN: that is between the module and io_uring.
    return Result{result, result == -ENOMEM};
  });
}

// Waits until the kernel's tick has come round: once in each, an I/O looks how the namespace is
// formatted, which needs memory.
void next_tick() {
  const auto coarse = [] {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return std::pair(now.tv_sec, now.tv_nsec);
  };
  for (int ticks = 0; ticks < 2; ++ticks)
    for (const auto before = coarse(); coarse() == before;)
      ::usleep(1000);
}

// The ioctl IO in both directions, of one command and of several.
void waited(Faults &faults, const DmaBuf &buffer, DiskRegion &region, int target, Path path,
            std::uint32_t hint) {
  const Session session;
  auto entry = map_entry(buffer.fd(), target, path);
  entry.max_command_hint = hint;
  if (session.map_one(entry) != 0)
    die("MAP");
  std::uint32_t generation = 2000;
  for (const std::uint32_t direction : {DMABUF_RW_DIR_READ, DMABUF_RW_DIR_WRITE}) {
    const bool write = direction == DMABUF_RW_DIR_WRITE;
    const std::string name = std::format("IO {} {}{}", name_of(path), write ? "write" : "read",
                                         hint ? ", several commands" : "");
    faults.every(
        name,
        [&](const Faults::Watched &watched) {
          region.lay_down_all(++generation);
          {
            const CpuAccess access(buffer, true);
            fill_pattern(buffer.words(), write ? generation + 1 : buffer_poison,
                         write ? region.base() : 0);
          }
          dmabuf_rw_io io{};
          io.handle = entry.handle;
          io.direction = direction;
          io.file_offset = region.base();
          io.length = buffer_bytes;
          int status = 0;
          next_tick();
          watched([&] { status = session.io(io); });
          report().check(status != 0 || io.moved == buffer_bytes, name + ": no short success",
                         std::format("{} bytes", std::uint64_t{io.moved}));
          HostBuffer got(buffer_bytes), want(buffer_bytes);
          if (write) {
            read_plain(target, got.words(), region.base());
            fill_pattern(want.words(), status ? generation : ++generation, region.base());
          } else {
            const CpuAccess access(buffer, false);
            std::ranges::copy(buffer.words(), got.words().begin());
            fill_pattern(want.words(), status ? buffer_poison : generation,
                         status ? 0 : region.base());
          }
          // Of several commands, those before the refusal may have moved their part.
          const auto wrong = compare_words(got.words(), want.words());
          if (!status || !hint)
            report().check(
                !wrong, std::format("{} that ended with {}: every byte", name, errno_name(status)),
                wrong ? describe(*wrong, region.base()) : "");
          return Result{status, status == -ENOMEM && io.reason == DMABUF_RW_REASON_NO_MEMORY};
        },
        path == Path::Premapped ? 0 : 1);
  }
  report().check(session.unmap_one(entry.handle) == 0, "UNMAP");
}

// A READ that the drive refuses once, where sending it again needs memory that is not there: it is
// the error that it was. In an interrupt no countdown counts, so that all is refused below the end
// of a command.
void sent_again() {
  const char *node = std::getenv("LAB_ERRORS"), *sectors = std::getenv("LAB_BAD_READ_ONCE");
  if (!node || !sectors)
    return report().skip("READ that is sent again", "needs dmabuf-lab run --errors");
  std::istringstream words(sectors);
  const UniqueFd target = open_target(node);
  auto made = DmaBuf::create(Exporter::UdmabufScattered, buffer_bytes);
  if (!made)
    die(made.error());
  const DmaBuf buffer = std::move(*made);
  const Session session;
  auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  if (const int error = session.map_one(entry))
    die("MAP: " + errno_name(error));
  const auto [start, end] = range_of("single_ends_otherwise", "[dmabuf_rw]");
  for (const bool refuse : {false, true}) {
    std::uint64_t number = 0;
    if (!(words >> number))
      die("LAB_BAD_READ_ONCE names too few sectors");
    const std::uint64_t at = number * 512;
    HostBuffer host(buffer_bytes);
    fill_pattern(host.words(), 77, at);
    write_plain(target.get(), host.words(), at);
    {
      const CpuAccess access(buffer, true);
      fill_pattern(buffer.words(), buffer_poison, 0);
    }
    Ring ring(8);
    if (refuse) {
      setting("failslab/require-start", start.c_str());
      setting("failslab/require-end", end.c_str());
      setting("failslab/task-filter", "N");
      setting("failslab/interval", "1");
      setting("failslab/probability", "100");
      setting("failslab/times", "1");
    }
    const int got = ring.command(session.fd(), DMABUF_RW_URING_READ, 0, buffer_bytes,
                                 {.file_offset = at, .handle = entry.handle, .flags = 0});
    if (refuse) {
      const int left = number_in("/sys/kernel/debug/failslab/times");
      setting("failslab/probability", "0");
      setting("failslab/require-start", "0");
      setting("failslab/require-end", "0xffffffffffffffff"); // anywhere again
      report().check(left == 0, "an allocation was refused at the end of a command",
                     std::format("{} left", left));
      report().check(got == -ENODATA || got == -EIO,
                     "without memory to send it again, a READ is the error that it was",
                     errno_name(got));
    } else {
      report().check(got == static_cast<int>(buffer_bytes), "with memory, it is sent again",
                     errno_name(got));
      const CpuAccess access(buffer, false);
      const auto wrong = compare_words(buffer.words(), host.words());
      report().check(!wrong, "its data", wrong ? describe(*wrong, at) : "");
    }
  }
}

void registrations(Faults &faults, const Memory &memory, int target, bool window) {
  if (!std::ranges::contains(paths_here(), Path::Registered))
    return;
  const Session session;
  auto entry = map_entry(memory.fd, target, Path::Registered);
  if (session.map_one(entry) != 0)
    die("MAP");
  const std::string name = window ? "REGISTER of a window" : "REGISTER";
  faults.every(name, [&](const Faults::Watched &watched) {
    Ring ring(8);
    if (ring.make_buffer_table(1) != 0)
      die("no table of registered buffers");
    if (window)
      ring.queue_window(session.fd(), entry.handle, 0, 12288, buffer_bytes / 2);
    else
      ring.queue_registration(session.fd(), DMABUF_RW_URING_REGISTER, {entry.handle, 0, 0, 0});
    int submitted = 0;
    watched([&] { submitted = io_uring_submit(ring.raw()); });
    if (submitted < 0)
      return Result{submitted, submitted == -ENOMEM || submitted == -EAGAIN};
    long result = 0;
    ring.reap([&](std::uint64_t, int value) { result = value; });
    if (result == 0)
      report().check(ring.withdraw(session.fd(), 0) == 0, "UNREGISTER");
    return Result{result, result == -ENOMEM};
  });
  // A ring that was closed lets go of its table a little later.
  dmabuf_rw_info info{};
  int status = session.info(entry.handle, info);
  for (const double end = now_s() + 20; !status && info.registered && now_s() < end;) {
    ::usleep(20000);
    status = session.info(entry.handle, info);
  }
  report().check(status == 0 && info.registered == 0, "no table holds the mapping any more",
                 std::format("{}, {} tables", errno_name(status), +info.registered));
}

// OPEN, and a read of what it made.
void opens(Faults &faults, const Memory &memory) {
  const Session session;
  const auto open = [&](dmabuf_rw_open &argument) {
    argument.dmabuf_fd = static_cast<__u32>(memory.fd);
    return ::ioctl(session.fd(), DMABUF_RW_IOC_OPEN, &argument) ? -errno : 0;
  };
  faults.every("OPEN of " + memory.name, [&](const Faults::Watched &watched) {
    dmabuf_rw_open argument{};
    int status = 0;
    watched([&] { status = open(argument); });
    if (status == 0)
      ::close(static_cast<int>(argument.fd));
    const bool no_memory = status == -ENOMEM && argument.reason == DMABUF_RW_REASON_NO_MEMORY;
    const bool no_view = status == -EOPNOTSUPP && argument.reason == DMABUF_RW_REASON_NO_CPU_VIEW;
    return Result{status, no_memory || no_view};
  });
  dmabuf_rw_open argument{};
  if (open(argument))
    die("OPEN");
  const UniqueFd fd(static_cast<int>(argument.fd));
  if (argument.view != DMABUF_RW_VIEW_IO)
    return; // a read of memory allocates nothing
  HostBuffer host(buffer_bytes);
  faults.every("read of " + memory.name, [&](const Faults::Watched &watched) {
    ssize_t result = 0;
    watched([&] {
      result = ::pread(fd.get(), host.words().data(), buffer_bytes, 0);
      result = result < 0 ? -errno : result;
    });
    return Result{result, result == -ENOMEM};
  });
}

// RW after the memory was moved: it is mapped again, or was not for lack of memory, and the next
// I/O maps it again.
void remaps(Faults &faults, const TestBuffer &buffer, DiskRegion &region, int target) {
  const Session session;
  auto entry = map_entry(buffer.fd(), target, Path::Premapped);
  if (session.map_one(entry) != 0)
    die("MAP");
  const auto read = [&](dmabuf_rw_io &rw) {
    rw = {};
    rw.handle = entry.handle;
    rw.direction = DMABUF_RW_DIR_READ;
    rw.file_offset = region.base();
    rw.length = buffer_bytes;
    return ::ioctl(session.fd(), DMABUF_RW_IOC_IO, &rw) ? -errno : static_cast<int>(rw.moved);
  };
  HostBuffer seen(buffer_bytes);
  std::uint32_t generation = 1000;
  faults.every("RW after a move", [&](const Faults::Watched &watched) {
    region.lay_down_all(++generation);
    if (buffer.move() != 0)
      die("the buffer cannot be moved");
    dmabuf_rw_io rw{};
    int status = 0;
    watched([&] { status = read(rw); });
    const bool named = status == -ENOMEM && rw.reason == DMABUF_RW_REASON_NO_MEMORY;
    const int again = read(rw);
    report().check(again == static_cast<int>(buffer_bytes), "RW after one without memory",
                   errno_name(again));
    buffer.must_read(seen.words(), 0);
    const auto wrong = compare_words(seen.words(), region.expected(region.base(), buffer_bytes));
    report().check(!wrong, "every byte after it", wrong ? describe(*wrong, region.base()) : "");
    return Result{status, named};
  });
}

void run() {
  const UniqueFd target = open_target("/dev/nvme0n1");
  DiskRegion region(target.get(), 64 << 20, buffer_bytes);
  auto made = DmaBuf::create(Exporter::UdmabufScattered, buffer_bytes);
  if (!made)
    die("udmabuf: " + made.error());
  const DmaBuf buffer = std::move(*made);
  Faults faults;

  sessions(faults);
  const Memory udmabuf{"udmabuf", buffer.fd()};
  for (const Path path : paths_here())
    maps(faults, udmabuf, target.get(), path);
  maps(faults, udmabuf, target.get(), Path::Auto);
  maps_again(faults, udmabuf, target.get());
  for (const bool window : {false, true})
    registrations(faults, udmabuf, target.get(), window);
  for (const Path path : {Path::Premapped, Path::Bvec})
    transfers(faults, buffer, region, target.get(), path);
  // Not of bvec: nothing of it is allocated but by the block layer, which has reserves.
  waited(faults, buffer, region, target.get(), Path::Premapped, 0);
  transfers(faults, buffer, region, target.get(), Path::Premapped, 8192);
  waited(faults, buffer, region, target.get(), Path::Premapped, 8192);
  sent_again();
  opens(faults, udmabuf);

  const Testexp exporter;
  const TestBuffer gpu = exporter.make(gpu_buffer(buffer_bytes, 3));
  maps(faults, {"testexp", gpu.fd()}, target.get(), Path::Premapped);
  if (exporter.can_move())
    remaps(faults, gpu, region, target.get());
  const TestBuffer io = exporter.make(gpu_buffer(buffer_bytes, 4, DMABUF_TESTEXP_IO_VIEW));
  opens(faults, {"I/O memory", io.fd()});
  // A view that does not hold the memory in place: OPEN has to pin it.
  const TestBuffer pinned = exporter.make(
      gpu_buffer(buffer_bytes, 5, DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_LOOSE_VMAP));
  opens(faults, {"memory that is to be pinned", pinned.fd()});
  const dmabuf_testexp_stats held = pinned.must_stats();
  report().check(held.pins == 0 && held.vmaps == 0 && held.attachments == 0,
                 "nothing holds it any more");
  report().check(io.must_stats().vmaps == 0, "no view is left");
  const dmabuf_testexp_stats stats = gpu.must_stats();
  report().check(stats.attachments == 0 && stats.mappings == 0 && stats.maps == stats.unmaps &&
                     stats.pins == 0 && stats.vmaps == 0,
                 "nothing is left on the test exporter's buffer");
}

// Completions that the block layer loses: the driver takes the commands back. Whatever is reported
// good has the right bytes, and what is not says so.
void timeouts() {
  const UniqueFd target = open_target("/dev/nvme0n1");
  DiskRegion region(target.get(), 64 << 20, buffer_bytes);
  region.lay_down_all(9);
  auto made = DmaBuf::create(Exporter::UdmabufScattered, buffer_bytes);
  if (!made)
    die(made.error());
  const DmaBuf buffer = std::move(*made);
  // The queue that takes the commands: a multipath head's path.
  std::vector<std::string> disks;
  for (const auto &entry : std::filesystem::directory_iterator("/sys/class/nvme/nvme0"))
    if (const std::string name = entry.path().filename();
        name.starts_with("nvme0") && name.ends_with("n1"))
      disks.push_back(entry.path());
  if (disks.empty())
    die("no disk of nvme0");
  const auto set = [](const std::string &file, std::string_view value) {
    if (const int error = write_file(file, value))
      die(std::format("{}: {}", file, errno_name(error)));
  };
  for (const std::string &disk : disks) {
    set(disk + "/io-timeout-fail", "1");
    set(disk + "/queue/io_timeout", "1000");
  }
  setting("fail_io_timeout/verbose", "0");
  setting("fail_io_timeout/task-filter", "N");
  for (const Path path : paths_here()) {
    for (const std::uint32_t hint : {0u, 8192u}) {
      if (hint && path != Path::Premapped)
        continue;
      Session session;
      Ring ring(8);
      if (path == Path::Registered)
        ring.make_buffer_table(1);
      Mover mover(session, ring, buffer.fd(), target.get(), path, 0, both_directions, hint);
      if (mover.error())
        die("MAP: " + errno_name(mover.error()));
      for (const bool by_ioctl : {false, true}) {
        if (by_ioctl && path == Path::Registered)
          continue;
        const std::string name =
            std::format("{}{}{}, a completion is lost", name_of(path),
                        hint ? ", several commands" : "", by_ioctl ? ", by ioctl" : "");
        {
          const CpuAccess access(buffer, true);
          fill_pattern(buffer.words(), buffer_poison, 0);
        }
        setting("fail_io_timeout/times", "1");
        setting("fail_io_timeout/probability", "100");
        const int got = by_ioctl ? mover.waited(Direction::Read, 0, buffer_bytes, region.base())
                                 : mover.transfer(Direction::Read, 0, buffer_bytes, region.base());
        setting("fail_io_timeout/probability", "0");
        report().check(number_in("/sys/kernel/debug/fail_io_timeout/times") == 0,
                       name + ": for sure");
        report().check(got == static_cast<int>(buffer_bytes) || got == -ETIMEDOUT || got == -EIO,
                       name, errno_name(got));
        report().note(
            std::format("{}: {}", name, got < 0 ? errno_name(got) : std::format("{} bytes", got)));
        const int again = mover.transfer(Direction::Read, 0, buffer_bytes, region.base());
        report().check(again == static_cast<int>(buffer_bytes), name + ": the next one",
                       errno_name(again));
        const CpuAccess access(buffer, false);
        const auto wrong =
            compare_words(buffer.words(), region.expected(region.base(), buffer_bytes));
        report().check(!wrong, name + ": its data", wrong ? describe(*wrong, 0) : "");
      }
      report().check(mover.release() == 0, "release");
    }
  }
  for (const std::string &disk : disks) {
    set(disk + "/io-timeout-fail", "0");
    set(disk + "/queue/io_timeout", "30000");
  }
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  if (argc == 2 && std::string_view(argv[1]) == "--timeouts") {
    timeouts();
    return report().finish("faults");
  }
  if (argc > 1)
    die("usage: faults [--timeouts]");
  run();
  if (const int status = unload_module("dmabuf_testexp", 20))
    report().fail("the test exporter unloads", errno_name(status));
  return report().finish("faults");
}
