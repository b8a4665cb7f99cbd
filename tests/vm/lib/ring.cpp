// SPDX-License-Identifier: GPL-2.0-only
#include "ring.hpp"

#include "report.hpp"

#include <cstring>

namespace vmtest {

namespace {

template <typename Command> void put_command(io_uring_sqe *sqe, const Command &command) {
  static_assert(sizeof(command) == 16, "a 64-byte SQE has 16 command bytes");
  std::memcpy(sqe->cmd, &command, sizeof(command));
}

} // namespace

Ring::Ring(unsigned depth, unsigned flags) {
  io_uring_params params{};
  params.flags = flags;
  const int status = io_uring_queue_init_params(depth, &ring_, &params);
  if (status < 0)
    die(std::format("io_uring of {} entries, flags 0x{:x}: {}", depth, flags, errno_name(status)));
}

Ring::~Ring() { io_uring_queue_exit(&ring_); }

io_uring_sqe *Ring::sqe() {
  io_uring_sqe *sqe = io_uring_get_sqe(&ring_);
  for (int tries = 0; !sqe && tries < 1000; ++tries) {
    submit();
    sqe = io_uring_get_sqe(&ring_);
  }
  if (!sqe)
    die("no room in the submission queue");
  std::memset(sqe, 0, sizeof(*sqe));
  return sqe;
}

int Ring::make_buffer_table(unsigned slots) {
  return io_uring_register_buffers_sparse(&ring_, slots);
}

void Ring::queue_command(int session_fd, std::uint32_t cmd_op, std::uint64_t buffer_offset,
                         std::uint32_t length, const dmabuf_rw_uring_io &io,
                         std::uint64_t user_data, unsigned sqe_flags) {
  io_uring_sqe *entry = sqe();
  entry->opcode = IORING_OP_URING_CMD;
  entry->flags = static_cast<__u8>(sqe_flags);
  entry->fd = session_fd;
  entry->cmd_op = cmd_op;
  entry->addr = buffer_offset;
  entry->len = length;
  entry->user_data = user_data;
  put_command(entry, io);
}

void Ring::queue_registration(int session_fd, std::uint32_t cmd_op, const dmabuf_rw_uring_reg &reg,
                              std::uint64_t user_data, unsigned sqe_flags) {
  io_uring_sqe *entry = sqe();
  entry->opcode = IORING_OP_URING_CMD;
  entry->flags = static_cast<__u8>(sqe_flags);
  entry->fd = session_fd;
  entry->cmd_op = cmd_op;
  entry->user_data = user_data;
  put_command(entry, reg);
}

void Ring::queue_window(int session_fd, std::uint32_t handle, std::uint32_t index,
                        std::uint64_t offset, std::uint32_t length, std::uint64_t user_data) {
  io_uring_sqe *entry = sqe();
  entry->opcode = IORING_OP_URING_CMD;
  entry->fd = session_fd;
  entry->cmd_op = DMABUF_RW_URING_REGISTER;
  entry->addr = offset;
  entry->len = length;
  entry->user_data = user_data;
  put_command(entry,
              dmabuf_rw_uring_reg{
                  .handle = handle, .index = index, .flags = DMABUF_RW_REG_WINDOW, .reserved = 0});
}

void Ring::queue_fixed(Direction direction, int target_fd, unsigned slot,
                       std::uint64_t buffer_offset, std::uint32_t length, std::uint64_t file_offset,
                       std::uint64_t user_data, int rw_flags) {
  io_uring_sqe *entry = sqe();
  entry->opcode = direction == Direction::Read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
  entry->fd = target_fd;
  entry->addr = buffer_offset;
  entry->len = length;
  entry->off = file_offset;
  entry->rw_flags = rw_flags;
  entry->buf_index = static_cast<__u16>(slot);
  entry->user_data = user_data;
}

int Ring::submit() { return io_uring_submit(&ring_); }

int Ring::reap(const std::function<void(std::uint64_t, int)> &done) {
  int status = 0;
  do
    status = io_uring_submit_and_wait(&ring_, 1);
  while (status == -EINTR);
  if (status < 0)
    return status;
  int count = 0;
  io_uring_cqe *cqe = nullptr;
  while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
    const std::uint64_t user_data = cqe->user_data;
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    ++count;
    done(user_data, result);
  }
  return count;
}

