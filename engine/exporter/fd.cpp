// SPDX-License-Identifier: GPL-2.0-only
// fd: dma-bufs that another program hands over a UNIX socket. The protocol is in docs/exporters.md.
#include "exporter/fd.hpp"

#include "base/sizes.hpp"
#include "base/trusted_path.hpp"
#include "exporter/exporter.hpp"
#include "exporter/foreign.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <poll.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

namespace dmabuf {
namespace {

constexpr size_t kLongestAnswer = 1024;
/// Descriptors for which there is room. The kernel closes those that find none, and says so.
constexpr size_t kRoom = 2;

using Clock = std::chrono::steady_clock;

int left_ms(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  return left.count() > 0 ? static_cast<int>(left.count()) : 0;
}

std::unexpected<Error> late(const std::string &path, unsigned timeout_ms) {
  return fail(ETIMEDOUT, strf("who listens on %s did not answer in %u ms; look at that program",
                              path.c_str(), timeout_ms));
}

/// What a peer sent.
struct Answer {
  std::string text;
  std::vector<UniqueFd> fds;
  bool more = false; ///< descriptors for which there was no room
};

Result<Answer> receive(int peer, const std::string &path, unsigned timeout_ms) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  pollfd ready = {.fd = peer, .events = POLLIN, .revents = 0};
  int rc;
  // fio's signals interrupt it.
  do
    rc = poll(&ready, 1, left_ms(deadline));
  while (rc < 0 && errno == EINTR);
  if (rc < 0)
    return fail(errno, errno_text(strf("cannot wait for %s", path.c_str()), errno));
  if (rc == 0)
    return late(path, timeout_ms);
  std::array<char, kLongestAnswer> text;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kRoom * sizeof(int))> control;
  iovec into = {.iov_base = text.data(), .iov_len = text.size()};
  msghdr message = {};
  message.msg_iov = &into;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got;
  do
    got = recvmsg(peer, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  if (got < 0 && errno != ECONNRESET)
    return fail(errno, errno_text(strf("cannot receive from %s", path.c_str()), errno));
  Answer answer;
  // The engine has to close every descriptor that came, before it looks at anything else.
  if (got >= 0)
    for (cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part))
      if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS)
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
          int fd;
          std::memcpy(&fd, reinterpret_cast<const char *>(part) + at, sizeof(fd));
          answer.fds.emplace_back(fd);
        }
  if (got <= 0)
    return fail(ECONNRESET, strf("who listens on %s closed the connection without an answer; look "
                                 "at that program",
                                 path.c_str()));
  if (message.msg_flags & MSG_TRUNC)
    return fail(EPROTO,
                strf("the answer of %s is longer than %zu bytes", path.c_str(), kLongestAnswer));
  answer.more = message.msg_flags & MSG_CTRUNC;
  answer.text.assign(text.data(), static_cast<size_t>(got));
  return answer;
}

/// Refuses a socket that another user may have put in the place of the right one: the process that
/// listens there sees what the drive puts into the memory.
Result<void> check_place(int peer, const std::string &path) {
  // A process of root or of this user can read that memory anyway.
  ucred who = {};
  socklen_t size = sizeof(who);
  if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
      (who.uid == 0 || who.uid == geteuid()))
    return {};
  const auto real = trusted_path(path);
  if (real)
    return {};
  return fail(real.error().code,
              strf("socket %s is not used: user %u listens on it, and %s; have it in a folder that "
                   "is not for everybody, such as one below /run",
                   path.c_str(), who.uid, real.error().message.c_str()));
}

} // namespace

