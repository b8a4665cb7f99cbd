// SPDX-License-Identifier: GPL-2.0-only
// uring_cmd arguments, kinds of ring, and the registered-buffer table.
#include "isolation.hpp"

#include <algorithm>
#include <cstring>
#include <sys/uio.h>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 48u << 20;
constexpr std::uint32_t bytes = 64 * 1024;

int registration(Bed &bed, std::uint32_t op, const dmabuf_rw_uring_reg &reg, std::uint64_t addr = 0,
                 std::uint32_t len = 0) {
  io_uring_sqe *sqe = bed.ring.sqe();
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = bed.session.fd();
  sqe->cmd_op = op;
  sqe->addr = addr;
  sqe->len = len;
  std::memcpy(sqe->cmd, &reg, sizeof(reg));
  return bed.ring.run_one();
}

bool holds(Bed &bed, DiskRegion &region, std::uint64_t buffer_offset, std::uint64_t file_offset) {
  const CpuAccess access(bed.buffer, false);
  return !compare_words(bed.buffer.words().subspan(buffer_offset / 8, bytes / 8),
                        region.expected(file_offset, bytes));
}

// A window of the mapping in a slot of the table: reads land in it, at the right place, and nowhere
// else; what is outside it cannot be named.
void window(Bed &bed, DiskRegion &region, std::uint32_t handle, std::uint64_t offset,
            std::uint32_t length) {
  const auto name = std::format("window of {} bytes from {}", length, offset);
  const dmabuf_rw_uring_reg reg{
      .handle = handle, .index = 0, .flags = DMABUF_RW_REG_WINDOW, .reserved = 0};
  if (!expect(name + ", REGISTER", registration(bed, DMABUF_RW_URING_REGISTER, reg, offset, length),
              {0}))
    return;
  HostBuffer before(bed.buffer.size());
  {
    const CpuAccess access(bed.buffer, true);
    fill_pattern(bed.buffer.words(), buffer_poison, 0);
    fill_pattern(before.words(), buffer_poison, 0);
  }
  const auto wanted = region.expected(disk_base, length);
  std::ranges::copy(wanted, before.words().begin() + static_cast<std::ptrdiff_t>(offset / 8));
  bed.ring.queue_fixed(Direction::Read, bed.target.get(), 0, 0, length, disk_base);
  int result = bed.ring.run_one();
  report().check(result == static_cast<int>(length), name + ", READ_FIXED", errno_name(result));
  // Its last block alone, at its own place.
  if (length > 512) {
    bed.ring.queue_fixed(Direction::Read, bed.target.get(), 0, length - 512, 512,
                         disk_base + length - 512);
    result = bed.ring.run_one();
    report().check(result == 512, name + ", its last block", errno_name(result));
  }
  {
    const CpuAccess access(bed.buffer, false);
    const auto wrong = compare_words(bed.buffer.words(), before.words());
    report().check(!wrong, name + ", every byte of the dma-buf", wrong ? describe(*wrong, 0) : "");
  }
  for (const std::uint64_t address : {length + 0ull, length - 508ull, ~0ull - 511}) {
    bed.ring.queue_fixed(Direction::Read, bed.target.get(), 0, address, 512, disk_base);
    expect(name + ", READ_FIXED past its end", bed.ring.run_one(), {EFAULT});
  }
  expect(name + ", UNREGISTER", bed.ring.withdraw(bed.session.fd(), 0), {0});
}

