// SPDX-License-Identifier: GPL-2.0-only
// Counts, pinned memory, permissions, and many threads at once.
#include "isolation.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <random>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 140u << 20;

// A handle by which nothing of this session can be reached.
void expect_no_mapping(const std::string &name, Bed &bed, std::uint32_t handle) {
  dmabuf_rw_info info{};
  expect("INFO of " + name, bed.session.info(handle, info), {ENOENT});
  for (const Direction direction : {Direction::Read, Direction::Write})
    expect(std::format("{} of {}", name_of(direction), name),
           premapped(bed, direction, handle, 0, 4096, disk_base), {ENOENT});
  expect("UNMAP of " + name, bed.session.unmap_one(handle), {ENOENT});
}

void mapping_limit(const IsolationOptions &options) {
  Bed bed(options, 64 * 1024);
  dmabuf_rw_query query{};
  bed.session.query(query);
  std::vector<std::uint32_t> handles;
  const auto good = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  dmabuf_rw_map_entry refused{};
  while (handles.size() <= query.max_mappings) {
    std::vector<dmabuf_rw_map_entry> batch(query.max_batch, good);
    if (!expect("MAP up to the limit", bed.session.map(batch), {0}))
      return;
    for (const auto &entry : batch) {
      if (entry.error == 0)
        handles.push_back(entry.handle);
      else
        refused = entry;
    }
    if (refused.error)
      break;
  }
  report().check(handles.size() == query.max_mappings, "a session has max_mappings mappings",
                 std::format("{} instead of {}", handles.size(), query.max_mappings));
  report().check(refused.error != 0 && refused.reason == DMABUF_RW_REASON_LIMIT,
                 "one more is refused for LIMIT",
                 std::format("{}, {}", errno_name(refused.error), reason_name(refused.reason)));
  if (handles.empty())
    return;
  const std::uint32_t old = handles.back();
  expect("UNMAP of one", bed.session.unmap_one(old), {0});
  auto again = good;
  expect("MAP in its place", bed.session.map_one(again), {0});
  // There was one slot left: the old handle names it, too, but for its generation.
  const std::uint32_t index = query.max_mappings - 1;
  report().check((again.handle & index) == (old & index) && again.handle != old,
                 "a new mapping has the old one's slot and another handle",
                 std::format("{:#x}, {:#x}", old, again.handle));
  expect_no_mapping("the handle of what was there before", bed, old);
  dmabuf_rw_info info{};
  expect("the mapping in its place lives on", bed.session.info(again.handle, info), {0});
  // The session is closed with all of them mapped.
}

} // namespace

// One slot of a session is free, and is taken and given back until its handles come round: each is
// another one until then, none is 0, and an old one names nothing while the slot is taken.
void test_generations(const IsolationOptions &options) {
  Bed bed(options, 64 * 1024);
  dmabuf_rw_query query{};
  bed.session.query(query);
  const auto good = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  for (std::uint32_t mapped = 0; mapped + 1 < query.max_mappings;) {
    std::vector<dmabuf_rw_map_entry> batch(
        std::min(query.max_batch, query.max_mappings - 1 - mapped), good);
    if (!expect("MAP of all but one", bed.session.map(batch), {0}))
      return;
    mapped += static_cast<std::uint32_t>(batch.size());
  }
  const std::uint32_t index_mask = query.max_mappings - 1;
  const std::uint32_t step = query.max_mappings; // to the next generation
  auto entry = good;
  if (!expect("MAP of the last", bed.session.map_one(entry), {0}))
    return;
  const std::uint32_t first = entry.handle;
  std::uint32_t last = first;
  std::uint64_t cycles = 0;
  // All generations but 0, and a few more.
  const std::uint64_t generations = (1ull << 32) / step - 1;
  for (; cycles < generations + 3; ++cycles) {
    if (bed.session.unmap_one(last) != 0)
      break;
    entry = good;
    if (bed.session.map_one(entry) != 0)
      break;
    const std::uint32_t next = last + step;
    const std::uint32_t expected = next > index_mask ? next : next + step;
    if (entry.handle != expected)
      break;
    if (cycles % 4096 == 0)
      expect_no_mapping("the handle before", bed, last);
    last = entry.handle;
  }
  report().check(cycles == generations + 3, "a slot's handles come in order, and never 0",
                 std::format("{} cycles; after {:#x} came {:#x}, {}", cycles, last, entry.handle,
                             errno_name(entry.error)));
  report().check(last == first + 3 * step, "they have come round",
                 std::format("{:#x}, {:#x}", first, last));
  dmabuf_rw_info info{};
  expect("the mapping lives", bed.session.info(last, info), {0});
  report().note(std::format("{} mappings in one slot", cycles));
}

