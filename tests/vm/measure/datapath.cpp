// SPDX-License-Identifier: GPL-2.0-only
#include "datapath.hpp"

#include "lib/file_system.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <immintrin.h>
#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace measure {

namespace {

constexpr const char *block_device = "/dev/nvme0n1";
constexpr const char *char_device = "/dev/ng0n1";

int device(const char *path, int flags) {
  static std::map<std::string, UniqueFd> open;
  auto &fd = open[path];
  if (!fd)
    fd = open_target(path, flags);
  return fd.get();
}

Session &session() {
  static Session one;
  return one;
}

/// Files of ext4, where no case without a file reads.
class Files {
public:
  Files() {
    make_file(path("one"), file_bytes, 1);
    PiecesFile(fs_, "many", file_bytes, file_bytes / 1024, 1);
  }
  std::string path(const std::string &name) const { return fs_.path(name); }

private:
  FileSystem fs_{"ext4", 576u << 20, 384u << 20};
};

Files &files() {
  static Files all;
  return all;
}

unsigned ring_flags(const Case &what) {
  return IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
         (what.number("polled", 0) ? IORING_SETUP_IOPOLL : 0u);
}

/// Registered host memory: what fio's own io_uring engine does with fixedbufs and registerfiles.
class Host : public Datapath {
public:
  explicit Host(const Case &what) : Datapath(what, ring_flags(what)) {
    register_host(memory().host);
    for (unsigned slot = 0; slot < depth_; ++slot)
      fill_fixed(slot, reinterpret_cast<std::uintptr_t>(memory().host) + slot_offset(slot), slot);
  }
};

/// Host memory, and the CPU copies. A kind of copy that costs as few instructions as there are:
/// a "rep movsb" would count one for each byte.
class Bounce : public Datapath {
public:
  explicit Bounce(const Case &what) : Datapath(what, ring_flags(what)) {
    if (writes())
      die("bounce measures reads only");
    bytes_ = slot_bytes_ * depth_;
    void *view = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (view == MAP_FAILED)
      die("no host memory for bounce");
    staging_ = static_cast<std::byte *>(view);
    register_host(staging_);
    for (unsigned slot = 0; slot < depth_; ++slot)
      fill_fixed(slot, reinterpret_cast<std::uintptr_t>(staging_) + slot_offset(slot), slot);
    copies_ = true;
  }
  ~Bounce() override { ::munmap(staging_, bytes_); }

protected:
  void copy(unsigned slot) override {
    const CpuAccess access(*memory().buffer, true);
    move(reinterpret_cast<std::byte *>(memory().buffer->words().data()) + slot_offset(slot),
         staging_ + slot_offset(slot), bs_);
  }

private:
  [[gnu::target("avx2")]] static void move(std::byte *to, const std::byte *from,
                                           std::size_t bytes) {
    auto *out = reinterpret_cast<__m256i *>(to);
    const auto *in = reinterpret_cast<const __m256i *>(from);
    for (std::size_t left = bytes / 128; left; --left, in += 4, out += 4) {
      const __m256i a = _mm256_load_si256(in), b = _mm256_load_si256(in + 1);
      const __m256i c = _mm256_load_si256(in + 2), d = _mm256_load_si256(in + 3);
      _mm256_store_si256(out, a);
      _mm256_store_si256(out + 1, b);
      _mm256_store_si256(out + 2, c);
      _mm256_store_si256(out + 3, d);
    }
  }

  std::byte *staging_ = nullptr;
  std::size_t bytes_ = 0;
};

/// The module's commands: premapped and bvec.
class Command : public Datapath {
public:
  Command(const Case &what, Path path) : Datapath(what, ring_flags(what)) {
    dmabuf_rw_map_entry entry = map_entry(memory().dmabuf(), target_, path);
    entry.max_command_hint = static_cast<__u32>(what.number("hint", 0));
    if (what.has("file"))
      entry.flags = DMABUF_RW_MAP_HOLD_FILE;
    if (const int error = session().map_one(entry))
      die(std::format("MAP for {}: {} {}", name_of(path), errno_name(error),
                      reason_name(entry.reason)));
    handle_ = entry.handle;
    if (what.has("file"))
      check_pieces(what.text("file"));
    const int fd = session().fd();
    if (io_uring_register_files_update(ring(), 0, &fd, 1) != 1)
      die("cannot register the session's file");
    offset_at_ = offsetof(io_uring_sqe, cmd) + offsetof(dmabuf_rw_uring_io, file_offset);
    per_entry_ = static_cast<unsigned>(what.number("ranges", 1));
    if (per_entry_ > 1) {
      fill_ranges();
      return;
    }
    for (unsigned slot = 0; slot < depth_; ++slot) {
      io_uring_sqe *sqe = this->entry(slot);
      sqe->opcode = IORING_OP_URING_CMD;
      sqe->flags = IOSQE_FIXED_FILE;
      sqe->fd = 0;
      sqe->cmd_op = writes() ? DMABUF_RW_URING_WRITE : DMABUF_RW_URING_READ;
      sqe->addr = slot_offset(slot);
      sqe->len = static_cast<__u32>(bs_);
      const dmabuf_rw_uring_io io{.file_offset = 0, .handle = handle_, .flags = 0};
      std::memcpy(sqe->cmd, &io, sizeof(io));
    }
  }
  ~Command() override { session().unmap_one(handle_); }