void windows(Bed &bed, DiskRegion &region, std::uint32_t handle) {
  const std::uint64_t size = bed.buffer.size();
  const dmabuf_rw_uring_reg reg{
      .handle = handle, .index = 0, .flags = DMABUF_RW_REG_WINDOW, .reserved = 0};
  const struct {
    std::uint64_t offset;
    std::uint32_t length;
  } outside[] = {{0, static_cast<std::uint32_t>(size + 512)},
                 {size, 512},
                 {size - 511, 512},
                 {~0ull, 1},
                 {~0ull - 511, 1024},
                 {1ull << 63, 4096},
                 {0, ~0u},
                 {4096, 0}};
  for (const auto &[offset, length] : outside)
    expect(std::format("REGISTER of {} bytes from {}", length, offset),
           registration(bed, DMABUF_RW_URING_REGISTER, reg, offset, length), {EINVAL});
  auto unregister = reg;
  unregister.handle = 0;
  expect("UNREGISTER of a window",
         registration(bed, DMABUF_RW_URING_UNREGISTER, unregister, 0, 512), {EINVAL});
  window(bed, region, handle, 0, 512);
  window(bed, region, handle, 512, 512);
  window(bed, region, handle, 4096, 4096);
  window(bed, region, handle, 3584, 1024);
  window(bed, region, handle, 8192 + 1536, 200 * 512);
  window(bed, region, handle, size - 12 * 4096 - 512, 12 * 4096 + 512);
}

// What registration() must refuse while no slot is filled; `premapped_handle` is of a mapping
// without pages.
void bad_registrations(Bed &bed, std::uint32_t handle, std::uint32_t premapped_handle) {
  const dmabuf_rw_uring_reg good{.handle = handle, .index = 1, .flags = 0, .reserved = 0};
  for (const std::uint32_t index : {4u, 5u, 0x10001u, 0x80000000u, ~0u}) {
    auto reg = good;
    reg.index = index;
    expect("REGISTER outside the table", registration(bed, DMABUF_RW_URING_REGISTER, reg),
           {EINVAL});
    expect("UNREGISTER outside the table", bed.ring.withdraw(bed.session.fd(), index), {EINVAL});
  }
  for (unsigned bit = 0; bit < 32; bit += 7) {
    auto reg = good;
    reg.flags = 1u << bit;
    expect("REGISTER flags", registration(bed, DMABUF_RW_URING_REGISTER, reg), {EINVAL});
    reg = good;
    reg.reserved = 1u << bit;
    expect("REGISTER reserved", registration(bed, DMABUF_RW_URING_REGISTER, reg), {EINVAL});
  }
  expect("REGISTER with an address", registration(bed, DMABUF_RW_URING_REGISTER, good, 4096),
         {EINVAL});
  expect("REGISTER with a length", registration(bed, DMABUF_RW_URING_REGISTER, good, 0, 4096),
         {EINVAL});
  for (const std::uint32_t other : {0u, handle + 100, ~0u})
    expect("REGISTER of a handle that is not", bed.ring.enroll(bed.session.fd(), other, 1),
           {ENOENT});
  expect("REGISTER of a premapped mapping", bed.ring.enroll(bed.session.fd(), premapped_handle, 1),
         {EINVAL, EOPNOTSUPP});
  // Has pages, too, but only for I/O with its own target.
  auto bvec_entry = map_entry(bed.buffer.fd(), bed.target.get(), Path::Bvec);
  if (expect("MAP by bvec", bed.session.map_one(bvec_entry), {0})) {
    expect("REGISTER of a bvec mapping", bed.ring.enroll(bed.session.fd(), bvec_entry.handle, 1),
           {EOPNOTSUPP});
    expect("UNMAP of it", bed.session.unmap_one(bvec_entry.handle), {0});
  }
  expect("UNREGISTER of an empty slot", bed.ring.withdraw(bed.session.fd(), 1), {EINVAL, ENOENT});

  dmabuf_rw_info info{};
  bed.session.info(handle, info);
  report().check(info.registrations == 0 && info.registered == 0, "refusals register nothing");
}

