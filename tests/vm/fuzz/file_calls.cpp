// SPDX-License-Identifier: GPL-2.0-only
// System calls on rw fds.
#include "fds.hpp"
#include "worker.hpp"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <format>
#include <linux/dma-buf.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace vmtest::fuzz {

namespace {

// What the arguments of reads and writes say.
struct Move {
  Move(Worker &worker, Args &args)
      : file(args.fd()), piece(worker.arena().data(args.next(), 65536)),
        bytes(static_cast<std::size_t>(resolve(args.next(), object_bytes(file)))) {}
  void *memory() const { return reinterpret_cast<void *>(piece.given); }
  int file;
  Piece piece;
  std::size_t bytes;
};

off_t position_in(int file, Args &args) {
  return static_cast<off_t>(resolve(args.next(), object_bytes(file)));
}

long read(Worker &worker, Args &args) {
  const Move move(worker, args);
  return outcome(::read(move.file, move.memory(), move.bytes));
}

long write(Worker &worker, Args &args) {
  const Move move(worker, args);
  return outcome(::write(move.file, move.memory(), move.bytes));
}

long pread(Worker &worker, Args &args) {
  const Move move(worker, args);
  return outcome(::pread(move.file, move.memory(), move.bytes, position_in(move.file, args)));
}

long pwrite(Worker &worker, Args &args) {
  const Move move(worker, args);
  return outcome(::pwrite(move.file, move.memory(), move.bytes, position_in(move.file, args)));
}

// The first piece is what was asked for, the others are short ones, one of them empty.
struct Vectors {
  Vectors(Worker &worker, const Move &move, std::uint64_t number)
      : count(static_cast<int>(number)) {
    const auto base = worker.arena().data(0, 65536).given;
    for (std::size_t i = 0; i < vectors.size(); ++i)
      vectors[i] = {reinterpret_cast<void *>(base + i * 4096 + i), i == 2 ? 0 : 700 * i};
    vectors[0] = {move.memory(), move.bytes};
  }
  std::array<iovec, 6> vectors;
  int count;
};

long readv(Worker &worker, Args &args) {
  const Move move(worker, args);
  const Vectors v(worker, move, args.next());
  return outcome(::readv(move.file, v.vectors.data(), v.count));
}

long writev(Worker &worker, Args &args) {
  const Move move(worker, args);
  const Vectors v(worker, move, args.next());
  return outcome(::writev(move.file, v.vectors.data(), v.count));
}

long preadv2(Worker &worker, Args &args) {
  const Move move(worker, args);
  const Vectors v(worker, move, args.next());
  const off_t position = position_in(move.file, args);
  return outcome(
      ::preadv2(move.file, v.vectors.data(), v.count, position, static_cast<int>(args.next())));
}

long pwritev2(Worker &worker, Args &args) {
  const Move move(worker, args);
  const Vectors v(worker, move, args.next());
  const off_t position = position_in(move.file, args);
  return outcome(
      ::pwritev2(move.file, v.vectors.data(), v.count, position, static_cast<int>(args.next())));
}

long lseek(Worker &, Args &args) {
  const int file = args.fd();
  const off_t position = position_in(file, args);
  return outcome(::lseek(file, position, static_cast<int>(args.next())));
}

long splice(Args &args, bool out) {
  const int file = args.fd();
  const int pipe = pipes.first + 2 * static_cast<int>(args.next());
  const auto bytes = static_cast<std::size_t>(resolve(args.next(), object_bytes(file)));
  off_t position = position_in(file, args);
  off_t *where = args.next() ? &position : nullptr;
  // Never waits for a pipe.
  const auto flags = static_cast<unsigned>(args.next()) | SPLICE_F_NONBLOCK;
  return outcome(out ? ::splice(file, where, pipe + 1, nullptr, bytes, flags)
                     : ::splice(pipe, nullptr, file, where, bytes, flags));
}

long splice_out(Worker &, Args &args) { return splice(args, true); }
long splice_in(Worker &, Args &args) { return splice(args, false); }

long sendfile(Worker &, Args &args) {
  const int file = args.fd();
  const std::uint64_t to = args.next();
  const auto bytes = static_cast<std::size_t>(resolve(args.next(), object_bytes(file)));
  off_t position = position_in(file, args);
  off_t *where = args.next() ? &position : nullptr;
  if (to == 0)
    ::lseek(sink_file, 0, SEEK_SET);
  return outcome(::sendfile(to < 2 ? sink_file : pipes.first + 1, file, where, bytes));
}

long copy_file_range(Worker &, Args &args) {
  const int from = args.fd(), to = args.fd();
  const auto bytes = static_cast<std::size_t>(resolve(args.next(), object_bytes(from)));
  off_t position = position_in(from, args), other = 0;
  const bool to_sink = args.next();
  return outcome(::copy_file_range(from, &position, to_sink ? sink_file : to, &other, bytes, 0));
}

long poll(Worker &, Args &args) {
  pollfd poll{.fd = args.fd(), .events = 0, .revents = 0};
  poll.events = static_cast<short>(args.next());
  return outcome(::poll(&poll, 1, 0));
}

long epoll(Worker &, Args &args) {
  const int file = args.fd();
  constexpr int operations[] = {EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD};
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLET, .data = {}};
  const long result = outcome(::epoll_ctl(epoll_file, operations[args.next() % 3], file, &event));
  ::epoll_wait(epoll_file, &event, 1, 0);
  return result;
}

