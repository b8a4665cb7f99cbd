// SPDX-License-Identifier: GPL-2.0-only
#include "base/system.hpp"

#include "base/sizes.hpp"

#include <cerrno>
#include <cstdio>
#include <unistd.h>

namespace dmabuf {

std::optional<std::string> over_memory(uint64_t bytes, uint64_t available_kib, const char *shrink) {
  if (bytes / 1024 < available_kib)
    return std::nullopt;
  return strf("the job's buffer needs %llu MiB and this machine has %llu MiB to spare; %s",
              static_cast<unsigned long long>(mib_up(bytes)),
              static_cast<unsigned long long>(available_kib / 1024), shrink);
}

Result<void> check_memory(uint64_t bytes, const char *shrink) {
  std::FILE *file = std::fopen("/proc/meminfo", "re");
  if (!file)
    return {};
  char line[128];
  unsigned long long available_kib = 0;
  bool known = false;
  while (!known && std::fgets(line, sizeof(line), file))
    known = std::sscanf(line, "MemAvailable: %llu kB", &available_kib) == 1;
  std::fclose(file);
  if (!known)
    return {};
  if (const auto text = over_memory(bytes, available_kib, shrink))
    return fail(ENOMEM, *text);
  return {};
}

std::optional<uint64_t> read_number(const char *path) {
  std::FILE *file = std::fopen(path, "re");
  if (!file)
    return std::nullopt;
  unsigned long long number = 0;
  const int got = std::fscanf(file, "%llu", &number);
  std::fclose(file);
  if (got != 1)
    return std::nullopt;
  return number;
}

uint64_t page_bytes() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

} // namespace dmabuf
