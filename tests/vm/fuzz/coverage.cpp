// SPDX-License-Identifier: GPL-2.0-only
#include "coverage.hpp"

#include "lib/report.hpp"
#include "lib/unique_fd.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/kcov.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace vmtest::fuzz {

namespace {

constexpr std::size_t words = 1u << 17;

// Whether it was not in the table yet.
bool insert(Shared &shared, std::uint64_t pc) {
  std::size_t slot = (pc * 0x9E3779B97F4A7C15u >> 32) % max_pcs;
  for (std::size_t tries = 0; tries < max_pcs; ++tries, slot = (slot + 1) % max_pcs) {
    std::uint64_t found = shared.pcs[slot].load(std::memory_order_relaxed);
    if (found == 0 && shared.pcs[slot].compare_exchange_strong(found, pc)) {
      ++shared.pcs_count;
      return true;
    }
    if (found == pc)
      return false;
  }
  return false;
}

} // namespace

bool open_coverage(unsigned threads) {
  for (unsigned thread = 0; thread < threads; ++thread) {
    UniqueFd fd(::open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC));
    if (!fd)
      return false;
    if (::ioctl(fd.get(), KCOV_INIT_TRACE, words) != 0)
      die(std::format("KCOV_INIT_TRACE: {}", std::strerror(errno)));
    if (::dup3(fd.get(), coverage_fds + static_cast<int>(thread), O_CLOEXEC) < 0)
      die("dup of kcov");
  }
  return true;
}

Coverage::Coverage(bool on, unsigned thread) {
  if (!on)
    return;
  const int fd = coverage_fds + static_cast<int>(thread);
  void *mapped = ::mmap(nullptr, words * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED || ::ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC) != 0)
    die(std::format("KCOV_ENABLE: {}", std::strerror(errno)));
  reached_ = static_cast<std::uint64_t *>(mapped);
}

void Coverage::begin() {
  if (reached_)
    __atomic_store_n(&reached_[0], 0, __ATOMIC_RELAXED);
}

std::uint32_t Coverage::end(Shared &shared) {
  if (!reached_)
    return 0;
  const std::uint64_t count =
      std::min<std::uint64_t>(__atomic_load_n(&reached_[0], __ATOMIC_RELAXED), words - 1);
  std::uint32_t added = 0;
  for (std::uint64_t i = 1; i <= count; ++i)
    added += insert(shared, reached_[i]);
  return added;
}

} // namespace vmtest::fuzz
