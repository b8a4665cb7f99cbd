// SPDX-License-Identifier: GPL-2.0-only
#include "job/buffer_file.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/random.h>

namespace dmabuf {
namespace {

constexpr size_t kToken = 64;
using Token = std::array<std::byte, kToken>;

Result<Token> random_token() {
  Token token;
  if (getrandom(token.data(), token.size(), 0) != static_cast<ssize_t>(token.size()))
    return fail(errno, errno_text("cannot get random bytes", errno));
  return token;
}

Result<void> by_memory(DeviceMemory &memory, uint64_t offset, Token &token, bool write) {
  if (const int code = write ? memory.write(offset, token) : memory.read(offset, token))
    return fail(code, errno_text("the exporter cannot copy from and to the dma-buf", code));
  return {};
}

/// Copies between `token` and the dma-buf by the CPU's view of it, or by the exporter.
Result<void> by_view(const DmaBuf &buffer, uint64_t offset, Token &token, bool write) {
  if (buffer.memory)
    return by_memory(*buffer.memory, offset, token, write);
  const uint64_t access = write ? DMA_BUF_SYNC_WRITE : DMA_BUF_SYNC_READ;
  std::byte *view = buffer.view.data() + offset;
  int code = cpu_access_begin(buffer.fd.get(), access);
  if (!code) {
    std::memcpy(write ? view : token.data(), write ? token.data() : view, kToken);
    code = cpu_access_end(buffer.fd.get(), access);
  }
  if (code)
    return fail(code, errno_text("the exporter does not let the CPU access the dma-buf", code));
  return {};
}

/// The same through a file.
Result<void> by_file(int fd, uint64_t offset, Token &token, bool write) {
  const auto at = static_cast<off_t>(offset);
  ssize_t moved;
  do
    moved = write ? pwrite(fd, token.data(), kToken, at) : pread(fd, token.data(), kToken, at);
  while (moved < 0 && errno == EINTR);
  if (moved != static_cast<ssize_t>(kToken))
    return fail(moved < 0 ? errno : EIO,
                strf("cannot %s the dma-buf as a file: ", write ? "write" : "read") +
                    (moved < 0 ? rw_error_text(errno)
                               : strf("%zd of %zu bytes were moved", moved, kToken)));
  return {};
}

Result<void> other_bytes(const char *what) {
  return fail(EPROTO,
              strf("the module's file is not the dma-buf: %s; use a module and an engine of "
                   "the same release",
                   what));
}

Result<void> check_token(int fd, const DmaBuf &buffer, uint64_t offset, bool writes) {
  auto sent = random_token();
  if (!sent)
    return std::unexpected(std::move(sent.error()));
  Token seen = {};
  if (auto ok = by_view(buffer, offset, *sent, true); !ok)
    return ok;
  if (auto ok = by_file(fd, offset, seen, false); !ok)
    return ok;
  if (seen != *sent)
    return other_bytes("read() does not see what was put in the dma-buf");
  if (!writes)
    return {};
  std::ranges::reverse(*sent);
  if (auto ok = by_file(fd, offset, *sent, true); !ok)
    return ok;
  if (auto ok = by_view(buffer, offset, seen, false); !ok)
    return ok;
  return seen == *sent ? Result<void>() : other_bytes("write() does not reach the dma-buf");
}

} // namespace

Result<void> check_same_bytes(int fd, const DmaBuf &buffer, bool writes) {
  // Its first and its last bytes: a file that starts or ends elsewhere differs in one of the two.
  for (const uint64_t offset : {uint64_t{0}, buffer.bytes - kToken}) {
    Token before;
    if (auto ok = by_view(buffer, offset, before, false); !ok)
      return ok;
    auto same = check_token(fd, buffer, offset, writes);
    if (auto ok = by_view(buffer, offset, before, true); !ok)
      return ok;
    if (!same)
      return same;
  }
  return {};
}

Result<BufferFile> BufferFile::make(const BufferRequest &request, Session *session, bool writes) {
  auto buffer = allocate_dmabuf(request);
  if (!buffer)
    return std::unexpected(std::move(buffer.error()));
  if (!session && buffer->memory)
    return fail(EOPNOTSUPP,
                strf("dmabuf_submit=mmap copies by the CPU's mapping of the dma-buf, and "
                     "the memory of exporter %s has none; use dmabuf_submit=sync, or "
                     "another dmabuf_exporter",
                     exporter_name(request.kind)));
  BufferFile file;
  file.buffer_ = std::move(*buffer);
  file.writes_ = writes;
  if (!session)
    return file;
  auto rw = session->open_rw(file.buffer_.fd.get(), writes);
  if (!rw)
    return std::unexpected(std::move(rw.error()));
  file.rw_ = std::move(*rw);
  if (auto ok = file.check_same(); !ok)
    return std::unexpected(std::move(ok.error()));
  return file;
}

Result<UniqueFd> BufferFile::open() const {
  const int from = by_fd() ? rw_.fd.get() : buffer_.fd.get();
  UniqueFd fd(fcntl(from, F_DUPFD_CLOEXEC, 0));
  if (!fd)
    return fail(errno, errno_text("cannot open the dma-buf once more; raise ulimit -n", errno));
  return fd;
}

Result<void> BufferFile::check_same() const {
  const off_t size = lseek(rw_.fd.get(), 0, SEEK_END);
  if (size < 0 || static_cast<uint64_t>(size) != buffer_.bytes || rw_.bytes != buffer_.bytes)
    return other_bytes(strf("it has %lld bytes, by the module's answer %llu, and the dma-buf %llu",
                            static_cast<long long>(size),
                            static_cast<unsigned long long>(rw_.bytes),
                            static_cast<unsigned long long>(buffer_.bytes))
                           .c_str());
  lseek(rw_.fd.get(), 0, SEEK_SET);
  return check_same_bytes(rw_.fd.get(), buffer_, writes_);
}

Result<void> BufferFiles::make(unsigned number, const BufferRequest &request, Session *session,
                               bool writes) {
  if (number >= files_.size())
    files_.resize(number + 1);
  if (files_[number])
    return {};
  auto file = BufferFile::make(request, session, writes);
  if (!file)
    return std::unexpected(std::move(file.error()));
  device_ = file->buffer().device;
  bytes_ += file->buffer().bytes;
  if (file->by_fd()) {
    memory_ = view_memory_name(file->view());
    evidence_.files++;
    evidence_.bytes += file->buffer().bytes;
  }
  files_[number] = std::move(*file);
  return {};
}

Result<UniqueFd> BufferFiles::open(unsigned number) const {
  if (!dmabuf(number))
    return fail(EINVAL, "fio opens a file it did not tell the size of");
  return files_[number]->open();
}

const DmaBuf *BufferFiles::dmabuf(unsigned number) const {
  return number < files_.size() && files_[number] ? &files_[number]->buffer() : nullptr;
}

void BufferFiles::close() {
  for (const auto &file : files_)
    evidence_.same += file && file->by_fd() && file->check_same();
  files_.clear();
}

} // namespace dmabuf
