// SPDX-License-Identifier: GPL-2.0-only
/* 6.13: the namespace of MODULE_IMPORT_NS() is a string; before, a token. */
#include <linux/module.h>
#ifdef COUNTER_PROBE
#ifndef MODULE_IMPORT_NS
#error There is no MODULE_IMPORT_NS().
#endif
#else
MODULE_IMPORT_NS(DMA_BUF);
#endif
