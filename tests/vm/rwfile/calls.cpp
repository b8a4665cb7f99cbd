// SPDX-License-Identifier: GPL-2.0-only
// Every call that reads or writes a file, with odd offsets and lengths. After each read the whole
// destination is compared, its surroundings included; after each write the whole dma-buf, as its
// own mapping shows it.
#include "rwfile.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <linux/dma-buf.h>
#include <memory>
#include <random>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::size_t guard = 64; // bytes around a destination that must stay as they are

// What a call works on: the rw fd, and things some calls need beside it.
struct Place {
  int fd;
  std::size_t size;
  Ring &ring;
  int other_rw; // an rw fd of another dma-buf of the same size
  int memfd;
  // DRM's own mmap() of such memory (drm_gem_shmem_fault()) takes every mapping for one from byte
  // 0.
  bool maps_anywhere;
};

using Moved = long; // bytes, or a negative errno
using ReadCall = Moved (*)(Place &, off_t, std::span<std::byte>);
using WriteCall = Moved (*)(Place &, off_t, std::span<const std::byte>);

void seek(int fd, off_t position) {
  if (::lseek(fd, position, SEEK_SET) != position)
    report().fail("lseek", std::format("to {}: {}", position, errno_name(errno)));
}

// The file position must have moved by what was moved.
Moved with_position(Place &place, off_t position, long result) {
  const Moved moved = outcome(result);
  const off_t now = ::lseek(place.fd, 0, SEEK_CUR);
  if (now != position + std::max<Moved>(moved, 0))
    report().fail("file position",
                  std::format("{} instead of {}", now, position + std::max<Moved>(moved, 0)));
  return moved;
}

// Three pieces, the second one odd.
std::array<iovec, 3> pieces(void *data, std::size_t bytes) {
  auto *at = static_cast<char *>(data);
  const std::size_t first = bytes / 3, second = std::min<std::size_t>(bytes - first, 13);
  return {iovec{at, first}, iovec{at + first, second},
          iovec{at + first + second, bytes - first - second}};
}

std::array<iovec, 3> pieces(const void *data, std::size_t bytes) {
  return pieces(const_cast<void *>(data), bytes);
}

Moved run_ring(Place &place, unsigned opcode, off_t position, const void *address, std::size_t len,
               bool registered = false) {
  if (registered) {
    // Nothing cannot be registered.
    static std::byte something;
    if (!len)
      address = &something;
    const iovec whole{const_cast<void *>(address), std::max<std::size_t>(len, 1)};
    if (io_uring_register_buffers(place.ring.raw(), &whole, 1) != 0)
      die("io_uring_register_buffers");
  }
  io_uring_sqe *sqe = place.ring.sqe();
  sqe->opcode = static_cast<__u8>(opcode);
  sqe->fd = place.fd;
  sqe->addr = reinterpret_cast<std::uintptr_t>(address);
  sqe->len = static_cast<__u32>(len);
  sqe->off = static_cast<__u64>(position);
  const int result = place.ring.run_one();
  if (registered)
    io_uring_unregister_buffers(place.ring.raw());
  return result;
}

struct Pipe {
  Pipe() {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0)
      die("pipe2");
    out = UniqueFd(fds[0]), in = UniqueFd(fds[1]);
  }
  UniqueFd out, in;
};

Moved splice_out(Place &place, off_t position, std::span<std::byte> to) {
  Pipe pipe;
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t spliced =
        ::splice(place.fd, &position, pipe.in.get(), nullptr, to.size() - done, 0);
    if (spliced <= 0)
      return done ? static_cast<Moved>(done) : outcome(spliced);
    for (ssize_t left = spliced; left > 0;) {
      const ssize_t got = ::read(pipe.out.get(), to.data() + done, static_cast<std::size_t>(left));
      if (got <= 0)
        die("read of a pipe");
      left -= got;
      done += static_cast<std::size_t>(got);
    }
  }
  return static_cast<Moved>(done);
}

Moved splice_in(Place &place, off_t position, std::span<const std::byte> from) {
  Pipe pipe;
  std::size_t done = 0;
  while (done < from.size()) {
    const std::size_t some = std::min<std::size_t>(from.size() - done, 60000);
    if (::write(pipe.in.get(), from.data() + done, some) != static_cast<ssize_t>(some))
      die("write to a pipe");
    for (std::size_t left = some; left > 0;) {
      const ssize_t spliced = ::splice(pipe.out.get(), nullptr, place.fd, &position, left, 0);
      if (spliced <= 0)
        return done ? static_cast<Moved>(done) : outcome(spliced);
      left -= static_cast<std::size_t>(spliced);
      done += static_cast<std::size_t>(spliced);
    }
  }
  return static_cast<Moved>(done);
}

