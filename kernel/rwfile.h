/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A dma-buf as a file; see rwfile.c.
 */
#ifndef DMABUF_RW_RWFILE_H
#define DMABUF_RW_RWFILE_H

struct dmabuf_rw_session;

long dmabuf_rw_ioctl_open(struct dmabuf_rw_session *session, void __user *arg);

#endif /* DMABUF_RW_RWFILE_H */
