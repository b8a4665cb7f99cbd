// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plug-in of QEMU that counts each instruction that the guest's kernel executes, by its address.
 *
 * The guest says what is counted: it executes no-operations that differ in their displacement, see
 * marks.h: where counting begins and ends, and then whether that was a batch of what the profile is
 * of, or a gap, the same time without it. MARK_WRITE writes a file, whose lines are "batches N",
 * "gaps N", and then the address, in hexadecimal, and how often it was executed in all batches and
 * in all gaps; then it forgets them. The first file is FILE, those after it FILE.1, FILE.2 and so on.
 *
 * usage: qemu-system-x86_64 -icount ... -plugin file=count.so,out=FILE[,cpus=several]
 *
 * All CPUs are counted as one. With several, QEMU 10.0 calls a function for each instruction, which
 * is slower: the code that it makes for counters itself spoils the guest there. It also takes the
 * CPU for which it has translated an instruction for the one that executes it (plugin-gen.c), so
 * that they cannot be counted apart.
 *
 * QEMU's packages have no header for plug-ins: what is used of the interface, in its version 3, is
 * declared here.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "marks.h"

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;

/* A counter in the part of a scoreboard that belongs to a CPU. */
struct counter {
	struct qemu_plugin_scoreboard *board;
	size_t offset;
};

typedef void tb_fn(uint64_t id, struct qemu_plugin_tb *tb);
typedef void insn_fn(unsigned int cpu, void *data);

enum { INLINE_ADD = 0 };
enum { CALL_WITHOUT_REGISTERS = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, tb_fn *fn);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t nth);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t bytes);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, insn_fn *fn, int flags,
					    void *data);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *insn, int what,
							 struct counter counter, uint64_t value);
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t bytes);
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *board, unsigned int cpu);

#define EXPORTED __attribute__((visibility("default")))

/* What QEMU looks for. */
EXPORTED extern int qemu_plugin_version;
EXPORTED int qemu_plugin_version = 3;
EXPORTED int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

/* Addresses that can be counted; a power of two. A kernel executes some 300,000. */
#define MOST (1u << 21)

/* A hash table: the place of an address is that of its counter. 0: free. */
static uint64_t addresses[MOST];
static uint32_t used;
static struct qemu_plugin_scoreboard *board;

/* The counters when it began and when it ended, and the sums of what was counted in between. */
static uint64_t begun[MOST], ended[MOST];
static struct {
	uint64_t sum[MOST], times;
} batches, gaps;

/* With several CPUs, the counters. */
static uint64_t *counted;

static const char *out;
static unsigned int written;

static void die(const char *why)
{
	fprintf(stderr, "count: %s\n", why);
	exit(1);
}

static uint32_t place_of(uint64_t address)
{
	uint32_t place = (uint32_t)((address * 0x9e3779b97f4a7c15ULL) >> 32) % MOST;

	while (addresses[place] && addresses[place] != address)
		place = (place + 1) % MOST;
	if (!addresses[place]) {
		if (++used > MOST / 2)
			die("too many addresses");
		addresses[place] = address;
	}
	return place;
}

static void add(uint64_t *sum)
{
	for (uint32_t place = 0; place < MOST; place++)
		sum[place] += ended[place] - begun[place];
}

static void write_out(void)
{
	char name[4096];
	FILE *file;

	if (written)
		snprintf(name, sizeof(name), "%s.%u", out, written);
	else
		snprintf(name, sizeof(name), "%s", out);
	written++;
	file = fopen(name, "w");
	if (!file)
		die("cannot write the file");
	fprintf(file, "batches %llu\ngaps %llu\n", (unsigned long long)batches.times,
		(unsigned long long)gaps.times);
	for (uint32_t place = 0; place < MOST; place++)
		if (batches.sum[place] || gaps.sum[place])
			fprintf(file, "%llx %llu %llu\n", (unsigned long long)addresses[place],
				(unsigned long long)batches.sum[place],
				(unsigned long long)gaps.sum[place]);
	if (fclose(file))
		die("cannot write the file");
}

static void executed(unsigned int cpu, void *place)
{
	(void)cpu;
	counted[(uintptr_t)place]++;
}

static void marked(unsigned int cpu, void *data)
{
	const uint64_t *now = counted ? counted : qemu_plugin_scoreboard_find(board, cpu);

	switch ((uintptr_t)data) {
	case MARK_BEGIN:
		memcpy(begun, now, sizeof(begun));
		break;
	case MARK_END:
		memcpy(ended, now, sizeof(ended));
		break;
	case MARK_BATCH:
		add(batches.sum);
		batches.times++;
		break;
	case MARK_GAP:
		add(gaps.sum);
		gaps.times++;
		break;
	case MARK_FORGET_BATCHES:
		memset(&batches, 0, sizeof(batches));
		break;
	case MARK_FORGET_GAPS:
		memset(&gaps, 0, sizeof(gaps));
		break;
	case MARK_WRITE:
		write_out();
		memset(&batches, 0, sizeof(batches));
		memset(&gaps, 0, sizeof(gaps));
		break;
	}
}

/* The mark that an instruction is, or 0. */
static uintptr_t mark_of(const struct qemu_plugin_insn *insn)
{
	uint8_t bytes[MARK_BYTES] = { 0 };
	uint32_t operand;

	if (qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) != sizeof(bytes) ||
	    bytes[0] != 0x0f || bytes[1] != 0x1f || bytes[2] != 0x80)
		return 0;
	memcpy(&operand, bytes + 3, sizeof(operand));
	return operand >> 8 == MARK_MAGIC ? operand & 0xff : 0;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	size_t count = qemu_plugin_tb_n_insns(tb);

	(void)id;
	for (size_t nth = 0; nth < count; nth++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, nth);
		uint64_t address = qemu_plugin_insn_vaddr(insn);

		if (address >> 63 && counted) {
			void *place = (void *)(uintptr_t)place_of(address);

			qemu_plugin_register_vcpu_insn_exec_cb(insn, executed,
							       CALL_WITHOUT_REGISTERS, place);
		} else if (address >> 63) {
			struct counter counter = { board, place_of(address) * sizeof(uint64_t) };

			qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_ADD,
									    counter, 1);
		} else {
			uintptr_t mark = mark_of(insn);

			if (mark)
				qemu_plugin_register_vcpu_insn_exec_cb(insn, marked,
								       CALL_WITHOUT_REGISTERS,
								       (void *)mark);
		}
	}
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	bool several = false;

	(void)info;
	for (int i = 0; i < argc; i++)
		if (!strncmp(argv[i], "out=", 4))
			out = argv[i] + 4;
		else if (!strcmp(argv[i], "cpus=several"))
			several = true;
	if (!out) {
		fprintf(stderr, "count: it needs out=FILE\n");
		return 1;
	}
	if (several)
		counted = calloc(MOST, sizeof(*counted));
	else
		board = qemu_plugin_scoreboard_new(MOST * sizeof(uint64_t));
	if (!counted && !board)
		die("no memory");
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
