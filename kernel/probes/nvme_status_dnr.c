// SPDX-License-Identifier: GPL-2.0-only
/* 6.11: the fields of an NVMe status have names; before, a bit of the codes. */
#include <linux/nvme.h>
#ifdef COUNTER_PROBE
const int probe = NVME_SC_HOST_ABORTED_CMD;
#else
const int probe = NVME_STATUS_DNR;
#endif
