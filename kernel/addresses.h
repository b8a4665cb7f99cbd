/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The addresses of an attachment; see addresses.c.
 */
#ifndef DMABUF_RW_ADDRESSES_H
#define DMABUF_RW_ADDRESSES_H

#include "result.h"

struct dmabuf_rw_attach;

void dmabuf_rw_attach_close(struct dmabuf_rw_attach *a);
void dmabuf_rw_attach_classify(struct dmabuf_rw_attach *a);
struct dmabuf_rw_result dmabuf_rw_attach_map(struct dmabuf_rw_attach *a);
struct dmabuf_rw_result dmabuf_rw_attach_setup(struct dmabuf_rw_attach *a);
void dmabuf_rw_attach_dismantle(struct dmabuf_rw_attach *a);

#endif /* DMABUF_RW_ADDRESSES_H */