// Until it is done, at an end, or failing, as callers of these calls do.
template <typename Call> Moved repeat(std::size_t bytes, Call &&call) {
  std::size_t done = 0;
  while (done < bytes) {
    const long moved = call(bytes - done);
    if (moved <= 0)
      return done ? static_cast<Moved>(done) : outcome(moved);
    done += static_cast<std::size_t>(moved);
  }
  return static_cast<Moved>(done);
}

Moved sendfile_out(Place &place, off_t position, std::span<std::byte> to) {
  if (::ftruncate(place.memfd, 0) != 0 || ::lseek(place.memfd, 0, SEEK_SET) != 0)
    die("memfd");
  const Moved moved = repeat(to.size(), [&](std::size_t left) {
    return ::sendfile(place.memfd, place.fd, &position, left);
  });
  if (moved > 0 && ::pread(place.memfd, to.data(), to.size(), 0) != moved)
    die("pread of a memfd");
  return moved;
}

Moved sendfile_in(Place &place, off_t position, std::span<const std::byte> from) {
  if (::ftruncate(place.memfd, 0) != 0 ||
      ::pwrite(place.memfd, from.data(), from.size(), 0) != static_cast<ssize_t>(from.size()))
    die("memfd");
  seek(place.fd, position);
  off_t source = 0;
  return with_position(place, position, repeat(from.size(), [&](std::size_t left) {
                         return ::sendfile(place.fd, place.memfd, &source, left);
                       }));
}

Moved copy_out(Place &place, off_t position, std::span<std::byte> to) {
  off_t target = 0;
  const Moved moved = repeat(to.size(), [&](std::size_t left) {
    return ::copy_file_range(place.fd, &position, place.other_rw, &target, left, 0);
  });
  if (moved > 0 && ::pread(place.other_rw, to.data(), static_cast<std::size_t>(moved), 0) != moved)
    report().fail("copy_file_range", "the copy cannot be read");
  return moved;
}

Moved copy_in(Place &place, off_t position, std::span<const std::byte> from) {
  if (::pwrite(place.other_rw, from.data(), from.size(), 0) != static_cast<ssize_t>(from.size()))
    return -EIO;
  off_t source = 0;
  return repeat(from.size(), [&](std::size_t left) {
    return ::copy_file_range(place.other_rw, &source, place.fd, &position, left, 0);
  });
}

// A mapping of the rw fd, synchronised through the rw fd, for the range that exists.
Moved by_mapping(Place &place, off_t position, std::span<std::byte> to, bool write) {
  if (static_cast<std::size_t>(position) >= place.size)
    return write ? -ENOSPC : 0;
  const std::size_t bytes = std::min(to.size(), place.size - static_cast<std::size_t>(position));
  // From the page on in which the range begins, to the end: at offset 0 and at others.
  const off_t page = ::sysconf(_SC_PAGESIZE);
  const off_t first = place.maps_anywhere ? position / page * page : 0;
  const std::size_t mapped = place.size - static_cast<std::size_t>(first);
  void *map =
      ::mmap(nullptr, mapped, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, place.fd, first);
  if (map == MAP_FAILED)
    return -errno;
  dma_buf_sync sync{};
  sync.flags = static_cast<__u64>(DMA_BUF_SYNC_START) | static_cast<__u64>(DMA_BUF_SYNC_RW);
  long status = ::ioctl(place.fd, DMA_BUF_IOCTL_SYNC, &sync);
  auto *at = static_cast<std::byte *>(map) + (position - first);
  if (status == 0 && write)
    std::memcpy(at, to.data(), bytes);
  else if (status == 0)
    std::memcpy(to.data(), at, bytes);
  sync.flags = static_cast<__u64>(DMA_BUF_SYNC_END) | static_cast<__u64>(DMA_BUF_SYNC_RW);
  if (status == 0)
    status = ::ioctl(place.fd, DMA_BUF_IOCTL_SYNC, &sync);
  const Moved moved = status ? -errno : static_cast<Moved>(bytes);
  ::munmap(map, mapped);
  return moved;
}

struct NamedRead {
  const char *name;
  ReadCall call;
};

