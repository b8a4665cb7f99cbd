// SPDX-License-Identifier: GPL-2.0-only
// The parts of the invalidate test: what an exporter may do to an importer.
#pragma once

#include "lib/testexp.hpp"

#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <random>
#include <string>

namespace vmtest {

struct InvalidateOptions {
  std::string nvme = "/dev/nvme0n1";
  double seconds = 60; // of I/O with the mover running, at least
  // Moves of mapped memory that must have happened; the load goes on for them, up to four
  // times as long.
  unsigned moves = 1000;
  unsigned interval_us = 1000;
  int kills = 5;
  std::uint64_t seed = std::random_device{}();
};

// Waits up to 5 s until nobody is attached any more, then looks at all counts that must
// be back to zero.
void check_nothing_left(const TestBuffer &buffer, const std::string &name);
// One transfer of `bytes` in each direction, each compared with plain I/O: "" or what is wrong.
std::string check_transfer(const TestBuffer &buffer, Mover &mover, DiskRegion &region,
                           std::uint32_t generation);

// The exporter itself, without an importer: contents, layout, poison, bad arguments.
void test_exporter(const InvalidateOptions &options, const Testexp &testexp);
// I/O at queue depth 32 while the buffer moves; every byte of both directions compared.
void test_moves_under_load(const InvalidateOptions &options, const Testexp &testexp);
// The same with the process killed.
void test_kill_under_load(const InvalidateOptions &options, const Testexp &testexp);
// The buffer is revoked under load, and given back.
void test_revoke_under_load(const InvalidateOptions &options, const Testexp &testexp);
// UNMAP of one mapping beside another of the same buffer that moves.
void test_twins(const InvalidateOptions &options, const Testexp &testexp);
// Fences: by usage and direction, by datapath, with a ring and without, late, never.
void test_fences(const InvalidateOptions &options, const Testexp &testexp);
// Refusals, and lists of segments that are not what they should be.
void test_refusals(const InvalidateOptions &options, const Testexp &testexp);
// Sessions that share an attachment; buffers without a CPU view; pinned ones.
void test_sharing(const InvalidateOptions &options, const Testexp &testexp);

} // namespace vmtest
