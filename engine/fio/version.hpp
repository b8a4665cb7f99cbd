// SPDX-License-Identifier: GPL-2.0-only
// The engine works with exactly the fio it was built for: fio's structures change without notice.
#pragma once

#include "base/error.hpp"

#include <cstring>
#include <optional>
#include <string>

namespace dmabuf {

/// The sentence that refuses to work with fio `running` (nullptr: no fio at all) in an engine built
/// for `built`; nothing if they are the same.
inline std::optional<std::string> version_refusal(const char *running, const char *built) {
  if (running && std::strcmp(running, built) == 0)
    return std::nullopt;
  if (!running)
    return strf(
        "libdmabuf: this engine was built for %s and was loaded by a program that is no fio; "
        "use it as fio's ioengine",
        built);
  return strf("libdmabuf: this engine was built for %s and cannot work in %s; build it with "
              "-DFIO_SOURCE_DIR=<the source of %s>",
              built, running, running);
}

} // namespace dmabuf
