/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Marks that tell count.c, a plug-in of QEMU, what to count. A mark is a no-operation with a
 * displacement that no compiler makes: without the plug-in it does nothing. C and C++.
 */
#pragma once

/* The upper 24 bits of the displacement, and the length of the instruction. */
#define MARK_MAGIC 0x6d6172u
#define MARK_BYTES 7

/* The lower 8 bits. */
#define MARK_BEGIN 1		/* counting begins */
#define MARK_END 2		/* counting ends */
#define MARK_BATCH 3		/* what was counted is a batch of what is measured */
#define MARK_GAP 4		/* what was counted is the same time without it */
#define MARK_FORGET_BATCHES 5	/* what was counted so far is not to be known */
#define MARK_FORGET_GAPS 6
#define MARK_WRITE 7		/* write the file */

/* KIND: one of the above. */
#define MARK(kind) asm volatile("nopl %c0(%%rax)" : : "i"((int)(MARK_MAGIC << 8 | (kind))) : "memory")
