// SPDX-License-Identifier: GPL-2.0-only
#include "faults.hpp"
#include "lib/report.hpp"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <map>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr unsigned most_allocations = 500; // of one call; more must be a mistake of this program

} // namespace

void setting(const std::string &file, const char *value) {
  std::ofstream out("/sys/kernel/debug/" + file);
  if (!(out << value << std::flush))
    die(std::format("{}: this kernel injects no faults (dmabuf-lab run --kernel debug)", file));
}

std::pair<std::string, std::string> range_of(const std::string &function,
                                             const std::string &module) {
  std::ifstream in("/proc/kallsyms");
  std::map<std::uint64_t, std::string> sorted;
  for (std::string line; std::getline(in, line);) {
    std::uint64_t address = 0;
    char name[256]{};
    // A module's own functions only, where it is named.
    if ((module.empty() || line.contains(module)) &&
        std::sscanf(line.c_str(), "%lx %*c %255s", &address, name) == 2)
      sorted.emplace(address, name);
  }
  for (const bool variants : {false, true})
    for (auto at = sorted.begin(); at != sorted.end(); ++at)
      if ((variants ? at->second.starts_with(function + ".isra.") : at->second == function) &&
          std::next(at) != sorted.end())
        return {std::format("{:#x}", at->first), std::format("{:#x}", std::next(at)->first)};
  die(std::format("this kernel has no {}: its DMA debugging cannot be spared", function));
}

Countdown::Countdown() : fd_(::open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC)) {
  if (!fd_)
    die(std::format("fail-nth: {}", std::strerror(errno)));
  // Every allocation that may wait, and without a word in the log.
  setting("failslab/ignore-gfp-wait", "N");
  setting("failslab/verbose", "0");
  setting("fail_page_alloc/ignore-gfp-wait", "N");
  setting("fail_page_alloc/min-order", "0");
  setting("fail_page_alloc/verbose", "0");
  // DMA debugging turns itself off when it is out of memory: what it needs is not refused.
  const auto [start, end] = range_of("add_dma_entry");
  for (const std::string kind : {"failslab", "fail_page_alloc"}) {
    setting(kind + "/stacktrace-depth", "32");
    setting(kind + "/reject-start", start.c_str());
    setting(kind + "/reject-end", end.c_str());
  }
}

void Countdown::start(unsigned n) {
  const std::string text = std::to_string(n);
  if (::pwrite(fd_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    die("fail-nth cannot be set");
}

bool Countdown::stop() {
  char text[16]{};
  const ssize_t got = ::pread(fd_.get(), text, sizeof(text) - 1, 0);
  unsigned left = 0;
  if (got <= 0 || std::from_chars(text, text + got, left).ec != std::errc())
    die("fail-nth cannot be read");
  start(0);
  return left == 0;
}

void Faults::every(const std::string &name, const std::function<Result(const Watched &)> &call,
                   unsigned least) {
  std::map<long, unsigned> seen;
  unsigned n = 1;
  for (; n <= most_allocations; ++n) {
    bool refused = false;
    const Result result = call([&](const std::function<void()> &body) {
      countdown_.start(n);
      body();
      refused = countdown_.stop();
    });
    ++seen[result.value < 0 ? result.value : 0];
    report().check(result.value >= 0 || (refused && result.allowed),
                   std::format("{}, allocation {} refused", name, n), errno_name(result.value));
    if (!refused)
      break;
  }
  report().check(n > least && n <= most_allocations,
                 name + ": there was something to refuse, and an end",
                 std::format("{} allocations", n - 1));
  std::string results;
  for (const auto &[value, count] : seen)
    results += std::format(" {} x {},", count, value ? errno_name(value) : "success");
  results.pop_back();
  report().note(std::format("{}: {} allocations refused:{}", name, n - 1, results));
}

} // namespace vmtest
