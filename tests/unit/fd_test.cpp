// SPDX-License-Identifier: GPL-2.0-only
// Exporter fd: a peer that does as it should, and peers that do not.
#include "exporter/fd.hpp"

#include "exporter/exporter.hpp"
#include "memfd_dmabuf.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

namespace dmabuf {
namespace {

using test::memfd_dmabuf;
using test::open_files;
using test::plain_memfd;

constexpr uint64_t kBytes = 1 << 20;
constexpr unsigned kGenerousMs = 60'000;
constexpr size_t kMostFds = 253; // SCM_MAX_FD

/// Sends a packet with descriptors.
void send_packet(int to, const std::string &text, const std::vector<int> &fds) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostFds * sizeof(int))> control = {};
  iovec from = {.iov_base = const_cast<char *>(text.data()), .iov_len = text.size()};
  msghdr message = {};
  message.msg_iov = &from;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr *part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(part), fds.data(), fds.size() * sizeof(int));
  }
  ASSERT_EQ(sendmsg(to, &message, MSG_NOSIGNAL), static_cast<ssize_t>(text.size()))
      << strerror(errno);
}

/// Answers before it is asked: a socket keeps what it has for who reads later.
struct Peer {
  Peer() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
      std::abort();
    ours.reset(ends[0]);
    theirs.reset(ends[1]);
  }

  /// `fds` are the peer's own, which closes them once they are sent.
  void answer(const std::string &text, std::vector<int> fds = {}) {
    send_packet(theirs.get(), text, fds);
    for (const int fd : fds)
      close(fd);
  }

  Result<DmaBuf> ask(unsigned timeout_ms = kGenerousMs) {
    return ask_peer(std::move(ours), "/s.sock", kBytes, timeout_ms);
  }

  UniqueFd ours, theirs;
};

/// An answer is refused by these words, and nothing stays open.
void refused(const std::string &says, int code, const std::function<void(Peer &)> &does,
             unsigned timeout_ms = kGenerousMs) {
  const int before = open_files();
  {
    Peer peer;
    does(peer);
    const auto buffer = peer.ask(timeout_ms);
    ASSERT_FALSE(buffer) << says;
    EXPECT_NE(buffer.error().message.find(says), std::string::npos) << buffer.error().message;
    EXPECT_EQ(buffer.error().code, code) << buffer.error().message;
  }
  EXPECT_EQ(open_files(), before) << says;
}

TEST(Fd, TakesADmaBufAndKeepsTheConnectionAsLongAsThat) {
  const int before = open_files();
  Peer peer;
  peer.answer("ok 0000:41:00.0", {memfd_dmabuf(kBytes)});
  {
    const auto buffer = peer.ask();
    ASSERT_TRUE(buffer) << buffer.error().message;
    EXPECT_EQ(buffer->bytes, kBytes);
    EXPECT_EQ(buffer->device, "0000:41:00.0");
    EXPECT_EQ(buffer->maker, "/s.sock");
    EXPECT_NE(fcntl(buffer->fd.get(), F_GETFD) & FD_CLOEXEC, 0);
    std::array<char, 128> question = {};
    ASSERT_GT(recv(peer.theirs.get(), question.data(), question.size() - 1, MSG_DONTWAIT), 0);
    EXPECT_STREQ(question.data(), "libdmabuf 1 buffers=1 bytes=1048576");
    EXPECT_EQ(recv(peer.theirs.get(), question.data(), 1, MSG_DONTWAIT), -1) << "closed too early";
  }
  char byte;
  EXPECT_EQ(recv(peer.theirs.get(), &byte, 1, MSG_DONTWAIT), 0) << "how it knows of the end";
  peer.theirs.reset();
  EXPECT_EQ(open_files(), before);
}

TEST(Fd, AWordlessAnswerWillDo) {
  for (const char *text : {"ok", "ok ", "ok \n"}) {
    Peer peer;
    peer.answer(text, {memfd_dmabuf(kBytes)});
    const auto buffer = peer.ask();
    ASSERT_TRUE(buffer) << buffer.error().message;
    EXPECT_EQ(buffer->device, "/s.sock");
  }
}

TEST(Fd, WhatThePeerSaysStaysOnOneLine) {
  Peer peer;
  peer.answer("ok a\nb\033[2J\xff", {memfd_dmabuf(kBytes)});
  EXPECT_EQ(peer.ask()->device, "a?b?[2J?");
}

