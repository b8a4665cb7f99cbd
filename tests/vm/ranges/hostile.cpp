// SPDX-License-Identifier: GPL-2.0-only
// Arrays that are hostile.
#include "ranges.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

namespace vmtest {

void test_hostile_arrays() {
  DmaBuf buffer = make_buffer();
  Mapped mapped(Path::Premapped, buffer.fd());
  dmabuf_rw_query query{};
  mapped.session.query(query);
  const auto most = static_cast<std::uint32_t>(query.max_ranges);
  // Of this machine, which may have wider ones than 4 KiB.
  const auto wide = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  auto *pages = static_cast<std::byte *>(
      ::mmap(nullptr, 3 * wide, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (pages == MAP_FAILED)
    die("no memory");
  ::munmap(pages + 2 * wide, wide);
  auto *const two = reinterpret_cast<dmabuf_rw_range *>(pages + 2 * wide) - 2;
  for (const Direction direction : {Direction::Read, Direction::Write})
    for (const unsigned flags : {0u, unsigned{IOSQE_ASYNC}}) {
      const auto name = [&](const char *what) {
        return std::format("{}, {}{}", what, name_of(direction), flags ? ", by a worker" : "");
      };
      const auto call = [&](dmabuf_rw_range *ranges, std::uint32_t count, std::uint64_t offset = 0,
                            std::uint32_t io_flags = 0, std::uint32_t wrong_handle = 0) {
        return move(mapped.ring, mapped.session, direction, mapped.entry.handle ^ wrong_handle,
                    ranges, count, flags, offset, io_flags);
      };
      Ranges ranges(most + 1);
      for (auto &range : ranges)
        range = {.file_offset = disk_base, .buffer_offset = 0, .length = page};
      expect(name("no range"), call(ranges.data(), 0), -EINVAL);
      expect(name("too many ranges"), call(ranges.data(), most + 1), -EINVAL);
      expect(name("2^32 - 1 ranges"), call(ranges.data(), ~0u), -EINVAL);
      expect(name("a file offset"), call(ranges.data(), 1, 512), -EINVAL);
      expect(name("a flag"), call(ranges.data(), 1, 0, 1), -EINVAL);
      expect(name("another handle"), call(ranges.data(), 1, 0, 0, 1u << 20), -ENOENT);
      expect(name("no array"), call(nullptr, 1), -EFAULT);
      expect(name("an array of the kernel's"),
             call(reinterpret_cast<dmabuf_rw_range *>(0xffff888000000000ull), 1), -EFAULT);
      expect(name("an array that wraps"),
             call(reinterpret_cast<dmabuf_rw_range *>(0 - std::uintptr_t{64}), 8), -EFAULT);
      two[0] = two[1] = ranges[0];
      expect(name("an array that ends past mapped memory"), call(two, 3), -EFAULT);
      expect(name("an array that ends with mapped memory"), call(two, 2), 2);
      expect(name("as many as may be, all of the same bytes"), call(ranges.data(), most),
             static_cast<int>(most));
      const std::uint64_t before = mapped.info().errors;
      ::mprotect(pages + wide, wide, PROT_READ);
      expect(name("results that cannot be stored"), call(two, 2), -EFAULT);
      ::mprotect(pages + wide, wide, PROT_READ | PROT_WRITE);
      report().check(mapped.info().errors == before, name("no I/O failed for that"));
    }
  ::munmap(pages, 2 * wide);
  // Of another path, and in a direction that is not mapped.
  if (std::ranges::contains(paths_here(), Path::Registered)) {
    auto registered = map_entry(buffer.fd(), mapped.target.get(), Path::Registered);
    if (const int error = mapped.session.map_one(registered))
      die("MAP registered: " + errno_name(error));
    Ranges one{{.file_offset = disk_base, .buffer_offset = 0, .length = page}};
    expect("a registered mapping",
           move(mapped.ring, mapped.session, Direction::Read, registered.handle, one), -EOPNOTSUPP);
  }
  auto reading = map_entry(buffer.fd(), mapped.target.get(), Path::Premapped, DMABUF_RW_DIR_READ);
  if (const int error = mapped.session.map_one(reading))
    die("MAP: " + errno_name(error));
  for (const unsigned flags : {0u, unsigned{IOSQE_ASYNC}}) {
    Ranges ranges(3, {.file_offset = disk_base, .buffer_offset = 0, .length = page});
    expect("a direction that is not mapped",
           move(mapped.ring, mapped.session, Direction::Write, reading.handle, ranges, flags), 0);
    report().check(std::ranges::all_of(ranges,
                                       [](const auto &range) {
                                         return range.error == EACCES &&
                                                range.reason == DMABUF_RW_REASON_DIRECTION;
                                       }),
                   "each range says that the direction is not mapped");
  }
}

void test_changing(double seconds) {
  DmaBuf buffer = make_buffer();
  Mapped mapped(Path::Premapped, buffer.fd());
  DiskRegion region(mapped.plain.get(), disk_base, bytes);
  region.lay_down_all(20);
  DiskRegion beside(mapped.plain.get(), disk_base + bytes, bytes);
  beside.lay_down_all(21);
  constexpr std::size_t count = 64;
  Ranges ranges(count);
  std::atomic<bool> stop = false;
  for (std::size_t i = 0; i < count; ++i)
    ranges[i] = {.file_offset = disk_base + i * page, .buffer_offset = i * page, .length = page};
  std::thread changer([&] {
    for (std::size_t i = 0; !stop; i = (i + 7) % count) {
      __atomic_store_n(&ranges[i].buffer_offset, bytes - page / 2, __ATOMIC_RELAXED);
      __atomic_store_n(&ranges[i].length, 1u << 30, __ATOMIC_RELAXED);
      __atomic_store_n(&ranges[i].buffer_offset, i * page, __ATOMIC_RELAXED);
      __atomic_store_n(&ranges[i].length, page, __ATOMIC_RELAXED);
    }
  });
  std::uint64_t moved = 0, refused = 0, other = 0, calls = 0;
  // Until both were seen, with a limit.
  const double limit = now_s() + 60 * seconds;
  const std::uint64_t enough = 2000;
  while ((calls < enough || !moved || !refused) && now_s() < limit) {
    const Direction direction = calls % 2 ? Direction::Write : Direction::Read;
    const int got = move(mapped.ring, mapped.session, direction, mapped.entry.handle, ranges,
                         calls % 3 ? 0 : unsigned{IOSQE_ASYNC});
    ++calls;
    std::uint64_t good = 0;
    for (const auto &range : ranges) {
      good += !range.error;
      moved += !range.error && range.moved == page;
      refused += range.error == EINVAL && range.moved == 0;
      other += range.error ? range.error != EINVAL || range.moved : range.moved != page;
    }
    if (got != static_cast<int>(good))
      ++other;
  }
  stop = true;
  changer.join();
  report().check(moved && refused, "ranges that change are seen either way",
                 std::format("{} moved, {} refused in {} calls", moved, refused, calls));
  report().check(other == 0, "no range that changed is anything in between", std::to_string(other));
  const auto wrong = beside.check_all();
  report().check(!wrong, "nothing beside is written", wrong.value_or(""));
}

} // namespace vmtest
