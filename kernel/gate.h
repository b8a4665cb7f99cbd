/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The gate of a mapping; see gate.c.
 */
#ifndef DMABUF_RW_GATE_H
#define DMABUF_RW_GATE_H

struct dmabuf_rw_mapping;

void dmabuf_rw_gate_close(struct dmabuf_rw_mapping *m);
void dmabuf_rw_gate_open(struct dmabuf_rw_mapping *m);
void dmabuf_rw_gate_drain(struct dmabuf_rw_mapping *m);

#endif /* DMABUF_RW_GATE_H */
