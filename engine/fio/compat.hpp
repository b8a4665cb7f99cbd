// SPDX-License-Identifier: GPL-2.0-only
// What the engine uses and some fios lack, by the name that later ones have for it. The build looks
// each name up in the fio's headers and defines DMABUF_FIO_LACKS_ and the name where it is not
// there (dmabuf_add_engine() in engine/CMakeLists.txt). Included by fio/api.hpp alone.
#pragma once

#if !__has_include("engines/cmdprio.c")
#include "fio/old_cmdprio.h" // before 3.29
#endif

#ifdef DMABUF_FIO_LACKS_FIO_ASYNCIO_SETS_ISSUE_TIME
// Before 3.31: fio notes the time itself after each queue(), whatever an engine says.
constexpr fio_ioengine_flags FIO_ASYNCIO_SETS_ISSUE_TIME = {};
#endif
