// SPDX-License-Identifier: GPL-2.0-only
// What a hostile or careless program can ask of OPEN and of an rw fd.
#include "hostile.hpp"

#include <climits>
#include <cstring>
#include <dirent.h>
#include <linux/memfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

namespace vmtest {

namespace {

long open_descriptors() {
  long count = 0;
  DIR *folder = ::opendir("/proc/self/fd");
  while (folder && ::readdir(folder))
    ++count;
  if (folder)
    ::closedir(folder);
  return count;
}

} // namespace

void refused(const std::string &name, const Session &session, int dmabuf_fd, int flags, int error,
             std::uint32_t reason) {
  const long before = open_descriptors();
  const Opened opened = open_rw(session, dmabuf_fd, flags);
  expect_result(name, opened.error, -error);
  report().check(
      opened.answer.reason == reason, name + ": reason",
      std::format("{} instead of {}", reason_name(opened.answer.reason), reason_name(reason)));
  report().check(opened.error && open_descriptors() == before, name + ": no descriptor is left");
}

Bytes contents(const DmaBuf &buffer) {
  const CpuAccess access(buffer, true);
  Bytes copy(buffer.size());
  std::memcpy(copy.data(), buffer.words().data(), copy.size());
  return copy;
}

void put(const DmaBuf &buffer, const Bytes &data) {
  const CpuAccess access(buffer, true);
  std::memcpy(buffer.words().data(), data.data(), data.size());
}

namespace {

std::string proc_name(int fd) { return std::format("/proc/self/fd/{}", fd); }

void unchanged(const std::string &name, const DmaBuf &buffer, const Bytes &wanted) {
  const std::string wrong = differ(contents(buffer), wanted);
  report().check(wrong.empty(), name, wrong);
}

// The structure in memory that cannot be read, or not written.
void bad_structure(const Session &session, const DmaBuf &buffer) {
  expect_result("OPEN with a structure that is not there",
                outcome(::ioctl(session.fd(), DMABUF_RW_IOC_OPEN, nullptr)), -EFAULT);
  void *map = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  auto *open = new (map) dmabuf_rw_open{};
  open->dmabuf_fd = static_cast<__u32>(buffer.fd());
  ::mprotect(map, page, PROT_READ);
  const long before = open_descriptors();
  expect_result("OPEN with a structure that is read-only",
                outcome(::ioctl(session.fd(), DMABUF_RW_IOC_OPEN, open)), -EFAULT);
  report().check(open_descriptors() == before, "and no descriptor is left");
  ::munmap(map, page);

  const auto spoilt = [&](const std::string &name, auto spoil) {
    dmabuf_rw_open argument{};
    argument.dmabuf_fd = static_cast<__u32>(buffer.fd());
    argument.flags = O_RDWR;
    spoil(argument);
    expect_result("OPEN with " + name,
                  outcome(::ioctl(session.fd(), DMABUF_RW_IOC_OPEN, &argument)), -EINVAL);
    report().check(argument.reason == DMABUF_RW_REASON_ARGUMENT, name + ": reason",
                   reason_name(argument.reason));
  };
  spoilt("reserved0", [](dmabuf_rw_open &o) { o.reserved0 = 1; });
  for (int i = 0; i < 4; ++i)
    spoilt(std::format("reserved[{}]", i), [i](dmabuf_rw_open &o) { o.reserved[i] = 1ull << 63; });
  for (int bit = 0; bit < 32; ++bit)
    if (!((O_WRONLY | O_RDWR | O_CLOEXEC | O_NONBLOCK) & (1 << bit)))
      spoilt(std::format("flag bit {}", bit), [bit](dmabuf_rw_open &o) { o.flags |= 1u << bit; });
  spoilt("access mode 3", [](dmabuf_rw_open &o) { o.flags = O_ACCMODE; });
}

// Nothing that changes a file's size, rights or times has an effect.
void attributes(const DmaBuf &buffer, int fd) {
  struct stat before{}, after{};
  ::fstat(fd, &before);
  const std::string name = proc_name(fd);
  const struct {
    const char *call;
    long result;
    int error;
  } calls[] = {
      {"ftruncate to 0", outcome(::ftruncate(fd, 0)), EPERM},
      {"ftruncate to more", outcome(::ftruncate(fd, 1 << 30)), EPERM},
      {"truncate through /proc", outcome(::truncate(name.c_str(), 0)), EPERM},
      {"fallocate", outcome(::fallocate(fd, 0, 0, page)), EOPNOTSUPP},
      {"punching a hole",
       outcome(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, page)), EOPNOTSUPP},
      {"fchmod", outcome(::fchmod(fd, 0777)), EPERM},
      {"chmod through /proc", outcome(::chmod(name.c_str(), 0777)), EPERM},
      {"fchown", outcome(::fchown(fd, 65534, 65534)), EPERM},
      {"futimens", outcome(::futimens(fd, nullptr)), EPERM},
      {"fsetxattr", outcome(::fsetxattr(fd, "user.x", "y", 1, 0)), EOPNOTSUPP},
      {"F_ADD_SEALS", outcome(::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)), EINVAL},
      {"F_SETFL O_DIRECT", outcome(::fcntl(fd, F_SETFL, O_DIRECT)), EINVAL},
      {"open through /proc, O_RDONLY", outcome(::open(name.c_str(), O_RDONLY)), ENXIO},
      {"open through /proc, O_RDWR", outcome(::open(name.c_str(), O_RDWR)), ENXIO},
      {"open through /proc, O_TRUNC", outcome(::open(name.c_str(), O_RDWR | O_TRUNC)), ENXIO},
      {"a command of the dma-buf", outcome(::ioctl(fd, _IOW('b', 1, const char *), "name")),
       ENOTTY},
      {"an unknown ioctl", outcome(::ioctl(fd, 0x1234, 0)), ENOTTY},
  };
  for (const auto &call : calls) {
    const bool truncating = std::strstr(call.call, "O_TRUNC");
    // O_TRUNC may be refused for itself.
    report().check(
        call.result == -call.error || (truncating && call.result == -EPERM), call.call,
        std::format("{} instead of {}", errno_name(call.result), errno_name(call.error)));
  }
  in_child("it cannot be executed", [fd] {
    const char *argv[] = {"x", nullptr}, *environment[] = {nullptr};
    ::syscall(SYS_execveat, fd, "", argv, environment, AT_EMPTY_PATH);
    return errno == EACCES || errno == ENXIO ? 0 : 1;
  });
  ::fstat(fd, &after);
  report().check(before.st_size == after.st_size && before.st_mode == after.st_mode &&
                     before.st_uid == after.st_uid && before.st_mtim.tv_sec == after.st_mtim.tv_sec,
                 "attributes are as they were");
  const UniqueFd path(::open(name.c_str(), O_PATH | O_CLOEXEC));
  char byte;
  expect_result("read of an O_PATH descriptor", outcome(::pread(path.get(), &byte, 1, 0)), -EBADF);
  expect_result("write of an O_PATH descriptor", outcome(::pwrite(path.get(), "x", 1, 0)), -EBADF);