Result<UniqueFd> connect_peer(const std::string &path, unsigned timeout_ms) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    return fail(ENAMETOOLONG, strf("the name of socket %s is longer than the %zu bytes that a UNIX "
                                   "socket's may have; use a shorter one",
                                   path.c_str(), sizeof(address.sun_path) - 1));
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd peer(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!peer)
    return fail(errno, errno_text("cannot make a UNIX socket", errno));
  const timeval limit = {.tv_sec = timeout_ms / 1000,
                         .tv_usec = static_cast<suseconds_t>(timeout_ms % 1000 * 1000)};
  if (setsockopt(peer.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
    return fail(errno, errno_text("cannot set a socket's time-out", errno));
  int rc;
  do
    rc = connect(peer.get(), reinterpret_cast<const sockaddr *>(&address), sizeof(address));
  while (rc < 0 && errno == EINTR);
  if (rc == 0) {
    if (auto ok = check_place(peer.get(), path); !ok)
      return std::unexpected(std::move(ok.error()));
    return peer;
  }
  const int code = errno;
  switch (code) {
  case ENOENT:
    return fail(code, strf("there is no socket %s; start the program that hands out dma-bufs "
                           "(docs/exporters.md), or use another dmabuf_exporter",
                           path.c_str()));
  case ECONNREFUSED:
    return fail(code, strf("nobody listens on %s; start the program that hands out dma-bufs",
                           path.c_str()));
  case EPROTOTYPE:
    return fail(code, strf("%s is a socket of another type; who hands out dma-bufs listens on one "
                           "of type SOCK_SEQPACKET",
                           path.c_str()));
  case EACCES:
  case EPERM:
    return fail(code, strf("socket %s may not be used (%s); run as root or join the group that "
                           "owns it",
                           path.c_str(), errno_name(code).c_str()));
  case EAGAIN:
    return late(path, timeout_ms);
  default:
    return fail(code, errno_text(strf("cannot connect to %s", path.c_str()), code));
  }
}

Result<DmaBuf> ask_peer(UniqueFd peer, const std::string &path, uint64_t bytes,
                        unsigned timeout_ms) {
  const std::string who = "who listens on " + path;
  const std::string question =
      strf("libdmabuf 1 buffers=1 bytes=%llu", static_cast<unsigned long long>(bytes));
  ssize_t sent;
  do
    sent = send(peer.get(), question.data(), question.size(), MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno == EAGAIN)
    return late(path, timeout_ms);
  // One that has closed may have answered before: what it said is of more use.
  if (sent < 0 && errno != EPIPE && errno != ECONNRESET)
    return fail(errno, errno_text(strf("cannot ask %s", path.c_str()), errno));
  auto answer = receive(peer.get(), path, timeout_ms);
  if (!answer)
    return std::unexpected(std::move(answer.error()));
  const std::string_view text = answer->text;
  if (text == "no" || text.starts_with("no "))
    return fail(ENOMEM, strf("%s gives no dma-buf of %llu MiB: %s", who.c_str(),
                             static_cast<unsigned long long>(mib_up(bytes)),
                             one_line(text.substr(std::min(text.size(), size_t{3}))).c_str()));
  if (text != "ok" && !text.starts_with("ok "))
    return fail(EPROTO, strf("%s answered \"%s\", which begins with neither ok nor no "
                             "(docs/exporters.md)",
                             who.c_str(), one_line(text).c_str()));
  if (answer->more || answer->fds.size() != 1)
    return fail(EPROTO, strf("%s gave %zu descriptors%s where 1 was asked for", who.c_str(),
                             answer->fds.size(), answer->more ? " and more" : ""));
  const auto size = check_foreign(answer->fds[0].get(), bytes, who);
  if (!size)
    return std::unexpected(size.error());
  const std::string said = one_line(text.substr(std::min(text.size(), size_t{3})));
  DmaBuf buffer;
  buffer.fd = std::move(answer->fds[0]);
  buffer.bytes = *size;
  buffer.device = said.empty() ? path : said;
  buffer.maker = path;
  buffer.no_view = "a GPU's memory comes from that GPU's exporter (cuda, hip, amdgpu, xe), any "
                   "other such memory from dmabuf_exporter=plugin with read and write "
                   "(docs/exporters.md)";
  buffer.keeper = std::move(peer);
  return buffer;
}

Result<DmaBuf> allocate_fd(const BufferRequest &request) {
  if (request.device.empty())
    return fail(EINVAL, "exporter fd takes dma-bufs from another program: set dmabuf_device to the "
                        "UNIX socket on which that listens (docs/exporters.md)");
  auto peer = connect_peer(request.device);
  if (!peer)
    return std::unexpected(std::move(peer.error()));
  return ask_peer(std::move(*peer), request.device, request.bytes);
}

} // namespace dmabuf
