// SPDX-License-Identifier: GPL-2.0-only
/* 6.3: the flags of a mapping are set by a function. */
#include <linux/mm.h>
void probe(struct vm_area_struct *vma);
void probe(struct vm_area_struct *vma)
{
#ifdef COUNTER_PROBE
	(void)(vma->vm_flags & VM_PFNMAP);
#else
	vm_flags_set(vma, VM_PFNMAP);
#endif
}
