// SPDX-License-Identifier: GPL-2.0-only
// Files that this process runs or believes because the user named them: what the name leads to must
// not be for everybody on the machine to choose.
#pragma once

#include "base/error.hpp"

#include <string>

namespace dmabuf {

/// Where `path` leads: absolute and without links. Refuses it with EPERM where everybody may put
/// something else there: in any of its folders, and in those of the links on the way. The owner of
/// a folder that is not for everybody may, and is trusted. A refusal begins with "it".
Result<std::string> trusted_path(const std::string &path);

} // namespace dmabuf
