// SPDX-License-Identifier: GPL-2.0-only
// Ends sessions in every rude way while I/O is in flight, and looks at what is left: the
// drive may hold only what was asked for, and the system no dma-buf, mapping or module use.
#include "teardown.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <getopt.h>
#include <sys/mman.h>
#include <sys/wait.h>

namespace vmtest {

namespace {

constexpr std::uint64_t mib = 1u << 20;
constexpr unsigned depth = 64;
constexpr std::uint64_t disk_base = 300 * mib;
constexpr std::uint64_t area_bytes = 16 * mib; // what the victims may write
constexpr std::uint64_t guard_bytes = 2 * mib; // either side, must never change
constexpr std::size_t buffer_bytes = 8 * mib;

// How a victim's work ends.
enum class End { Killed, Exit, CloseSession, CloseAll, Unmap };

const char *name_of(End end) {
  switch (end) {
  case End::Killed:
    return "SIGKILL";
  case End::Exit:
    return "exit";
  case End::CloseSession:
    return "close of the session";
  case End::CloseAll:
    return "close of everything but the ring";
  case End::Unmap:
    return "UNMAP";
  }
  return "?";
}

// Set by the victim when its I/O runs: shared between parent and child.
struct Shared {
  std::atomic<std::uint64_t> done;
  std::atomic<int> bad;
};

// Keeps `depth` transfers in flight; every word written names its place on the drive.
void victim(const TeardownOptions &options, Exporter exporter, Path path, End end,
            std::uint32_t generation, double seconds, Shared &shared) {
  auto buffer = DmaBuf::create(exporter, buffer_bytes);
  if (!buffer)
    die(buffer.error());
  UniqueFd target = open_target(options.nvme);
  Session session;
  Ring ring(depth * 2);
  if (path == Path::Registered)
    ring.make_buffer_table(1);
  Mover mover(session, ring, buffer->fd(), target.get(), path);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  constexpr std::uint64_t stripe = buffer_bytes / depth;    // 128 KiB of buffer
  constexpr std::uint64_t disk_stripe = area_bytes / depth; // 256 KiB of drive
  std::mt19937_64 random(generation);
  const double stop = now_s() + seconds;
  std::array<std::uint64_t, depth> lengths{};
  const auto start = [&](std::uint64_t i) {
    const std::uint64_t length = lengths[i] = 512 * (1 + random() % (stripe / 512));
    const std::uint64_t file =
        disk_base + i * disk_stripe + 512 * (random() % ((disk_stripe - length) / 512 + 1));
    const bool write = random() % 3 != 0;
    if (write) {
      const CpuAccess access(*buffer, true);
      fill_pattern(buffer->words().subspan(i * stripe / 8, length / 8), generation, file);
    }
    mover.queue(write ? Direction::Write : Direction::Read, i * stripe,
                static_cast<std::uint32_t>(length), file, i);
  };
  for (std::uint64_t i = 0; i < depth; ++i)
    start(i);
  // So long, and until something has ended.
  while (now_s() < stop || end == End::Killed || shared.done == 0) {
    const int count = ring.reap([&](std::uint64_t i, int result) {
      if (result < 0)
        shared.bad = result;
      else if (result != static_cast<int>(lengths[i]))
        shared.bad = -ENODATA; // short
      ++shared.done;
      start(i);
    });
    if (count < 0)
      die("io_uring_enter: " + errno_name(count));
  }
  ring.submit();
  switch (end) {
  case End::Exit:
    ::_exit(0); // all 64 in flight, nothing put away
  case End::CloseSession:
    session.close();
    break;
  case End::CloseAll:
    session.close();
    target.reset();
    {
      DmaBuf gone = std::move(*buffer);
    }
    break;
  default:
    if (const int error = session.unmap_one(mover.entry().handle))
      shared.bad = error;
    break;
  }
  // The I/O that was in flight still completes, each with success or a defined error.
  unsigned left = depth;
  while (left > 0) {
    const int count = ring.reap([&](std::uint64_t, int result) {
      --left;
      if (result < 0 && result != -ECANCELED && result != -ENOENT && result != -EBADF)
        shared.bad = result;
    });
    if (count < 0)
      break;
  }
  ::_exit(left ? 3 : 0);
}

// Every sector of the area: laid down by the parent, or written by the last victim.
std::optional<std::string> check_area(int plain, std::uint32_t background, std::uint32_t generation,
                                      std::uint64_t &written) {
  HostBuffer host(area_bytes + 2 * guard_bytes);
  const std::uint64_t first = disk_base - guard_bytes;
  read_plain(plain, host.words(), first);
  written = 0;
  const auto words = host.words();
  for (std::size_t sector = 0; sector < words.size() / 64; ++sector) {
    const std::uint64_t offset = first + sector * 512;
    const bool inside = offset >= disk_base && offset < disk_base + area_bytes;
    const bool fresh = words[sector * 64] == pattern_word(generation, offset);
    if (fresh && inside)
      ++written;
    const std::uint32_t wanted = fresh && inside ? generation : background;
    for (std::size_t i = 0; i < 64; ++i)
      if (words[sector * 64 + i] != pattern_word(wanted, offset + i * 8))
        return std::format("sector at {} ({}) holds {}", offset,
                           inside ? "inside the area" : "outside the area",
                           describe_word(words[sector * 64 + i]));
  }
  return std::nullopt;
}

void one_round(const TeardownOptions &options, Exporter exporter, Path path, End end,
               std::uint32_t generation, std::mt19937_64 &random, DiskRegion &region, int plain) {
  const std::string name =
      std::format("{} with 64 in flight, {} {}", name_of(end), name_of(exporter), name_of(path));
  region.lay_down_all(1);
  auto *shared = static_cast<Shared *>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (shared == MAP_FAILED)
    die("mmap");
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child < 0)
    die("fork");
  if (child == 0) {
    victim(options, exporter, path, end, generation, 0.02 * static_cast<double>(random() % 10),
           *shared);
    ::_exit(4);
  }
  if (end == End::Killed) {
    // At a random moment after its I/O has begun.
    for (int tries = 0; tries < 5000 && shared->done == 0; ++tries)
      ::usleep(1000);
    ::usleep(static_cast<unsigned>(random() % 60000));
    ::kill(child, SIGKILL);
  }
  int status = 0;
  const double begin = now_s();
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (now_s() - begin > 30) {
      report().fail(name, "the process does not end: still there after 30 s");
      ::kill(child, SIGKILL);
      ::munmap(shared, 4096);
      return;
    }
    ::usleep(2000);
  }
  const bool good = end == End::Killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                                       : WIFEXITED(status) && WEXITSTATUS(status) == 0;
  report().check(good, name, std::format("wait status 0x{:x}", status));
  const std::uint64_t done = shared->done;
  report().check(done > 0, name + ": was doing I/O");
  report().check(shared->bad == 0, name + ": I/O results", errno_name(shared->bad));
  ::munmap(shared, 4096);
  // waitpid() returns before the last reference of an io_uring is gone; the drive is looked
  // at only when no dma-buf is left, so that nothing can still be in flight.
  wait_for_no_dmabufs(name, options.dmabufs_before);
  std::uint64_t written = 0;
  const auto wrong = check_area(plain, 1, generation, written);
  report().check(!wrong, name + ": the drive holds only what was asked for", wrong.value_or(""));
  // Two in three are writes: of so many that ended, one was.
  report().check(written > 0 || done < depth, name + ": it wrote",
                 std::format("no sector written in {} transfers", done));
}

} // namespace