// Fills slots 1 to 3 and empties them, except slot 1.
void filled_and_emptied(Bed &bed, std::uint32_t handle) {
  const dmabuf_rw_uring_reg good{.handle = handle, .index = 1, .flags = 0, .reserved = 0};
  expect("REGISTER", registration(bed, DMABUF_RW_URING_REGISTER, good), {0});
  expect("REGISTER into a full slot", registration(bed, DMABUF_RW_URING_REGISTER, good), {EBUSY});
  expect("REGISTER of the same in another slot", bed.ring.enroll(bed.session.fd(), handle, 2), {0});
  dmabuf_rw_info info{};
  bed.session.info(handle, info);
  report().check(info.registrations == 2 && info.registered == 2, "INFO counts two slots",
                 std::format("{} made, {} live", static_cast<std::uint64_t>(info.registrations),
                             static_cast<std::uint64_t>(info.registered)));
  const struct {
    const char *name;
    dmabuf_rw_uring_reg reg;
  } spoilt[] = {
      {"UNREGISTER with a handle", {.handle = handle, .index = 1, .flags = 0, .reserved = 0}},
      {"UNREGISTER flags", {.handle = 0, .index = 1, .flags = 1, .reserved = 0}},
      {"UNREGISTER reserved", {.handle = 0, .index = 1, .flags = 0, .reserved = 1}},
  };
  for (const auto &[name, reg] : spoilt)
    expect(name, registration(bed, DMABUF_RW_URING_UNREGISTER, reg), {EINVAL});
  expect("UNREGISTER", bed.ring.withdraw(bed.session.fd(), 2), {0});
  expect("UNREGISTER again", bed.ring.withdraw(bed.session.fd(), 2), {EINVAL, ENOENT});
  // io_uring lets go of the slot at once, the module of the count a moment later.
  for (int tries = 0; tries < 100; ++tries) {
    bed.session.info(handle, info);
    if (info.registered == 1)
      break;
    ::usleep(10000);
  }
  report().check(info.registered == 1, "INFO counts one slot",
                 std::format("{}", static_cast<std::uint64_t>(info.registered)));

  // From a worker, where io_uring's lock is not held on entry.
  expect("REGISTER from a worker", bed.ring.enroll(bed.session.fd(), handle, 3, IOSQE_ASYNC), {0});
  expect("UNREGISTER from a worker", bed.ring.withdraw(bed.session.fd(), 3, IOSQE_ASYNC), {0});
}

// A slot that holds the user's own buffer is none of the module's business.
void slot_of_the_user(Bed &bed, std::uint32_t handle) {
  HostBuffer host(bytes);
  iovec vector{.iov_base = host.words().data(), .iov_len = host.size()};
  __u64 tag = 0;
  if (io_uring_register_buffers_update_tag(bed.ring.raw(), 2, &vector, &tag, 1) != 1)
    die("cannot register host memory");
  expect("REGISTER over host memory", bed.ring.enroll(bed.session.fd(), handle, 2), {EBUSY});
  expect("UNREGISTER of host memory", bed.ring.withdraw(bed.session.fd(), 2),
         {EBUSY, EINVAL, ENOENT});
  bed.ring.queue_fixed(Direction::Read, bed.target.get(), 2,
                       reinterpret_cast<std::uintptr_t>(host.words().data()), bytes, disk_base);
  expect_bytes("host memory is still registered", bed.ring.run_one(), bytes);
}

