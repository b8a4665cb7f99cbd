// SPDX-License-Identifier: GPL-2.0-only
#include "base/error.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace dmabuf {

std::string strf(const char *format, ...) {
  va_list args;
  va_list again;
  va_start(args, format);
  va_copy(again, args);
  const int length = std::vsnprintf(nullptr, 0, format, args);
  va_end(args);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  if (length > 0)
    std::vsnprintf(text.data(), text.size() + 1, format, again);
  va_end(again);
  return text;
}

std::string errno_name(int code) {
  if (std::abs(code) == kKernelNotSupported)
    return "ENOTSUPP";
  const char *name = strerrorname_np(std::abs(code));
  return name ? name : strf("errno %d", std::abs(code));
}

std::string errno_meaning(int code) {
  if (std::abs(code) == kKernelNotSupported)
    return "Not supported, the kernel's own errno 524";
  const char *text = strerrordesc_np(std::abs(code));
  return text ? text : "";
}

std::string errno_text(const std::string &what, int code) {
  const std::string meaning = errno_meaning(code);
  return what + ": " + errno_name(code) + (meaning.empty() ? "" : " (" + meaning + ")");
}

} // namespace dmabuf
