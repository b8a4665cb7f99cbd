// SPDX-License-Identifier: GPL-2.0-only
// Vendors' libraries, loaded when a job asks for them: the engine needs none of them to load.
#pragma once

#include "base/error.hpp"

#include <initializer_list>
#include <optional>
#include <string>

namespace dmabuf {

/// Whether an exporter works without a function.
enum class Need { required, optional };

/// One function of a library and where its address goes.
struct Symbol {
  const char *name;
  void **address;
  Need need = Need::required; ///< optional: the address is nullptr where there is none
};

/// Loads the first of `names` that there is and looks up all of `symbols` in it. `install` says how
/// the library gets onto the machine, `update` what to do about one that lacks a required function;
/// both end the sentence. The library stays loaded: drivers do not survive being unloaded.
Result<void> load_library(std::initializer_list<const char *> names,
                          std::initializer_list<Symbol> symbols, const char *install,
                          const char *update);

/// A member of a table of functions as Symbol wants it.
template <class F> void **symbol_address(F *&function) {
  return reinterpret_cast<void **>(&function);
}

/// The number that a dmabuf_device is; nothing if it is no number.
std::optional<unsigned> device_number(const std::string &device);

/// A PCI address as sysfs writes it: vendors' libraries write capitals.
std::string sysfs_address(const char *pci);

} // namespace dmabuf