constexpr NamedRead reads[] = {
    {"pread",
     [](Place &p, off_t at, std::span<std::byte> to) {
       return outcome(::pread(p.fd, to.data(), to.size(), at));
     }},
    {"read",
     [](Place &p, off_t at, std::span<std::byte> to) {
       seek(p.fd, at);
       return with_position(p, at, ::read(p.fd, to.data(), to.size()));
     }},
    {"readv",
     [](Place &p, off_t at, std::span<std::byte> to) {
       seek(p.fd, at);
       const auto iov = pieces(to.data(), to.size());
       return with_position(p, at, ::readv(p.fd, iov.data(), 3));
     }},
    {"preadv",
     [](Place &p, off_t at, std::span<std::byte> to) {
       const auto iov = pieces(to.data(), to.size());
       return outcome(::preadv(p.fd, iov.data(), 3, at));
     }},
    {"preadv2 with RWF_NOWAIT",
     [](Place &p, off_t at, std::span<std::byte> to) {
       const auto iov = pieces(to.data(), to.size());
       return outcome(::preadv2(p.fd, iov.data(), 3, at, RWF_NOWAIT));
     }},
    {"preadv2 at the file position",
     [](Place &p, off_t at, std::span<std::byte> to) {
       seek(p.fd, at);
       const auto iov = pieces(to.data(), to.size());
       return with_position(p, at, ::preadv2(p.fd, iov.data(), 3, -1, 0));
     }},
    {"io_uring READ",
     [](Place &p, off_t at, std::span<std::byte> to) {
       return run_ring(p, IORING_OP_READ, at, to.data(), to.size());
     }},
    {"io_uring READV",
     [](Place &p, off_t at, std::span<std::byte> to) {
       const auto iov = pieces(to.data(), to.size());
       return run_ring(p, IORING_OP_READV, at, iov.data(), 3);
     }},
    {"io_uring READ_FIXED",
     [](Place &p, off_t at, std::span<std::byte> to) {
       return run_ring(p, IORING_OP_READ_FIXED, at, to.data(), to.size(), true);
     }},
    {"splice to a pipe", splice_out},
    {"sendfile to a memfd", sendfile_out},
    {"copy_file_range to another", copy_out},
    {"mmap",
     [](Place &p, off_t at, std::span<std::byte> to) { return by_mapping(p, at, to, false); }},
};

struct NamedWrite {
  const char *name;
  WriteCall call;
};

constexpr NamedWrite writes[] = {
    {"pwrite",
     [](Place &p, off_t at, std::span<const std::byte> from) {
       return outcome(::pwrite(p.fd, from.data(), from.size(), at));
     }},
    {"write",
     [](Place &p, off_t at, std::span<const std::byte> from) {
       seek(p.fd, at);
       return with_position(p, at, ::write(p.fd, from.data(), from.size()));
     }},
    {"writev",
     [](Place &p, off_t at, std::span<const std::byte> from) {
       seek(p.fd, at);
       const auto iov = pieces(from.data(), from.size());
       return with_position(p, at, ::writev(p.fd, iov.data(), 3));
     }},
    {"pwritev",
     [](Place &p, off_t at, std::span<const std::byte> from) {
       const auto iov = pieces(from.data(), from.size());
       return outcome(::pwritev(p.fd, iov.data(), 3, at));
     }},
    {"pwritev2 with RWF_NOWAIT",
     [](Place &p, off_t at, std::span<const std::byte> from) {
       const auto iov = pieces(from.data(), from.size());
       return outcome(::pwritev2(p.fd, iov.data(), 3, at, RWF_NOWAIT));
     }},
    {"pwritev2 at the file position",
     [](Place &p, off_t at, std::span<const std::byte> from) {
       seek(p.fd, at);
       const auto iov = pieces(from.data(), from.size());
       return with_position(p, at, ::pwritev2(p.fd, iov.data(), 3, -1, 0));
     }},
    {"io_uring WRITE",
     [](Place &p, off_t at, std::span<const std::byte> from) {
       return run_ring(p, IORING_OP_WRITE, at, from.data(), from.size());
     }},
    {"io_uring WRITEV",
     [](Place &p, off_t at, std::span<const std::byte> from) {
       const auto iov = pieces(from.data(), from.size());
       return run_ring(p, IORING_OP_WRITEV, at, iov.data(), 3);
     }},
    {"io_uring WRITE_FIXED",
     [](Place &p, off_t at, std::span<const std::byte> from) {
       return run_ring(p, IORING_OP_WRITE_FIXED, at, from.data(), from.size(), true);
     }},
    {"splice from a pipe", splice_in},
    {"sendfile from a memfd", sendfile_in},
    {"copy_file_range from another", copy_in},
    {"mmap",
     [](Place &p, off_t at, std::span<const std::byte> from) {
       return by_mapping(p, at, {const_cast<std::byte *>(from.data()), from.size()}, true);
     }},
};

