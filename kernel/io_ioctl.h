/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ioctl IO: one I/O that is waited for; see io_ioctl.c.
 */
#ifndef DMABUF_RW_IO_IOCTL_H
#define DMABUF_RW_IO_IOCTL_H

struct dmabuf_rw_session;

long dmabuf_rw_ioctl_io(struct dmabuf_rw_session *session, void __user *arg);

#endif /* DMABUF_RW_IO_IOCTL_H */
