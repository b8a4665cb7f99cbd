/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Priorities in a fio without engines/cmdprio.c (before 3.29), by the names that later ones have
 * for them. For C and C++.
 */
#ifndef DMABUF_OLD_CMDPRIO_H
#define DMABUF_OLD_CMDPRIO_H

#ifdef __cplusplus
#define DMABUF_CLASS class_
#else
#define DMABUF_CLASS class
#endif

enum {
	CMDPRIO_MODE_NONE,
	CMDPRIO_MODE_PERC,
	CMDPRIO_MODE_BSSPLIT,
};

/* Each for reads, then writes. */
struct cmdprio_options {
	unsigned int percentage[2];
	unsigned int DMABUF_CLASS[2];
	unsigned int level[2];
	char *bssplit_str;
};

struct cmdprio {
	struct cmdprio_options *options;
	unsigned int mode;
	void *parsed;
};

struct thread_data;
struct io_u;

#ifdef __cplusplus
extern "C" {
#endif
/* Returns 1 after it said what is wrong with the options. */
int fio_cmdprio_init(struct thread_data *td, struct cmdprio *cmdprio,
		     struct cmdprio_options *options);
/* Decides which priority an I/O has; true if another than the job's. */
bool fio_cmdprio_set_ioprio(struct thread_data *td, struct cmdprio *cmdprio, struct io_u *io_u);
void fio_cmdprio_cleanup(struct cmdprio *cmdprio);
#ifdef __cplusplus
}
#endif

#undef DMABUF_CLASS
#endif
