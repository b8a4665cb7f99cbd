// SPDX-License-Identifier: GPL-2.0-only
// The only file that includes fio's headers. They are C, with some names that get in the way of
// C++.
#pragma once

// fio's arch.h includes <atomic>, and config-host.h decides the layout of fio's structures: all C++
// headers come before, fio's inside extern "C".
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <liburing.h>
#include <memory>
#include <string>
#include <vector>

#include "config-host.h"

extern "C" {
#include "fio.h"
#include "optgroup.h"
// fio before 3.29 has no functions for priorities there, and what it has is no C++.
#if __has_include("engines/cmdprio.c")
// A field of its is named so.
#define class class_
#include "engines/cmdprio.h"
#undef class
#endif
}

#undef min
#undef max

#include "fio/compat.hpp"
