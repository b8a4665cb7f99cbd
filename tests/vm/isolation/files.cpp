// SPDX-License-Identifier: GPL-2.0-only
// The datapaths that take any file, on a regular one in the page cache.
#include "isolation.hpp"

#include <fcntl.h>

namespace vmtest {

namespace {

constexpr std::uint32_t bytes = 256 * 1024;
constexpr std::uint64_t file_bytes = 2u << 20;

void one_file(const IsolationOptions &options, Path path) {
  const std::string name = std::format("file on tmpfs, {}", name_of(path));
  Bed bed(options);
  const UniqueFd file(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file)
    die("no O_TMPFILE in /tmp");
  HostBuffer host(file_bytes), wanted(file_bytes);
  fill_pattern(wanted.words(), 50, 0);
  write_plain(file.get(), wanted.words(), 0);
  if (path == Path::Registered)
    bed.ring.make_buffer_table(1);
  Mover mover(bed.session, bed.ring, bed.buffer.fd(), file.get(), path);
  if (!expect(name + " MAP", mover.error(), {0}))
    return;

  // Odd places: a file has no blocks to keep to.
  const int got = mover.transfer(Direction::Read, 1024, bytes, 4096 + 8);
  report().check(got == static_cast<int>(bytes), name + " read", errno_name(got));
  {
    const CpuAccess access(bed.buffer, true);
    const auto found = bed.buffer.words().subspan(1024 / 8, bytes / 8);
    const auto wrong = compare_words(found, wanted.words().subspan((4096 + 8) / 8, bytes / 8));
    report().check(!wrong, name + " read lands", wrong ? describe(*wrong, 1024) : "");
    fill_pattern(found, 51, 65536);
  }
  const int put = mover.transfer(Direction::Write, 1024, bytes, 65536);
  report().check(put == static_cast<int>(bytes), name + " write", errno_name(put));
  fill_pattern(wanted.words().subspan(65536 / 8, bytes / 8), 51, 65536);
  read_plain(file.get(), host.words(), 0);
  const auto wrong = compare_words(host.words(), wanted.words());
  report().check(!wrong, name + " write lands, and only there", wrong ? describe(*wrong, 0) : "");

  // At the end of the file: as read(2), short and then nothing.
  const int part = mover.transfer(Direction::Read, 0, bytes, file_bytes - 4096);
  report().check(part == 4096, name + " read over the end", std::format("{}", part));
  const int none = mover.transfer(Direction::Read, 0, bytes, file_bytes);
  report().check(none == 0, name + " read at the end", std::format("{}", none));
  const int beyond = mover.transfer(Direction::Read, bed.buffer.size() - 4096, 8192, 0);
  expect(name + " read past the dma-buf", beyond, {EINVAL, EFAULT});
}

} // namespace

void test_files(const IsolationOptions &options) {
  for (const Path path : paths_here())
    if (path != Path::Premapped)
      one_file(options, path);
}

} // namespace vmtest