namespace {

// Runs as root until it gives that up; files are opened before.
int memlock_child(const IsolationOptions &options, Path path) {
  const std::string name = std::format("RLIMIT_MEMLOCK, {}", name_of(path));
  constexpr std::size_t bytes = 4u << 20;
  Bed bed(options, bytes);
  auto second = DmaBuf::create(this_or_other(Exporter::Heap), bytes);
  if (!second)
    die(second.error());
  const auto limit = [](std::size_t value) {
    const rlimit limits{.rlim_cur = value, .rlim_max = RLIM_INFINITY};
    if (::setrlimit(RLIMIT_MEMLOCK, &limits) != 0)
      die("setrlimit");
  };
  // With CAP_IPC_LOCK the limit does not count.
  limit(6u << 20);
  auto one = map_entry(bed.buffer.fd(), bed.target.get(), path);
  auto two = map_entry(second->fd(), bed.target.get(), path);
  expect(name + ": root, first", bed.session.map_one(one), {0});
  expect(name + ": root, over the limit", bed.session.map_one(two), {0});
  bed.session.unmap_one(one.handle);
  bed.session.unmap_one(two.handle);

  become_nobody();
  one = map_entry(bed.buffer.fd(), bed.target.get(), path);
  two = map_entry(second->fd(), bed.target.get(), path);
  if (expect(name + ": user, within the limit", bed.session.map_one(one), {0})) {
    expect_refused(name + ": user, over the limit", bed.session, two, {ENOMEM, EPERM},
                   {DMABUF_RW_REASON_MEMLOCK});
    expect(name + ": UNMAP", bed.session.unmap_one(one.handle), {0});
    expect(name + ": user, within the limit again", bed.session.map_one(two), {0});
    bed.session.unmap_one(two.handle);
  }
  // Exactly what is left fits; a page less does not.
  limit(2 * bytes);
  expect(name + ": user, the first of two", bed.session.map_one(one), {0});
  expect(name + ": user, exactly at the limit", bed.session.map_one(two), {0});
  bed.session.unmap_one(two.handle);
  limit(2 * bytes - 4096);
  expect_refused(name + ": user, a page over the limit", bed.session, two, {ENOMEM},
                 {DMABUF_RW_REASON_MEMLOCK});
  // Each mapping is charged by itself, also of the same dma-buf for the same target.
  limit(2 * bytes);
  auto again = map_entry(bed.buffer.fd(), bed.target.get(), path);
  expect(name + ": user, a second mapping of the first dma-buf", bed.session.map_one(again), {0});
  expect_refused(name + ": user, over the limit by what is mapped twice", bed.session, two,
                 {ENOMEM}, {DMABUF_RW_REASON_MEMLOCK});
  bed.session.unmap_one(again.handle);
  bed.session.unmap_one(one.handle);
  // AUTO does not look for a path that costs nothing.
  limit(bytes - 4096);
  auto any = map_entry(bed.buffer.fd(), bed.target.get(), Path::Auto);
  expect_refused(name + ": user, AUTO over the limit", bed.session, any, {ENOMEM},
                 {DMABUF_RW_REASON_MEMLOCK});
  limit(64 * 1024);
  expect_refused(name + ": user, nothing fits", bed.session, one, {ENOMEM, EPERM},
                 {DMABUF_RW_REASON_MEMLOCK});
  // The child ends with a mapping in place: its account must be given back.
  limit(64 * 1024);
  return report().failures() ? 1 : 0;
}

int leave_mapped_child(const IsolationOptions &options) {
  Bed bed(options, 4u << 20);
  const rlimit limits{.rlim_cur = 5u << 20, .rlim_max = 5u << 20};
  ::setrlimit(RLIMIT_MEMLOCK, &limits);
  become_nobody();
  auto entry = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  expect("RLIMIT_MEMLOCK: MAP by a user who then exits", bed.session.map_one(entry), {0});
  return report().failures() ? 1 : 0;
}

int session_limit_child(std::uint32_t max_sessions) {
  const rlimit files{.rlim_cur = max_sessions + 64u, .rlim_max = max_sessions + 64u};
  ::setrlimit(RLIMIT_NOFILE, &files);
  become_nobody();
  std::vector<UniqueFd> sessions;
  int error = 0;
  while (sessions.size() < max_sessions + 8u) {
    UniqueFd fd(::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC));
    if (!fd) {
      error = errno;
      break;
    }
    sessions.push_back(std::move(fd));
  }
  report().check(sessions.size() == max_sessions, "a user has max_sessions sessions",
                 std::format("{} instead of {}", sessions.size(), max_sessions));
  report().check(error == EMFILE, "one more is refused", errno_name(error));
  if (sessions.empty())
    return 1;
  sessions.pop_back();
  UniqueFd again(::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC));
  report().check(static_cast<bool>(again), "and opens when one was closed", errno_name(errno));
  return report().failures() ? 1 : 0;
}