  // Appending would be past the end.
  ::fcntl(fd, F_SETFL, O_APPEND);
  expect_result("write with O_APPEND", outcome(::write(fd, "x", 1)), -ENOSPC);
  ::fcntl(fd, F_SETFL, 0);
  const iovec one{const_cast<char *>("x"), 1};
  expect_result("pwritev2 with RWF_APPEND", outcome(::pwritev2(fd, &one, 1, 0, RWF_APPEND)),
                -ENOSPC);
  expect_result("size", ::lseek(fd, 0, SEEK_END), static_cast<long>(buffer.size()));
}

// A mapping of a read-only rw fd must never become writable.
void read_only_mapping(const std::string &who, int fd, std::size_t size, const Bytes &wanted,
                       const std::function<Bytes()> &look) {
  const auto map = [&](int protection, int flags, std::size_t length = 0) {
    void *at = ::mmap(nullptr, length ? length : size, protection, flags, fd, 0);
    return at == MAP_FAILED ? -static_cast<long>(errno) : reinterpret_cast<long>(at);
  };
  expect_result(who + ": writable mapping", map(PROT_READ | PROT_WRITE, MAP_SHARED), -EACCES);
  expect_result(who + ": executable mapping", map(PROT_READ | PROT_EXEC, MAP_SHARED), -EPERM);
  expect_result(who + ": private mapping", map(PROT_READ | PROT_WRITE, MAP_PRIVATE), -EINVAL);
  expect_result(who + ": mapping past the end", map(PROT_READ, MAP_SHARED, size + page), -EINVAL);
  const long address = map(PROT_READ, MAP_SHARED);
  if (!report().check(address > 0, who + ": mapping", errno_name(address)))
    return;
  auto *at = reinterpret_cast<char *>(address);
  expect_result(who + ": mprotect to writable",
                outcome(::mprotect(at, size, PROT_READ | PROT_WRITE)), -EACCES);
  expect_result(who + ": mprotect to executable",
                outcome(::mprotect(at, size, PROT_READ | PROT_EXEC)), -EACCES);
  // Where the kernel makes a new mapping of the file by itself.
  if (::syscall(SYS_remap_file_pages, at, page, 0, 1, 0) == 0)
    expect_result(who + ": mprotect after remap_file_pages",
                  outcome(::mprotect(at, page, PROT_READ | PROT_WRITE)), -EACCES);
  void *twin = ::mremap(at, 0, page, MREMAP_MAYMOVE);
  if (twin != MAP_FAILED) {
    expect_result(who + ": mprotect of a twin",
                  outcome(::mprotect(twin, page, PROT_READ | PROT_WRITE)), -EACCES);
    ::munmap(twin, page);
  }
  const UniqueFd memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  report().check(::pwrite(memory.get(), "XXXXXXXX", 8, address) <= 0,
                 who + ": write through /proc/self/mem");
  iovec local{const_cast<char *>("XXXXXXXX"), 8}, remote{at, 8};
  report().check(::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0) <= 0,
                 who + ": process_vm_writev");
  std::string wrong = differ({reinterpret_cast<std::byte *>(at), size}, wanted);
  report().check(wrong.empty(), who + ": what the mapping shows", wrong);
  ::munmap(at, size);
  wrong = differ(look(), wanted);
  report().check(wrong.empty(), who + ": contents are as they were", wrong);
}

