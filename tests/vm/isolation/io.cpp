// SPDX-License-Identifier: GPL-2.0-only
// Ranges of premapped and registered I/O, and handles that are not the caller's.
#include "isolation.hpp"

#include <random>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 40u << 20;
constexpr std::size_t region_bytes = 8u << 20;
constexpr std::uint32_t page = 4096;

// After refusals: neither dma-buf nor drive may have changed.
void expect_untouched(const std::string &name, Bed &bed, DiskRegion &region) {
  const auto wrong = region.check_all();
  report().check(!wrong, name + ": the drive is as it was", wrong.value_or(""));
  HostBuffer poison(bed.buffer.size());
  fill_pattern(poison.words(), buffer_poison, 0);
  const CpuAccess access(bed.buffer, false);
  const auto moved = compare_words(bed.buffer.words(), poison.words());
  report().check(!moved, name + ": the dma-buf is as it was", moved ? describe(*moved, 0) : "");
}

struct Range {
  const char *name;
  std::uint64_t buffer_offset;
  std::uint32_t length;
  std::uint64_t file_offset;
};

std::vector<Range> bad_ranges(std::uint64_t size, std::uint64_t device, std::uint64_t max_io) {
  constexpr std::uint64_t two32 = 1ull << 32;
  constexpr std::uint64_t two63 = 1ull << 63;
  std::vector<Range> ranges = {
      {"length 0", 0, 0, disk_base},
      {"length 1", 0, 1, disk_base},
      {"length 511", 0, 511, disk_base},
      {"length 4097", 0, 4097, disk_base},
      {"length 2^32 - 512", 0, 0xFFFFFE00u, disk_base},
      {"length 2^31", 0, 0x80000000u, disk_base},
      {"length 2^31 - 512", 0, 0x7FFFFE00u, disk_base},
      {"buffer offset 1", 1, page, disk_base},
      {"buffer offset 2", 2, page, disk_base},
      {"buffer offset 4095", 4095, page, disk_base},
      {"buffer offset = size", size, page, disk_base},
      {"one sector past the buffer", size - 512, 1024, disk_base},
      {"whole buffer, one sector in", 512, static_cast<std::uint32_t>(size), disk_base},
      {"longer than the buffer", 0, static_cast<std::uint32_t>(size) + 512, disk_base},
      {"buffer offset 2^32", two32, page, disk_base},
      {"buffer offset 2^32 + 4096", two32 + page, page, disk_base},
      {"buffer offset 2^44", 1ull << 44, page, disk_base},
      {"buffer offset 2^52", 1ull << 52, page, disk_base},
      {"buffer offset 2^63", two63, page, disk_base},
      {"buffer end wraps to 0", 0 - std::uint64_t{page}, page, disk_base},
      {"buffer end wraps past 0", 0 - std::uint64_t{page}, 2 * page, disk_base},
      {"buffer end wraps from 2^64 - 512", 0 - std::uint64_t{512}, 1024, disk_base},
      {"file offset 1", 0, page, disk_base + 1},
      {"file offset 256", 0, page, disk_base + 256},
      {"file offset 511", 0, page, disk_base + 511},
      {"file offset = size of the drive", 0, page, device},
      {"one sector past the drive", 0, 1024, device - 512},
      {"file offset 2^41, its sector is 2^32", 0, page, (1ull << 41) + disk_base},
      {"file offset 2^50", 0, page, (1ull << 50) + disk_base},
      {"file offset 2^63", 0, page, two63},
      {"file offset 2^63 + inside", 0, page, two63 + disk_base},
      {"file offset 2^63 - 512", 0, 1024, two63 - 512},
      {"file end wraps to 0", 0, page, 0 - std::uint64_t{page}},
      {"file end wraps past 0", 0, 2 * page, 0 - std::uint64_t{page}},
      {"file end wraps from 2^64 - 512", 0, 1024, 0 - std::uint64_t{512}},
  };
  if (max_io < 0xFFFFF000u)
    ranges.push_back(
        {"longer than max_io_bytes", 0, static_cast<std::uint32_t>(max_io) + 512, disk_base});
  return ranges;
}

// What a command ends with that a worker issues: a kernel that does not keep its SQE refuses it.
int answer(const Bed &bed, unsigned flags, int error) {
  dmabuf_rw_query query{};
  bed.session.query(query);
  return (flags & IOSQE_ASYNC) && !(query.features & DMABUF_RW_FEAT_ASYNC) ? EOPNOTSUPP : error;
}

