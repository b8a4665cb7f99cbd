// SPDX-License-Identifier: GPL-2.0-only
// The hooks that all tables have, by the file that they are in. Those of every I/O are in
// engine.cpp and io.hpp.
#pragma once

#include "fio/api.hpp"

namespace dmabuf {

// life.cpp
int engine_init(thread_data *td);
int engine_post_init(thread_data *td);
void engine_cleanup(thread_data *td);
int engine_iomem_alloc(thread_data *td, size_t bytes);
void engine_iomem_free(thread_data *td);

// files.cpp
int engine_get_file_size(thread_data *td, fio_file *file);
int engine_open_file(thread_data *td, fio_file *file);
int engine_close_file(thread_data *td, fio_file *file);
int engine_unlink_file(thread_data *td, fio_file *file);
int engine_fetch_ruhs(thread_data *td);

} // namespace dmabuf
