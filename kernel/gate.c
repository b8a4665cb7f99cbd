// SPDX-License-Identifier: GPL-2.0-only
/*
 * The gate of a mapping: may new I/O begin? Each I/O holds the mapping's
 * percpu_ref; a gate is closed by killing that, and opened by reviving it.
 */
#include <linux/jiffies.h>

#include "gate.h"
#include "mapping.h"

/**
 * dmabuf_rw_gate_close - let no new I/O of a member begin
 * @m: premapped
 *
 * Does not wait for what is in flight.
 *
 * Context: its attachment's lock held.
 */
void dmabuf_rw_gate_close(struct dmabuf_rw_mapping *m)
{
	if (m->killed)
		return;
	m->killed = true;
	percpu_ref_kill(&m->io);
}

/**
 * dmabuf_rw_gate_open - let the I/O of a member through again
 * @m: premapped, without I/O in flight where it was closed; stays closed while it
 *	is being unmapped, or its path changed
 *
 * Context: the dma-buf's dma_resv and its attachment's lock held.
 */
void dmabuf_rw_gate_open(struct dmabuf_rw_mapping *m)
{
	if (!m->killed || m->dying || m->suspended)
		return;
	reinit_completion(&m->drained);
	m->killed = false;
	percpu_ref_reinit(&m->io);
}

/**
 * dmabuf_rw_gate_drain - wait until a mapping has no I/O in flight
 * @m: closed, or its percpu_ref killed
 *
 * The time the drive takes is the bound; the driver's time-out is the drive's.
 *
 * Context: may sleep.
 */
void dmabuf_rw_gate_drain(struct dmabuf_rw_mapping *m)
{
	while (!wait_for_completion_timeout(&m->drained, msecs_to_jiffies(10)))
		if (m->attach)
			dmabuf_rw_target_poll(&m->target, NULL, DMABUF_RW_ALL_QUEUES);
}
