// SPDX-License-Identifier: GPL-2.0-only
// Requests on rings of all kinds: the module's uring_cmds, and io_uring's own on rw fds and on
// slots of the table of buffers.
#include "fds.hpp"
#include "worker.hpp"

#include <algorithm>
#include <cstring>
#include <liburing.h>
#include <linux/dmabuf_rw.h>
#include <mutex>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <utility>

namespace vmtest::fuzz {

namespace {

// Rings belong to no thread: who does not get the lock goes on.
struct RingSlot {
  std::mutex lock;
  io_uring ring;
  bool there = false;
  unsigned flags = 0;
  std::uint64_t last = 0; // user_data of the request before
  // By slot of the table of buffers: where ordinary memory is; 0: none, or a dma-buf.
  std::array<std::uint64_t, buffer_slots> memory{};
};
std::array<RingSlot, ring_slots> rings;

// Of newer headers than the lab's.
constexpr std::uint32_t uring_cmd_multishot = 1u << 1;
constexpr unsigned depth = 32, buffer_group = 1;
constexpr int ring_files_count = 24;

class Held {
public:
  explicit Held(std::uint64_t number)
      : slot_(rings[number % ring_slots]), held_(slot_.lock.try_lock()) {}
  Held(const Held &) = delete;
  Held &operator=(const Held &) = delete;
  ~Held() {
    if (held_)
      slot_.lock.unlock();
  }
  bool usable() const { return held_ && slot_.there; }
  bool held() const { return held_; }
  RingSlot *operator->() const { return &slot_; }

private:
  RingSlot &slot_;
  bool held_;
};

void reap(Worker &worker, io_uring *ring) {
  unsigned head = 0, count = 0;
  io_uring_cqe *cqe = nullptr;
  io_uring_for_each_cqe(ring, head, cqe) {
    const auto type = static_cast<std::uint8_t>(cqe->user_data);
    if (type < types().size())
      worker.tally(type, cqe->res);
    ++count;
  }
  io_uring_cq_advance(ring, count);
}

// 0: later; 1: now; 2: now, and waits a little; 3: the same, longer.
long submit(Worker &worker, RingSlot &slot, std::uint64_t how) {
  io_uring *ring = &slot.ring;
  int status = 0;
  if (how == 1) {
    status = io_uring_submit(ring);
  } else if (how >= 2 && slot.flags & IORING_SETUP_IOPOLL) {
    // Waiting here would be without limit.
    status = io_uring_submit(ring);
    for (int pass = 0; status >= 0 && pass < 50 && !io_uring_cq_ready(ring); ++pass)
      status = io_uring_get_events(ring);
  } else if (how >= 2) {
    __kernel_timespec limit{.tv_sec = 0, .tv_nsec = how == 2 ? 300'000 : 5'000'000};
    io_uring_cqe *cqe = nullptr;
    status = io_uring_submit_and_wait_timeout(ring, &cqe, 1, &limit, nullptr);
    if (status == -ETIME)
      status = 0;
  }
  reap(worker, ring);
  return status;
}

// What ends every request's arguments.
struct Tail {
  explicit Tail(Args &args)
      : ring(args.next()), flags(args.next()), misc(args.next()), how(args.next()) {}
  std::uint64_t ring, flags, misc, how;
};

// The place of a file in a ring's table of files.
int file_index(int fd) {
  const auto in = [&](const Pool &pool, int at) {
    return pool.has(static_cast<std::uint64_t>(fd)) ? at + (fd - pool.first) % 8 : -1;
  };
  return std::max({in(sessions, 0), in(rw_files, 8), in(targets, 16)});
}

// What a fixed request names a place in the slot by.
std::uint64_t fixed_address(const Tail &tail, unsigned index, std::uint64_t offset) {
  return rings[tail.ring % ring_slots].memory[index % buffer_slots] + offset;
}

template <typename Fill> long request(Worker &worker, const Tail &tail, Fill fill) {
  const Held slot(tail.ring);
  if (!slot.usable())
    return not_done;
  io_uring_sqe *sqe = io_uring_get_sqe(&slot->ring);
  if (!sqe) {
    submit(worker, *slot.operator->(), 1);
    sqe = io_uring_get_sqe(&slot->ring);
  }
  if (!sqe)
    return -EBUSY;
  std::memset(sqe, 0, slot->flags & IORING_SETUP_SQE128 ? 128 : 64);
  fill(sqe);
  sqe->flags = static_cast<__u8>(tail.flags);
  if (tail.flags & IOSQE_FIXED_FILE)
    sqe->fd = file_index(sqe->fd);
  if (tail.flags & IOSQE_BUFFER_SELECT)
    sqe->buf_group = buffer_group;
  if (tail.misc) {
    sqe->ioprio = static_cast<__u16>(tail.misc);
    sqe->personality = static_cast<__u16>(tail.misc >> 16);
    sqe->splice_fd_in = static_cast<__s32>(tail.misc >> 32);
  }
  static std::atomic<std::uint64_t> number;
  sqe->user_data = worker.type() | ++number << 8;
  slot->last = sqe->user_data;
  const long status = submit(worker, *slot.operator->(), tail.how);
  return status < 0 ? status : pending;
}

template <typename Command>
void put(io_uring_sqe *sqe, int fd, unsigned long op, const Command &command) {
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = fd;
  sqe->cmd_op = static_cast<__u32>(op);
  std::memcpy(sqe->cmd, &command, sizeof(command));
}

long command_io(Worker &worker, Args &args, unsigned long op) {
  const HandleSlot named = handle_of(args);
  const std::uint64_t offset = resolve(args.next(), named.bytes);
  const std::uint64_t position = resolve(args.next(), partition_bytes);
  const auto length = static_cast<__u32>(resolve(args.next(), named.bytes));
  const std::uint32_t flags = args.word(), command_flags = args.word();
  return request(worker, Tail(args), [&](io_uring_sqe *sqe) {
    put(sqe, named.session, op,
        dmabuf_rw_uring_io{.file_offset = position, .handle = named.handle, .flags = flags});
    sqe->addr = offset;
    sqe->len = length;
    sqe->uring_cmd_flags = command_flags;
  });
}

long cmd_read(Worker &worker, Args &args) { return command_io(worker, args, DMABUF_RW_URING_READ); }
long cmd_write(Worker &worker, Args &args) {
  return command_io(worker, args, DMABUF_RW_URING_WRITE);
}

// The array lies where others write, too: the kernel may read one thing and then another.
long command_ranges(Worker &worker, Args &args, unsigned long op) {
  const HandleSlot named = handle_of(args);
  const std::uint64_t offset = resolve(args.next(), named.bytes);
  const std::uint64_t position = resolve(args.next(), partition_bytes);
  const auto length = static_cast<__u32>(resolve(args.next(), named.bytes));
  const std::uint64_t stride = resolve(args.next(), named.bytes);
  const std::uint32_t entries = args.word(), nr = args.word();
  const std::uint32_t file_offset = args.word(), flags = args.word();
  const std::uint64_t memory = args.next();
  const std::uint32_t command_flags = args.word();
  const std::uint64_t filled = std::min<std::uint64_t>(entries, memory ? 16 : 512);
  const Piece array = worker.arena().array(memory, filled * sizeof(dmabuf_rw_range));
  for (std::uint64_t i = 0; i < filled; ++i) {
    const dmabuf_rw_range range{.file_offset = position + i * stride,
                                .buffer_offset = offset + i * stride,
                                .length = length};
    std::memcpy(array.own + i * sizeof(range), &range, sizeof(range));
  }
  return request(worker, Tail(args), [&](io_uring_sqe *sqe) {
    put(sqe, named.session, op,
        dmabuf_rw_uring_io{.file_offset = file_offset, .handle = named.handle, .flags = flags});
    sqe->addr = array.given;
    sqe->len = nr ? nr : entries;
    sqe->uring_cmd_flags = command_flags;
  });
}

long cmd_readv(Worker &worker, Args &args) {
  return command_ranges(worker, args, DMABUF_RW_URING_READV);
}
long cmd_writev(Worker &worker, Args &args) {
  return command_ranges(worker, args, DMABUF_RW_URING_WRITEV);
}

__u32 registration_flags(std::uint32_t flags) {
  return avoids_known() ? flags & ~uring_cmd_multishot : flags;
}

long cmd_register(Worker &worker, Args &args) {
  const HandleSlot named = handle_of(args);
  dmabuf_rw_uring_reg command{};
  command.handle = named.handle;
  command.index = args.word();
  const bool window = args.next() == 1;
  const std::uint64_t offset = resolve(args.next(), named.bytes);
  const auto length = static_cast<__u32>(resolve(args.next(), named.bytes));
  command.flags = args.word() | (window ? DMABUF_RW_REG_WINDOW : 0);
  command.reserved = args.word();
  const std::uint32_t command_flags = args.word();
  return request(worker, Tail(args), [&](io_uring_sqe *sqe) {
    put(sqe, named.session, DMABUF_RW_URING_REGISTER, command);
    sqe->addr = window ? offset : 0;
    sqe->len = window ? length : 0;
    sqe->uring_cmd_flags = registration_flags(command_flags);
  });
}

long cmd_unregister(Worker &worker, Args &args) {
  const int session = args.fd();
  dmabuf_rw_uring_reg command{};
  command.index = args.word();
  command.handle = args.word();
  command.flags = args.word();
  command.reserved = args.word();
  const std::uint64_t addr = args.next();
  const std::uint32_t len = args.word(), command_flags = args.word();
  return request(worker, Tail(args), [&](io_uring_sqe *sqe) {
    put(sqe, session, DMABUF_RW_URING_UNREGISTER, command);
    sqe->addr = addr;
    sqe->len = len;
    sqe->uring_cmd_flags = registration_flags(command_flags);
  });
}

long cmd_other(Worker &worker, Args &args) {
  const int session = args.fd();
  const std::uint64_t number = args.next();
  const unsigned long op = _IOC(static_cast<unsigned>(number >> 7) & 3, DMABUF_RW_IOC_MAGIC,
                                static_cast<unsigned>(number) & 0x7F, 40);
  const std::uint32_t command_flags = args.word();
  return request(worker, Tail(args), [&](io_uring_sqe *sqe) {
    put(sqe, session, op, dmabuf_rw_uring_io{});
    sqe->uring_cmd_flags = registration_flags(command_flags);
  });
}

// Fixed buffers: the dma-buf that REGISTER put there, or ordinary memory.
long fixed(Worker &worker, Args &args, std::uint8_t opcode) {
  const int file = args.fd();
  const auto index = static_cast<__u16>(args.next());
  const std::uint64_t offset = resolve(args.next(), 65536);
  const auto length = static_cast<__u32>(resolve(args.next(), 65536));
  const std::uint64_t position = resolve(args.next(), partition_bytes);
  const Tail tail(args);
  return request(worker, tail, [&](io_uring_sqe *sqe) {
    sqe->opcode = opcode;
    sqe->fd = file;
    sqe->addr = fixed_address(tail, index, offset);
    sqe->len = length;
    sqe->off = position;
    sqe->buf_index = index;
  });
}

long fixed_read(Worker &worker, Args &args) { return fixed(worker, args, IORING_OP_READ_FIXED); }
long fixed_write(Worker &worker, Args &args) { return fixed(worker, args, IORING_OP_WRITE_FIXED); }

long file_io(Worker &worker, Args &args, std::uint8_t opcode) {
  const int file = args.fd();
  const std::uint64_t position = resolve(args.next(), object_bytes(file)), bytes = args.next();
  const Piece piece = worker.arena().data(args.next(), 65536);
  const std::uint32_t flags = args.word();
  return request(worker, Tail(args), [&](io_uring_sqe *sqe) {
    sqe->opcode = opcode;
    sqe->fd = file;
    sqe->addr = piece.given;
    sqe->len = static_cast<__u32>(resolve(bytes, object_bytes(file)));
    sqe->off = position;
    sqe->rw_flags = static_cast<__kernel_rwf_t>(flags);
  });
}

long sq_read(Worker &worker, Args &args) { return file_io(worker, args, IORING_OP_READ); }
long sq_write(Worker &worker, Args &args) { return file_io(worker, args, IORING_OP_WRITE); }

long file_fixed(Worker &worker, Args &args, std::uint8_t opcode) {
  const int file = args.fd();
  const auto index = static_cast<__u16>(args.next());
  const std::uint64_t offset = resolve(args.next(), 65536);
  const std::uint64_t position = resolve(args.next(), object_bytes(file));
  const auto length = static_cast<__u32>(resolve(args.next(), object_bytes(file)));
  const Tail tail(args);
  return request(worker, tail, [&](io_uring_sqe *sqe) {
    sqe->opcode = opcode;
    sqe->fd = file;
    sqe->addr = fixed_address(tail, index, offset);
    sqe->len = length;
    sqe->off = position;
    sqe->buf_index = index;
  });
}

long sq_read_fixed(Worker &worker, Args &args) {
  return file_fixed(worker, args, IORING_OP_READ_FIXED);
}
long sq_write_fixed(Worker &worker, Args &args) {
  return file_fixed(worker, args, IORING_OP_WRITE_FIXED);
}

long sq_poll(Worker &worker, Args &args) {
  const int file = args.fd();
  const std::uint64_t events = args.next();
  args.next();
  return request(worker, Tail(args), [&](io_uring_sqe *sqe) {
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = file;
    sqe->poll32_events = events & 1 ? POLLIN : POLLIN | POLLOUT;
    sqe->len = events % 8 == 3 ? IORING_POLL_ADD_MULTI : 0;
  });
}

long sq_fsync(Worker &worker, Args &args) {
  const int file = args.fd();
  const std::uint64_t position = args.next(), bytes = args.next();
  return request(worker, Tail(args), [&](io_uring_sqe *sqe) {
    sqe->opcode = IORING_OP_FSYNC;
    sqe->fd = file;
    sqe->off = position % 2 ? resolve(position, object_bytes(file)) : 0;
    sqe->len = position % 2 ? static_cast<__u32>(bytes) : 0;
  });
}

long sq_ftruncate(Worker &worker, Args &args) {
  const int file = args.fd();
  const std::uint64_t position = resolve(args.next(), object_bytes(file));
  args.next();
  const Tail tail(args);
  // The registered file may be another one by now, which may be truncated.
  if (tail.flags & IOSQE_FIXED_FILE)
    return not_done;
  return request(worker, tail, [&](io_uring_sqe *sqe) {
    sqe->opcode = IORING_OP_FTRUNCATE;
    sqe->fd = file;
    sqe->off = position;
  });
}

long sq_splice(Worker &worker, Args &args) {
  const int file = args.fd();
  const int pipe = pipes.first + 2 * static_cast<int>(args.next());
  const bool out = args.next();
  const std::uint64_t position = resolve(args.next(), object_bytes(file));
  const auto bytes = static_cast<__u32>(resolve(args.next(), object_bytes(file)));
  return request(worker, Tail(args), [&](io_uring_sqe *sqe) {
    io_uring_prep_splice(sqe, out ? file : pipe, out ? static_cast<__s64>(position) : -1,
                         out ? pipe + 1 : file, out ? -1 : static_cast<__s64>(position), bytes,
                         SPLICE_F_NONBLOCK);
  });
}

long sq_cancel(Worker &worker, Args &args) {
  const std::uint64_t mode = args.next();
  const int file = args.fd();
  const Tail tail(args);
  const std::uint64_t last = rings[tail.ring % ring_slots].last;
  return request(worker, tail, [&](io_uring_sqe *sqe) {
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = mode == 0 ? file : 0;
    sqe->addr = mode == 1 ? last : 0;
    constexpr __u32 flags[] = {IORING_ASYNC_CANCEL_FD, 0, IORING_ASYNC_CANCEL_ANY,
                               IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
                               IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL};
    sqe->cancel_flags = flags[mode % 5];
    if (mode == 4)
      sqe->fd = file;
  });
}

long sq_nop(Worker &worker, Args &args) {
  return request(worker, Tail(args), [](io_uring_sqe *sqe) { sqe->opcode = IORING_OP_NOP; });
}

void set_files(io_uring *ring) {
  std::array<int, ring_files_count> files;
  for (int i = 0; i < 8; ++i) {
    files[static_cast<unsigned>(i)] = sessions.first + i;
    files[static_cast<unsigned>(i) + 8] = rw_files.first + i;
    files[static_cast<unsigned>(i) + 16] = targets.first + i;
  }
  // One by one: a closed one must not keep the others out.
  for (unsigned i = 0; i < files.size(); ++i)
    io_uring_register_files_update(ring, i, &files[i], 1);
}

void close_ring(RingSlot &slot) {
  if (std::exchange(slot.there, false))
    io_uring_queue_exit(&slot.ring);
}

// tables: 1 buffers, 2 files, 4 provided buffers.
long ring_new(Worker &worker, Args &args) {
  const std::uint64_t number = args.next();
  io_uring_params params{};
  params.flags = args.word();
  const std::uint64_t tables = args.next();
  const Held slot(number);
  if (!slot.held())
    return not_done;
  close_ring(*slot.operator->());
  if (params.flags & IORING_SETUP_SQPOLL)
    params.sq_thread_idle = 1;
  // A ring that another one's threads work for.
  const Held other(number + 1);
  if (params.flags & IORING_SETUP_ATTACH_WQ && other.usable())
    params.wq_fd = static_cast<__u32>(other->ring.ring_fd);
  else
    params.flags &= ~IORING_SETUP_ATTACH_WQ;
  const int status = io_uring_queue_init_params(depth, &slot->ring, &params);
  if (status)
    return status;
  slot->there = true;
  slot->flags = params.flags;
  slot->memory.fill(0);
  io_uring *ring = &slot->ring;
  // The other half of rings that begin switched off is used so.
  if (params.flags & IORING_SETUP_R_DISABLED && tables & 1)
    io_uring_enable_rings(ring);
  if (tables & 3)
    io_uring_register_buffers_sparse(ring, buffer_slots);
  if (tables & 2) {
    io_uring_register_files_sparse(ring, ring_files_count);
    set_files(ring);
  }
  if (tables & 4) {
    const Piece piece = worker.arena().data(0, 65536);
    if (io_uring_sqe *sqe = io_uring_get_sqe(ring)) {
      io_uring_prep_provide_buffers(sqe, reinterpret_cast<void *>(piece.given), 4096, 16,
                                    static_cast<int>(buffer_group), 0);
      sqe->user_data = 255;
      submit(worker, *slot.operator->(), 1);
    }
  }
  return 0;
}

long ring_close(Worker &, Args &args) {
  const Held slot(args.next());
  if (!slot.usable())
    return not_done;
  // What is in flight is left to it.
  close_ring(*slot.operator->());
  return 0;
}

long ring_wait(Worker &worker, Args &args) {
  const Held slot(args.next());
  if (!slot.usable())
    return not_done;
  return submit(worker, *slot.operator->(), args.next() + 1);
}

// Ordinary memory in a slot of the table of buffers; no bytes: empties the slot.
long ring_memory(Worker &worker, Args &args) {
  const Held slot(args.next());
  const unsigned index = args.word();
  const Piece piece = worker.arena().data(args.next(), 65536);
  const std::uint64_t bytes = args.next();
  if (!slot.usable())
    return not_done;
  const iovec vector{bytes ? reinterpret_cast<void *>(piece.given) : nullptr,
                     static_cast<std::size_t>(resolve(bytes, 65536))};
  const int status = io_uring_register_buffers_update_tag(&slot->ring, index, &vector, nullptr, 1);
  if (status >= 0 && index < buffer_slots)
    slot->memory[index] = bytes ? piece.given : 0;
  return status;
}

long ring_files(Worker &, Args &args) {
  const Held slot(args.next());
  if (!slot.usable())
    return not_done;
  set_files(&slot->ring);
  return 0;
}

constexpr Action actions[] = {
    {"cmd_read", cmd_read},
    {"cmd_write", cmd_write},
    {"cmd_readv", cmd_readv},
    {"cmd_writev", cmd_writev},
    {"cmd_register", cmd_register},
    {"cmd_unregister", cmd_unregister},
    {"cmd_other", cmd_other},
    {"fixed_read", fixed_read},
    {"fixed_write", fixed_write},
    {"sq_read", sq_read},
    {"sq_write", sq_write},
    {"sq_read_fixed", sq_read_fixed},
    {"sq_write_fixed", sq_write_fixed},
    {"sq_poll", sq_poll},
    {"sq_fsync", sq_fsync},
    {"sq_ftruncate", sq_ftruncate},
    {"sq_splice", sq_splice},
    {"sq_cancel", sq_cancel},
    {"sq_nop", sq_nop},
    {"ring_new", ring_new},
    {"ring_close", ring_close},
    {"ring_wait", ring_wait},
    {"ring_memory", ring_memory},
    {"ring_files", ring_files},
};

} // namespace

std::span<const Action> ring_actions() { return actions; }

} // namespace vmtest::fuzz