void one_way(const Session &session, Exporter exporter, Access access) {
  const std::string who = std::format(
      "{} {} dma-buf", access == Access::ReadOnly ? "read-only" : "write-only", name_of(exporter));
  const DmaBuf buffer = must_make(exporter, bytes, access);
  const int allowed = access == Access::ReadOnly ? O_RDONLY : O_WRONLY;
  for (const int flags : {O_RDWR, allowed == O_RDONLY ? O_WRONLY : O_RDONLY})
    refused(std::format("{}, flags {}", who, flags), session, buffer.fd(), flags, EACCES,
            DMABUF_RW_REASON_DMABUF_MODE);
  const UniqueFd fd = must_open_rw(session, buffer.fd(), allowed);
  char byte = 'x';
  const bool reads = allowed == O_RDONLY;
  expect_result(who + ": read", outcome(::pread(fd.get(), &byte, 1, 0)), reads ? 1 : -EBADF);
  expect_result(who + ": write", outcome(::pwrite(fd.get(), &byte, 1, 0)), reads ? -EBADF : 1);
}

// An rw fd opened for one direction of a dma-buf that is open for both.
void narrowed(const Session &session, Exporter exporter) {
  const std::string who = std::format("{}, narrowed", name_of(exporter));
  const DmaBuf buffer = must_make(exporter, bytes);
  Bytes wanted(bytes);
  fill_random(wanted, 5);
  const UniqueFd reader = must_open_rw(session, buffer.fd(), O_RDONLY | O_CLOEXEC);
  const UniqueFd writer = must_open_rw(session, buffer.fd(), O_WRONLY);
  put(buffer, wanted);
  report().check(::fcntl(reader.get(), F_GETFD) == FD_CLOEXEC, who + ": O_CLOEXEC");
  report().check(::fcntl(writer.get(), F_GETFD) == 0, who + ": no O_CLOEXEC");
  report().check((::fcntl(reader.get(), F_GETFL) & O_ACCMODE) == O_RDONLY, who + ": O_RDONLY");
  report().check((::fcntl(writer.get(), F_GETFL) & O_ACCMODE) == O_WRONLY, who + ": O_WRONLY");
  char byte = 'x';
  const iovec one{&byte, 1};
  expect_result(who + ": pwrite to the reader", outcome(::pwrite(reader.get(), "x", 1, 0)), -EBADF);
  expect_result(who + ": pwritev to the reader", outcome(::pwritev(reader.get(), &one, 1, 0)),
                -EBADF);
  expect_result(who + ": pread from the writer", outcome(::pread(writer.get(), &byte, 1, 0)),
                -EBADF);
  expect_result(who + ": ftruncate of the reader", outcome(::ftruncate(reader.get(), 0)), -EINVAL);
  for (const int flags : {O_RDWR, O_WRONLY, O_RDONLY})
    expect_result(std::format("{}: the reader again through /proc, {}", who, flags),
                  outcome(::open(proc_name(reader.get()).c_str(), flags)), -ENXIO);
  expect_result(
      who + ": mapping of the writer",
      ::mmap(nullptr, page, PROT_WRITE, MAP_SHARED, writer.get(), 0) == MAP_FAILED ? -errno : 0,
      -EACCES);
  Ring ring(4);
  io_uring_sqe *sqe = ring.sqe();
  sqe->opcode = IORING_OP_WRITE;
  sqe->fd = reader.get();
  sqe->addr = reinterpret_cast<std::uintptr_t>("x");
  sqe->len = 1;
  expect_result(who + ": io_uring WRITE to the reader", ring.run_one(), -EBADF);
  unchanged(who + ": contents are as they were", buffer, wanted);
  read_only_mapping(who, reader.get(), bytes, wanted, [&] { return contents(buffer); });
}

} // namespace