TEST(Fd, ARefusalIsInThePeersWords) {
  refused("gives no dma-buf of 1 MiB: the pool is empty", ENOMEM,
          [](Peer &peer) { peer.answer("no the pool is empty\n"); });
  refused("gives no dma-buf of 1 MiB", ENOMEM, [](Peer &peer) { peer.answer("no"); });
  // With whatever it sends along.
  refused("gives no dma-buf", ENOMEM,
          [](Peer &peer) { peer.answer("no", {memfd_dmabuf(kBytes), plain_memfd(1)}); });
}

TEST(Fd, WhatIsNoDmaBufIsRefused) {
  refused("is no dma-buf", EINVAL, [](Peer &peer) { peer.answer("ok", {plain_memfd(kBytes)}); });
  refused("is no dma-buf", EINVAL,
          [](Peer &peer) { peer.answer("ok", {open("/dev/zero", O_RDWR)}); });
  refused("is no dma-buf", EINVAL, [](Peer &peer) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    peer.answer("ok", {ends[0]});
    close(ends[1]);
  });
  // One end of a connection, its own.
  refused("is no dma-buf", EINVAL, [](Peer &peer) { peer.answer("ok", {dup(peer.theirs.get())}); });
  refused("is no dma-buf", EINVAL,
          [](Peer &peer) { peer.answer("ok", {open(".", O_RDONLY | O_DIRECTORY)}); });
}

TEST(Fd, DmaBufsThatAreOfNoUseAreRefused) {
  refused("1044480 bytes where 1048576 were asked for", EIO,
          [](Peer &peer) { peer.answer("ok", {memfd_dmabuf(kBytes - 4096)}); });
  refused("not open for reading and writing", EACCES, [](Peer &peer) {
    const int fd = memfd_dmabuf(kBytes);
    const std::string name = "/proc/self/fd/" + std::to_string(fd);
    peer.answer("ok", {open(name.c_str(), O_RDONLY)});
    close(fd);
  });
}

TEST(Fd, TooFewAndTooManyAreRefusedAndNothingLeaks) {
  refused("gave 0 descriptors where 1 was asked for", EPROTO,
          [](Peer &peer) { peer.answer("ok none today"); });
  refused("gave 2 descriptors where 1 was asked for", EPROTO,
          [](Peer &peer) { peer.answer("ok", {memfd_dmabuf(kBytes), memfd_dmabuf(kBytes)}); });
  for (const size_t many : {size_t{3}, kMostFds})
    refused("gave 2 descriptors and more where 1 was asked for", EPROTO, [many](Peer &peer) {
      std::vector<int> fds = {memfd_dmabuf(kBytes)};
      while (fds.size() < many)
        fds.push_back(open("/dev/null", O_RDONLY));
      peer.answer("ok", fds);
    });
}

TEST(Fd, AnswersThatAreNoneAreRefused) {
  refused("neither ok nor no", EPROTO, [](Peer &peer) { peer.answer("hello"); });
  refused("answered \"okay, here it is\", which begins with neither ok nor no", EPROTO,
          [](Peer &peer) { peer.answer("okay, here it is"); });
  refused("neither ok nor no", EPROTO,
          [](Peer &peer) { peer.answer("okay", {memfd_dmabuf(kBytes)}); });
  refused("neither ok nor no", EPROTO,
          [](Peer &peer) { peer.answer("o", {memfd_dmabuf(kBytes)}); });
  refused("neither ok nor no", EPROTO,
          [](Peer &peer) { peer.answer(std::string("\0ok", 3), {memfd_dmabuf(kBytes)}); });
  refused("longer than 1024 bytes", EPROTO,
          [](Peer &peer) { peer.answer("ok " + std::string(4000, 'x'), {memfd_dmabuf(kBytes)}); });
}

TEST(Fd, APeerThatClosesIsNamed) {
  refused("closed the connection without an answer", ECONNRESET,
          [](Peer &peer) { peer.theirs.reset(); });
  // An answer that was on its way counts.
  Peer peer;
  peer.answer("ok last", {memfd_dmabuf(kBytes)});
  peer.theirs.reset();
  const auto buffer = peer.ask();
  ASSERT_TRUE(buffer) << buffer.error().message;
  EXPECT_EQ(buffer->device, "last");
}

