// SPDX-License-Identifier: GPL-2.0-only
/* 6.11: what is type and code of an NVMe status has a name. A later 6.1 has the names of its bits, and not this one. */
#include <linux/nvme.h>
#ifdef COUNTER_PROBE
const int probe = NVME_SC_HOST_ABORTED_CMD;
#else
const int probe = NVME_SCT_SC_MASK;
#endif