// UNMAP while the ring holds it in slot 1: I/O goes on, the pages stay, the handle is gone.
void slot_outlives_its_mapping(Bed &bed, DiskRegion &region, std::uint32_t handle) {
  expect("UNMAP of a registered mapping", bed.session.unmap_one(handle), {0});
  dmabuf_rw_info info{};
  expect("INFO after UNMAP", bed.session.info(handle, info), {ENOENT});
  bed.ring.queue_fixed(Direction::Read, bed.target.get(), 1, 8192, bytes, disk_base + 4096);
  expect_bytes("READ_FIXED after UNMAP", bed.ring.run_one(), bytes);
  report().check(holds(bed, region, 8192, disk_base + 4096), "READ_FIXED after UNMAP, data");
  // Even after the session is closed.
  bed.session.close();
  bed.ring.queue_fixed(Direction::Read, bed.target.get(), 1, 4096, bytes, disk_base + 512);
  expect_bytes("READ_FIXED after the session is closed", bed.ring.run_one(), bytes);
  report().check(holds(bed, region, 4096, disk_base + 512),
                 "READ_FIXED after the session is closed, data");
  // The ring's own way to empty a slot lets go of it, too.
  iovec none{};
  __u64 tag = 0;
  const int emptied = io_uring_register_buffers_update_tag(bed.ring.raw(), 1, &none, &tag, 1);
  report().check(emptied == 1, "slot emptied by io_uring_register", errno_name(emptied));
  bed.ring.queue_fixed(Direction::Read, bed.target.get(), 1, 4096, bytes, disk_base);
  expect("READ_FIXED of an emptied slot", bed.ring.run_one(), {EFAULT});
}

// One read through a ring made with these flags: right data, or a named refusal.
void kind_of_ring(const IsolationOptions &options, const char *name, unsigned flags,
                  unsigned sqe_flags, bool must_work) {
  Bed bed(options);
  DiskRegion region(bed.plain.get(), disk_base, 1u << 20);
  region.lay_down_all(9);
  auto entry = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  if (!expect(name, bed.session.map_one(entry), {0}))
    return;
  Ring ring(8, flags);
  const int result =
      ring.command(bed.session.fd(), DMABUF_RW_URING_READ, 4096, bytes,
                   {.file_offset = disk_base + 512, .handle = entry.handle, .flags = 0}, sqe_flags);
  dmabuf_rw_query query{};
  bed.session.query(query);
  // A kernel that does not keep the SQE for a worker.
  if ((sqe_flags & IOSQE_ASYNC) && !(query.features & DMABUF_RW_FEAT_ASYNC))
    expect(std::string(name) + " refused", result, {EOPNOTSUPP});
  else if (result < 0 && !must_work)
    expect(std::string(name) + " refused", result, {EOPNOTSUPP});
  else if (report().check(result == static_cast<int>(bytes), name, errno_name(result)))
    report().check(holds(bed, region, 4096, disk_base + 512), std::string(name) + ", data");
}

} // namespace

void test_commands(const IsolationOptions &options) {
  {
    Bed bed(options);
    DiskRegion region(bed.plain.get(), disk_base, 1u << 20);
    region.lay_down_all(8);
    auto entry = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
    auto pages = map_entry(bed.buffer.fd(), bed.target.get(), Path::Registered);
    expect("MAP", bed.session.map_one(entry), {0});
    if (pages_path() == Path::Registered)
      expect("MAP", bed.session.map_one(pages), {0});
    const dmabuf_rw_uring_io io{.file_offset = disk_base, .handle = entry.handle, .flags = 0};
    for (const std::uint32_t op :
         {0u, 1u, 0x40u, 0x41u, ~0u, std::uint32_t{DMABUF_RW_IOC_QUERY},
          std::uint32_t{_IOW(DMABUF_RW_IOC_MAGIC, 0x44, dmabuf_rw_uring_io)},
          std::uint32_t{_IOR(DMABUF_RW_IOC_MAGIC, 0x40, dmabuf_rw_uring_io)},
          std::uint32_t{_IOW(0xE8, 0x40, dmabuf_rw_uring_io)}})
      expect(std::format("cmd_op 0x{:x}", op), bed.ring.command(bed.session.fd(), op, 0, bytes, io),
             {EINVAL, ENOTTY, EOPNOTSUPP});
    for (unsigned bit = 0; bit < 32; bit += 7)
      for (const Direction direction : {Direction::Read, Direction::Write})
        expect("I/O flags", premapped(bed, direction, entry.handle, 0, bytes, disk_base, 1u << bit),
               {EINVAL});
    for (const Direction direction : {Direction::Read, Direction::Write}) {
      expect("premapped I/O without a mapping", premapped(bed, direction, 0, 0, bytes, disk_base),
             {ENOENT});
      if (pages.handle)
        expect("premapped I/O with a registered mapping",
               premapped(bed, direction, pages.handle, 0, bytes, disk_base), {EOPNOTSUPP});
    }
    const auto wrong = region.check_all();
    report().check(!wrong, "after bad commands the drive is as it was", wrong.value_or(""));
  }
  constexpr unsigned defer = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  kind_of_ring(options, "plain ring", 0, 0, true);
  kind_of_ring(options, "ring with deferred task work", defer, 0, true);
  kind_of_ring(options, "cooperative ring", IORING_SETUP_COOP_TASKRUN, 0, true);
  kind_of_ring(options, "SQPOLL ring", IORING_SETUP_SQPOLL, 0, true);
  kind_of_ring(options, "forced to a worker", 0, IOSQE_ASYNC, true);
  kind_of_ring(options, "forced to a worker, deferred task work", defer, IOSQE_ASYNC, true);
  kind_of_ring(options, "ring with 128-byte SQEs", IORING_SETUP_SQE128, 0, true);
  kind_of_ring(options, "IOPOLL ring", IORING_SETUP_IOPOLL, 0, false);
}

