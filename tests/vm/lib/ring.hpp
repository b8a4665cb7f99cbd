// SPDX-License-Identifier: GPL-2.0-only
// io_uring for the tests: the module's commands, and fixed-buffer reads and writes.
#pragma once

#include "session.hpp"

#include <liburing.h>

#include <cstdint>
#include <functional>

namespace vmtest {

enum class Direction { Read, Write };

inline std::string_view name_of(Direction direction) {
  return direction == Direction::Read ? "read" : "write";
}

class Ring {
public:
  // A ring of `depth` entries. Ends the program with exit_setup when it cannot be made.
  explicit Ring(unsigned depth,
                unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  Ring(const Ring &) = delete;
  Ring &operator=(const Ring &) = delete;
  ~Ring();

  // An SQE that is all zero; submits what is queued when the ring is full.
  io_uring_sqe *sqe();
  // An empty table of registered buffers. 0 or a negative errno.
  int make_buffer_table(unsigned slots);

  // Queue one command. `sqe_flags` is IOSQE_*.
  void queue_command(int session_fd, std::uint32_t cmd_op, std::uint64_t buffer_offset,
                     std::uint32_t length, const dmabuf_rw_uring_io &io,
                     std::uint64_t user_data = 0, unsigned sqe_flags = 0);
  void queue_registration(int session_fd, std::uint32_t cmd_op, const dmabuf_rw_uring_reg &reg,
                          std::uint64_t user_data = 0, unsigned sqe_flags = 0);
  // REGISTER of the `length` bytes from `offset` on only.
  void queue_window(int session_fd, std::uint32_t handle, std::uint32_t index, std::uint64_t offset,
                    std::uint32_t length, std::uint64_t user_data = 0);
  // `rw_flags` is RWF_*.
  void queue_fixed(Direction direction, int target_fd, unsigned slot, std::uint64_t buffer_offset,
                   std::uint32_t length, std::uint64_t file_offset, std::uint64_t user_data = 0,
                   int rw_flags = 0);

  int submit();
  // Submits, waits for at least one completion and calls back for each that is there.
  // Returns how many, or a negative errno.
  int reap(const std::function<void(std::uint64_t user_data, int result)> &done);
  // Submits what is queued (one request) and returns its result.
  int run_one();

  // One command or registration, start to end.
  int command(int session_fd, std::uint32_t cmd_op, std::uint64_t buffer_offset,
              std::uint32_t length, const dmabuf_rw_uring_io &io, unsigned sqe_flags = 0);
  int enroll(int session_fd, std::uint32_t handle, std::uint32_t index, unsigned sqe_flags = 0);
  int withdraw(int session_fd, std::uint32_t index, unsigned sqe_flags = 0);

  io_uring *raw() { return &ring_; }

private:
  io_uring ring_{};
};

// One dma-buf moved to and from one target by one datapath: what a test that does not
// care about the datapath uses.
class Mover {
public:
  // Maps; for Path::Registered also puts the mapping in slot `slot` of the ring. The
  // error is the negative errno; entry() has the reason.
  Mover(Session &session, Ring &ring, int dmabuf_fd, int target_fd, Path path, unsigned slot = 0,
        std::uint32_t directions = both_directions, std::uint32_t max_command_hint = 0);
  Mover(const Mover &) = delete;
  Mover &operator=(const Mover &) = delete;
  ~Mover() { release(); }

  int error() const { return error_; }
  const dmabuf_rw_map_entry &entry() const { return entry_; }
  void queue(Direction direction, std::uint64_t buffer_offset, std::uint32_t length,
             std::uint64_t file_offset, std::uint64_t user_data = 0);
  // One transfer, start to end: its result.
  int transfer(Direction direction, std::uint64_t buffer_offset, std::uint32_t length,
               std::uint64_t file_offset);
  // The same without the ring, not for Path::Registered: bytes moved or a negative errno.
  int waited(Direction direction, std::uint64_t buffer_offset, std::uint64_t length,
             std::uint64_t file_offset, std::uint32_t *reason = nullptr);
  // Unregisters and unmaps; 0 or the first negative errno. Nothing the second time.
  int release();

private:
  Session &session_;
  Ring &ring_;
  int target_fd_;
  Path path_;
  unsigned slot_;
  bool enrolled_ = false, mapped_ = false;
  int error_ = 0;
  dmabuf_rw_map_entry entry_{};
};

} // namespace vmtest
