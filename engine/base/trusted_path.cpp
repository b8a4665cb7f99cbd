// SPDX-License-Identifier: GPL-2.0-only
#include "base/trusted_path.hpp"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <ranges>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace dmabuf {
namespace {

constexpr unsigned kMostLinks = 40; // as the kernel's

std::unexpected<Error> unseen(int code) {
  return fail(code, errno_text("it cannot be looked at", code));
}

/// Puts the parts of a path on a stack, the first one on top.
void push(std::vector<std::string> &parts, std::string_view path) {
  const size_t below = parts.size();
  for (const auto part : std::views::split(path, '/'))
    if (const std::string_view name(part.begin(), part.end()); !name.empty() && name != ".")
      parts.emplace_back(name);
  std::ranges::reverse(parts.begin() + static_cast<std::ptrdiff_t>(below), parts.end());
}

} // namespace

Result<std::string> trusted_path(const std::string &path) {
  std::error_code error;
  std::vector<std::string> parts;
  push(parts, path);
  if (!path.starts_with('/')) {
    const std::string here = std::filesystem::current_path(error);
    if (error)
      return unseen(error.value());
    push(parts, here);
  }
  std::string real; // of what is behind us, "" for the root
  unsigned links = 0;
  while (!parts.empty()) {
    const std::string name = std::move(parts.back());
    parts.pop_back();
    if (name == "..") {
      real.resize(real.empty() ? 0 : real.rfind('/'));
      continue;
    }
    const std::string folder = real.empty() ? "/" : real;
    const std::string next = real + '/' + name;
    struct stat above = {}, node = {};
    if (stat(folder.c_str(), &above) < 0 || lstat(next.c_str(), &node) < 0)
      return unseen(errno);
    // In one such as /tmp everybody may make a file, and nobody take away another's.
    const bool others = node.st_uid != 0 && node.st_uid != geteuid();
    if ((above.st_mode & S_IWOTH) && (!(above.st_mode & S_ISVTX) || others))
      return fail(EPERM, strf("it lies in a folder in which everybody may put another in its "
                              "place (%s)",
                              folder.c_str()));
    if (!S_ISLNK(node.st_mode)) {
      real = next;
      continue;
    }
    if (++links > kMostLinks)
      return unseen(ELOOP);
    const std::string to = std::filesystem::read_symlink(next, error);
    if (error)
      return unseen(error.value());
    if (to.starts_with('/'))
      real.clear();
    push(parts, to);
  }
  return real.empty() ? "/" : real;
}

} // namespace dmabuf
