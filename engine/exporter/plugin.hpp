// SPDX-License-Identifier: GPL-2.0-only
// The inside of exporter plugin, for its tests.
#pragma once

#include "base/error.hpp"
#include "exporter/exporter.hpp"
#include "exporter/include/libdmabuf/exporter.h"

#include <string>
#include <string_view>

namespace dmabuf {

/// What dmabuf_device says for exporter plugin: FILE, or FILE,ARGUMENTS.
struct PluginName {
  std::string file;
  std::string arguments;
};

PluginName plugin_name(std::string_view device);

/// The path by which to load a plug-in, without links. Refuses a file that anybody on this machine
/// may change, or put another in the place of.
Result<std::string> check_plugin_file(const std::string &file);

/// The plug-in's table as this engine knows it; refuses one that it cannot use. `file`: its name.
Result<libdmabuf_exporter> plugin_table(const libdmabuf_exporter *theirs, const std::string &file);

/// A dma-buf of the plug-in with this table. `request.device` holds what names it.
Result<DmaBuf> plugin_buffer(const libdmabuf_exporter &table, const PluginName &name,
                             const BufferRequest &request);

} // namespace dmabuf
