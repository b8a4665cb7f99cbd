// SPDX-License-Identifier: GPL-2.0-only
// libdmabuf.so, which fio loads: hands on to the engine in the folder beside it that was built for
// the running fio. fio's structures differ from one fio to the next, so nothing here looks at them.
#include "fio/dispatch.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <dlfcn.h>
#include <memory>
#include <unistd.h>

struct ioengine_ops; // fio's own

extern "C" [[gnu::visibility("default")]] void get_ioengine(ioengine_ops **ops);

namespace dmabuf {
namespace {

using GetEngine = decltype(get_ioengine);

template <auto function> struct Calls {
  template <class T> void operator()(T *pointer) const { function(pointer); }
};

/// The path of this library, without links and whatever the current folder is later; empty if it
/// cannot be told.
std::string own_path() {
  Dl_info info = {};
  if (!dladdr(reinterpret_cast<void *>(get_ioengine), &info) || !info.dli_fname)
    return {};
  const std::unique_ptr<char, Calls<std::free>> path(realpath(info.dli_fname, nullptr));
  return path ? path.get() : "";
}

// Asked while the library is loaded: the loader remembers a relative path as it was given.
const std::string own_path_at_load = own_path();

std::vector<std::string> known_fios(const std::string &folder) {
  std::vector<std::string> known;
  const std::unique_ptr<DIR, Calls<closedir>> files(opendir(folder.c_str()));
  while (const dirent *file = files ? readdir(files.get()) : nullptr)
    if (std::string fio = fio_of_file(file->d_name); !fio.empty())
      known.push_back(std::move(fio));
  std::ranges::sort(known, [](const std::string &one, const std::string &other) {
    return strverscmp(one.c_str(), other.c_str()) < 0;
  });
  return known;
}

// Not by fio's own functions: nothing about it is known to fit.
GetEngine *refuse(const std::string &why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  return nullptr;
}

/// The engine's own function; nullptr when that was said to be impossible.
GetEngine *load() {
  const auto *fio = static_cast<const char *>(dlsym(RTLD_DEFAULT, "fio_version_string"));
  if (!fio)
    return refuse(no_fio_sentence());
  if (own_path_at_load.empty())
    return refuse("libdmabuf: its own path cannot be told; give it as an absolute one");
  const std::string folder = engines_folder(own_path_at_load);
  const std::string file = engine_file(fio);
  // Always an absolute path: the loader searches no other folder, the current one least of all.
  const std::string path = folder + "/" + file;
  if (file.empty() || access(path.c_str(), F_OK) != 0)
    return refuse(no_engine_sentence(fio, folder, known_fios(folder)));
  if (const std::string why = others_engine(own_path_at_load, folder, path); !why.empty())
    return refuse("libdmabuf: " + path + " is not loaded: " + why);
  // All symbols at once: one that this fio lacks shall be named here, not end a job midway.
  void *const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void *const found = handle ? dlsym(handle, "get_ioengine") : nullptr;
  if (!found) {
    const char *const why = dlerror();
    return refuse("libdmabuf: " + path + " cannot be loaded: " + (why ? why : "unknown error"));
  }
  return reinterpret_cast<GetEngine *>(found);
}

} // namespace
} // namespace dmabuf

/// What fio looks for after loading the library; called for every job.
void get_ioengine(ioengine_ops **ops) {
  // The engine stays loaded, as it asks the loader to: loading it again costs and changes nothing.
  static dmabuf::GetEngine *const engine = dmabuf::load();
  if (engine)
    engine(ops);
  else
    *ops = nullptr;
}
