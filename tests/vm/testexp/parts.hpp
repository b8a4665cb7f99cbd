// SPDX-License-Identifier: GPL-2.0-only
// The parts of the test exporter's own test: a test that uses it is worth as much as it is.
#pragma once

#include "lib/testexp.hpp"

#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <linux/dma-buf.h>

#include <string>
#include <vector>

namespace vmtest {

struct TestexpOptions {
  std::string nvme = "/dev/nvme0n1";
  // Ranges, "ADDRESS,SIZE", that the guest's kernel was told to leave alone.
  std::vector<std::string> with_pages, without_pages;
  bool refuse_vmap = false;
};

inline constexpr std::size_t test_bytes = 256u << 10;
inline constexpr std::uint64_t test_disk_base = 1u << 20;

// A buffer of test_bytes in segments of 4 to 16 KiB; `quarantine` moves are kept.
dmabuf_testexp_create plain_buffer(std::uint32_t flags, std::uint32_t quarantine = 2);
// The pattern of this generation, as long as a buffer.
std::vector<Word> pattern(std::uint32_t generation);
// Whether READ, with these flags, gives this.
bool holds(const TestBuffer &buffer, const std::vector<Word> &expected, std::uint32_t flags = 0);
// "errno, wanted errno" as one check.
void check_result(int result, int wanted, const std::string &name);
// DMA_BUF_IOCTL_SYNC with DMA_BUF_SYNC_*: 0 or a negative errno.
int sync_cpu(const TestBuffer &buffer, std::uint64_t flags);
// One transfer in each direction by the premapped datapath, each compared.
void check_transfers(const TestexpOptions &options, const TestBuffer &buffer,
                     const std::string &name);

// The whole buffer, mapped for the CPU for as long as this lives.
class View {
public:
  explicit View(const TestBuffer &buffer);
  View(const View &) = delete;
  View &operator=(const View &) = delete;
  ~View();
  std::span<Word> words() const { return {words_, test_bytes / 8}; }
  bool holds(const std::vector<Word> &expected) const { return !compare_words(words(), expected); }

private:
  Word *words_;
};

// Kernel mappings: VMAP, pinned and not, LOOSE_VMAP, IO_VIEW.
void test_vmap(const TestexpOptions &options, const Testexp &testexp);
// mmap of a revoked buffer, READ_ONLY, counts of CPU accesses.
void test_views(const TestexpOptions &options, const Testexp &testexp);
// SHADOW.
void test_shadow(const TestexpOptions &options, const Testexp &testexp);
// A kernel mapping that is refused: the dma-buf framework warns of that.
void test_vmap_refused(const Testexp &testexp);
// A DRM driver that imports: it cannot do without pages.
void test_importer(const Testexp &testexp);
// Fences that have signalled, and fences that are followed by another.
void test_fences(const TestexpOptions &options, const Testexp &testexp);
// The module's parameters; each test loads the module anew.
void test_max_mib();
void test_carveouts(const TestexpOptions &options);

} // namespace vmtest
