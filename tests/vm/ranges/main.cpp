// SPDX-License-Identifier: GPL-2.0-only
// READV and WRITEV: every byte in and beside each range, each range's own result, arrays that are
// hostile, fences, memory that moves, cancellation and death in the middle.
//
// usage: ranges [--seconds N]
#include "ranges.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  double seconds = 1;
  if (argc == 3 && !std::strcmp(argv[1], "--seconds"))
    seconds = std::atof(argv[2]);
  else if (argc != 1)
    die("usage: ranges [--seconds N]");
  dmabuf_rw_query query{};
  Session().query(query);
  if (!(query.features & DMABUF_RW_FEAT_RANGES)) {
    // Then the commands are not there either.
    DmaBuf buffer = make_buffer();
    Mapped mapped(Path::Premapped, buffer.fd());
    Ranges ranges = few(2);
    expect("READV of a kernel without it",
           move(mapped.ring, mapped.session, Direction::Read, mapped.entry.handle, ranges),
           -ENOTTY);
    report().check(query.max_ranges == 0, "and no ranges are promised");
    return report().finish("ranges");
  }
  report().check(query.max_ranges >= 64, "QUERY says how many");
  const Testexp testexp;
  for (const Path path : {Path::Premapped, Path::Bvec}) {
    test_bytes(path);
    test_bad_among_good(path);
  }
  test_hostile_arrays();
  test_changing(seconds);
  test_fences(testexp);
  test_moves(testexp);
  test_death();
  return report().finish("ranges");
}