void wait_for_no_dmabufs(const std::string &name, long before) {
  std::optional<long> now = live_dmabufs();
  for (int tries = 0; tries < 250 && now && *now != before; ++tries) {
    ::usleep(20000);
    now = live_dmabufs();
  }
  if (!now)
    die("no bufinfo in debugfs");
  report().check(*now == before, name + ": no dma-buf left",
                 std::format("{} before, {} after", before, *now));
}

void reload_module(const TeardownOptions &options, const std::string &when) {
  const int unloaded = unload_module("dmabuf_rw", 10);
  report().check(unloaded == 0, "module can be removed " + when, errno_name(unloaded));
  if (unloaded)
    return;
  const int loaded = load_module(options.module_file);
  report().check(loaded == 0, "module can be loaded again " + when, errno_name(loaded));
  for (int tries = 0; tries < 200 && ::access(DMABUF_RW_DEVICE, F_OK) != 0; ++tries)
    ::usleep(10000);
}

void test_ends(const TeardownOptions &options) {
  const UniqueFd plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base - guard_bytes, area_bytes + 2 * guard_bytes);
  std::mt19937_64 random(options.seed);
  std::uint32_t generation = 10;
  const std::vector<Path> paths = paths_here();
  const std::vector<Exporter> exporters =
      those_there({Exporter::Udmabuf, Exporter::Heap, Exporter::VirtioGpu, Exporter::Vgem,
                   Exporter::UdmabufScattered});
  for (int i = 0; i < options.kills; ++i)
    for (const Path path : paths)
      one_round(options, exporters[static_cast<std::size_t>(i) % exporters.size()], path,
                End::Killed, ++generation, random, region, plain.get());
  for (const End end : {End::Exit, End::CloseSession, End::CloseAll, End::Unmap})
    for (int i = 0; i < 3; ++i)
      for (const Path path : paths)
        one_round(options, exporters[static_cast<std::size_t>(i) % exporters.size()], path, end,
                  ++generation, random, region, plain.get());
  reload_module(options, "after all of these");
}

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  TeardownOptions options;
  bool unbind = false;
  static const option names[] = {{"nvme", 1, nullptr, 'n'},    {"kills", 1, nullptr, 'k'},
                                 {"seed", 1, nullptr, 's'},    {"unbind", 0, nullptr, 'u'},
                                 {"verbose", 0, nullptr, 'v'}, {}};
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    if (c == 'n')
      options.nvme = optarg;
    else if (c == 'k')
      options.kills = std::atoi(optarg);
    else if (c == 's')
      options.seed = std::strtoull(optarg, nullptr, 0);
    else if (c == 'u')
      unbind = true;
    else if (c == 'v')
      report().set_verbose(true);
    else
      die("usage: teardown [--nvme PATH] [--kills N] [--seed N] [--unbind]\n"
          "Destroys data on the device. --unbind takes the drive's driver away instead.");
  }
  const char *module_file = std::getenv("DMABUF_RW_KO");
  if (!module_file)
    die("DMABUF_RW_KO must name the module's file");
  options.module_file = module_file;
  const auto before = live_dmabufs();
  if (!before)
    die("no bufinfo in debugfs");
  options.dmabufs_before = *before;
  report().note(std::format("seed {}", options.seed));
  if (unbind)
    test_unbind(options);
  else
    test_ends(options);
  return report().finish("teardown");
}
