// SPDX-License-Identifier: GPL-2.0-only
// An rw fd and the memory of its reader or writer: that ends, is not there, or is held back.
#include "hostile.hpp"

#include <atomic>
#include <cstring>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <thread>

namespace vmtest {

namespace {

// Two pages with nothing between them.
class Hole {
public:
  Hole() {
    at_ = static_cast<std::byte *>(
        ::mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::memset(at_, 0x5a, 3 * page);
    ::munmap(at_ + page, page);
  }
  Hole(const Hole &) = delete;
  Hole &operator=(const Hole &) = delete;
  ~Hole() { ::munmap(at_, 3 * page); }
  std::byte *at() const { return at_; }

private:
  std::byte *at_;
};

void faulting(const Session &session, int dmabuf_fd, const std::string &who,
              const std::function<Bytes()> &look,
              const std::function<void(const Bytes &)> &put_all) {
  Bytes wanted(bytes);
  const UniqueFd fd = must_open_rw(session, dmabuf_fd);
  fill_random(wanted, 11);
  put_all(wanted);
  for (const std::size_t before : {std::size_t{1}, std::size_t{100}, page - 1, page}) {
    const Hole hole;
    std::byte *const to = hole.at() + page - before;
    ::lseek(fd.get(), 77, SEEK_SET);
    expect_result(std::format("{}: read that faults after {}", who, before),
                  outcome(::read(fd.get(), to, 2 * page)), static_cast<long>(before));
    expect_result(who + ": and the position", ::lseek(fd.get(), 0, SEEK_CUR),
                  77 + static_cast<long>(before));
    std::string wrong = differ({to, before}, std::span(wanted).subspan(77, before));
    report().check(wrong.empty(), who + ": and the data", wrong);

    fill_random({to, before}, before);
    expect_result(std::format("{}: write that faults after {}", who, before),
                  outcome(::pwrite(fd.get(), to, 2 * page, 4001)), static_cast<long>(before));
    std::memcpy(wanted.data() + 4001, to, before);
    wrong = differ(look(), wanted);
    report().check(wrong.empty(), who + ": and just that was written", wrong);
  }
  const Hole hole;
  void *nowhere = hole.at() + page;
  expect_result(who + ": read to nowhere", outcome(::pread(fd.get(), nowhere, 10, 0)), -EFAULT);
  expect_result(who + ": write from nowhere", outcome(::pwrite(fd.get(), nowhere, 10, 0)), -EFAULT);
  const iovec iov[] = {{hole.at(), 33}, {nowhere, 20}, {hole.at() + 2 * page, 40}};
  expect_result(who + ": readv with a bad second piece", outcome(::preadv(fd.get(), iov, 3, 9)),
                33);
  expect_result(who + ": writev with a bad second piece", outcome(::pwritev(fd.get(), iov, 3, 9)),
                33);
  std::memcpy(wanted.data() + 9, hole.at(), 33);
  ::mprotect(hole.at(), page, PROT_READ);
  expect_result(who + ": read into read-only memory", outcome(::pread(fd.get(), hole.at(), 10, 0)),
                -EFAULT);

  // Memory that was never touched, and its own: from one half to the other.
  auto *fresh = static_cast<std::byte *>(
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  expect_result(who + ": read into fresh memory", outcome(::pread(fd.get(), fresh, bytes, 0)),
                static_cast<long>(bytes));
  std::string wrong = differ({fresh, bytes}, wanted);
  report().check(wrong.empty(), who + ": its data", wrong);
  ::munmap(fresh, bytes);
  auto *self = static_cast<std::byte *>(
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, dmabuf_fd, 0));
  expect_result(who + ": read into its own mapping",
                outcome(::pread(fd.get(), self + bytes / 2, bytes / 2, 0)), bytes / 2);
  std::memcpy(wanted.data() + bytes / 2, wanted.data(), bytes / 2);
  ::madvise(self, bytes, MADV_DONTNEED);
  expect_result(who + ": write from its own mapping",
                outcome(::pwrite(fd.get(), self + 8192, 4096, 0)), 4096);
  std::memcpy(wanted.data(), wanted.data() + 8192, 4096);
  ::munmap(self, bytes);
  wrong = differ(look(), wanted);
  report().check(wrong.empty(), who + ": contents in the end", wrong);
}

// A reader whose memory is not given to him stops nobody but himself.
void stalled_reader(const Session &session) {
  const std::string name = "a reader whose page is held back";
  const UniqueFd faults(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)));
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  if (!faults || ::ioctl(faults.get(), UFFDIO_API, &api) != 0) {
    report().skip(name, "no userfaultfd here");
    return;
  }
  const DmaBuf buffer = must_make(Exporter::Udmabuf, bytes);
  const UniqueFd fd = must_open_rw(session, buffer.fd());
  auto *held = static_cast<std::byte *>(
      ::mmap(nullptr, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  uffdio_register range{};
  range.range = {reinterpret_cast<std::uintptr_t>(held), 4 * page};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (::ioctl(faults.get(), UFFDIO_REGISTER, &range) != 0)
    die("UFFDIO_REGISTER");
  const Bytes data(4 * page, std::byte{0x33});
  std::atomic<long> read = 1;
  std::jthread reader([&] { read = outcome(::pread(fd.get(), held, 4 * page, 0)); });
  uffd_msg message{};
  // Reads the fault of the reader: he waits from here on.
  report().check(::read(faults.get(), &message, sizeof(message)) == sizeof(message) &&
                     message.event == UFFD_EVENT_PAGEFAULT,
                 name + ": he waits");
  std::atomic<long> written = 1;
  std::jthread writer([&] { written = outcome(::pwrite(fd.get(), data.data(), data.size(), 0)); });
  for (int tries = 0; tries < 250 && written == 1; ++tries)
    ::usleep(20000);
  expect_result(name + ": others write meanwhile", written, 4 * page);
  report().check(read == 1, name + ": he still waits");
  uffdio_zeropage zero{};
  zero.range = range.range;
  ::ioctl(faults.get(), UFFDIO_ZEROPAGE, &zero);
  reader.join();
  writer.join();
  expect_result(name + ": in the end he has it", read, 4 * page);
  const std::string wrong = differ({held, 4 * page}, data);
  report().check(wrong.empty(), name + ": all of the new data", wrong);
  ::munmap(held, 4 * page);
}

} // namespace

void test_faults(const RwOptions &) {
  const Session session;
  for (const Exporter exporter : {Exporter::Udmabuf, Exporter::VirtioGpu}) {
    const DmaBuf buffer = must_make(exporter, bytes);
    faulting(
        session, buffer.fd(), std::string(name_of(exporter)), [&] { return contents(buffer); },
        [&](const Bytes &data) { put(buffer, data); });
  }
  const Testexp testexp;
  for (const std::uint32_t flags : {0u, DMABUF_TESTEXP_IO_VIEW}) {
    const TestBuffer buffer = cpu_buffer(testexp, bytes, flags);
    faulting(
        session, buffer.fd(), flags ? "I/O memory" : "testexp",
        [&] {
          Bytes found(bytes);
          buffer.must_read({reinterpret_cast<Word *>(found.data()), bytes / 8}, 0);
          return found;
        },
        [&](const Bytes &data) {
          buffer.must_write({reinterpret_cast<const Word *>(data.data()), bytes / 8}, 0);
        });
  }
  stalled_reader(session);
}

} // namespace vmtest
