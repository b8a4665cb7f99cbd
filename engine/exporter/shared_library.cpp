// SPDX-License-Identifier: GPL-2.0-only
#include "exporter/shared_library.hpp"

#include <cerrno>
#include <charconv>
#include <dlfcn.h>

namespace dmabuf {

Result<void> load_library(std::initializer_list<const char *> names,
                          std::initializer_list<Symbol> symbols, const char *install,
                          const char *update) {
  void *library = nullptr;
  const char *name = nullptr;
  std::string why;
  for (const char *candidate : names) {
    library = dlopen(candidate, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library) {
      name = candidate;
      break;
    }
    // The first name is the one to install.
    if (why.empty())
      why = dlerror();
  }
  if (!library)
    return fail(ENOENT, strf("%s cannot be loaded (%s); %s", *names.begin(), why.c_str(), install));
  for (const Symbol &symbol : symbols) {
    *symbol.address = dlsym(library, symbol.name);
    if (!*symbol.address && symbol.need == Need::required) {
      dlclose(library);
      return fail(EOPNOTSUPP, strf("%s has no function %s; %s", name, symbol.name, update));
    }
  }
  dlclose(library); // it stays: RTLD_NODELETE
  return {};
}

std::optional<unsigned> device_number(const std::string &device) {
  unsigned number = 0;
  const char *end = device.data() + device.size();
  const auto [stop, error] = std::from_chars(device.data(), end, number);
  if (device.empty() || error != std::errc() || stop != end)
    return std::nullopt;
  return number;
}

std::string sysfs_address(const char *pci) {
  std::string address = pci;
  for (char &c : address)
    if (c >= 'A' && c <= 'F')
      c = static_cast<char>(c - 'A' + 'a');
  return address;
}

} // namespace dmabuf