// The dma-buf beside the rw fd, and what it must hold.
class Model {
public:
  // `look` and `put` are the witness: the whole of the dma-buf without the rw fd.
  Model(std::size_t bytes, std::function<void(Bytes &)> look,
        std::function<void(const Bytes &)> put)
      : wanted_(bytes), found_(bytes), look_(std::move(look)), put_(std::move(put)) {}
  void fill(std::uint64_t seed) {
    fill_random(wanted_, seed);
    put_(wanted_);
  }
  Bytes &wanted() { return wanted_; }
  std::string check() {
    look_(found_);
    compared_ += found_.size();
    return differ(found_, wanted_);
  }
  std::uint64_t compared() const { return compared_; }

private:
  Bytes wanted_, found_;
  std::function<void(Bytes &)> look_;
  std::function<void(const Bytes &)> put_;
  std::uint64_t compared_ = 0;
};

void one_read(Place &place, Model &model, const NamedRead &read, const std::string &who,
              std::size_t at, std::size_t bytes) {
  const std::string name = std::format("{}: {} of {} at {}", who, read.name, bytes, at);
  Bytes room(bytes + 2 * guard), wanted;
  fill_random(room, at * 31 + bytes);
  wanted = room;
  const std::size_t there = at < place.size ? std::min(bytes, place.size - at) : 0;
  std::copy_n(model.wanted().begin() + static_cast<long>(std::min(at, place.size)), there,
              wanted.begin() + guard);
  const Moved moved =
      read.call(place, static_cast<off_t>(at), std::span(room).subspan(guard, bytes));
  expect_result(name, moved, static_cast<long>(there));
  const std::string wrong = differ(room, wanted);
  report().check(wrong.empty(), name + ": data", wrong);
}

void one_write(Place &place, Model &model, const NamedWrite &write, const std::string &who,
               std::size_t at, std::size_t bytes, std::uint64_t seed) {
  const std::string name = std::format("{}: {} of {} at {}", who, write.name, bytes, at);
  Bytes data(bytes);
  fill_random(data, seed);
  const std::size_t there = at < place.size ? std::min(bytes, place.size - at) : 0;
  std::copy_n(data.begin(), there,
              model.wanted().begin() + static_cast<long>(std::min(at, place.size)));
  const Moved moved = write.call(place, static_cast<off_t>(at), data);
  expect_result(name, moved, there || !bytes ? static_cast<long>(there) : -ENOSPC);
  const std::string wrong = model.check();
  report().check(wrong.empty(), name + ": data", wrong);
}

struct Range {
  std::size_t at, bytes;
};

// Around pages, chunks and the end; then at random.
std::vector<Range> ranges(std::size_t size, bool thorough, std::mt19937_64 &random) {
  std::vector<Range> all;
  if (thorough) {
    const std::size_t offsets[] = {0,     1,     7,     8,           4095,     4097,
                                   65535, 65536, 65537, size - 4097, size - 1, size};
    const std::size_t lengths[] = {0, 1, 7, 8, 65, 4095, 4096, 4097, 65537, 131075};
    for (const std::size_t at : offsets)
      for (const std::size_t bytes : lengths)
        all.push_back({at, bytes});
  }
  all.insert(all.end(),
             {{0, size}, {3, size}, {size - 5, 10}, {size, 1}, {size + 4096, 9}, {1, 0}});
  for (int i = 0; i < 6; ++i)
    all.push_back({random() % size, 1 + random() % (150u << 10)});
  return all;
}

void all_calls(Place &place, Model &model, const std::string &who, std::mt19937_64 &random,
               bool mappable) {
  model.fill(random());
  for (const NamedRead &read : reads) {
    if (!mappable && !std::strcmp(read.name, "mmap"))
      continue;
    for (const auto &[at, bytes] : ranges(place.size, &read == reads, random)) {
      // sendfile and copy_file_range have nothing to do then, on any file.
      if (bytes <= place.size || at + bytes <= place.size)
        one_read(place, model, read, who, at, bytes);
    }
  }
  std::string wrong = model.check();
  report().check(wrong.empty(), who + ": reads change nothing", wrong);
  for (const NamedWrite &write : writes) {
    if (!mappable && !std::strcmp(write.name, "mmap"))
      continue;
    for (const auto &[at, bytes] : ranges(place.size, &write == writes, random))
      if (bytes <= place.size)
        one_write(place, model, write, who, at, bytes, random());
  }
}