int Ring::run_one() {
  int result = -EIO;
  int status = 0;
  while ((status = reap([&](std::uint64_t, int got) { result = got; })) == 0) {
  }
  if (status < 0)
    die(std::format("io_uring_enter: {}", errno_name(status)));
  return result;
}

int Ring::command(int session_fd, std::uint32_t cmd_op, std::uint64_t buffer_offset,
                  std::uint32_t length, const dmabuf_rw_uring_io &io, unsigned sqe_flags) {
  queue_command(session_fd, cmd_op, buffer_offset, length, io, 0, sqe_flags);
  return run_one();
}

int Ring::enroll(int session_fd, std::uint32_t handle, std::uint32_t index, unsigned sqe_flags) {
  queue_registration(session_fd, DMABUF_RW_URING_REGISTER,
                     {.handle = handle, .index = index, .flags = 0, .reserved = 0}, 0, sqe_flags);
  return run_one();
}

int Ring::withdraw(int session_fd, std::uint32_t index, unsigned sqe_flags) {
  queue_registration(session_fd, DMABUF_RW_URING_UNREGISTER,
                     {.handle = 0, .index = index, .flags = 0, .reserved = 0}, 0, sqe_flags);
  return run_one();
}

Mover::Mover(Session &session, Ring &ring, int dmabuf_fd, int target_fd, Path path, unsigned slot,
             std::uint32_t directions, std::uint32_t max_command_hint)
    : session_(session), ring_(ring), target_fd_(target_fd), path_(path), slot_(slot) {
  entry_ = map_entry(dmabuf_fd, target_fd, path, directions);
  entry_.max_command_hint = max_command_hint;
  error_ = session_.map_one(entry_);
  if (error_)
    return;
  mapped_ = true;
  if (path_ != Path::Registered)
    return;
  error_ = ring_.enroll(session_.fd(), entry_.handle, slot_);
  enrolled_ = error_ == 0;
}

void Mover::queue(Direction direction, std::uint64_t buffer_offset, std::uint32_t length,
                  std::uint64_t file_offset, std::uint64_t user_data) {
  if (path_ == Path::Registered) {
    ring_.queue_fixed(direction, target_fd_, slot_, buffer_offset, length, file_offset, user_data);
    return;
  }
  ring_.queue_command(session_.fd(),
                      direction == Direction::Read ? DMABUF_RW_URING_READ : DMABUF_RW_URING_WRITE,
                      buffer_offset, length,
                      {.file_offset = file_offset, .handle = entry_.handle, .flags = 0}, user_data);
}

int Mover::transfer(Direction direction, std::uint64_t buffer_offset, std::uint32_t length,
                    std::uint64_t file_offset) {
  queue(direction, buffer_offset, length, file_offset);
  return ring_.run_one();
}

int Mover::waited(Direction direction, std::uint64_t buffer_offset, std::uint64_t length,
                  std::uint64_t file_offset, std::uint32_t *reason) {
  dmabuf_rw_io io{};
  io.handle = entry_.handle;
  io.direction = direction == Direction::Read ? DMABUF_RW_DIR_READ : DMABUF_RW_DIR_WRITE;
  io.buffer_offset = buffer_offset;
  io.file_offset = file_offset;
  io.length = length;
  const int error = session_.io(io);
  if (reason)
    *reason = io.reason;
  return error ? error : static_cast<int>(io.moved);
}

int Mover::release() {
  int result = 0;
  if (std::exchange(enrolled_, false))
    result = ring_.withdraw(session_.fd(), slot_);
  if (std::exchange(mapped_, false)) {
    const int status = session_.unmap_one(entry_.handle);
    result = result ? result : status;
  }
  return result;
}

} // namespace vmtest
