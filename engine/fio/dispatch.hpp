// SPDX-License-Identifier: GPL-2.0-only
// Which engine fits the running fio, and what is said where none does. Knows nothing of fio's
// headers: libdmabuf.so is one file for every fio, and each engine beside it is for one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dmabuf {

/// The folder of the engines: `libdmabuf` beside the library, whose path is absolute.
inline std::string engines_folder(const std::string &library) {
  return library.substr(0, library.rfind('/') + 1) + "libdmabuf";
}

/// The file in that folder for the fio that calls itself `fio`; empty where no file can have that
/// name.
inline std::string engine_file(std::string_view fio) {
  if (fio.empty() || fio.find('/') != std::string_view::npos)
    return {};
  return std::string(fio) + ".so";
}

/// The fio that a file in that folder is for; empty if it is no engine.
inline std::string fio_of_file(std::string_view file) {
  constexpr std::string_view kStart = "fio-", kEnd = ".so";
  if (!file.starts_with(kStart) || !file.ends_with(kEnd) ||
      file.size() <= kStart.size() + kEnd.size())
    return {};
  return std::string(file.substr(0, file.size() - kEnd.size()));
}

inline std::string no_fio_sentence() {
  return "libdmabuf: it was loaded by a program that is no fio; use it as fio's ioengine";
}

/// `known`: the fios that the folder has engines for, in the order in which they are named.
inline std::string no_engine_sentence(const std::string &fio, const std::string &folder,
                                      const std::vector<std::string> &known) {
  const std::string head = "libdmabuf: no engine for " + fio + ": ";
  if (known.empty())
    return head + "there is none in " + folder +
           ", which belongs beside libdmabuf.so; install both, or take both from the build";
  std::string names = known.front();
  for (size_t i = 1; i < known.size(); i++)
    names += (i + 1 == known.size() ? " and " : ", ") + known[i];
  return head + folder + " has " + names + "; build one with -DFIO_SOURCE_DIRS=<the source of " +
         fio + ">";
}

} // namespace dmabuf