// Root has no limit.
void session_limit_of_root(std::uint32_t max_sessions) {
  const rlimit files{.rlim_cur = max_sessions + 64u, .rlim_max = max_sessions + 64u};
  ::setrlimit(RLIMIT_NOFILE, &files);
  std::vector<UniqueFd> sessions;
  while (sessions.size() < max_sessions + 8u) {
    sessions.emplace_back(::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC));
    if (!report().check(static_cast<bool>(sessions.back()),
                        "root opens more sessions than a user may", errno_name(errno)))
      break;
  }
}

// Shared by the threads that hammer one session.
struct Arena {
  const IsolationOptions &options;
  Session &session;
  std::vector<DmaBuf> &buffers;
  int target;
  std::array<std::atomic<std::uint32_t>, 24> handles{};
  Path pages = pages_path(); // the datapath beside premapped
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> maps = 0, unmaps = 0, ios = 0, lost = 0;

  // Reads that met no mapping show nothing.
  bool enough() const { return maps > 20 && ios > 200 + lost; }
};

void hammer(Arena &arena, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Ring ring(16, random() % 2 ? 0u : IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  ring.make_buffer_table(8);
  while (!arena.stop) {
    auto &slot = arena.handles[random() % arena.handles.size()];
    const std::uint32_t handle = slot.load();
    switch (random() % 12) {
    case 0:
    case 5:
    case 6: {
      auto entry = map_entry(arena.buffers[random() % arena.buffers.size()].fd(), arena.target,
                             random() % 4 ? Path::Premapped : arena.pages);
      if (const int error = arena.session.map_one(entry)) {
        if (error != -EINTR)
          report().fail("threads: MAP", errno_name(error) + ", " + reason_name(entry.reason));
        break;
      }
      ++arena.maps;
      const std::uint32_t old = slot.exchange(entry.handle);
      if (old)
        expect("threads: UNMAP", arena.session.unmap_one(old), {0});
      break;
    }
    case 1:
      if (const std::uint32_t old = slot.exchange(0)) {
        expect("threads: UNMAP", arena.session.unmap_one(old), {0});
        ++arena.unmaps;
      }
      break;
    case 2: {
      dmabuf_rw_info info{};
      if (handle)
        expect("threads: INFO", arena.session.info(handle, info), {0, ENOENT});
      break;
    }
    case 3: {
      const auto index = static_cast<std::uint32_t>(random() % 8);
      if (handle && ring.enroll(arena.session.fd(), handle, index) == 0) {
        ring.queue_fixed(Direction::Read, arena.target, index, 0, 65536, disk_base);
        expect_bytes("threads: READ_FIXED", ring.run_one(), 65536);
        expect("threads: UNREGISTER", ring.withdraw(arena.session.fd(), index), {0});
      }
      break;
    }
    default: {
      // Several at once, all with a handle another thread may take away at any time.
      for (int i = 0; i < 6; ++i) {
        const auto length = 512u * static_cast<std::uint32_t>(1 + random() % 256);
        ring.queue_command(
            arena.session.fd(), DMABUF_RW_URING_READ, 4096u * (random() % 64), length,
            {.file_offset = disk_base + 512 * (random() % 4096), .handle = handle, .flags = 0},
            length);
      }
      int left = 6;
      while (left > 0) {
        const int count = ring.reap([&](std::uint64_t length, int result) {
          --left;
          // EINVAL, EOPNOTSUPP: the handle names a registered mapping just now.
          if (result < 0) {
            ++arena.lost;
            expect("threads: read", result, {ENOENT, EINVAL, EOPNOTSUPP});
          } else {
            expect_bytes("threads: read", result, length);
          }
          ++arena.ios;
        });
        if (count < 0)
          die("io_uring_enter: " + errno_name(count));
      }
    }
    }
  }
}

// Meanwhile the data of a mapping nobody else touches must be right.
void verify(Arena &arena, DiskRegion &region) {
  Bed bed(arena.options, 1u << 20);
  auto entry = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  if (!expect("threads: MAP of the checked one", arena.session.map_one(entry), {0}))
    return;
  std::mt19937_64 random(99);
  while (!arena.stop) {
    const auto length = static_cast<std::uint32_t>(512 * (1 + random() % 512));
    const std::uint64_t offset =
        region.base() + 512 * (random() % ((region.size() - length) / 512));
    const int result =
        bed.ring.command(arena.session.fd(), DMABUF_RW_URING_READ, 512, length,
                         {.file_offset = offset, .handle = entry.handle, .flags = 0});
    if (!expect_bytes("threads: checked read", result, length))
      break;
    const CpuAccess access(bed.buffer, true);
    const auto found = bed.buffer.words().subspan(64, length / 8);
    const auto wrong = compare_words(found, region.expected(offset, length));
    report().check(!wrong, "threads: data of the checked read", wrong ? describe(*wrong, 512) : "");
    fill_pattern(found, buffer_poison, 512);
  }
  expect("threads: UNMAP of the checked one", arena.session.unmap_one(entry.handle), {0});
}

} // namespace