  Counts counts() override {
    dmabuf_rw_info info{};
    if (const int error = session().info(handle_, info))
      die("INFO: " + errno_name(error));
    return {.ios = info.reads + info.writes, .commands = info.commands};
  }

private:
  /// One entry for so many slots, whose places are in an array.
  void fill_ranges() {
    if (depth_ % per_entry_)
      die("depth is no multiple of ranges");
    ranges_.resize(depth_);
    for (unsigned slot = 0; slot < depth_; ++slot) {
      ranges_[slot].buffer_offset = slot_offset(slot);
      ranges_[slot].length = static_cast<__u32>(bs_);
    }
    expected_ = static_cast<int>(per_entry_);
    for (unsigned slot = 0; slot < depth_ / per_entry_; ++slot) {
      io_uring_sqe *sqe = this->entry(slot);
      sqe->opcode = IORING_OP_URING_CMD;
      sqe->flags = IOSQE_FIXED_FILE;
      sqe->fd = 0;
      sqe->cmd_op = writes() ? DMABUF_RW_URING_WRITEV : DMABUF_RW_URING_READV;
      sqe->addr = reinterpret_cast<std::uintptr_t>(&ranges_[slot * per_entry_]);
      sqe->len = per_entry_;
      const dmabuf_rw_uring_io io{.file_offset = 0, .handle = handle_, .flags = 0};
      std::memcpy(sqe->cmd, &io, sizeof(io));
    }
  }

  void check_pieces(const std::string &file) const {
    dmabuf_rw_info info{};
    if (const int error = session().info(handle_, info))
      die("INFO: " + errno_name(error));
    if (file == "one" ? info.extents != 1 : info.extents < 1000)
      die(std::format("the file {} is in {} pieces", file, info.extents + 0));
  }

  std::uint32_t handle_ = 0;
};

/// The dma-buf in the ring's own table of registered buffers.
class Registered : public Datapath {
public:
  explicit Registered(const Case &what) : Datapath(what, ring_flags(what)) {
    dmabuf_rw_map_entry entry = map_entry(memory().dmabuf(), target_, Path::Registered);
    if (const int error = session().map_one(entry))
      die(std::format("MAP for registered: {} {}", errno_name(error), reason_name(entry.reason)));
    handle_ = entry.handle;
    // As the engine does it: a window for each I/O slot. Or all of it in one slot of the table.
    const bool whole = what.number("whole", 0);
    if (const int error = io_uring_register_buffers_sparse(ring(), whole ? 1 : depth_))
      die("no table of registered buffers: " + errno_name(error));
    if (whole)
      enroll({.handle = handle_, .index = 0, .flags = 0, .reserved = 0}, 0, 0);
    for (unsigned slot = 0; slot < depth_; ++slot) {
      if (!whole)
        enroll({.handle = handle_, .index = slot, .flags = DMABUF_RW_REG_WINDOW, .reserved = 0},
               slot_offset(slot), static_cast<std::uint32_t>(bs_));
      fill_fixed(slot, whole ? slot_offset(slot) : 0, whole ? 0 : slot);
    }
  }
  ~Registered() override { session().unmap_one(handle_); }

private:
  void enroll(const dmabuf_rw_uring_reg &reg, std::uint64_t offset, std::uint32_t length) {
    io_uring_sqe *sqe = io_uring_get_sqe(ring());
    if (!sqe)
      die("no room in the submission queue");
    *sqe = {};
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = session().fd();
    sqe->cmd_op = DMABUF_RW_URING_REGISTER;
    sqe->addr = offset;
    sqe->len = length;
    std::memcpy(sqe->cmd, &reg, sizeof(reg));
    io_uring_cqe *cqe = nullptr;
    io_uring_submit(ring());
    if (io_uring_wait_cqe(ring(), &cqe) || cqe->res)
      die("REGISTER failed");
    io_uring_cqe_seen(ring(), cqe);
  }