void premapped_ranges(Bed &bed, DiskRegion &region, const dmabuf_rw_map_entry &entry,
                      const std::vector<Range> &bad) {
  for (const Direction direction : {Direction::Read, Direction::Write})
    for (const Range &range : bad) {
      if (range.buffer_offset < page && range.buffer_offset % entry.buffer_align == 0 &&
          range.buffer_offset + range.length <= bed.buffer.size() &&
          range.file_offset == disk_base && range.length == page)
        continue; // this drive allows so fine an offset
      const std::string name = std::format("premapped {}, {}", name_of(direction), range.name);
      for (const unsigned flags : {0u, unsigned{IOSQE_ASYNC}})
        expect(name,
               premapped(bed, direction, entry.handle, range.buffer_offset, range.length,
                         range.file_offset, 0, flags),
               {answer(bed, flags, EINVAL)});
      dmabuf_rw_info info{};
      bed.session.info(entry.handle, info);
      report().check(
          info.last_error == EINVAL && info.last_reason == DMABUF_RW_REASON_RANGE,
          name + ": INFO names the reason",
          std::format("last error {}, reason {}", info.last_error, reason_name(info.last_reason)));
    }
  expect_untouched("after bad premapped ranges", bed, region);
  dmabuf_rw_info info{};
  bed.session.info(entry.handle, info);
  report().check(info.commands == 0 && info.reads == 0 && info.writes == 0 &&
                     info.read_bytes == 0 && info.write_bytes == 0,
                 "no bad range reached the drive",
                 std::format("{} commands", static_cast<std::uint64_t>(info.commands)));
}

// The same through the registered path, where io_uring itself does the checks.
void registered_ranges(Bed &bed, DiskRegion &region) {
  bed.ring.make_buffer_table(1);
  Mover registered(bed.session, bed.ring, bed.buffer.fd(), bed.target.get(), Path::Registered);
  if (!expect("MAP registered", registered.error(), {0}))
    return;
  const std::uint64_t size = bed.buffer.size();
  for (const Direction direction : {Direction::Read, Direction::Write})
    for (const Range &range :
         {Range{"buffer offset = size", size, page, disk_base},
          Range{"one sector past the buffer", size - 512, 1024, disk_base},
          Range{"buffer offset 2^32", 1ull << 32, page, disk_base},
          Range{"buffer offset 2^63", 1ull << 63, page, disk_base},
          Range{"buffer end wraps", 0 - std::uint64_t{page}, 2 * page, disk_base},
          Range{"length 2^31", 0, 0x80000000u, disk_base},
          Range{"file offset 511", 0, page, disk_base + 511}})
      expect(std::format("registered {}, {}", name_of(direction), range.name),
             registered.transfer(direction, range.buffer_offset, range.length, range.file_offset),
             {EFAULT, EINVAL, EOVERFLOW});
  expect_untouched("after bad registered ranges", bed, region);
}

// bvec: the module guards the dma-buf, the target its own range.
void bvec_ranges(Bed &bed, DiskRegion &region, std::uint64_t device,
                 const std::vector<Range> &bad) {
  const std::uint64_t size = bed.buffer.size();
  dmabuf_rw_map_entry bvec = map_entry(bed.buffer.fd(), bed.target.get(), Path::Bvec);
  if (!expect("MAP bvec", bed.session.map_one(bvec), {0}))
    return;
  for (const Direction direction : {Direction::Read, Direction::Write})
    for (const Range &range : bad) {
      const bool in_buffer = range.buffer_offset <= size &&
                             range.length <= size - range.buffer_offset && range.length != 0;
      if (in_buffer && range.buffer_offset % 4 == 0 && range.file_offset >= device &&
          range.file_offset < (1ull << 63))
        expect(std::format("bvec {}, {}", name_of(direction), range.name),
               premapped(bed, direction, bvec.handle, range.buffer_offset, range.length,
                         range.file_offset),
               {EINVAL, ENOSPC, EFBIG, direction == Direction::Read ? 0 : EINVAL});
      else if (!in_buffer || range.file_offset % 512 || range.length % 512 ||
               range.file_offset >= (1ull << 63))
        expect(std::format("bvec {}, {}", name_of(direction), range.name),
               premapped(bed, direction, bvec.handle, range.buffer_offset, range.length,
                         range.file_offset),
               {EINVAL, EFAULT, EOVERFLOW});
    }
  expect_untouched("after bad bvec ranges", bed, region);
}

// I/O of a handle that this session does not have.
void no_io(Bed &bed, const std::string &name, std::uint32_t handle) {
  for (const Direction direction : {Direction::Read, Direction::Write})
    for (const unsigned flags : {0u, unsigned{IOSQE_ASYNC}})
      expect(std::format("{} of {}", name_of(direction), name),
             premapped(bed, direction, handle, 0, page, disk_base, 0, flags),
             {answer(bed, flags, ENOENT)});
}

