/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * INFO; see info.c.
 */
#ifndef DMABUF_RW_INFO_H
#define DMABUF_RW_INFO_H

#include "uapi/linux/dmabuf_rw.h"

struct dmabuf_rw_mapping;
struct dmabuf_rw_session;

int dmabuf_rw_info_fill(struct dmabuf_rw_info *info, struct dmabuf_rw_mapping *m);
long dmabuf_rw_ioctl_info(struct dmabuf_rw_session *session, void __user *arg);

#endif /* DMABUF_RW_INFO_H */