void test_arguments(const RwOptions &) {
  const Session session;
  const DmaBuf buffer = must_make(Exporter::Udmabuf, bytes);
  bad_structure(session, buffer);
  const UniqueFd memfd(::memfd_create("vmtest", MFD_CLOEXEC));
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const UniqueFd rw = must_open_rw(session, buffer.fd());
  const UniqueFd path(::open(proc_name(buffer.fd()).c_str(), O_PATH | O_CLOEXEC));
  const struct {
    const char *name;
    int fd, error;
  } others[] = {{"no descriptor", -1, EBADF},
                {"a closed descriptor", 1000, EBADF},
                {"a memfd", memfd.get(), EINVAL},
                {"/dev/null", null.get(), EINVAL},
                {"an rw fd", rw.get(), EINVAL},
                {"the session", session.fd(), EINVAL},
                {"O_PATH of a dma-buf", path.get(), EBADF}};
  for (const auto &other : others)
    refused(std::string("OPEN of ") + other.name, session, other.fd, O_RDWR, other.error,
            DMABUF_RW_REASON_NOT_DMABUF);
  const Testexp testexp;
  const TestBuffer blind = testexp.make(gpu_buffer(bytes, 1));
  refused("OPEN of memory without a CPU view", session, blind.fd(), O_RDWR, EOPNOTSUPP,
          DMABUF_RW_REASON_NO_CPU_VIEW);
}

void test_modes(const RwOptions &) {
  const Session session;
  {
    const DmaBuf buffer = must_make(Exporter::Udmabuf, bytes);
    Bytes wanted(bytes);
    fill_random(wanted, 3);
    const UniqueFd fd = must_open_rw(session, buffer.fd());
    put(buffer, wanted);
    attributes(buffer, fd.get());
    unchanged("contents are as they were", buffer, wanted);
  }
  for (const Exporter exporter : those_there({Exporter::Heap, Exporter::Vgem, Exporter::VirtioGpu}))
    one_way(session, exporter, Access::ReadOnly);
  if (is_there(Exporter::Heap))
    one_way(session, Exporter::Heap, Access::WriteOnly);
  else
    report().skip("a dma-buf that nobody may read", "this kernel has no heap");
  for (const Exporter exporter :
       those_there({Exporter::Udmabuf, Exporter::Heap, Exporter::Vgem, Exporter::VirtioGpu}))
    narrowed(session, exporter);

  const Testexp testexp;
  const TestBuffer buffer = cpu_buffer(testexp, bytes);
  Bytes wanted(bytes);
  fill_random(wanted, 4);
  buffer.must_write({reinterpret_cast<const Word *>(wanted.data()), bytes / 8}, 0);
  const UniqueFd reader = must_open_rw(session, buffer.fd(), O_RDONLY);
  read_only_mapping("testexp", reader.get(), bytes, wanted, [&] {
    Bytes found(bytes);
    buffer.must_read({reinterpret_cast<Word *>(found.data()), bytes / 8}, 0);
    return found;
  });
}

