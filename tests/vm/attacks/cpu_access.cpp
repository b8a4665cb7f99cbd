// SPDX-License-Identifier: GPL-2.0-only
// The exporter is told truly what the CPU does to the memory: a copy into a part of a buffer also
// keeps what was beside it, on machines whose caches, or whose exporters, go by what they are told.
// And memory without struct pages is refused by name where pages are needed.
#include "attacks.hpp"

#include <algorithm>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace vmtest {

namespace {

constexpr std::size_t bytes = 64u << 10;

dmabuf_testexp_create buffer_with(std::uint32_t flags) {
  dmabuf_testexp_create create{};
  create.bytes = bytes;
  create.seed = 1;
  create.flags = flags;
  create.segment_min = 4096;
  return create;
}

UniqueFd open_file(const Session &session, int dmabuf_fd, int &error, std::uint32_t &reason) {
  dmabuf_rw_open open{};
  open.dmabuf_fd = static_cast<__u32>(dmabuf_fd);
  open.flags = O_RDWR | O_CLOEXEC;
  error = ::ioctl(session.fd(), DMABUF_RW_IOC_OPEN, &open) < 0 ? -errno : 0;
  reason = open.reason;
  return UniqueFd(error ? -1 : static_cast<int>(open.fd));
}

// The buffer holds generation 5 but where generation 6 was read into it.
void check_contents(const TestBuffer &buffer, std::size_t offset, std::size_t length,
                    const std::string &name) {
  HostBuffer found(bytes), want(bytes);
  buffer.must_read(found.words(), 0);
  fill_pattern(want.words(), 5, 0);
  fill_pattern(want.words().subspan(offset / 8, length / 8), 6, attack_base);
  const auto wrong = compare_words(found.words(), want.words());
  report().check(!wrong, name, wrong ? describe(*wrong, 0) : "");
}

// A write of all of the buffer that stops short, at the end of the drive or of the caller's memory,
// leaves the rest of the buffer as a device left it.
void ends_early(const TestBuffer &buffer, Mover &mover, int file) {
  constexpr std::size_t short_of = 8192;
  const UniqueFd plain = open_target(drive);
  const std::uint64_t end = block_device_bytes(plain.get()) - short_of;
  HostBuffer host(short_of), found(bytes), want(bytes);
  fill_pattern(host.words(), 6, end);
  write_plain(plain.get(), host.words(), end);
  // Of another generation each time: the exporter's copy for the CPU has an older one.
  const auto check = [&](const char *what, std::uint32_t left_by_device) {
    fill_pattern(want.words(), left_by_device, 0);
    std::ranges::copy(host.words(), want.words().begin());
    buffer.must_read(found.words(), 0);
    const auto wrong = compare_words(found.words(), want.words());
    report().check(!wrong, what, wrong ? describe(*wrong, 0) : "");
  };
  buffer.put_pattern(0, bytes, 8, 0);
  const int got = mover.transfer(Direction::Read, 0, bytes, end);
  report().check(got == short_of, "bvec, READ over the end of the drive", errno_name(got));
  check("bvec, READ over the end of the drive: the rest stays", 8);

  void *const memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED ||
      ::mprotect(static_cast<char *>(memory) + short_of, bytes - short_of, PROT_NONE) != 0)
    die("mmap: " + errno_name(errno));
  std::ranges::copy(host.words(), static_cast<Word *>(memory));
  buffer.put_pattern(0, bytes, 9, 0);
  const ssize_t written = ::pwrite(file, memory, bytes, 0);
  report().check(written == short_of, "rw fd, write of memory that ends",
                 errno_name(written < 0 ? -errno : static_cast<int>(written)));
  check("rw fd, write of memory that ends: the rest stays", 9);
  ::munmap(memory, bytes);
}

