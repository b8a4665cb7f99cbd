// SPDX-License-Identifier: GPL-2.0-only
/* 6.5: splice_read() of a file that has only read_iter(), into pages of its own. */
#include <linux/fs.h>
#ifdef COUNTER_PROBE
const struct file_operations probe = { .splice_write = iter_file_splice_write };
#else
const struct file_operations probe = { .splice_read = copy_splice_read };
#endif
