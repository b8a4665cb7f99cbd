/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * MAP and UNMAP; see map.c.
 */
#ifndef DMABUF_RW_MAP_H
#define DMABUF_RW_MAP_H

struct dmabuf_rw_session;

long dmabuf_rw_ioctl_map(struct dmabuf_rw_session *session, void __user *arg);
long dmabuf_rw_ioctl_unmap(struct dmabuf_rw_session *session, void __user *arg);

#endif /* DMABUF_RW_MAP_H */
