// SPDX-License-Identifier: GPL-2.0-only
// Errors inside the engine: an errno for fio and a sentence for the user.
#pragma once

#include <cerrno>
#include <expected>
#include <string>

namespace dmabuf {

/// What failed. `code` is a positive errno, `message` one or two sentences without a final newline:
/// the cause, then what to try.
struct Error {
  int code;
  std::string message;
};

template <class T> using Result = std::expected<T, Error>;

/// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string strf(const char *format, ...);

/// The kernel's own "not supported". It is no errno of user space, but drivers let it out: NVIDIA's
/// refuses an mmap() with it.
inline constexpr int kKernelNotSupported = 524;

/// Name of an errno, such as "ENOMEM"; "errno 1234" for a number without a name. Sign is ignored.
std::string errno_name(int code);

/// What an errno means, such as "Cannot allocate memory"; empty for a number without a name.
std::string errno_meaning(int code);

/// A positive errno that user space knows: EOPNOTSUPP for kKernelNotSupported, else `code` itself.
constexpr int known_errno(int code) { return code == kKernelNotSupported ? EOPNOTSUPP : code; }

/// "<what>: ENOMEM (Cannot allocate memory)" for an errno.
std::string errno_text(const std::string &what, int code);

/// An unexpected Result holding errno `code` and `message`.
inline std::unexpected<Error> fail(int code, std::string message) {
  return std::unexpected(Error{code, std::move(message)});
}

} // namespace dmabuf
