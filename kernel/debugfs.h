/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef DMABUF_RW_DEBUGFS_H
#define DMABUF_RW_DEBUGFS_H

void dmabuf_rw_debugfs_init(void);
void dmabuf_rw_debugfs_exit(void);

#endif /* DMABUF_RW_DEBUGFS_H */