void test_offsets(const RwOptions &) {
  const Session session;
  const DmaBuf buffer = must_make(Exporter::Udmabuf, bytes);
  const UniqueFd fd = must_open_rw(session, buffer.fd());
  Bytes wanted(bytes);
  fill_random(wanted, 21);
  put(buffer, wanted);
  char data[64] = {};
  constexpr off_t size = bytes, last = LLONG_MAX;
  for (const off_t at : {size, size + 1, off_t{1} << 40, last - 64, last - 63, last - 1, last}) {
    // The kernel itself refuses a range that ends past the last offset there is.
    const bool wraps = at > last - 64;
    expect_result(std::format("pread at {}", at), outcome(::pread(fd.get(), data, 64, at)),
                  wraps ? -EINVAL : 0);
    expect_result(std::format("pwrite at {}", at), outcome(::pwrite(fd.get(), data, 64, at)),
                  wraps ? -EINVAL : -ENOSPC);
    expect_result(std::format("lseek to {}", at), outcome(::lseek(fd.get(), at, SEEK_SET)), at);
    expect_result(std::format("read at {}", at), outcome(::read(fd.get(), data, 64)),
                  wraps ? -EINVAL : 0);
    expect_result(std::format("write at {}", at), outcome(::write(fd.get(), data, 64)),
                  wraps ? -EINVAL : -ENOSPC);
  }
  for (const off_t at : {off_t{-1}, off_t{-64}, off_t{LLONG_MIN}}) {
    expect_result(std::format("pread at {}", at), outcome(::pread(fd.get(), data, 64, at)),
                  -EINVAL);
    expect_result(std::format("pwrite at {}", at), outcome(::pwrite(fd.get(), data, 64, at)),
                  -EINVAL);
    expect_result(std::format("lseek to {}", at), outcome(::lseek(fd.get(), at, SEEK_SET)),
                  -EINVAL);
  }
  expect_result("lseek before the start", outcome(::lseek(fd.get(), -size - 1, SEEK_END)), -EINVAL);
  expect_result("SEEK_DATA", outcome(::lseek(fd.get(), 5, SEEK_DATA)), 5);
  expect_result("SEEK_HOLE", outcome(::lseek(fd.get(), 5, SEEK_HOLE)), size);
  expect_result("SEEK_DATA at the end", outcome(::lseek(fd.get(), size, SEEK_DATA)), -ENXIO);
  expect_result("an unknown whence", outcome(::lseek(fd.get(), 0, 99)), -EINVAL);

  Ring ring(4);
  for (const std::uint64_t at : {1ull << 63, ~0ull - 64, 1ull << 62}) {
    for (const unsigned opcode : {unsigned{IORING_OP_READ}, unsigned{IORING_OP_WRITE}}) {
      io_uring_sqe *sqe = ring.sqe();
      sqe->opcode = static_cast<__u8>(opcode);
      sqe->fd = fd.get();
      sqe->addr = reinterpret_cast<std::uintptr_t>(data);
      sqe->len = 64;
      sqe->off = at;
      const bool negative = at >> 63;
      expect_result(
          std::format("io_uring {} at 0x{:x}", opcode == IORING_OP_READ ? "READ" : "WRITE", at),
          ring.run_one(),
          negative                   ? -EINVAL
          : opcode == IORING_OP_READ ? 0
                                     : -ENOSPC);
    }
  }
  const std::size_t huge = SIZE_MAX;
  expect_result("read of SIZE_MAX bytes", outcome(::syscall(SYS_pread64, fd.get(), data, huge, 0)),
                -EFAULT);
  const iovec many[] = {{data, SSIZE_MAX}, {data, SSIZE_MAX}};
  const long sum = outcome(::preadv(fd.get(), many, 2, 0));
  report().check(sum == -EINVAL || sum == -EFAULT, "iov lengths that overflow", errno_name(sum));
  const std::vector<iovec> pieces(1025, iovec{data, 1});
  expect_result("1025 pieces", outcome(::preadv(fd.get(), pieces.data(), 1025, 0)), -EINVAL);
  expect_result("1024 pieces", outcome(::preadv(fd.get(), pieces.data(), 1024, 0)), 1024);
  unchanged("contents are as they were", buffer, wanted);
}

} // namespace vmtest
