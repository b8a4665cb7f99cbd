// SPDX-License-Identifier: GPL-2.0-only
// Every call of the module with every one of its allocations refused in turn: it succeeds, or
// fails with ENOMEM or what the exporter makes of it, and leaves nothing behind.
//
// usage: faults        (dmabuf-lab run --kernel debug)
// Needs fault injection. The first allocation of a call fails, then the second, and so on, until
// one goes through in which nothing was left to fail.
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <map>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

namespace vmtest {

namespace {

constexpr std::size_t buffer_bytes = 64 << 10;
constexpr unsigned most_allocations = 500; // of one call; more must be a mistake of this program

void setting(const std::string &file, const char *value) {
  std::ofstream out("/sys/kernel/debug/" + file);
  if (!(out << value << std::flush))
    die(std::format("{}: this kernel injects no faults (dmabuf-lab run --kernel debug)", file));
}

// Addresses of a kernel function, as "0x…" up to the next one.
std::pair<std::string, std::string> range_of(const std::string &function) {
  std::ifstream in("/proc/kallsyms");
  std::map<std::uint64_t, std::string> sorted;
  for (std::string line; std::getline(in, line);) {
    std::uint64_t address = 0;
    char name[256]{};
    if (std::sscanf(line.c_str(), "%lx %*c %255s", &address, name) == 2)
      sorted.emplace(address, name);
  }
  for (auto at = sorted.begin(); at != sorted.end(); ++at)
    if (at->second == function && std::next(at) != sorted.end())
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
  void every(const std::string &name, const std::function<Result(const Watched &)> &call) {
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
    report().check(n > 1 && n <= most_allocations,
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

// READ by a command: moves all, or says that it could not.
void transfers(Faults &faults, const DmaBuf &buffer, DiskRegion &region, int target, Path path) {
  const Session session;
  auto entry = map_entry(buffer.fd(), target, path);
  if (session.map_one(entry) != 0)
    die("MAP");
  std::uint32_t generation = 0;
  faults.every(std::format("READ {}", name_of(path)), [&](const Faults::Watched &watched) {
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
    report().check(
        !wrong,
        std::format("READ {} that ended with {}: every byte", name_of(path), errno_name(result)),
        wrong ? describe(*wrong, 0) : "");
    // Not EAGAIN: that is between the module and io_uring.
    return Result{result, result == -ENOMEM};
  });
}

void registrations(Faults &faults, const Memory &memory, int target) {
  if (!std::ranges::contains(paths_here(), Path::Registered))
    return;
  const Session session;
  auto entry = map_entry(memory.fd, target, Path::Registered);
  if (session.map_one(entry) != 0)
    die("MAP");
  faults.every("REGISTER", [&](const Faults::Watched &watched) {
    Ring ring(8);
    if (ring.make_buffer_table(1) != 0)
      die("no table of registered buffers");
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
  registrations(faults, udmabuf, target.get());
  for (const Path path : {Path::Premapped, Path::Bvec})
    transfers(faults, buffer, region, target.get(), path);
  opens(faults, udmabuf);

  const Testexp exporter;
  const TestBuffer gpu = exporter.make(gpu_buffer(buffer_bytes, 3));
  maps(faults, {"testexp", gpu.fd()}, target.get(), Path::Premapped);
  if (exporter.can_move())
    remaps(faults, gpu, region, target.get());
  const TestBuffer io = exporter.make(gpu_buffer(buffer_bytes, 4, DMABUF_TESTEXP_IO_VIEW));
  opens(faults, {"I/O memory", io.fd()});
  report().check(io.must_stats().vmaps == 0, "no view is left");
  const dmabuf_testexp_stats stats = gpu.must_stats();
  report().check(stats.attachments == 0 && stats.mappings == 0 && stats.maps == stats.unmaps &&
                     stats.pins == 0 && stats.vmaps == 0,
                 "nothing is left on the test exporter's buffer");
}

} // namespace

} // namespace vmtest

int main(int argc, char **) {
  using namespace vmtest;
  if (argc > 1)
    die("usage: faults");
  run();
  if (const int status = unload_module("dmabuf_testexp", 20))
    report().fail("the test exporter unloads", errno_name(status));
  return report().finish("faults");
}
