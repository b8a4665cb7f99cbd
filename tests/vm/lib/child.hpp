// SPDX-License-Identifier: GPL-2.0-only
// Checks in a process of their own, which may have other rights.
#pragma once

#include <functional>
#include <string>

namespace vmtest {

// Runs `body` in a child, whose exit status it gives; checks that this is 0. Failures that the
// parent had are not the child's.
void in_child(const std::string &name, const std::function<int()> &body);
// Gives up root for good: group and user 65534, no capabilities.
void become_nobody();

} // namespace vmtest
