// SPDX-License-Identifier: GPL-2.0-only
// libdmabuf_rw as programs have it: what its calls put into a submission, and what it says.
#include "base/error.hpp"
#include "module/text.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <libdmabuf_rw.h>
#include <linux/io_uring.h>
#include <regex>
#include <set>
#include <string>
#include <unistd.h>
#include <utility>

namespace {

/// A submission entry that was used before, for something else.
io_uring_sqe used() {
  io_uring_sqe sqe;
  std::memset(&sqe, 0xa5, sizeof(sqe));
  sqe.user_data = 77;
  return sqe;
}

/// An entry with nothing in it but `user_data`.
io_uring_sqe empty() {
  io_uring_sqe sqe = {};
  sqe.user_data = 77;
  return sqe;
}

void expect_same(const io_uring_sqe &found, const io_uring_sqe &wanted) {
  EXPECT_EQ(std::memcmp(&found, &wanted, 64), 0);
}

template <class Words> void put(io_uring_sqe &sqe, const Words &words) {
  static_assert(sizeof(words) == 16);
  std::memcpy(&sqe.addr3, &words, sizeof(words));
}

/// A session that is not open: what fills submissions asks only for its descriptor.
class Prepared : public testing::Test {
protected:
  void SetUp() override {
    // The module's device is not needed: the library's structure begins with the descriptor.
    std::memcpy(storage_, &fd_, sizeof(fd_));
    session_ = reinterpret_cast<drw_session *>(storage_);
    ASSERT_EQ(drw_fd(session_), fd_);
  }
  io_uring_sqe command(uint32_t op) const {
    io_uring_sqe sqe = empty();
    sqe.opcode = IORING_OP_URING_CMD;
    sqe.fd = fd_;
    sqe.cmd_op = op;
    return sqe;
  }
  const int fd_ = 9;
  alignas(16) unsigned char storage_[512] = {};
  drw_session *session_ = nullptr;
};

TEST_F(Prepared, ReadsAndWritesAreTheModulesCommands) {
  for (const bool reads : {true, false}) {
    io_uring_sqe sqe = used();
    (reads ? drw_prep_read : drw_prep_write)(session_, &sqe, 3, 0x1'0000'1000, 8192, 0x2'0000'0200);
    io_uring_sqe wanted = command(reads ? DMABUF_RW_URING_READ : DMABUF_RW_URING_WRITE);
    wanted.addr = 0x1'0000'1000;
    wanted.len = 8192;
    put(wanted, dmabuf_rw_uring_io{.file_offset = 0x2'0000'0200, .handle = 3, .flags = 0});
    expect_same(sqe, wanted);
  }
}

TEST_F(Prepared, ASlotTakesAllOfTheBuffer) {
  io_uring_sqe sqe = used();
  drw_prep_register(session_, &sqe, 3, 5);
  io_uring_sqe wanted = command(DMABUF_RW_URING_REGISTER);
  put(wanted, dmabuf_rw_uring_reg{.handle = 3, .index = 5, .flags = 0, .reserved = 0});
  expect_same(sqe, wanted);
}

TEST_F(Prepared, ASlotTakesAWindow) {
  io_uring_sqe sqe = used();
  drw_prep_register_window(session_, &sqe, 3, 5, 65536, 4096);
  io_uring_sqe wanted = command(DMABUF_RW_URING_REGISTER);
  wanted.addr = 65536;
  wanted.len = 4096;
  put(wanted,
      dmabuf_rw_uring_reg{.handle = 3, .index = 5, .flags = DMABUF_RW_REG_WINDOW, .reserved = 0});
  expect_same(sqe, wanted);
}

TEST_F(Prepared, AnEmptyWindowIsNotTheWholeBuffer) {
  io_uring_sqe sqe = used();
  drw_prep_register_window(session_, &sqe, 3, 5, 0, 0);
  io_uring_sqe wanted = command(DMABUF_RW_URING_REGISTER);
  put(wanted,
      dmabuf_rw_uring_reg{.handle = 3, .index = 5, .flags = DMABUF_RW_REG_WINDOW, .reserved = 0});
  expect_same(sqe, wanted);
}

TEST_F(Prepared, UnregisterNamesNoMapping) {
  io_uring_sqe sqe = used();
  drw_prep_unregister(session_, &sqe, 5);
  io_uring_sqe wanted = command(DMABUF_RW_URING_UNREGISTER);
  put(wanted, dmabuf_rw_uring_reg{.handle = 0, .index = 5, .flags = 0, .reserved = 0});
  expect_same(sqe, wanted);
}

TEST(Fixed, ReadsAndWritesAreOrdinaryOnes) {
  for (const bool reads : {true, false}) {
    io_uring_sqe sqe = used();
    (reads ? drw_prep_read_fixed : drw_prep_write_fixed)(&sqe, 6, 2, 4096, 8192, 1U << 20);
    io_uring_sqe wanted = empty();
    wanted.opcode = reads ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
    wanted.fd = 6;
    wanted.off = 1U << 20;
    wanted.addr = 4096;
    wanted.len = 8192;
    wanted.buf_index = 2;
    expect_same(sqe, wanted);
  }
}

TEST(Fixed, ASendTakesTheSlotWhateverFlagsAreAsked) {
  io_uring_sqe sqe = used();
  drw_prep_send_zc_fixed(&sqe, 6, 2, 4096, 8192, 0x4000, 1U << 3);
  io_uring_sqe wanted = empty();
  wanted.opcode = IORING_OP_SEND_ZC;
  wanted.fd = 6;
  wanted.addr = 4096;
  wanted.len = 8192;
  wanted.msg_flags = 0x4000;
  wanted.ioprio = IORING_RECVSEND_FIXED_BUF | (1U << 3);
  wanted.buf_index = 2;
  expect_same(sqe, wanted);
}

TEST(Library, RingsOfShortEntriesAreNotWrittenPast) {
  struct {
    io_uring_sqe sqe;
    unsigned char behind[64];
  } both;
  std::memset(&both, 0xa5, sizeof(both));
  drw_prep_read_fixed(&both.sqe, 6, 2, 4096, 8192, 0);
  for (const unsigned char byte : both.behind)
    ASSERT_EQ(byte, 0xa5);
}

TEST(Library, SaysThatThereIsNoModule) {
  if (access(DMABUF_RW_DEVICE, F_OK) == 0)
    GTEST_SKIP() << "this machine has the module";
  drw_session *session = reinterpret_cast<drw_session *>(1);
  drw_error error = {};
  EXPECT_EQ(drw_open(&session, &error), -ENOENT);
  EXPECT_EQ(session, nullptr);
  EXPECT_EQ(error.code, ENOENT);
  EXPECT_NE(std::string(error.text).find("not loaded"), std::string::npos);
  EXPECT_EQ(drw_open(&session, nullptr), -ENOENT);
  drw_close(nullptr);
}

TEST(Library, KnowsNothingOfFio) {
  for (uint32_t code = 0; code <= DMABUF_RW_NR_REASONS; code++) {
    const drw_reason &reason = *drw_reason_of(code);
    for (const std::string text : {reason.sentence, reason.remedy})
      for (const char *word :
           {"dmabuf_datapath", "iodepth", "direct=1", "engine", "filename", " bs"})
        EXPECT_EQ(text.find(word), std::string::npos) << reason.name << ": " << text;
  }
}

TEST(Words, AreCutAtTheBuffersEnd) {
  char buffer[256];
  std::memset(buffer, 'x', sizeof(buffer));
  const size_t whole = drw_cause_text(nullptr, 0, DMABUF_RW_REASON_NOT_DIRECT, EINVAL);
  EXPECT_EQ(drw_cause_text(buffer, 8, DMABUF_RW_REASON_NOT_DIRECT, EINVAL), whole);
  EXPECT_STREQ(buffer, "the tar");
  EXPECT_EQ(std::string(buffer + 8, sizeof(buffer) - 8), std::string(sizeof(buffer) - 8, 'x'));
  std::string text(whole, '\0');
  drw_cause_text(text.data(), whole + 1, DMABUF_RW_REASON_NOT_DIRECT, EINVAL);
  EXPECT_EQ(text, "the target is not open with O_DIRECT (NOT_DIRECT, EINVAL)");
}

TEST(Words, OfCompletionsThatAreNotTheModules) {
  const auto said = [](int32_t res, uint32_t length) {
    char text[256];
    EXPECT_EQ(drw_result_text(nullptr, 0, res, length, text, sizeof(text)),
              static_cast<uint32_t>(DMABUF_RW_REASON_NONE));
    return std::string(text);
  };
  EXPECT_EQ(said(4096, 4096), "moved all 4096 bytes");
  EXPECT_EQ(said(512, 4096), "moved 512 of 4096 bytes: the target ends there");
  EXPECT_EQ(said(0, 0), "done");
  EXPECT_EQ(said(-EIO, 4096), "EIO (Input/output error)");
  EXPECT_NE(said(-EAGAIN, 4096).find("submit it again"), std::string::npos);
  EXPECT_NE(said(-ECANCELED, 4096).find("cancelled"), std::string::npos);
  EXPECT_EQ(said(-5000, 4096), "errno 5000");
  EXPECT_EQ(said(-524, 4096), "ENOTSUPP (Not supported, the kernel's own errno 524)");
}

TEST(Words, AnErrnoIsCalledAsTheEngineCallsIt) {
  for (int code = 1; code < 1000; code++) {
    if (code == EAGAIN || code == ECANCELED)
      continue; // these have sentences of their own
    char text[256];
    drw_result_text(nullptr, 0, -code, 4096, text, sizeof(text));
    EXPECT_EQ("read: " + std::string(text), dmabuf::errno_text("read", code));
  }
}

std::string opened(int code, machine where) {
  char text[512] = {};
  const size_t length = open_text(text, sizeof(text), code, where);
  EXPECT_EQ(length, std::strlen(text));
  return text;
}

TEST(Words, OfADeviceThatIsNotThereAreThoseOfTheMachine) {
  for (const int code : {ENOENT, ENODEV, ENXIO}) {
    const std::string plain = opened(code, {0, 0}), locked = opened(code, {0, 1});
    EXPECT_TRUE(plain.ends_with("is not loaded; load it (modprobe dmabuf_rw)")) << plain;
    EXPECT_TRUE(locked.starts_with(plain + ". This kernel takes signed modules only")) << locked;
    EXPECT_TRUE(locked.ends_with("docs/kernel-module.md, Secure Boot")) << locked;
    for (const int signed_only : {0, 1}) {
      const std::string loaded = opened(code, {1, signed_only});
      EXPECT_NE(loaded.find("though the dmabuf_rw kernel module is loaded"), std::string::npos);
      EXPECT_TRUE(loaded.ends_with("(docker run --device /dev/dmabuf_rw)")) << loaded;
    }
  }
}

TEST(Words, OfADeviceThatCannotBeOpenedNameItsErrnoAndAWayOut) {
  const std::pair<int, const char *> said[] = {
      {EACCES, "may not be opened (EACCES)"},       {EPERM, "may not be opened (EPERM)"},
      {EMFILE, "too many open files (EMFILE)"},     {ENFILE, "too many open files (ENFILE)"},
      {EUSERS, "no session left for this user (E"}, {ENOSPC, "left for this user (ENOSPC)"},
      {EIO, ": EIO (Input/output error)"}};
  for (const auto &[code, words] : said) {
    const std::string text = opened(code, {1, 1});
    EXPECT_NE(text.find(words), std::string::npos) << text;
    EXPECT_EQ(text, opened(code, {0, 0}));
    EXPECT_EQ(text.find("; ") == std::string::npos && text.find(": it ") == std::string::npos,
              code == EIO)
        << text;
  }
}

TEST(Words, AKernelTakesSignedModulesOnlyWhereItIsLockedDownOrToldTo) {
  EXPECT_FALSE(signed_modules_only("", ""));
  EXPECT_FALSE(signed_modules_only("[none] integrity confidentiality\n", "N\n"));
  EXPECT_TRUE(signed_modules_only("none [integrity] confidentiality\n", "N\n"));
  EXPECT_TRUE(signed_modules_only("none integrity [confidentiality]\n", ""));
  EXPECT_TRUE(signed_modules_only("[none] integrity confidentiality\n", "Y\n"));
  EXPECT_TRUE(signed_modules_only("", "Y\n"));
}

/// All names of a pattern's first group in a file.
std::set<std::string> names_in(const std::string &path, const std::string &pattern) {
  std::ifstream file(path);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  std::set<std::string> names;
  const std::regex regex(pattern);
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it)
    names.insert((*it)[1]);
  return names;
}

TEST(Library, ItsHeaderMapAndPageHaveTheSameCalls) {
  const std::string module = DMABUF_SOURCE "/engine/module/";
  const auto header = names_in(module + "libdmabuf_rw.h", "\\b(drw_\\w+)\\([^)]");
  EXPECT_GT(header.size(), 25U);
  EXPECT_EQ(header, names_in(module + "libdmabuf_rw.map", "\t(drw_\\w+);"));
  const std::string page = DMABUF_SOURCE "/docs/man/libdmabuf_rw.3";
  EXPECT_EQ(header, names_in(page, "\n\\.BI \"[^\"\n]*\\b(drw_\\w+)\\(")) << "SYNOPSIS";
  EXPECT_EQ(header, names_in(page, "\n\\.BR (drw_\\w+) \\(\\)")) << "descriptions";
  EXPECT_EQ(header, names_in(page, "\n(drw_\\w+),? ?\\\\?-?[^\n]*")) << "NAME";
}

} // namespace
