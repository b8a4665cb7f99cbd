// SPDX-License-Identifier: GPL-2.0-only
/*
 * The array of a READV or WRITEV: copied once, and then only the copy is looked at,
 * but for the results, which go to user space before the completion, from the task
 * that asked.
 */
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "ranges_array.h"

/*
 * Copy the array, and learn what there is to know of all ranges together. Each word
 * is read once.
 */
static int ranges_read(struct ranges *all)
{
	const struct dmabuf_rw_range __user *user = all->user, *end = user + all->nr;
	u64 buffer_end = 0, file_end = 0, memory = 0, places = 0;
	struct range_io *range = all->range;
	u32 span = 0;

	if (!user_read_access_begin(user, array_size(all->nr, sizeof(*user))))
		return -EFAULT;
	do {
		u64 buffer, place, length;

		unsafe_get_user(buffer, &user->buffer_offset, fault);
		unsafe_get_user(place, &user->file_offset, fault);
		unsafe_get_user(length, &user->length, fault);
		range->buffer_offset = buffer;
		range->file_offset = place;
		range->length = length;
		range->all = all;
		buffer_end = max(buffer_end, buffer + length);
		file_end = max(file_end, place + length);
		memory |= buffer;
		places |= place | length;
		span |= length - 1;
		range++;
	} while (++user != end);
	user_read_access_end();
	all->buffer_end = buffer_end;
	all->file_end = file_end;
	all->memory = memory;
	all->places = places;
	all->span = span;
	return 0;

fault:
	user_read_access_end();
	return -EFAULT;
}

/*
 * What commands of up to so many ranges had, kept for the next ones on the same CPU:
 * most kernels zero what they allocate, which is dear, and each word is written anyway.
 */
#define SPARE_RANGES	60U	/* 2 KiB */
#define SPARE_MOST	8U

struct ranges_spares {
	struct ranges *first;
	u32 nr;
};

static DEFINE_PER_CPU(struct ranges_spares, ranges_spares);

static struct ranges *ranges_take_spare(void)
{
	struct ranges_spares *spares;
	struct ranges *all;

	guard(preempt)();
	spares = this_cpu_ptr(&ranges_spares);
	all = spares->first;
	if (all) {
		spares->first = all->next;
		spares->nr--;
	}
	return all;
}

static bool ranges_keep_spare(struct ranges *all)
{
	struct ranges_spares *spares;

	guard(preempt)();
	spares = this_cpu_ptr(&ranges_spares);
	if (all->nr > SPARE_RANGES || spares->nr == SPARE_MOST)
		return false;
	all->next = spares->first;
	spares->first = all;
	spares->nr++;
	return true;
}

/* In a task. */
static struct ranges *ranges_alloc(u32 nr)
{
	struct ranges *all = nr > SPARE_RANGES ? NULL : ranges_take_spare();

	if (!all)
		all = kmalloc(struct_size(all, range, max(nr, SPARE_RANGES)), GFP_KERNEL_ACCOUNT);
	if (all)
		all->nr = nr;
	return all;
}

/**
 * dmabuf_rw_ranges_free - the command is over
 * @all: its copy
 *
 * Context: any.
 */
void dmabuf_rw_ranges_free(struct ranges *all)
{
	if (!ranges_keep_spare(all))
		kfree(all);
}

/**
 * dmabuf_rw_ranges_new - copy the array of a command
 * @user: where the task has it
 * @nr: ranges, at least one and at most DMABUF_RW_MAX_RANGES
 *
 * Context: process; sleeps for memory and page faults.
 * Return: the copy, the caller's; -ENOMEM; -EFAULT.
 */
struct ranges *dmabuf_rw_ranges_new(struct dmabuf_rw_range __user *user, u32 nr)
{
	struct ranges *all = ranges_alloc(nr);
	int ret;

	if (!all)
		return ERR_PTR(-ENOMEM);
	all->user = user;
	all->again = false;
	all->held = false;
	ret = ranges_read(all);
	if (ret) {
		dmabuf_rw_ranges_free(all);
		return ERR_PTR(ret);
	}
	return all;
}

/**
 * dmabuf_rw_ranges_report - tell user space of each range
 * @all: all have ended
 *
 * Context: the task that asked.
 * Return: ranges that ended well; -EFAULT.
 */
s32 dmabuf_rw_ranges_report(const struct ranges *all)
{
	struct dmabuf_rw_range __user *user = all->user, *end = user + all->nr;
	const struct range_io *range = all->range;
	s32 good = 0;

	if (!user_write_access_begin(user, array_size(all->nr, sizeof(*user))))
		return -EFAULT;
	do {
		unsafe_put_user(range->moved, &user->moved, fault);
		unsafe_put_user(range->outcome, (u64 __user *)&user->error, fault);
		good += !range->error;
		range++;
	} while (++user != end);
	user_write_access_end();
	return good;

fault:
	user_write_access_end();
	return -EFAULT;
}

/**
 * dmabuf_rw_ranges_exit - free what was kept for the next commands
 *
 * Context: module exit, no command is under way.
 */
void dmabuf_rw_ranges_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct ranges *all, *next;

		for (all = per_cpu(ranges_spares, cpu).first; all; all = next) {
			next = all->next;
			kfree(all);
		}
	}
}