long setfl(Worker &, Args &args) {
  const int file = args.fd();
  const std::uint64_t bits = args.next();
  int flags = 0;
  flags |= bits % 4 == 1 ? O_NONBLOCK : 0;
  flags |= bits % 8 == 2 ? O_APPEND : 0;
  flags |= bits % 16 == 3 ? O_DIRECT : 0;
  flags |= bits % 16 == 4 ? O_ASYNC : 0;
  flags |= bits % 16 == 5 ? O_NOATIME : 0;
  return outcome(::fcntl(file, F_SETFL, flags));
}

long fcntl(Worker &, Args &args) {
  const int file = args.fd();
  // None that makes a descriptor.
  constexpr int commands[] = {F_GETFD,       F_GETFL,    F_GETLK,     F_SETLK,     F_OFD_SETLK,
                              F_SETLEASE,    F_GETLEASE, F_ADD_SEALS, F_GET_SEALS, F_SETPIPE_SZ,
                              F_GETPIPE_SZ,  F_SETSIG,   F_SETOWN,    F_GETOWN,    F_GET_RW_HINT,
                              F_SET_RW_HINT, F_NOTIFY};
  const int command = commands[args.next() % std::size(commands)];
  const std::uint64_t argument = resolve(args.next(), object_bytes(file));
  struct flock lock{};
  lock.l_type = argument % 2 ? F_RDLCK : F_WRLCK;
  lock.l_start = static_cast<off_t>(argument);
  lock.l_len = 4096;
  std::uint64_t hint = argument;
  switch (command) {
  case F_GETLK:
  case F_SETLK:
  case F_OFD_SETLK:
    return outcome(::fcntl(file, command, &lock));
  case F_GET_RW_HINT:
  case F_SET_RW_HINT:
    return outcome(::fcntl(file, command, &hint));
  case F_SETOWN: // signals are for nobody
    return outcome(::fcntl(file, command, 0));
  case F_SETSIG:
    return outcome(::fcntl(file, command, 0));
  default:
    return outcome(::fcntl(file, command, static_cast<long>(argument)));
  }
}

long sync(Worker &worker, Args &args) {
  const int file = args.fd();
  dma_buf_sync content{};
  content.flags = args.next() | args.next();
  const Piece piece = worker.arena().structure(args.next(), sizeof(content));
  std::memcpy(piece.own, &content, sizeof(content));
  return outcome(::ioctl(file, DMA_BUF_IOCTL_SYNC, piece.given));
}