void shadow(const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(buffer_with(DMABUF_TESTEXP_SHADOW));
  const UniqueFd target = open_target(drive, O_RDWR | O_CLOEXEC); // through the page cache
  {
    const UniqueFd plain = open_target(drive);
    DiskRegion(plain.get(), attack_base, bytes).lay_down_all(6);
  }
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Bvec);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  int error = 0;
  std::uint32_t reason = 0;
  const UniqueFd file = open_file(session, buffer.fd(), error, reason);
  if (!file)
    die("OPEN: " + errno_name(error));
  constexpr struct {
    std::size_t offset, length;
  } pieces[] = {{1000, 8}, {40, 4096}, {8192, 1032}, {12296, 20480}};
  HostBuffer host(bytes);
  fill_pattern(host.words(), 6, attack_base);
  for (const auto &piece : pieces) {
    const auto where = std::format("{} bytes at {}", piece.length, piece.offset);
    const auto length = static_cast<std::uint32_t>(piece.length);
    buffer.put_pattern(0, bytes, 5, 0);
    const int got = mover.transfer(Direction::Read, piece.offset, length, attack_base);
    report().check(got == static_cast<int>(piece.length), "bvec, READ of " + where,
                   errno_name(got));
    check_contents(buffer, piece.offset, piece.length,
                   "bvec, through the page cache: " + where + " and nothing beside");
    buffer.put_pattern(0, bytes, 5, 0);
    const ssize_t written =
        ::pwrite(file.get(), host.words().data(), piece.length, static_cast<off_t>(piece.offset));
    report().check(written == static_cast<ssize_t>(piece.length), "rw fd, write of " + where,
                   errno_name(written < 0 ? -errno : written));
    check_contents(buffer, piece.offset, piece.length, "rw fd: " + where + " and nothing beside");
  }
  ends_early(buffer, mover, file.get());
  // Out of it: the CPU sees what a device left there.
  buffer.put_pattern(0, bytes, 7, attack_base);
  const int put = mover.transfer(Direction::Write, 0, bytes, attack_base);
  HostBuffer found(bytes);
  read_plain(target.get(), found.words(), attack_base);
  fill_pattern(host.words(), 7, attack_base);
  report().check(put == static_cast<int>(bytes) && !compare_words(found.words(), host.words()),
                 "bvec, WRITE through the page cache: every byte of what a device left",
                 errno_name(put));
  const auto stats = buffer.must_stats();
  for (int dir = 0; dir < DMABUF_TESTEXP_NR_DIRS; ++dir)
    report().check(stats.cpu_begins[dir] == stats.cpu_ends[dir],
                   std::format("accesses of direction {} end as they began", dir),
                   std::format("{} begun, {} ended", std::uint32_t{stats.cpu_begins[dir]},
                               std::uint32_t{stats.cpu_ends[dir]}));
}

} // namespace

void attack_cpu_access() {
  const Testexp testexp;
  if (!testexp.has(DMABUF_TESTEXP_FEAT_SHADOW))
    die("the test exporter has no shadow");
  shadow(testexp);
}

// Memory above 4 GiB that the kernel was told not to use: it has no struct page.
void attack_carveout() {
  if (const int error = Testexp::reload("carveout=0x100000000,16M"))
    die("no carve-out (--memory 3072 --append mem=4G): " + errno_name(error));
  {
    const Testexp testexp;
    const TestBuffer buffer =
        testexp.make(buffer_with(DMABUF_TESTEXP_CARVEOUT | DMABUF_TESTEXP_NO_PAGES));
    const UniqueFd target = open_target(drive);
    Session session;
    for (const Path path : {Path::Registered, Path::Bvec}) {
      auto entry = map_entry(buffer.fd(), target.get(), path);
      const int error = session.map_one(entry);
      const __u32 reason = std::ranges::contains(paths_here(), path) ? DMABUF_RW_REASON_NOT_PAGES
                                                                     : DMABUF_RW_REASON_KERNEL;
      report().check(error == -EOPNOTSUPP && entry.reason == reason,
                     std::format("{}: memory without struct pages is refused", name_of(path)),
                     errno_name(error) + " " + reason_name(entry.reason));
    }
    // A file needs no pages. Refused or not: if it works, it works on this memory.
    int error = 0;
    std::uint32_t reason = 0;
    const UniqueFd file = open_file(session, buffer.fd(), error, reason);
    if (!file) {
      report().check(error == -EOPNOTSUPP && reason != DMABUF_RW_REASON_NONE,
                     "OPEN: refused by name", errno_name(error) + " " + reason_name(reason));
    } else {
      HostBuffer host(bytes), found(bytes);
      fill_pattern(host.words(), 8, 0);
      const ssize_t written = ::pwrite(file.get(), host.words().data(), bytes, 0);
      buffer.must_read(found.words(), 0);
      report().check(written == static_cast<ssize_t>(bytes) &&
                         !compare_words(found.words(), host.words()),
                     "OPEN: a file of memory without pages holds what is written",
                     errno_name(written < 0 ? -errno : written));
    }
  }
  report().check(Testexp::reload("") == 0, "the test exporter without a carve-out again");
}

} // namespace vmtest
