// SPDX-License-Identifier: GPL-2.0-only
// Premapped I/O on regular files: every byte, what is refused, what is held still meanwhile, and users
// who try to get at blocks that are not the file's.
//
// usage: files [--seconds N] ext4…
// Destroys data on /dev/nvme0n1.
#include "files.hpp"

#include <cstdlib>
#include <cstring>

namespace vmtest {

namespace {

void test_file_system(const std::string &type, std::uint64_t start) {
  const double begin = now_s();
  const FileSystem fs(type, start);
  test_bytes(fs);
  test_refusals(fs);
  test_held(fs);
  test_hostile(fs);
  report().note(std::format("{}: {:.1f} s", fs.name(), now_s() - begin));
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  if (argc < 2)
    die("usage: files FILESYSTEM…, of: ext4 xfs");
  for (int i = 1; i < argc; ++i) {
    test_file_system(argv[i], 0);
    // A partition that begins neither at a block of the file system nor at a page.
    test_file_system(argv[i], (64u << 20) + 512 * 7);
  }
  return report().finish("files");
}
