// SPDX-License-Identifier: GPL-2.0-only
// Who is to blame when a process ends while a plug-in is in use: it may call exit(0), and what used
// it would end as if all had gone well.
#pragma once

#include <string>

namespace dmabuf {

/// A plug-in is in use in this process while one of these is there. A process that then ends by
/// exit(0) has the status 1, and says why; a child of its own ends and leaves the rest alone.
class PluginUse {
public:
  explicit PluginUse(std::string name);
  ~PluginUse();
  PluginUse(const PluginUse &) = delete;
  PluginUse &operator=(const PluginUse &) = delete;

  const std::string &name() const { return name_; }

private:
  std::string name_;
};

/// This thread runs `function` of a plug-in while one of these is there.
class PluginCall {
public:
  PluginCall(const PluginUse &use, const char *function);
  ~PluginCall();
  PluginCall(const PluginCall &) = delete;
  PluginCall &operator=(const PluginCall &) = delete;

  const char *plugin() const { return use_.name().c_str(); }
  const char *function() const { return function_; }

private:
  const PluginUse &use_;
  const char *function_;
  const PluginCall *before_;
};

} // namespace dmabuf
