// SPDX-License-Identifier: GPL-2.0-only
// The groups of the isolation test and what they share.
#pragma once

#include "lib/child.hpp"
#include "lib/exporter.hpp"
#include "lib/pattern.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <initializer_list>
#include <string>

namespace vmtest {

struct IsolationOptions {
  std::string nvme = "/dev/nvme0n1"; // scratch NVMe disk
  std::string other = "/dev/vda";    // scratch disk that is not NVMe
  Exporter exporter = Exporter::Udmabuf;
  double thread_seconds = 5;
  std::uint64_t seed = 1;
};

// A session with a ring, a dma-buf full of poison, the drive and plain I/O beside it.
struct Bed {
  explicit Bed(const IsolationOptions &options, std::size_t bytes = 4u << 20);

  Session session;
  Ring ring{16};
  DmaBuf buffer;
  UniqueFd target, plain;
};

// One check: `got` (0, a byte count, or a negative errno) must be one of `allowed`,
// which holds positive errnos, and 0 for a result of exactly 0.
bool expect(const std::string &name, long got, std::initializer_list<int> allowed);
// One check of a transfer: exactly so many bytes, not fewer.
bool expect_bytes(const std::string &name, long got, std::uint64_t bytes);
// One check of a MAP entry that must be refused: errno and reason. Unmaps it if it was
// not refused, so that the next case starts clean.
bool expect_refused(const std::string &name, const Session &session, dmabuf_rw_map_entry entry,
                    std::initializer_list<int> errnos,
                    std::initializer_list<std::uint32_t> reasons);
// Premapped READ or WRITE of one handle.
int premapped(Bed &bed, Direction direction, std::uint32_t handle, std::uint64_t buffer_offset,
              std::uint32_t length, std::uint64_t file_offset, std::uint32_t flags = 0,
              unsigned sqe_flags = 0);
// How many mappings share the attachment of `buffer` to the drive, one made for the look
// included; negative errno when it cannot be told.
int sharing(Bed &bed);
// Waits up to 3 s until `expected` dma-bufs exist in the system, and checks it.
void expect_live_dmabufs(const std::string &name, long expected);

void test_calls(const IsolationOptions &options); // QUERY, CONFIG, INFO, ioctl numbers
void test_map_arguments(const IsolationOptions &options);
void test_modes(const IsolationOptions &options); // read-only this and that
void test_batches(const IsolationOptions &options);
void test_handles(const IsolationOptions &options);
void test_io_ranges(const IsolationOptions &options);
void test_commands(const IsolationOptions &options); // uring_cmd arguments, kinds of ring
void test_slots(const IsolationOptions &options);    // REGISTER and UNREGISTER
void test_partition(const IsolationOptions &options);
void test_page_cache(const IsolationOptions &options);
void test_files(const IsolationOptions &options); // regular files
void test_limits(const IsolationOptions &options);
void test_generations(const IsolationOptions &options); // a slot's handles come round; minutes
void test_privileges(const IsolationOptions &options);
void test_threads(const IsolationOptions &options);

} // namespace vmtest
