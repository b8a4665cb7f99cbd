// SPDX-License-Identifier: GPL-2.0-only
#include "bench.hpp"

#include "base/sizes.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <linux/fs.h>
#include <sys/ioctl.h>

namespace integrity {

using dmabuf::errno_text;
using dmabuf::fail;
using dmabuf::Result;
using dmabuf::strf;

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text)
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (static_cast<unsigned char>(c) < 32)
      out += ' ';
    else
      out += c;
  return out + '"';
}

double now_s() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

void Outcome::find(std::string name, std::string text, uint64_t count) {
  for (Finding &known : findings)
    if (known.name == name) {
      known.count += count;
      return;
    }
  findings.push_back({std::move(name), std::move(text), count});
}

void Outcome::fact(std::string name, uint64_t value) {
  facts.emplace_back(std::move(name), std::to_string(value));
}

void Outcome::fact(std::string name, std::string_view value) {
  facts.emplace_back(std::move(name), quoted(value));
}

void Outcome::fact_device(const dmabuf::DmaBuf &buffer) {
  fact("exporter_device", buffer.device);
  if (!buffer.exported.empty())
    fact("exported", buffer.exported);
  if (!buffer.maker.empty())
    fact("exporter_says", buffer.maker);
  if (const std::string pci = pci_address(buffer.device); !pci.empty())
    fact("pci", pci);
}

Result<dmabuf::UniqueFd> drive_of(const Options &options) {
  DriveCalls calls;
  return open_drive(calls, {.path = options.device_fd < 0 ? options.device : std::string(),
                            .descriptor = options.device_fd,
                            .writes = options.writes});
}

Result<std::unique_ptr<Region>> Region::open(const Options &options) {
  auto fd = drive_of(options);
  if (!fd)
    return std::unexpected(std::move(fd.error()));
  std::unique_ptr<Region> region(new Region(std::move(*fd), options.offset, options.bytes));
  int block = 0;
  if (ioctl(region->fd(), BLKGETSIZE64, &region->drive_bytes_) < 0 ||
      ioctl(region->fd(), BLKSSZGET, &block) < 0)
    return fail(errno, errno_text(options.device + " is no block device", errno));
  region->block_ = static_cast<uint32_t>(block);
  if (options.offset + options.bytes > region->drive_bytes_)
    return fail(EINVAL, strf("the region ends behind the drive's %llu bytes; choose a smaller one",
                             static_cast<unsigned long long>(region->drive_bytes_)));
  return region;
}

Result<void> Region::write(std::span<const Word> words, uint64_t offset) {
  const ssize_t done = pwrite(fd(), words.data(), words.size_bytes(), static_cast<off_t>(offset));
  if (done != static_cast<ssize_t>(words.size_bytes()))
    return fail(done < 0 ? errno : EIO,
                errno_text("a plain write to the drive failed; see dmesg", done < 0 ? errno : EIO));
  return {};
}

Result<void> Region::read(std::span<Word> words, uint64_t offset) {
  const ssize_t done = pread(fd(), words.data(), words.size_bytes(), static_cast<off_t>(offset));
  if (done != static_cast<ssize_t>(words.size_bytes()))
    return fail(done < 0 ? errno : EIO,
                errno_text("a plain read of the drive failed; see dmesg", done < 0 ? errno : EIO));
  return {};
}

Result<void> Region::lay_down(uint32_t generation) {
  fill(model.words(), generation, begin_);
  constexpr size_t kChunk = 1u << 20;
  for (uint64_t at = 0; at < size(); at += kChunk)
    if (auto ok = write(model.at(at, std::min<uint64_t>(kChunk, size() - at)), begin_ + at); !ok)
      return ok;
  return {};
}

Result<std::unique_ptr<Mover>> Mover::open(const Options &options, int target) {
  auto buffer = dmabuf::allocate_dmabuf(request_of(options));
  if (!buffer)
    return std::unexpected(std::move(buffer.error()));
  return open(options, std::move(*buffer), target);
}

Result<std::unique_ptr<Mover>> Mover::open(const Options &options, dmabuf::DmaBuf buffer,
                                           int target) {
  auto session = dmabuf::Session::open();
  if (!session)
    return std::unexpected(std::move(session.error()));
  if (options.timeout_ms)
    if (auto ok = session->configure(options.timeout_ms); !ok)
      return std::unexpected(std::move(ok.error()));
  std::unique_ptr<Mover> mover(
      new Mover(std::move(buffer), std::move(*session), target, options.path));
  if (auto ok = mover->ring_.open({.depth = options.depth}); !ok)
    return std::unexpected(std::move(ok.error()));
  const bool registered = options.path == DMABUF_RW_PATH_REGISTERED;
  if (registered)
    if (auto ok = mover->ring_.reserve_buffers(1); !ok)
      return std::unexpected(std::move(ok.error()));
  dmabuf::MapRequest request;
  request.dmabuf_fd = mover->buffer().fd.get();
  request.target_fd = registered ? -1 : target;
  request.path = options.path;
  request.directions = DMABUF_RW_DIR_READ | DMABUF_RW_DIR_WRITE;
  request.max_command_hint = registered ? 0 : static_cast<uint32_t>(options.max_command);
  request.no_room = mover->buffer().no_room.c_str();
  auto entry = mover->session_.map(request, options.device);
  if (!entry)
    return std::unexpected(std::move(entry.error()));
  mover->entry_ = *entry;
  if (registered)
    if (const int rc = mover->command(DMABUF_RW_URING_REGISTER, entry->handle); rc < 0)
      return fail(-rc, errno_text("the module did not register the buffer in the ring", -rc));
  return mover;
}

