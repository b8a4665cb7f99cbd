// SPDX-License-Identifier: GPL-2.0-only
/*
 * A drive is read into a dma-buf with several commands in flight, by libdmabuf_rw
 * from C++: what was opened goes away by itself, and the ring is filled again as
 * each command ends. Nothing is written to the drive.
 *
 *	g++ -std=c++20 -o load docs/examples/load.cpp \
 *	    $(pkg-config --cflags --libs libdmabuf_rw) -luring
 *	./load DEVICE MIB OUTPUT
 *
 * OUTPUT gets what is in the dma-buf afterwards, by the CPU. The dma-buf is a memfd
 * wrapped by udmabuf, so that the example runs anywhere; a GPU's is used in the same way.
 * udmabuf makes none above its size_limit_mb, which is 64 at first.
 */
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/udmabuf.h>

#include <liburing.h>

#include <libdmabuf_rw.h>

namespace {

constexpr unsigned depth = 16;
constexpr std::uint32_t piece = 256 << 10;

class Fd {
public:
  Fd(int fd, const std::string &what) : fd_(fd) {
    if (fd < 0)
      throw std::system_error(errno, std::generic_category(), what);
  }
  ~Fd() { ::close(fd_); }
  Fd(const Fd &) = delete;
  Fd &operator=(const Fd &) = delete;
  int get() const { return fd_; }

private:
  int fd_;
};

int make_dmabuf(std::uint64_t bytes) {
  const Fd memory(::memfd_create("example", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create");
  if (::ftruncate(memory.get(), static_cast<off_t>(bytes)) ||
      ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK))
    throw std::system_error(errno, std::generic_category(), "memfd");
  const Fd device(::open("/dev/udmabuf", O_RDWR | O_CLOEXEC), "/dev/udmabuf");
  udmabuf_create create{};
  create.memfd = static_cast<std::uint32_t>(memory.get());
  create.flags = UDMABUF_FLAGS_CLOEXEC;
  create.size = bytes;
  return ::ioctl(device.get(), UDMABUF_CREATE, &create);
}

// One open of the module's device, and what is mapped in it.
class Session {
public:
  Session() {
    drw_session *session = nullptr;
    drw_error error;
    if (drw_open(&session, &error) < 0)
      throw std::runtime_error(error.text);
    session_.reset(session);
  }

  // An NVMe drive by itself; what has no such path by the kernel's block layer. Why not, for each.
  drw_mapping map(int dmabuf, int drive) {
    std::string why;
    for (const auto path : {DMABUF_RW_PATH_PREMAPPED, DMABUF_RW_PATH_BVEC}) {
      const auto number = static_cast<std::uint32_t>(path);
      drw_mapping mapping;
      drw_error error;
      int result;
      do // a signal came while the dma-buf's fences were waited for
        result = drw_map(get(), dmabuf, drive, number, DMABUF_RW_DIR_READ, &mapping, &error);
      while (result == -EINTR);
      if (result == 0)
        return mapping;
      why += std::string(why.empty() ? "" : "; ") + drw_path_name(number) + ": " + error.text;
    }
    throw std::runtime_error(why);
  }

  drw_session *get() const { return session_.get(); }

private:
  struct Close {
    void operator()(drw_session *session) const { drw_close(session); }
  };
  std::unique_ptr<drw_session, Close> session_;
};

class Ring {
public:
  Ring() {
    if (const int error = ::io_uring_queue_init(depth, &ring_, 0))
      throw std::system_error(-error, std::generic_category(), "io_uring_queue_init");
  }
  ~Ring() { ::io_uring_queue_exit(&ring_); }
  Ring(const Ring &) = delete;
  Ring &operator=(const Ring &) = delete;
  io_uring *get() { return &ring_; }

private:
  io_uring ring_{};
};

// All of the buffer, from the drive's beginning, with up to `depth` commands in flight.
void read_all(const Session &session, Ring &ring, const drw_mapping &mapping) {
  const std::uint64_t bytes = mapping.buffer_bytes;
  std::uint64_t asked = 0, arrived = 0;
  unsigned flying = 0;
  std::string failed;
  while (arrived < bytes) {
    for (; flying < depth && asked < bytes; ++flying) {
      const auto length = static_cast<std::uint32_t>(std::min<std::uint64_t>(piece, bytes - asked));
      io_uring_sqe *sqe = ::io_uring_get_sqe(ring.get());
      drw_prep_read(session.get(), sqe, mapping.handle, asked, length, asked);
      ::io_uring_sqe_set_data64(sqe, length);
      asked += length;
    }
    const int error = ::io_uring_submit_and_wait(ring.get(), 1);
    if (error < 0 && error != -EINTR)
      throw std::system_error(-error, std::generic_category(), "io_uring_submit_and_wait");
    for (io_uring_cqe *cqe; ::io_uring_peek_cqe(ring.get(), &cqe) == 0; --flying) {
      const auto length = static_cast<std::uint32_t>(::io_uring_cqe_get_data64(cqe));
      const int result = cqe->res;
      ::io_uring_cqe_seen(ring.get(), cqe);
      if (result != static_cast<int>(length)) {
        char text[512];
        drw_result_text(session.get(), mapping.handle, result, length, text, sizeof(text));
        failed = text;
        asked = bytes; // no more; what flies lands in the buffer, which is not to be given away before
      }
      arrived += length;
    }
    if (!failed.empty() && flying == 0)
      throw std::runtime_error(failed);
  }
}

// The dma-buf's bytes by the CPU, whose turn with the memory begins and ends.
void save(int dmabuf, std::uint64_t bytes, const std::string &output) {
  void *memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, dmabuf, 0);
  if (memory == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "mmap");
  const auto turn = [dmabuf](std::uint64_t what) {
    dma_buf_sync sync{what | DMA_BUF_SYNC_READ};
    while (::ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync))
      if (errno != EINTR && errno != EAGAIN)
        throw std::system_error(errno, std::generic_category(), "DMA_BUF_IOCTL_SYNC");
  };
  turn(DMA_BUF_SYNC_START);
  std::ofstream file(output, std::ios::binary);
  file.write(static_cast<const char *>(memory), static_cast<std::streamsize>(bytes));
  turn(DMA_BUF_SYNC_END);
  ::munmap(memory, bytes);
  if (!file.flush())
    throw std::runtime_error(output + " cannot be written");
}

} // namespace

int main(int argc, char **argv) {
  char *end = nullptr;
  const std::uint64_t mib = argc == 4 ? std::strtoull(argv[2], &end, 10) : 0;
  if (!end || *end || mib == 0 || mib > 1 << 20) {
    std::cerr << "usage: load DEVICE MIB OUTPUT\n";
    return 2;
  }
  try {
    const Fd drive(::open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC), argv[1]);
    const Fd dmabuf(make_dmabuf(mib << 20), "UDMABUF_CREATE");
    Session session;
    const drw_mapping mapping = session.map(dmabuf.get(), drive.get());
    {
      Ring ring;
      read_all(session, ring, mapping);
    }
    save(dmabuf.get(), mapping.buffer_bytes, argv[3]);
    std::cout << drw_path_name(mapping.path) << ", " << drw_memory_name(mapping.memory) << " memory, "
              << mapping.segments << " segments\n";
  } catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
