// SPDX-License-Identifier: GPL-2.0-only
// What comes and goes: sessions, dma-bufs, targets, rw fds; and the test exporter's moves.
#include "fds.hpp"
#include "worker.hpp"

#include <algorithm>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/dmabuf_rw.h>
#include <linux/dmabuf_testexp.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace vmtest::fuzz {

void access_first(int dmabuf) {
  for (const __u64 end : {std::uint64_t{DMA_BUF_SYNC_START}, std::uint64_t{DMA_BUF_SYNC_END}}) {
    dma_buf_sync sync{};
    sync.flags = DMA_BUF_SYNC_RW | end;
    ::ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync);
  }
}

namespace {

// Puts a new file where its slot is.
long install(int fd, int slot) {
  if (fd < 0)
    return -errno;
  const long result = outcome(::dup3(fd, slot, 0));
  ::close(fd);
  return result < 0 ? result : 0;
}

long copy(int from, int slot) {
  const long result = outcome(::dup3(from, slot, 0));
  return result < 0 ? result : 0;
}

long session_new(Worker &, Args &args) {
  return install(::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC), args.fd());
}

long close_slot(Worker &, Args &args) { return outcome(::close(args.fd())); }

long dmabuf_dup(Worker &, Args &args) {
  const int slot = args.fd(), master = dmabuf_masters + static_cast<int>(args.next() % 24);
  set_object_bytes(slot, object_bytes(master));
  return copy(master, slot);
}

int new_udmabuf(std::size_t bytes) {
  const int memfd = ::memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memfd < 0)
    return -1;
  int fd = -1;
  if (::ftruncate(memfd, static_cast<off_t>(bytes)) == 0 &&
      ::fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) == 0) {
    udmabuf_create create{};
    create.memfd = static_cast<__u32>(memfd);
    create.flags = UDMABUF_FLAGS_CLOEXEC;
    create.size = bytes;
    fd = ::ioctl(udmabuf_device, UDMABUF_CREATE, &create);
    if (fd >= 0)
      access_first(fd);
  }
  const int saved = errno;
  ::close(memfd);
  errno = saved;
  return fd;
}

long dmabuf_new(Worker &, Args &args) {
  const int slot = args.fd();
  const std::uint64_t kind = args.next();
  const std::size_t bytes = (args.next() + 1) * 4096;
  set_object_bytes(slot, bytes);
  if (kind >= 3)
    return install(new_udmabuf(bytes), slot);
  constexpr unsigned modes[] = {O_RDWR, O_RDONLY, O_WRONLY};
  dma_heap_allocation_data data{};
  data.len = bytes;
  data.fd_flags = O_CLOEXEC | modes[kind % 3];
  if (::ioctl(heap_device, DMA_HEAP_IOCTL_ALLOC, &data) != 0)
    return -errno;
  return install(static_cast<int>(data.fd), slot);
}

long target_dup(Worker &, Args &args) {
  const int slot = args.fd();
  return copy(target_masters + static_cast<int>(args.next() % 24), slot);
}

long rw_dup(Worker &, Args &args) {
  const int slot = args.fd(), from = args.fd();
  set_object_bytes(slot, object_bytes(from));
  return copy(from, slot);
}

long rw_master(Worker &, Args &args) {
  const int slot = args.fd(), master = rw_masters + static_cast<int>(args.next() % rw_master_count);
  set_object_bytes(slot, object_bytes(master));
  return copy(master, slot);
}

long pipe_drain(Worker &worker, Args &args) {
  const int pipe = pipes.first + 2 * static_cast<int>(args.next());
  const Piece piece = worker.arena().data(0, 65536);
  return outcome(::read(pipe, piece.own, 65536));
}

std::uint32_t id(Args &args) { return 1 + args.word() % testexp_ids; }

long testexp(unsigned long command, void *argument) {
  return outcome(::ioctl(testexp_device, command, argument));
}

long te_move(Worker &, Args &args) {
  dmabuf_testexp_move content{};
  content.id = id(args);
  return testexp(DMABUF_TESTEXP_IOC_MOVE, &content);
}

long te_revoke(Worker &, Args &args) {
  dmabuf_testexp_move content{};
  content.id = id(args);
  return testexp(DMABUF_TESTEXP_IOC_REVOKE, &content);
}

long te_unrevoke(Worker &, Args &args) {
  dmabuf_testexp_id content{.id = id(args), .flags = 0};
  return testexp(DMABUF_TESTEXP_IOC_UNREVOKE, &content);
}

long te_fail(Worker &, Args &args) {
  constexpr std::uint32_t errors[] = {EBUSY, ENOMEM, EINTR, EAGAIN, ENODEV, EINVAL, EIO, EDEADLK};
  dmabuf_testexp_fail content{};
  content.id = id(args);
  content.operation = args.word();
  content.error = errors[args.next() % std::size(errors)];
  if (content.error == EINTR && avoids_known())
    content.error = EIO;
  content.after = args.word();
  content.times = 1 + args.word();
  return testexp(DMABUF_TESTEXP_IOC_FAIL, &content);
}

// A fence that never signals is signalled by the parent, or by te_signal.
long te_fence(Worker &, Args &args) {
  constexpr std::uint32_t delays[] = {1, 2, 5, 0};
  constexpr std::uint32_t errors[] = {0, 0, EIO};
  dmabuf_testexp_fence content{};
  content.id = id(args);
  content.usage = args.word();
  content.delay_ms = delays[args.next() % std::size(delays)];
  content.flags = content.delay_ms ? 0 : DMABUF_TESTEXP_FENCE_NEVER;
  content.error = errors[args.next() % std::size(errors)];
  return testexp(DMABUF_TESTEXP_IOC_FENCE_ADD, &content);
}

long te_signal(Worker &, Args &args) {
  dmabuf_testexp_signal content{.id = id(args), .flags = 0, .fence = 0, .signalled = 0};
  return testexp(DMABUF_TESTEXP_IOC_FENCE_SIGNAL, &content);
}

long te_mover(Worker &, Args &args) {
  dmabuf_testexp_mover content{};
  content.id = id(args);
  content.count = 1 + args.next();
  content.interval_us = 100 + args.word();
  return testexp(DMABUF_TESTEXP_IOC_MOVER_START, &content);
}

constexpr Action actions[] = {
    {"session_new", session_new}, {"session_close", close_slot},
    {"dmabuf_dup", dmabuf_dup},   {"dmabuf_new", dmabuf_new},
    {"dmabuf_close", close_slot}, {"target_dup", target_dup},
    {"target_close", close_slot}, {"rw_dup", rw_dup},
    {"rw_master", rw_master},     {"rw_close", close_slot},
    {"pipe_drain", pipe_drain},   {"te_move", te_move},
    {"te_revoke", te_revoke},     {"te_unrevoke", te_unrevoke},
    {"te_fail", te_fail},         {"te_fence", te_fence},
    {"te_signal", te_signal},     {"te_mover", te_mover},
};

} // namespace

std::span<const Action> object_actions() { return actions; }

} // namespace vmtest::fuzz
