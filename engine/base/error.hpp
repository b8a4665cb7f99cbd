// SPDX-License-Identifier: GPL-2.0-only
// Errors inside the engine: an errno for fio and a sentence for the user.
#pragma once

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

/// Name of an errno, such as "ENOMEM"; "errno 1234" for a number without a name. Sign is ignored.
std::string errno_name(int code);

/// "<what>: ENOMEM (Cannot allocate memory)" for an errno.
std::string errno_text(const std::string &what, int code);

/// An unexpected Result holding errno `code` and `message`.
inline std::unexpected<Error> fail(int code, std::string message) {
  return std::unexpected(Error{code, std::move(message)});
}

} // namespace dmabuf
