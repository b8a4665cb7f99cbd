// SPDX-License-Identifier: GPL-2.0-only
// datapath syscall: dma-bufs that are the files under test, read and written through the module's
// rw fds, or through their mmap as a control.
#pragma once

#include "base/error.hpp"
#include "exporter/exporter.hpp"
#include "module/session.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dmabuf {

/// What is known about the files at the end.
struct FileEvidence {
  unsigned files = 0;
  uint64_t bytes = 0; ///< their sizes, added up
  unsigned same = 0;  ///< rw fds seen to be the dma-buf, before the first I/O and after the last
};

/// A dma-buf and, unless it is used by its mmap, its rw fd. Lives from the job's start to its end,
/// so that its contents outlive fio's closing and opening of the file.
class BufferFile {
public:
  /// Allocates the dma-buf. With a session it is opened as a file, and that file is then seen to be
  /// the dma-buf: it has its size, and bytes put in on one side come out at the other. What the
  /// dma-buf held is put back.
  static Result<BufferFile> make(const BufferRequest &request, Session *session, bool writes);

  /// A new descriptor of the file for fio to hold and close: the rw fd or the dma-buf itself.
  Result<UniqueFd> open() const;

  /// Whether the rw fd is the dma-buf; nothing else may be reading or writing it.
  Result<void> check_same() const;

  const DmaBuf &buffer() const { return buffer_; }
  bool by_fd() const { return static_cast<bool>(rw_.fd); }
  uint32_t view() const { return rw_.view; }

private:
  DmaBuf buffer_;
  RwFile rw_;
  bool writes_ = false;
};

/// The files of one job, by file number.
class BufferFiles {
public:
  /// Makes file number `number`, unless it is there already.
  Result<void> make(unsigned number, const BufferRequest &request, Session *session, bool writes);

  /// A descriptor of file number `number`, which make() made.
  Result<UniqueFd> open(unsigned number) const;

  /// The dma-buf that is file number `number`; nullptr where there is none.
  const DmaBuf *dmabuf(unsigned number) const;

  /// Looks once more whether the files were the dma-bufs, and frees them. What the functions below
  /// say stays.
  void close();

  const std::string &device() const { return device_; }
  uint64_t bytes() const { return bytes_; } ///< of the dma-bufs, added up
  const FileEvidence &evidence() const { return evidence_; }
  /// Where the memory behind the rw fds is, as the module says; empty: it was not asked.
  const std::string &memory() const { return memory_; }

private:
  std::vector<std::optional<BufferFile>> files_;
  FileEvidence evidence_;
  std::string device_;
  std::string memory_;
  uint64_t bytes_ = 0;
};

/// Whether `fd`, a file opened for reading and, if `writes`, writing, has the bytes of `buffer`:
/// bytes put in on one side must come out at the other. Puts back what `buffer` held.
Result<void> check_same_bytes(int fd, const DmaBuf &buffer, bool writes);

} // namespace dmabuf
