// SPDX-License-Identifier: GPL-2.0-only
#include "testexp.hpp"

#include "report.hpp"
#include "session.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <vector>

namespace vmtest {

namespace {

int call(int fd, unsigned long command, void *argument) {
  const int result = ::ioctl(fd, command, argument);
  return result < 0 ? -errno : result;
}

std::string module_file() {
  if (const char *named = std::getenv("DMABUF_TESTEXP_KO"))
    return named;
  const char *beside = std::getenv("DMABUF_RW_KO");
  if (!beside)
    die("DMABUF_TESTEXP_KO or DMABUF_RW_KO must name the module's file");
  const auto folder = std::filesystem::path(beside).parent_path();
  for (const auto &file : {folder / "testexp/dmabuf_testexp.ko", folder / "dmabuf_testexp.ko"})
    if (std::filesystem::exists(file))
      return file;
  die(std::format("no dmabuf_testexp.ko in {} or its folder testexp", folder.string()));
}

} // namespace

TestBuffer::TestBuffer(TestBuffer &&other) noexcept
    : device_(std::exchange(other.device_, -1)), id_(other.id_), bytes_(other.bytes_),
      fd_(std::move(other.fd_)) {}

TestBuffer &TestBuffer::operator=(TestBuffer &&other) noexcept {
  std::swap(device_, other.device_);
  std::swap(id_, other.id_);
  std::swap(bytes_, other.bytes_);
  std::swap(fd_, other.fd_);
  return *this;
}

int TestBuffer::simple(unsigned long command) const {
  dmabuf_testexp_id argument{.id = id_, .flags = 0};
  return call(device_, command, &argument);
}

int TestBuffer::move(std::uint32_t timeout_ms, std::uint64_t *invalidate_ns) const {
  dmabuf_testexp_move argument{};
  argument.id = id_;
  argument.timeout_ms = timeout_ms;
  const int result = call(device_, DMABUF_TESTEXP_IOC_MOVE, &argument);
  if (invalidate_ns)
    *invalidate_ns = argument.invalidate_ns;
  return result;
}

int TestBuffer::revoke() const {
  dmabuf_testexp_move argument{};
  argument.id = id_;
  return call(device_, DMABUF_TESTEXP_IOC_REVOKE, &argument);
}

int TestBuffer::unrevoke() const { return simple(DMABUF_TESTEXP_IOC_UNREVOKE); }

int TestBuffer::fail(std::uint32_t operation, int error, std::uint32_t after,
                     std::uint32_t times) const {
  dmabuf_testexp_fail argument{.id = id_,
                               .flags = 0,
                               .operation = operation,
                               .error = static_cast<__u32>(error),
                               .after = after,
                               .times = times};
  return call(device_, DMABUF_TESTEXP_IOC_FAIL, &argument);
}

int TestBuffer::add_fence(std::uint32_t usage, std::uint32_t delay_ms, std::uint32_t flags,
                          std::uint32_t *fence) const {
  dmabuf_testexp_fence argument{};
  argument.id = id_;
  argument.flags = flags;
  argument.usage = usage;
  argument.delay_ms = delay_ms;
  const int result = call(device_, DMABUF_TESTEXP_IOC_FENCE_ADD, &argument);
  if (fence)
    *fence = argument.fence;
  return result;
}

int TestBuffer::signal(std::uint32_t fence) const {
  dmabuf_testexp_signal argument{.id = id_, .flags = 0, .fence = fence, .signalled = 0};
  return call(device_, DMABUF_TESTEXP_IOC_FENCE_SIGNAL, &argument);
}

int TestBuffer::add_signalled(std::uint32_t usage, std::uint32_t count) const {
  dmabuf_testexp_fences argument{.id = id_, .flags = 0, .usage = usage, .count = count};
  return call(device_, DMABUF_TESTEXP_IOC_FENCES_SIGNALLED, &argument);
}

int TestBuffer::vmap_of(int dmabuf_fd, std::uint32_t flags) const {
  dmabuf_testexp_vmap argument{
      .id = id_, .flags = flags, .fd = static_cast<__u32>(dmabuf_fd), .reserved = 0};
  return call(device_, DMABUF_TESTEXP_IOC_VMAP, &argument);
}

int TestBuffer::vunmap() const { return simple(DMABUF_TESTEXP_IOC_VUNMAP); }

int TestBuffer::start_mover(std::uint32_t interval_us, std::uint64_t count,
                            std::uint32_t flags) const {
  dmabuf_testexp_mover argument{};
  argument.id = id_;
  argument.flags = flags;
  argument.count = count;
  argument.interval_us = interval_us;
  return call(device_, DMABUF_TESTEXP_IOC_MOVER_START, &argument);
}

int TestBuffer::stop_mover() const { return simple(DMABUF_TESTEXP_IOC_MOVER_STOP); }

int TestBuffer::stats(dmabuf_testexp_stats &stats) const {
  stats = {};
  stats.id = id_;
  return call(device_, DMABUF_TESTEXP_IOC_STATS, &stats);
}

int TestBuffer::read(std::span<Word> words, std::uint64_t offset, std::uint32_t flags) const {
  dmabuf_testexp_access argument{.id = id_,
                                 .flags = flags,
                                 .offset = offset,
                                 .length = words.size_bytes(),
                                 .address = reinterpret_cast<std::uintptr_t>(words.data())};
  return call(device_, DMABUF_TESTEXP_IOC_READ, &argument);
}

int TestBuffer::write(std::span<const Word> words, std::uint64_t offset,
                      std::uint32_t flags) const {
  dmabuf_testexp_access argument{.id = id_,
                                 .flags = flags,
                                 .offset = offset,
                                 .length = words.size_bytes(),
                                 .address = reinterpret_cast<std::uintptr_t>(words.data())};
  return call(device_, DMABUF_TESTEXP_IOC_WRITE, &argument);
}

int TestBuffer::destroy() {
  fd_.reset();
  if (device_ < 0)
    return 0;
  const int result = simple(DMABUF_TESTEXP_IOC_DESTROY);
  device_ = -1;
  return result;
}

dmabuf_testexp_stats TestBuffer::must_stats() const {
  dmabuf_testexp_stats result{};
  if (const int error = stats(result))
    die("STATS of the test exporter: " + errno_name(error));
  return result;
}

void TestBuffer::must_read(std::span<Word> words, std::uint64_t offset) const {
  if (const int error = read(words, offset))
    die("READ of the test exporter: " + errno_name(error));
}

void TestBuffer::must_write(std::span<const Word> words, std::uint64_t offset) const {
  if (const int error = write(words, offset))
    die("WRITE of the test exporter: " + errno_name(error));
}

void TestBuffer::put_pattern(std::uint64_t offset, std::size_t bytes, std::uint32_t generation,
                             std::uint64_t pattern_offset) const {
  std::vector<Word> words(bytes / 8);
  fill_pattern(words, generation, pattern_offset);
  must_write(words, offset);
}

Testexp::Testexp() {
  if (!module_loaded("dmabuf_testexp")) {
    const std::string file = module_file();
    if (const int error = load_module(file))
      die(std::format("load {}: {}", file, errno_name(error)));
  }
  for (int tries = 0; tries < 200 && !fd_; ++tries) {
    fd_ = UniqueFd(::open(DMABUF_TESTEXP_DEVICE, O_RDWR | O_CLOEXEC));
    if (!fd_)
      ::usleep(10000);
  }
  if (!fd_)
    die(std::format("open {}: {}", DMABUF_TESTEXP_DEVICE, std::strerror(errno)));
}

int Testexp::reload(const std::string &parameters) {
  if (module_loaded("dmabuf_testexp"))
    if (const int error = unload_module("dmabuf_testexp", 10))
      return error;
  const UniqueFd file(::open(module_file().c_str(), O_RDONLY | O_CLOEXEC));
  if (!file)
    return -errno;
  return ::syscall(SYS_finit_module, file.get(), parameters.c_str(), 0) == 0 ? 0 : -errno;
}

int Testexp::raw(unsigned long command, void *argument) const {
  return call(fd(), command, argument);
}

int Testexp::query(dmabuf_testexp_query &query) const {
  query = {};
  return raw(DMABUF_TESTEXP_IOC_QUERY, &query);
}

bool Testexp::has(std::uint64_t features) const {
  dmabuf_testexp_query answer{};
  if (const int error = query(answer))
    die("QUERY of the test exporter: " + errno_name(error));
  return (answer.features & features) == features;
}

bool Testexp::can_move() const { return has(DMABUF_TESTEXP_FEAT_MOVE); }

int Testexp::create(dmabuf_testexp_create &create) const {
  return raw(DMABUF_TESTEXP_IOC_CREATE, &create);
}

TestBuffer Testexp::make(const dmabuf_testexp_create &create) const {
  dmabuf_testexp_create made = create;
  if (const int error = this->create(made))
    die("CREATE of the test exporter: " + errno_name(error));
  return TestBuffer(fd(), made);
}

dmabuf_testexp_create gpu_buffer(std::uint64_t bytes, std::uint64_t seed, std::uint32_t flags) {
  dmabuf_testexp_create create{};
  create.bytes = bytes;
  create.seed = seed;
  create.flags = flags;
  create.segment_min = 4096;
  create.segment_max = 65536;
  create.quarantine = 4;
  return create;
}

bool idle(const TestBuffer &buffer) {
  pollfd poll{.fd = buffer.fd(), .events = POLLOUT, .revents = 0};
  return ::poll(&poll, 1, 0) == 1 && (poll.revents & POLLOUT);
}

long listed_fences() {
  std::ifstream info("/sys/kernel/debug/dma_buf/bufinfo");
  if (!info)
    return -1;
  long count = 0;
  for (std::string line; std::getline(info, line);)
    count += line.contains(" fence:");
  return count;
}

} // namespace vmtest