void check_stat(int fd, std::size_t size, const std::string &who) {
  struct stat status{};
  report().check(::fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
                     status.st_size == static_cast<off_t>(size),
                 who + ": fstat", std::format("size {}", status.st_size));
  report().check((status.st_mode & 0777) == 0600, who + ": mode",
                 std::format("{:o}", status.st_mode));
  expect_result(who + ": lseek to the end", ::lseek(fd, 0, SEEK_END), static_cast<long>(size));
  expect_result(who + ": lseek past it", ::lseek(fd, 5, SEEK_END), static_cast<long>(size) + 5);
  expect_result(who + ": lseek back", ::lseek(fd, -9, SEEK_CUR), static_cast<long>(size) - 4);
  expect_result(who + ": fsync", ::fsync(fd), 0);
}

void on_exporter(const RwOptions &options, Exporter exporter) {
  const std::string who(name_of(exporter));
  const std::size_t size = std::max<std::size_t>(256u << 10, size_granule(exporter));
  DmaBuf buffer = must_make(exporter, size), other = must_make(this_or_other(Exporter::Heap), size);
  Session session;
  Opened opened = open_rw(session, buffer.fd());
  if (exporter == Exporter::UdmabufHuge && older_kernel()) {
    expect_result(who + ": OPEN of a view that is wrong", opened.error, -EOPNOTSUPP);
    report().check(opened.answer.reason == DMABUF_RW_REASON_NO_CPU_VIEW, who + ": its reason",
                   reason_name(opened.answer.reason));
    return;
  }
  if (!expect_result(who + ": OPEN", opened.error, 0))
    return;
  report().check(opened.answer.view == DMABUF_RW_VIEW_MEMORY &&
                     opened.answer.buffer_bytes == size &&
                     opened.answer.reason == DMABUF_RW_REASON_NONE,
                 who + ": what OPEN tells");
  const UniqueFd other_rw = must_open_rw(session, other.fd());
  const UniqueFd memfd(::memfd_create("vmtest", MFD_CLOEXEC));
  Ring ring(8);
  Place place{
      opened.fd.get(), size,        ring,
      other_rw.get(),  memfd.get(), exporter != Exporter::Vgem && exporter != Exporter::VirtioGpu};
  Model model(
      size,
      [&](Bytes &bytes) {
        const CpuAccess access(buffer, true);
        std::memcpy(bytes.data(), buffer.words().data(), bytes.size());
      },
      [&](const Bytes &bytes) {
        const CpuAccess access(buffer, true);
        std::memcpy(buffer.words().data(), bytes.data(), bytes.size());
      });
  std::mt19937_64 random(options.seed);
  check_stat(place.fd, size, who);
  all_calls(place, model, who, random, true);
  off_t from = 0, to = 0;
  expect_result(who + ": copy_file_range to another filesystem",
                outcome(::copy_file_range(place.fd, &from, place.memfd, &to, 4096, 0)), -EXDEV);
  report().note(std::format("{}: {} MiB of the dma-buf compared", who, model.compared() >> 20));
}

// Of the test exporter, whose own READ and WRITE are the witness.
void on_testexp(const RwOptions &options, std::uint32_t flags, std::uint32_t view,
                const std::string &who) {
  const std::size_t size = 256u << 10;
  const Testexp testexp;
  const TestBuffer buffer = cpu_buffer(testexp, size, flags), other = cpu_buffer(testexp, size);
  Session session;
  Opened opened = open_rw(session, buffer.fd());
  if (!expect_result(who + ": OPEN", opened.error, 0))
    return;
  report().check(opened.answer.view == view, who + ": view", std::format("{}", opened.answer.view));
  const UniqueFd other_rw = must_open_rw(session, other.fd());
  const UniqueFd memfd(::memfd_create("vmtest", MFD_CLOEXEC));
  Ring ring(8);
  Place place{opened.fd.get(), size, ring, other_rw.get(), memfd.get(), true};
  Model model(
      size,
      [&](Bytes &bytes) {
        buffer.must_read({reinterpret_cast<Word *>(bytes.data()), bytes.size() / 8}, 0);
      },
      [&](const Bytes &bytes) {
        buffer.must_write({reinterpret_cast<const Word *>(bytes.data()), bytes.size() / 8}, 0);
      });
  std::mt19937_64 random(options.seed + 1);
  all_calls(place, model, who, random, true);
}

} // namespace

void test_calls(const RwOptions &options) {
  for (const Exporter exporter : all_exporters)
    if (is_there(exporter))
      on_exporter(options, exporter);
  on_testexp(options, DMABUF_TESTEXP_DYNAMIC, DMABUF_RW_VIEW_MEMORY, "testexp");
}

void test_io_memory(const RwOptions &options) {
  on_testexp(options, DMABUF_TESTEXP_IO_VIEW, DMABUF_RW_VIEW_IO, "testexp, I/O memory");
}

} // namespace vmtest