TEST(Fd, APeerThatSaysNothingIsNotWaitedForWithoutEnd) {
  refused("did not answer in 30 ms", ETIMEDOUT, [](Peer &) {}, 30);
}

/// A socket in the file system, of this type, bound and perhaps listening.
class Listener {
public:
  Listener(int type, bool listens) : fd_(socket(AF_UNIX, type | SOCK_CLOEXEC, 0)) {
    char folder[] = "/tmp/libdmabuf-fd-XXXXXX";
    folder_ = mkdtemp(folder);
    path_ = folder_ + "/s";
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    if (bind(fd_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof(address)) ||
        (listens && listen(fd_.get(), 8)))
      std::abort();
  }
  ~Listener() { std::filesystem::remove_all(folder_); }
  const std::string &path() const { return path_; }

private:
  UniqueFd fd_;
  std::string folder_, path_;
};

Error no_peer(const std::string &path, unsigned timeout_ms = kGenerousMs) {
  const auto peer = connect_peer(path, timeout_ms);
  EXPECT_FALSE(peer) << path;
  return peer ? Error{} : peer.error();
}

TEST(FdSocket, IsFoundOrNamed) {
  const int before = open_files();
  const Error absent = no_peer("/no/such/socket");
  EXPECT_EQ(absent.code, ENOENT);
  EXPECT_NE(absent.message.find("there is no socket /no/such/socket"), std::string::npos);
  const Error longer = no_peer("/" + std::string(200, 'x'));
  EXPECT_EQ(longer.code, ENAMETOOLONG);
  EXPECT_NE(no_peer("/dev/null").message.find("nobody listens on /dev/null"), std::string::npos);
  const Listener deaf(SOCK_SEQPACKET, false);
  EXPECT_NE(no_peer(deaf.path()).message.find("nobody listens on " + deaf.path()),
            std::string::npos);
  const Listener stream(SOCK_STREAM, true);
  EXPECT_NE(no_peer(stream.path()).message.find("of another type"), std::string::npos);
  const auto unasked = allocate_dmabuf({.kind = ExporterKind::fd, .bytes = kBytes});
  ASSERT_FALSE(unasked);
  EXPECT_NE(unasked.error().message.find("set dmabuf_device"), std::string::npos);
  EXPECT_EQ(open_files(), before + 2);
}

TEST(FdSocket, ThatSomebodyElseMayHavePutThereIsNotUsed) {
  if (geteuid() != 0)
    GTEST_SKIP() << "only root can listen as another user";
  // SO_PEERCRED tells who called listen().
  ASSERT_EQ(seteuid(65534), 0);
  const Listener theirs(SOCK_SEQPACKET, true);
  ASSERT_EQ(seteuid(0), 0);
  const std::string folder = std::filesystem::path(theirs.path()).parent_path();
  EXPECT_EQ(no_peer(theirs.path()).code, EPERM) << "in /tmp, the folder is that user's";
  ASSERT_EQ(chown(folder.c_str(), 0, 0), 0);
  EXPECT_TRUE(connect_peer(theirs.path())) << "root made the folder for him";
  ASSERT_EQ(chmod(folder.c_str(), 01777), 0);
  const Error no = no_peer(theirs.path());
  EXPECT_EQ(no.code, EPERM);
  EXPECT_NE(no.message.find("user 65534 listens on it, and it lies in a folder in which everybody"),
            std::string::npos)
      << no.message;
  const Listener ours(SOCK_SEQPACKET, true);
  ASSERT_EQ(chmod(std::filesystem::path(ours.path()).parent_path().c_str(), 0777), 0);
  EXPECT_TRUE(connect_peer(ours.path())) << "we listen there ourselves";
}

TEST(FdSocket, OneThatNobodyAcceptsFromDoesNotHoldTheJobForEver) {
  const Listener full(SOCK_SEQPACKET, true);
  std::vector<UniqueFd> held;
  for (;;) {
    auto peer = connect_peer(full.path(), 30);
    if (!peer) {
      EXPECT_EQ(peer.error().code, ETIMEDOUT);
      EXPECT_NE(peer.error().message.find("did not answer in 30 ms"), std::string::npos);
      break;
    }
    held.push_back(std::move(*peer));
    ASSERT_LT(held.size(), 100U);
  }
}

} // namespace
} // namespace dmabuf
