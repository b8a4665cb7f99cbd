/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Mappings as members of an attachment; see member.c.
 */
#ifndef DMABUF_RW_MEMBER_H
#define DMABUF_RW_MEMBER_H

#include "result.h"

struct dmabuf_rw_attach;
struct dmabuf_rw_mapping;
struct dmabuf_rw_target;

struct dmabuf_rw_result dmabuf_rw_attach_join(struct dmabuf_rw_attach *a,
					      struct dmabuf_rw_mapping *m);
struct dmabuf_rw_result dmabuf_rw_attach_change(struct dmabuf_rw_mapping *m,
						struct dmabuf_rw_attach *to,
						const struct dmabuf_rw_target *target);
void dmabuf_rw_attach_leave(struct dmabuf_rw_mapping *m);
void dmabuf_rw_io_stop(struct dmabuf_rw_mapping *m);
bool dmabuf_rw_io_suspend(struct dmabuf_rw_mapping *m);
void dmabuf_rw_io_resume(struct dmabuf_rw_mapping *m);
struct dmabuf_rw_result dmabuf_rw_io_revive(struct dmabuf_rw_mapping *m);

#endif /* DMABUF_RW_MEMBER_H */
