// SPDX-License-Identifier: GPL-2.0-only
// The module's ABI, and what newer headers than the lab's say of io_uring.
#pragma once

#include <linux/dmabuf_rw.h>

#ifndef DMABUF_RW_IOC_IO
#define DMABUF_RW_IOC_IO DMABUF_RW_IOC_RW
#define dmabuf_rw_io dmabuf_rw_rw
#endif

namespace vmtest::fuzz {

inline constexpr unsigned uring_cmd_fixed = 1u << 0;
inline constexpr unsigned uring_cmd_multishot = 1u << 1;

} // namespace vmtest::fuzz
