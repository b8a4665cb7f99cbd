// SPDX-License-Identifier: GPL-2.0-only
/* 6.14: task work of a command is told that its task is gone. */
#include CMD_HEADER
#ifdef COUNTER_PROBE
const int probe = IO_URING_F_NONBLOCK;
#else
const int probe = IO_URING_F_TASK_DEAD;
#endif
