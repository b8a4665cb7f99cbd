// SPDX-License-Identifier: GPL-2.0-only
// What an I/O, a MAP or a command costs the guest's CPU, in instructions.
//
// Under `dmabuf-lab run --icount` the guest's time stamp counter stands for the number of
// instructions it has executed. On any other machine the same program counts cycles.
#pragma once

#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <liburing.h>
#include <x86intrin.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace measure {

using namespace vmtest;

/// Ticks of the time stamp counter; under -icount shift=1 an instruction takes two.
inline std::uint64_t now() {
  _mm_lfence();
  return __rdtsc();
}
inline constexpr double ticks_per_instruction = 2;

/// One line of the plan: words NAME=VALUE.
class Case {
public:
  explicit Case(const std::string &line);
  const std::string &line() const { return line_; }
  /// The first word: what is measured.
  const std::string &kind() const { return kind_; }
  bool has(const std::string &name) const { return words_.contains(name); }
  std::string text(const std::string &name) const;
  std::uint64_t number(const std::string &name) const;
  std::uint64_t number(const std::string &name, std::uint64_t otherwise) const;

private:
  std::string line_, kind_;
  std::map<std::string, std::string> words_;
};

/// One memory of one kind that every case shares: as dma-buf and as ordinary memory, so that
/// datapaths differ in nothing but themselves.
struct Memory {
  Memory(const std::string &kind, std::size_t bytes);
  Memory(const Memory &) = delete;
  ~Memory();
  int dmabuf() const { return exported ? exported->fd() : buffer->fd(); }
  UniqueFd memfd;
  std::optional<DmaBuf> buffer; ///< of the memfd
  std::byte *host = nullptr;    ///< the same pages, mapped from the memfd
  std::optional<TestBuffer>
      exported; ///< or a buffer of the test exporter, which the CPU cannot map
  std::size_t bytes = 0;
};

/// Memory of a kind of at least so many bytes, made or enlarged when needed before the first case
/// runs: kinds are scattered (4 KiB pieces), huge (2 MiB pages), contiguous (one 1 GiB page), and
/// of the test exporter unfenced and signalled, with fences that have all signalled, as a GPU's
/// buffers have.
std::shared_ptr<Memory> memory_of(const std::string &kind, std::size_t bytes);
/// A dma-buf that nobody else has, of such memory or of the system heap ("heap": pieces of 1 MiB).
DmaBuf fresh_dmabuf(const std::string &kind, std::size_t bytes);

/// A figure of one repeat of one case, and what belongs to it.
using Figures = std::vector<std::pair<std::string, double>>;

/// One case, set up; run() is one repeat.
class Bench {
public:
  virtual ~Bench() = default;
  virtual Figures run() = 0;
};

std::unique_ptr<Bench> make_io(const Case &what);
std::unique_ptr<Bench> make_map(const Case &what);

/// One job and as many as there are CPUs but one, so many times, interleaved. Prints a line of JSON
/// for each file that the plug-in writes, in their order.
int run_jobs(const Case &what, unsigned repeats);

/// Runs a command with the CPU kept busy, and counts what was not idle.
int run_busy(char **argv);

/// Keeps the CPU from going idle and knows how much of the time was spent on that.
class Spinner {
public:
  Spinner();
  ~Spinner();
  /// Ticks that would have been idle, so far.
  std::uint64_t idle() const { return __atomic_load_n(&idle_, __ATOMIC_RELAXED); }

private:
  static void *spin(void *self);
  std::uint64_t idle_ = 0;
  bool stop_ = false;
  pthread_t thread_{};
};

} // namespace measure