void test_limits(const IsolationOptions &options) {
  mapping_limit(options);
  Bed bed(options, 64 * 1024);
  auto entry = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  expect("MAP after a session with all its mappings was closed", bed.session.map_one(entry), {0});
  report().check(sharing(bed) == 2, "nothing shares the attachment but these two",
                 std::format("{}", sharing(bed)));
}

void test_privileges(const IsolationOptions &options) {
  struct stat state{};
  report().check(::stat(DMABUF_RW_DEVICE, &state) == 0 && (state.st_mode & 07777) == 0600 &&
                     state.st_uid == 0,
                 "device is mode 0600 and root's", std::format("mode {:o}", state.st_mode));
  in_child("a user cannot open the device", [] {
    become_nobody();
    const UniqueFd fd(::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC));
    return !fd && errno == EACCES ? 0 : 1;
  });
  for (const Path path : paths_here())
    in_child(std::format("RLIMIT_MEMLOCK holds, {}", name_of(path)),
             [&] { return memlock_child(options, path); });
  // Three in a row: an account that is not given back would refuse the second.
  for (int i = 0; i < 3; ++i)
    in_child("an exit gives the account back", [&] { return leave_mapped_child(options); });

  dmabuf_rw_query query{};
  Session().query(query);
  in_child("sessions of root are not limited", [&] {
    session_limit_of_root(query.max_sessions);
    return report().failures() ? 1 : 0;
  });
  ::chmod(DMABUF_RW_DEVICE, 0666);
  for (int i = 0; i < 2; ++i)
    in_child("sessions of a user are limited",
             [&] { return session_limit_child(query.max_sessions); });
  ::chmod(DMABUF_RW_DEVICE, 0600);
}

void test_threads(const IsolationOptions &options) {
  Session session;
  UniqueFd target = open_target(options.nvme), plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base, 4u << 20);
  region.lay_down_all(30);
  std::vector<DmaBuf> buffers;
  for (const Exporter wanted :
       {Exporter::Udmabuf, Exporter::Heap, Exporter::Vgem, Exporter::VirtioGpu}) {
    const Exporter exporter = this_or_other(wanted);
    auto buffer = DmaBuf::create(exporter, 1u << 20);
    if (!buffer)
      die(buffer.error());
    buffers.push_back(std::move(*buffer));
  }
  Arena arena{.options = options, .session = session, .buffers = buffers, .target = target.get()};
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t i = 0; i < 4; ++i)
      threads.emplace_back([&, i] { hammer(arena, options.seed + i); });
    threads.emplace_back([&] { verify(arena, region); });
    // At least so long, and on a slow machine until enough has happened.
    const double begin = now_s();
    while (now_s() - begin < options.thread_seconds || (now_s() - begin < 120 && !arena.enough()))
      ::usleep(50000);
    arena.stop = true;
  }
  report().note(std::format("threads: {} MAPs, {} UNMAPs, {} reads of which {} met no mapping",
                            arena.maps.load(), arena.unmaps.load(), arena.ios.load(),
                            arena.lost.load()));
  report().check(arena.enough(), "threads did something");
  for (auto &slot : arena.handles)
    if (const std::uint32_t handle = slot.exchange(0))
      expect("threads: last UNMAP", session.unmap_one(handle), {0});
  // Nobody shares an attachment with a new mapping: nothing was left behind.
  for (const DmaBuf &buffer : buffers) {
    auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
    dmabuf_rw_info info{};
    expect("threads: MAP afterwards", session.map_one(entry), {0});
    session.info(entry.handle, info);
    report().check(info.shared == 1, "threads: no attachment is still shared",
                   std::format("{}", info.shared));
    expect("threads: UNMAP afterwards", session.unmap_one(entry.handle), {0});
  }
  const auto wrong = region.check_all();
  report().check(!wrong, "threads: reads did not change the drive", wrong.value_or(""));
}

} // namespace vmtest