long rw_ioctl(Worker &worker, Args &args) {
  const int file = args.fd();
  constexpr unsigned long commands[] = {FIONREAD,
                                        FIGETBSZ,
                                        FIOQSIZE,
                                        FS_IOC_FIEMAP,
                                        FS_IOC_GETFLAGS,
                                        FS_IOC_SETFLAGS,
                                        FS_IOC_FSGETXATTR,
                                        FS_IOC_FSSETXATTR,
                                        FICLONE,
                                        FIDEDUPERANGE,
                                        FITRIM,
                                        FIBMAP,
                                        DMA_BUF_SET_NAME_A,
                                        DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
                                        DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
                                        FIONBIO};
  const unsigned long command = commands[args.next() % std::size(commands)];
  const Piece piece = worker.arena().structure(args.next(), 4096);
  std::memset(piece.own, 0, 4096);
  return outcome(::ioctl(file, command, piece.given));
}

long fsync(Worker &, Args &args) { return outcome(::fsync(args.fd())); }

long fstat(Worker &, Args &args) {
  struct stat state{};
  return outcome(::fstat(args.fd(), &state));
}

// Path of a descriptor in /proc, without memory of its own: others may fork now.
struct ProcPath {
  ProcPath(const char *folder, int file) {
    *std::format_to_n(text.data(), text.size() - 1, "/proc/self/{}/{}", folder, file).out = 0;
  }
  std::array<char, 64> text;
};

long fdinfo(Worker &worker, Args &args) {
  const int info = ::open(ProcPath("fdinfo", args.fd()).text.data(), O_RDONLY | O_CLOEXEC);
  if (info < 0)
    return -errno;
  const Piece piece = worker.arena().data(0, 4096);
  const long result = outcome(::read(info, piece.own, 4096));
  ::close(info);
  return result;
}

long reopen(Worker &, Args &args) {
  constexpr int flags[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_TRUNC};
  const ProcPath path("fd", args.fd());
  const int opened = ::open(path.text.data(), flags[args.next() % std::size(flags)] | O_CLOEXEC);
  if (opened < 0)
    return -errno;
  ::close(opened);
  return 0;
}

long ftruncate(Worker &, Args &args) {
  const int file = args.fd();
  return outcome(::ftruncate(file, position_in(file, args)));
}

long fallocate(Worker &, Args &args) {
  const int file = args.fd(), mode = static_cast<int>(args.next());
  const off_t position = position_in(file, args);
  return outcome(::fallocate(file, mode, position, position_in(file, args)));
}

long fchmod(Worker &, Args &args) {
  const int file = args.fd();
  return outcome(::fchmod(file, static_cast<mode_t>(args.next())));
}

long fadvise(Worker &, Args &args) {
  const int file = args.fd();
  const off_t position = position_in(file, args), bytes = position_in(file, args);
  return -::posix_fadvise(file, position, bytes, static_cast<int>(args.next()));
}

long flock(Worker &, Args &args) {
  const int file = args.fd();
  constexpr int operations[] = {LOCK_SH, LOCK_EX, LOCK_UN};
  return outcome(::flock(file, operations[args.next() % 3] | LOCK_NB));
}

constexpr Action actions[] = {
    {"read", read},
    {"write", write},
    {"pread", pread},
    {"pwrite", pwrite},
    {"readv", readv},
    {"writev", writev},
    {"preadv2", preadv2},
    {"pwritev2", pwritev2},
    {"lseek", lseek},
    {"splice_out", splice_out},
    {"splice_in", splice_in},
    {"sendfile", sendfile},
    {"copy_file_range", copy_file_range},
    {"poll", poll},
    {"epoll", epoll},
    {"setfl", setfl},
    {"fcntl", fcntl},
    {"sync", sync},
    {"rw_ioctl", rw_ioctl},
    {"fsync", fsync},
    {"fstat", fstat},
    {"fdinfo", fdinfo},
    {"reopen", reopen},
    {"ftruncate", ftruncate},
    {"fallocate", fallocate},
    {"fchmod", fchmod},
    {"fadvise", fadvise},
    {"flock", flock},
};

} // namespace

std::span<const Action> file_actions() { return actions; }

} // namespace vmtest::fuzz