void test_slots(const IsolationOptions &options) {
  const long before = live_dmabufs().value_or(0);
  Bed bed(options);
  dmabuf_rw_query query{};
  bed.session.query(query);
  auto entry = map_entry(bed.buffer.fd(), static_cast<int>(DMABUF_RW_NO_TARGET), Path::Registered);
  if (!(query.features & DMABUF_RW_FEAT_REGISTERED)) {
    expect_refused("registered where the kernel lacks it", bed.session, entry, {EOPNOTSUPP},
                   {DMABUF_RW_REASON_KERNEL});
    report().skip("slots", "this kernel has no registered path");
    return;
  }
  auto premapped_entry = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  if (!expect("MAP registered without a target", bed.session.map_one(entry), {0}) ||
      !expect("MAP", bed.session.map_one(premapped_entry), {0}))
    return;
  DiskRegion region(bed.plain.get(), disk_base, 1u << 20);
  region.lay_down_all(10);

  expect("REGISTER without a table",
         registration(bed, DMABUF_RW_URING_REGISTER,
                      {.handle = entry.handle, .index = 1, .flags = 0, .reserved = 0}),
         {EINVAL, ENXIO, ENOENT});
  expect("UNREGISTER without a table", bed.ring.withdraw(bed.session.fd(), 1),
         {EINVAL, ENXIO, ENOENT});
  if (bed.ring.make_buffer_table(4) < 0)
    die("no table of registered buffers");
  bad_registrations(bed, entry.handle, premapped_entry.handle);
  if (query.features & DMABUF_RW_FEAT_WINDOW) {
    auto other = map_entry(bed.buffer.fd(), bed.target.get(), Path::Registered);
    if (expect("MAP for windows", bed.session.map_one(other), {0})) {
      windows(bed, region, other.handle);
      expect("UNMAP after windows", bed.session.unmap_one(other.handle), {0});
    }
  } else {
    report().skip("windows", "QUERY does not offer them");
  }
  filled_and_emptied(bed, entry.handle);
  slot_of_the_user(bed, entry.handle);
  slot_outlives_its_mapping(bed, region, entry.handle);
  {
    // One more in a ring that goes away with the slot filled.
    Session session;
    auto last = map_entry(bed.buffer.fd(), bed.target.get(), Path::Registered);
    expect("MAP", session.map_one(last), {0});
    Ring ring(4);
    ring.make_buffer_table(1);
    expect("REGISTER in a ring that is then closed", ring.enroll(session.fd(), last.handle, 0),
           {0});
  }
  expect_live_dmabufs("only the test's own dma-buf", before + 1);
}

} // namespace vmtest
