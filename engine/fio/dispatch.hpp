// SPDX-License-Identifier: GPL-2.0-only
// Which engine fits the running fio, and what is said where none does. Knows nothing of fio's
// headers: libdmabuf.so is one file for every fio, and each engine beside it is for one.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
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
  // It goes to a terminal, and no fio has such a name.
  if (!std::ranges::all_of(file, [](char c) { return c > ' ' && c <= '~'; }))
    return {};
  return std::string(file.substr(0, file.size() - kEnd.size()));
}

/// Why somebody may have put this engine there who could not have exchanged the library itself;
/// empty if nobody could. `folder` is beside `library`, and `engine` in it.
inline std::string others_engine(const std::string &library, const std::string &folder,
                                 const std::string &engine) {
  struct stat around = {}, lib = {}, folder_name = {}, inside = {}, engine_name = {}, code = {};
  const std::string place = library.substr(0, library.rfind('/') + 1);
  if (stat(place.c_str(), &around) || stat(library.c_str(), &lib) ||
      lstat(folder.c_str(), &folder_name) || stat(folder.c_str(), &inside) ||
      lstat(engine.c_str(), &engine_name) || stat(engine.c_str(), &code))
    return "it cannot be looked at";
  const auto others = [&lib](const struct stat &node) {
    return node.st_uid != 0 && node.st_uid != geteuid() && node.st_uid != lib.st_uid;
  };
  const auto open = [](const struct stat &node) { return (node.st_mode & S_IWOTH) != 0; };
  const auto sticky = [](const struct stat &node) { return (node.st_mode & S_ISVTX) != 0; };
  const auto owned = [](const std::string &what, const struct stat &node) {
    return what + " belongs to user " + std::to_string(node.st_uid) +
           ", who may have put it there before you; move libdmabuf.so and its folder to a place "
           "that is not for everybody";
  };
  if (open(around) && others(folder_name))
    return owned(folder, folder_name);
  if (open(inside) && !sticky(inside) && !(open(around) && !sticky(around)))
    return std::string("everybody may write to ") + folder + "; run: chmod o-w " + folder;
  if (open(inside) && others(engine_name))
    return owned(engine, engine_name);
  if (open(code) && !open(lib))
    return "everybody may write to it; run: chmod o-w " + engine;
  return {};
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