// A handle of another session, with and without a mapping of the same number here.
void anothers_handles(Bed &bed, const dmabuf_rw_map_entry &mine) {
  Session other;
  std::vector<dmabuf_rw_map_entry> theirs(
      8, map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped));
  expect("MAP in another session", other.map(theirs), {0});
  for (const auto &entry : theirs) {
    if (entry.handle == mine.handle)
      continue;
    no_io(bed, "a handle of another session", entry.handle);
    dmabuf_rw_info info{};
    expect("INFO of a handle of another session", bed.session.info(entry.handle, info), {ENOENT});
    expect("UNMAP of a handle of another session", bed.session.unmap_one(entry.handle), {ENOENT});
  }
  dmabuf_rw_info info{};
  expect("the other session's mapping lives on", other.info(theirs[7].handle, info), {0});
}

void random_handles(Bed &bed, unsigned seed, const dmabuf_rw_map_entry &mine) {
  std::mt19937 random(seed);
  for (int i = 0; i < 500; ++i) {
    const std::uint32_t handle =
        i % 4 ? static_cast<std::uint32_t>(random()) : static_cast<std::uint32_t>(random() % 4096);
    if (handle == mine.handle)
      continue;
    dmabuf_rw_info info{};
    expect("INFO of a random handle", bed.session.info(handle, info), {ENOENT});
    if (i % 5 == 0)
      no_io(bed, "a random handle", handle);
    expect("UNMAP of a random handle", bed.session.unmap_one(handle), {ENOENT});
  }
}

// The handle numbers of what was unmapped are not given out again at once.
void handles_again(Bed &bed, dmabuf_rw_map_entry stale, const dmabuf_rw_map_entry &mine) {
  for (int i = 0; i < 16; ++i) {
    auto next = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
    expect("MAP again", bed.session.map_one(next), {0});
    report().check(next.handle != stale.handle && next.handle != mine.handle,
                   "handle is not reused at once", std::format("{}", next.handle));
    stale = next;
    expect("UNMAP again", bed.session.unmap_one(next.handle), {0});
  }
}

// The mapping holds what it needs: both files may be closed. Closing the session ends everything
// made in it.
void life_of_a_mapping(Bed &bed, DiskRegion &region, const IsolationOptions &options,
                       const dmabuf_rw_map_entry &mine) {
  bed.target.reset();
  const std::uint64_t offset = disk_base + 4096;
  expect_bytes("read after the target was closed",
               premapped(bed, Direction::Read, mine.handle, 8192, page, offset), page);
  {
    const CpuAccess access(bed.buffer, false);
    const auto wrong =
        compare_words(bed.buffer.words().subspan(1024, page / 8), region.expected(offset, page));
    report().check(!wrong, "data read after the target was closed",
                   wrong ? describe(*wrong, 8192) : "");
  }
  const UniqueFd again = open_target(options.nvme);
  Session other;
  auto witness = map_entry(bed.buffer.fd(), again.get(), Path::Premapped);
  expect("MAP in another session", other.map_one(witness), {0});
  dmabuf_rw_info info{};
  expect("INFO beside the session", other.info(witness.handle, info), {0});
  report().check(info.shared == 2, "the session's mapping shares the attachment",
                 std::format("{}", info.shared));
  bed.session.close();
  expect("INFO after the session", other.info(witness.handle, info), {0});
  report().check(info.shared == 1, "the session's mapping went with it",
                 std::format("{}", info.shared));
}

} // namespace

void test_io_ranges(const IsolationOptions &options) {
  Bed bed(options);
  dmabuf_rw_query query{};
  bed.session.query(query);
  const std::uint64_t device = block_device_bytes(bed.plain.get());
  DiskRegion region(bed.plain.get(), disk_base, region_bytes);
  region.lay_down_all(6);

  auto entry = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  if (!expect("MAP", bed.session.map_one(entry), {0}))
    return;
  const std::vector<Range> bad = bad_ranges(bed.buffer.size(), device, query.max_io_bytes);
  premapped_ranges(bed, region, entry, bad);
  if (pages_path() != Path::Registered)
    return report().skip("ranges of a registered buffer", "this kernel has no registered path");
  registered_ranges(bed, region);
  if (!(query.features & DMABUF_RW_FEAT_BVEC))
    return report().skip("ranges, bvec", "QUERY does not offer it");
  bvec_ranges(bed, region, device, bad);
}

void test_handles(const IsolationOptions &options) {
  Bed bed(options);
  DiskRegion region(bed.plain.get(), disk_base, region_bytes);
  region.lay_down_all(7);
  auto mine = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  auto stale = mine;
  if (!expect("MAP", bed.session.map_one(mine), {0}) ||
      !expect("MAP", bed.session.map_one(stale), {0}))
    return;
  expect("UNMAP", bed.session.unmap_one(stale.handle), {0});
  no_io(bed, "a stale handle", stale.handle);
  expect("UNMAP of a stale handle", bed.session.unmap_one(stale.handle), {ENOENT});
  anothers_handles(bed, mine);
  random_handles(bed, static_cast<unsigned>(options.seed), mine);
  handles_again(bed, stale, mine);
  expect_untouched("after bad handles", bed, region);
  life_of_a_mapping(bed, region, options, mine);
}

} // namespace vmtest
