// SPDX-License-Identifier: GPL-2.0-only
/*
 * fio before 3.29 has its priorities in static functions of a header, and the rest in engine
 * io_uring: here the same, as the functions that later ones have.
 */
#include "fio.h"

/* The header's own of these names are something else. */
#define cmdprio old_cmdprio
#define fio_cmdprio_init old_fio_cmdprio_init
#include "engines/cmdprio.h"
#undef cmdprio
#undef fio_cmdprio_init

#include "fio/old_cmdprio.h"

int fio_cmdprio_init(struct thread_data *td, struct cmdprio *cmdprio,
		     struct cmdprio_options *options)
{
	struct old_cmdprio *parsed = calloc(1, sizeof(*parsed));
	bool used = false;
	int i;

	cmdprio->options = options;
	cmdprio->parsed = parsed;
	if (!parsed)
		return 1;
	for (i = DDIR_READ; i <= DDIR_WRITE; i++) {
		parsed->percentage[i] = options->percentage[i];
		parsed->class[i] = options->class[i];
		parsed->level[i] = options->level[i];
	}
	if (options->bssplit_str && *options->bssplit_str &&
	    fio_cmdprio_bssplit_parse(td, options->bssplit_str, parsed))
		return 1;
	if (old_fio_cmdprio_init(td, parsed, &used))
		return 1;
	if (used)
		cmdprio->mode = parsed->bssplit_nr[DDIR_READ] || parsed->bssplit_nr[DDIR_WRITE] ?
					CMDPRIO_MODE_BSSPLIT : CMDPRIO_MODE_PERC;
	return 0;
}

bool fio_cmdprio_set_ioprio(struct thread_data *td, struct cmdprio *cmdprio, struct io_u *io_u)
{
	struct old_cmdprio *parsed = cmdprio->parsed;
	enum fio_ddir ddir = io_u->ddir;
	unsigned int own = ioprio_value(parsed->class[ddir], parsed->level[ddir]);
	unsigned int percentage = fio_cmdprio_percentage(parsed, io_u);
	bool chosen = percentage && rand_between(&td->prio_state, 0, 99) < percentage;

	/* fio counts the latency of I/Os that have the higher of the two (the lower value) apart. */
	if (chosen ? !td->ioprio || own < td->ioprio : own && td->ioprio && td->ioprio < own)
		io_u->flags |= IO_U_F_HIGH_PRIO;
	io_u->ioprio = chosen ? own : td->ioprio;
	return chosen;
}

void fio_cmdprio_cleanup(struct cmdprio *cmdprio)
{
	struct old_cmdprio *parsed = cmdprio->parsed;
	int i;

	for (i = 0; parsed && i < DDIR_RWDIR_CNT; i++)
		free(parsed->bssplit[i]);
	free(parsed);
	cmdprio->parsed = NULL;
	cmdprio->options = NULL;
}
