// SPDX-License-Identifier: GPL-2.0-only
// Mappings of rw fds and dma-bufs, and what is done with them.
#include "fds.hpp"
#include "worker.hpp"

#include <algorithm>
#include <csetjmp>
#include <csignal>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>

namespace vmtest::fuzz {

namespace {

thread_local sigjmp_buf fault_exit;
thread_local volatile bool fault_expected;

void on_fault(int signal) {
  if (!fault_expected) {
    // Not ours: the program ends by it, and the parent says so.
    ::signal(signal, SIG_DFL);
    return;
  }
  fault_expected = false;
  siglongjmp(fault_exit, signal);
}

std::size_t in_place(std::uint64_t bytes, std::uint64_t size) {
  const std::uint64_t wanted = resolve(bytes, size);
  return static_cast<std::size_t>(std::clamp<std::uint64_t>(wanted, 1, place_bytes));
}

long mmap(Worker &, Args &args) {
  const int file = args.fd();
  char *where = place(args.next());
  const std::size_t bytes = in_place(args.next(), object_bytes(file));
  const auto offset = static_cast<off_t>(resolve(args.next(), object_bytes(file)) & ~4095ull);
  const int protection = static_cast<int>(args.next());
  const int kind = args.next() ? MAP_PRIVATE : MAP_SHARED;
  void *mapped = ::mmap(where, bytes, protection, kind | MAP_FIXED, file, offset);
  return mapped == MAP_FAILED ? -errno : 0;
}

long munmap(Worker &, Args &args) { return empty_place(args.next()) ? 0 : -errno; }

long touch(Worker &, Args &args) {
  char *where = place(args.next());
  const std::uint64_t offset = resolve(args.next(), 65536) % (place_bytes - 8);
  const bool write = args.next();
  // The signal mask is as it was: the handler does not block the signal.
  if (sigsetjmp(fault_exit, 0))
    return -EFAULT;
  fault_expected = true;
  volatile char *byte = where + offset;
  const char value = *byte;
  if (write)
    *byte = static_cast<char>(value + 1);
  fault_expected = false;
  return 0;
}

long mprotect(Worker &, Args &args) {
  char *where = place(args.next());
  const std::size_t bytes = in_place(args.next(), 65536);
  return outcome(::mprotect(where, bytes, static_cast<int>(args.next())));
}

// Leaves a hole, which at once becomes an empty place again.
long mremap(Worker &, Args &args) {
  const std::uint64_t from = args.next(), to = args.next();
  const std::size_t bytes = (in_place(args.next(), 65536) + 4095) & ~4095ul;
  if (place(from) == place(to))
    return not_done;
  const void *moved = ::mremap(place(from), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place(to));
  if (moved == MAP_FAILED)
    return -errno;
  ::mmap(place(from), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
         0);
  return 0;
}

long madvise(Worker &, Args &args) {
  char *where = place(args.next());
  const std::size_t bytes = in_place(args.next(), 65536);
  return outcome(::madvise(where, bytes, static_cast<int>(args.next())));
}

// Any memory into a pipe, the pages of a mapping among them; the last argument names the pipe.
long vmsplice(Worker &worker, Args &args) {
  const int file = args.fd();
  const Piece piece = worker.arena().data(args.next(), 65536);
  const iovec vector{reinterpret_cast<void *>(piece.given),
                     static_cast<std::size_t>(resolve(args.next(), object_bytes(file)))};
  const int pipe = pipes.first + 2 * static_cast<int>(args.next() % 4);
  return outcome(::vmsplice(pipe + 1, &vector, 1, SPLICE_F_NONBLOCK));
}

constexpr Action actions[] = {
    {"mmap", mmap},     {"munmap", munmap},   {"touch", touch},       {"mprotect", mprotect},
    {"mremap", mremap}, {"madvise", madvise}, {"vmsplice", vmsplice},
};

} // namespace

std::span<const Action> memory_actions() { return actions; }

void catch_faults() {
  struct sigaction action{};
  action.sa_handler = on_fault;
  action.sa_flags = SA_NODEFER;
  ::sigaction(SIGSEGV, &action, nullptr);
  ::sigaction(SIGBUS, &action, nullptr);
}

} // namespace vmtest::fuzz
