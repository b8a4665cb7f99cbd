// SPDX-License-Identifier: GPL-2.0-only
#include "base/error.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace dmabuf {

namespace {

/// The kernel's own errnos, which the C library has no names for. The library's table is in
/// module/words.c, that of the scripts in dmabuf_common/errnos.py.
struct KernelErrno {
  int code;
  const char *name, *meaning;
};
constexpr KernelErrno kKernelErrnos[] = {
    {kKernelNotSupported, "ENOTSUPP", "Not supported, the kernel's own errno 524"}};

const KernelErrno *kernel_errno(int code) {
  for (const KernelErrno &one : kKernelErrnos)
    if (one.code == code)
      return &one;
  return nullptr;
}

} // namespace

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
  if (const KernelErrno *one = kernel_errno(std::abs(code)))
    return one->name;
  const char *name = strerrorname_np(std::abs(code));
  return name ? name : strf("errno %d", std::abs(code));
}

std::string errno_meaning(int code) {
  if (const KernelErrno *one = kernel_errno(std::abs(code)))
    return one->meaning;
  const char *text = strerrordesc_np(std::abs(code));
  return text ? text : "";
}

std::string errno_text(const std::string &what, int code) {
  const std::string meaning = errno_meaning(code);
  return what + ": " + errno_name(code) + (meaning.empty() ? "" : " (" + meaning + ")");
}

} // namespace dmabuf
