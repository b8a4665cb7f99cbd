// SPDX-License-Identifier: GPL-2.0-only
// I/O: by a command, waited for, sent again after an error, after the memory was moved.
#include "faults.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/sysfs.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <sstream>
#include <sys/ioctl.h>
#include <unistd.h>

namespace vmtest {

namespace {

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

// What MAP says of the mapping that I/O goes to while memory is refused.
dmabuf_rw_map_entry mapped(const Session &session, const DmaBuf &buffer, int target, Path path,
                           std::uint32_t hint) {
  auto entry = map_entry(buffer.fd(), target, path);
  entry.max_command_hint = hint;
  if (session.map_one(entry) != 0)
    die("MAP");
  return entry;
}

} // namespace

void transfers(Faults &faults, const DmaBuf &buffer, DiskRegion &region, int target, Path path,
               std::uint32_t hint) {
  const Session session;
  const auto entry = mapped(session, buffer, target, path, hint);
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

void waited(Faults &faults, const DmaBuf &buffer, DiskRegion &region, int target, Path path,
            std::uint32_t hint) {
  const Session session;
  const auto entry = mapped(session, buffer, target, path, hint);
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

// Sending it again needs memory that is not there: it is
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

// It is mapped again, or was not for lack of memory, and the next I/O maps it again.
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

} // namespace vmtest