  std::uint32_t handle_ = 0;
};

/// NVMe passthrough with registered host memory: what fio's engine io_uring_cmd does.
class Passthrough : public Datapath {
public:
  explicit Passthrough(const Case &what)
      : Datapath(what, ring_flags(what) | IORING_SETUP_SQE128 | IORING_SETUP_CQE32) {
    const int fd = device(char_device, O_RDWR | O_CLOEXEC);
    const int nsid = ::ioctl(fd, NVME_IOCTL_ID);
    if (nsid <= 0)
      die(std::format("{}: {}", char_device, std::strerror(errno)));
    if (io_uring_register_files_update(ring(), 0, &fd, 1) != 1)
      die("cannot register the namespace's file");
    register_host(memory().host);
    expected_ = 0;
    offset_at_ = offsetof(io_uring_sqe, cmd) + offsetof(nvme_uring_cmd, cdw10);
    offset_shift_ = 9;
    for (unsigned slot = 0; slot < depth_; ++slot) {
      io_uring_sqe *sqe = entry(slot);
      sqe->opcode = IORING_OP_URING_CMD;
      sqe->flags = IOSQE_FIXED_FILE;
      sqe->fd = 0;
      sqe->cmd_op = NVME_URING_CMD_IO;
      sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
      sqe->buf_index = static_cast<__u16>(slot);
      nvme_uring_cmd command{};
      command.opcode = writes() ? 1 : 2;
      command.nsid = static_cast<__u32>(nsid);
      command.addr = reinterpret_cast<std::uintptr_t>(memory().host) + slot_offset(slot);
      command.data_len = static_cast<__u32>(bs_);
      command.cdw12 = static_cast<__u32>(bs_ / 512 - 1);
      std::memcpy(sqe->cmd, &command, sizeof(command));
    }
  }
};

} // namespace

Datapath::Datapath(const Case &what, unsigned flags)
    : bs_(what.number("bs")), slot_bytes_((bs_ + 4095) & ~4095ull),
      depth_(static_cast<unsigned>(what.number("depth"))), expected_(static_cast<int>(bs_)),
      memory_(memory_of(what.text("memory"), slot_bytes_ * depth_)),
      writes_(what.number("writes", 0)),
      entry_bytes_(sizeof(io_uring_sqe) * (flags & IORING_SETUP_SQE128 ? 2 : 1)),
      entries_(entry_bytes_ * depth_) {
  if (what.has("file"))
    file_ = open_target(files().path(what.text("file")), O_RDONLY | O_DIRECT | O_CLOEXEC);
  target_ = file_ ? file_.get() : device(block_device, O_RDWR | O_DIRECT | O_CLOEXEC);
  io_uring_params params{};
  params.flags = flags;
  if (const int status = io_uring_queue_init_params(depth_, &ring_, &params))
    die("io_uring: " + errno_name(status));
  io_uring_register_ring_fd(&ring_);
  if (io_uring_register_files_sparse(&ring_, 2) ||
      io_uring_register_files_update(&ring_, 1, &target_, 1) != 1)
    die("cannot register the target's file");
}

Datapath::~Datapath() {
  // A ring is taken apart some time after it was closed; the module could not be unloaded before.
  io_uring_unregister_files(&ring_);
  io_uring_unregister_buffers(&ring_);
  io_uring_queue_exit(&ring_);
}

io_uring_sqe *Datapath::entry(unsigned slot) {
  auto *sqe = reinterpret_cast<io_uring_sqe *>(entries_.data() + slot * entry_bytes_);
  sqe->user_data = slot;
  return sqe;
}

void Datapath::fill_fixed(unsigned slot, std::uint64_t address, unsigned buffer_slot) {
  io_uring_sqe *sqe = entry(slot);
  sqe->opcode = writes_ ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->fd = 1;
  sqe->addr = address;
  sqe->len = static_cast<__u32>(bs_);
  sqe->buf_index = static_cast<__u16>(buffer_slot);
}

void Datapath::register_host(std::byte *base) {
  std::vector<iovec> ranges(depth_);
  if (!base)
    die("this datapath needs memory that the CPU can map");
  for (unsigned slot = 0; slot < depth_; ++slot)
    ranges[slot] = {.iov_base = base + slot_offset(slot), .iov_len = bs_};
  if (const int error = io_uring_register_buffers(&ring_, ranges.data(), depth_))
    die("cannot register host memory: " + errno_name(error));
}

std::unique_ptr<Datapath> make_datapath(const Case &what) {
  const std::string path = what.text("path");
  if (path == "host")
    return std::make_unique<Host>(what);
  if (path == "bounce")
    return std::make_unique<Bounce>(what);
  if (path == "passthrough")
    return std::make_unique<Passthrough>(what);
  if (path == "registered")
    return std::make_unique<Registered>(what);
  const auto module_path = path_by_name(path);
  if (!module_path || *module_path == Path::Auto)
    die("no datapath " + path);
  return std::make_unique<Command>(what, *module_path);
}

} // namespace measure
