// SPDX-License-Identifier: GPL-2.0-only
// The test exporter, dmabuf_testexp.ko: thin wrappers of its ABI. Calls return 0 or a
// negative errno.
#pragma once

#include "pattern.hpp"
#include "unique_fd.hpp"

#include <linux/dmabuf_testexp.h>

#include <cstdint>
#include <span>
#include <string>

namespace vmtest {

// One buffer of the exporter. Its dma-buf and its id go away with it.
class TestBuffer {
public:
  TestBuffer() = default;
  TestBuffer(int device, const dmabuf_testexp_create &made)
      : device_(device), id_(made.id), bytes_(made.bytes), fd_(static_cast<int>(made.fd)) {}
  TestBuffer(TestBuffer &&other) noexcept;
  TestBuffer &operator=(TestBuffer &&other) noexcept;
  ~TestBuffer() { destroy(); }

  int fd() const { return fd_.get(); }
  std::uint32_t id() const { return id_; }
  std::uint64_t size() const { return bytes_; }
  void close_fd() { fd_.reset(); }

  int move(std::uint32_t timeout_ms = 0, std::uint64_t *invalidate_ns = nullptr) const;
  int revoke() const;
  int unrevoke() const;
  int fail(std::uint32_t operation, int error, std::uint32_t after = 0,
           std::uint32_t times = 0) const;
  // A fence that signals after `delay_ms`, or with DMABUF_TESTEXP_FENCE_NEVER when told.
  int add_fence(std::uint32_t usage, std::uint32_t delay_ms, std::uint32_t flags = 0,
                std::uint32_t *fence = nullptr) const;
  int signal(std::uint32_t fence = 0) const;
  // `count` fences that have all signalled when the call returns.
  int add_signalled(std::uint32_t usage, std::uint32_t count) const;
  // A kernel mapping that the exporter's session holds, as an importer would.
  // read() and write() with DMABUF_TESTEXP_ACCESS_VMAP go through it.
  // `flags`: DMABUF_TESTEXP_VMAP_PIN, for one that pins.
  int vmap(std::uint32_t flags = 0) const { return vmap_of(fd(), flags); }
  // The same of any file.
  int vmap_of(int dmabuf_fd, std::uint32_t flags = 0) const;
  int vunmap() const;
  int start_mover(std::uint32_t interval_us, std::uint64_t count = 0,
                  std::uint32_t flags = 0) const;
  int stop_mover() const;
  int stats(dmabuf_testexp_stats &stats) const;
  int read(std::span<Word> words, std::uint64_t offset, std::uint32_t flags = 0) const;
  int write(std::span<const Word> words, std::uint64_t offset, std::uint32_t flags = 0) const;
  int destroy();

  // The same for calls that must not fail here: they end the program with exit_setup.
  dmabuf_testexp_stats must_stats() const;
  void must_read(std::span<Word> words, std::uint64_t offset) const;
  void must_write(std::span<const Word> words, std::uint64_t offset) const;
  // Fills a range with the pattern.
  void put_pattern(std::uint64_t offset, std::size_t bytes, std::uint32_t generation,
                   std::uint64_t pattern_offset) const;

private:
  int simple(unsigned long command) const;
  int device_ = -1;
  std::uint32_t id_ = 0;
  std::uint64_t bytes_ = 0;
  UniqueFd fd_;
};

// One open of the exporter's device.
class Testexp {
public:
  // Loads the module when it is not there, from $DMABUF_TESTEXP_KO or a file beside
  // $DMABUF_RW_KO. Ends the program with exit_setup when that cannot be done.
  Testexp();
  // Unloads the module and loads it with these parameters: "max_mib=8". 0 or a negative errno.
  // No Testexp may be open.
  static int reload(const std::string &parameters);
  int fd() const { return fd_.get(); }
  int query(dmabuf_testexp_query &query) const;
  // Whether this kernel lets a buffer move while it is mapped.
  bool can_move() const;
  // Whether the module announces all of these DMABUF_TESTEXP_FEAT_*.
  bool has(std::uint64_t features) const;
  int create(dmabuf_testexp_create &create) const;
  // Ends the program with exit_setup when it fails.
  TestBuffer make(const dmabuf_testexp_create &create) const;
  // Any command with any argument.
  int raw(unsigned long command, void *argument) const;

private:
  UniqueFd fd_;
};

// Like a GPU's memory: it moves, and has neither a CPU view nor pages.
inline constexpr std::uint32_t gpu_like = DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_NO_CPU |
                                          DMABUF_TESTEXP_NO_PAGES | DMABUF_TESTEXP_NEED_INVALIDATE;

// `bytes` of it in segments of 4 to 64 KiB.
dmabuf_testexp_create gpu_buffer(std::uint64_t bytes, std::uint64_t seed,
                                 std::uint32_t flags = gpu_like);

// Whether nothing has to be waited for before the buffer is written.
bool idle(const TestBuffer &buffer);

// Fences that the kernel lists, of all buffers; -1 where it does not list them.
long listed_fences();

} // namespace vmtest
