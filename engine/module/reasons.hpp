// SPDX-License-Identifier: GPL-2.0-only
// What the kernel module's reason codes mean: the library's words, and what to try in a job of fio.
#pragma once

#include <cstdint>
#include <string>

namespace dmabuf {

/// One DMABUF_RW_REASON_*: its name without the prefix, a sentence with the cause, and one thing
/// to try.
struct Reason {
  uint32_t code;
  const char *name;
  const char *sentence;
  const char *remedy;
};

/// The entry for `code`; an entry named UNKNOWN for a code newer than this build.
Reason reason(uint32_t code);

/// "<sentence> (<name>, <errno name>); <remedy>"; with a note "… (<name>, <errno name>): <note>;
/// <remedy>".
std::string reason_text(uint32_t code, int error, const std::string &note = "");

} // namespace dmabuf
