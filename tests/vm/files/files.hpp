// SPDX-License-Identifier: GPL-2.0-only
// The parts of `files`: premapped I/O on regular files that are held still
// (DMABUF_RW_MAP_HOLD_FILE).
#pragma once

#include "lib/child.hpp"
#include "lib/exporter.hpp"
#include "lib/file_system.hpp"
#include "lib/pattern.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/sysfs.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace vmtest {

// Whether every whole word of the file is the pattern of `generation`, read plainly from the disk.
bool file_holds(const std::string &what, const std::string &path, std::uint32_t generation);
// Whether the file is these bytes, read the same way.
bool file_is(const std::string &what, const std::string &path, std::span<const Word> wanted,
             std::uint64_t bytes);

// One dma-buf mapped for one file that is held.
class HeldFile {
public:
  // `open_flags`: of open(2), besides those that it needs.
  HeldFile(const Session &session, int dmabuf_fd, const std::string &path,
           std::uint32_t directions = both_directions, int open_flags = 0);
  HeldFile(const HeldFile &) = delete;
  HeldFile &operator=(const HeldFile &) = delete;
  ~HeldFile() { release(); }
  int error() const { return error_; }
  const dmabuf_rw_map_entry &entry() const { return entry_; }
  dmabuf_rw_info info() const;
  // Bytes moved or a negative errno: by the ring, or by the ioctl without one.
  int move(Ring *ring, Direction direction, std::uint64_t buffer_offset, std::uint32_t length,
           std::uint64_t file_offset) const;
  int release();
  // The mapping goes on without the descriptor that it was made of.
  void close_file() { file_.reset(); }
  // fsync(2) of the file: 0 or a negative errno.
  int sync() const;

private:
  const Session &session_;
  UniqueFd file_;
  dmabuf_rw_map_entry entry_{};
  int error_ = 0;
};

// MAP of a file as HeldFile does it must be refused with this.
void refused(const std::string &what, const Session &session, int dmabuf_fd, int file_fd, int error,
             std::uint32_t reason, std::uint32_t directions = both_directions,
             Path path = Path::Premapped);

// The entries that the log of the drive's writes has (dmabuf-lab run --writes): for programs that
// make a power cut of it.
std::uint64_t log_entries();

// errno, negative, or 0.
int result_of(long value);

// The groups, by the names of the command line.
void test_bytes(const FileSystem &fs);
void test_refusals(const FileSystem &fs);
void test_held(const FileSystem &fs);
// Parts of held, in files of their own. `buffer`: 4 MiB.
void test_changed(const FileSystem &fs, const DmaBuf &buffer);
void test_defragmented(const FileSystem &fs, const DmaBuf &buffer);
void test_killed_in_map(const FileSystem &fs, const DmaBuf &buffer);
void test_times(const FileSystem &fs, const DmaBuf &buffer);
void test_hostile(const FileSystem &fs);
void test_bar(const FileSystem &fs);
// These make file systems of their own.
void test_large(const std::string &type);
void test_shrink(const std::string &type);
void test_cut(const std::string &type);
// `type`: also "raw", the drive itself.
void test_durable(const std::string &type);
void test_unknown(const std::string &type);

} // namespace vmtest