void Mover::say_place(Outcome &outcome) {
  outcome.fact_device(buffer());
  if (const auto now = info()) {
    outcome.fact("memory", dmabuf::memory_name(now->memory));
    outcome.fact("route", dmabuf::route_name(now->route));
  }
}

Result<bool> copies_agree(BufferMemory &memory, Outcome &outcome) {
  if (!memory.buffer().memory)
    return true;
  // Twice, so that what is there already is not taken for what was put there.
  for (const uint32_t generation : {kDrivePoison, kBufferPoison}) {
    memory.put(generation, 0, memory.size(), 0);
    const auto found = memory.look(0, memory.size());
    if (auto ok = memory.trouble(); !ok)
      return std::unexpected(std::move(ok.error()));
    outcome.compared += memory.size();
    uint64_t wrong = 0, first = 0;
    for (size_t i = 0; i < found.size(); i++)
      if (found[i] != word_at(generation, 8 * i) && !wrong++)
        first = 8 * i;
    if (!wrong)
      continue;
    outcome.find("COPY_WRONG",
                 strf("what the exporter's own copy put into the memory its own copy does not find "
                      "there, the first time at byte %llu; no drive took part",
                      static_cast<unsigned long long>(first)),
                 wrong);
    return false;
  }
  return true;
}

Mover::~Mover() {
  if (path_ == DMABUF_RW_PATH_REGISTERED && ring_.is_open() && entry_.handle)
    command(DMABUF_RW_URING_UNREGISTER, 0);
}

int Mover::command(uint32_t op, uint32_t handle) {
  io_uring_sqe *sqe = ring_.sqe();
  if (!sqe)
    return -EBUSY;
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = session_.fd();
  sqe->cmd_op = op;
  const dmabuf_rw_uring_reg reg = {.handle = handle, .index = 0, .flags = 0, .reserved = 0};
  std::memcpy(&sqe->addr3, &reg, sizeof(reg));
  return ring_.run_one();
}

void Mover::queue(Way way, uint64_t buffer_offset, uint32_t bytes, uint64_t drive_offset,
                  uint64_t id) {
  io_uring_sqe *sqe = ring_.sqe();
  if (!sqe)
    std::abort(); // more than `depth` in flight: a mistake of this program
  sqe->user_data = id;
  sqe->addr = buffer_offset;
  sqe->len = bytes;
  if (path_ == DMABUF_RW_PATH_REGISTERED) {
    sqe->opcode = way == Way::read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
    sqe->fd = target_;
    sqe->off = drive_offset;
    sqe->buf_index = 0;
    return;
  }
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = session_.fd();
  sqe->cmd_op = way == Way::read ? DMABUF_RW_URING_READ : DMABUF_RW_URING_WRITE;
  const dmabuf_rw_uring_io io = {.file_offset = drive_offset, .handle = entry_.handle, .flags = 0};
  std::memcpy(&sqe->addr3, &io, sizeof(io));
}

Result<void> Mover::submit() {
  uint64_t retries = 0;
  if (const int rc = ring_.submit(retries))
    return fail(rc, errno_text("io_uring did not take the I/O", rc));
  return {};
}

Result<void> Mover::reap(const std::function<void(uint64_t, int)> &done) {
  if (auto ok = submit(); !ok)
    return ok;
  int rc;
  do
    rc = ring_.wait(1);
  while (rc == -EINTR || rc == -EAGAIN);
  if (rc < 0)
    return fail(-rc, errno_text("waiting for I/O failed", -rc));
  std::vector<std::pair<uint64_t, int>> ended;
  ring_.reap(~0u, [&](const io_uring_cqe &cqe) { ended.emplace_back(cqe.user_data, cqe.res); });
  for (const auto &[id, result] : ended)
    done(id, result);
  return {};
}

int Mover::transfer(Way way, uint64_t buffer_offset, uint32_t bytes, uint64_t drive_offset) {
  queue(way, buffer_offset, bytes, drive_offset, 0);
  return ring_.run_one();
}

} // namespace integrity
