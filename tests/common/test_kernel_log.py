# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log examiner finds what a kernel says when something is wrong, and nothing else."""

import re

import pytest
from dmabuf_common import kernel_log

COMPLAINTS = [
    "[   12.345678] WARNING: CPU: 1 PID: 77 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110",
    "[   12.345678][  T123] WARNING: drivers/dma-buf/dma-buf.c:99 at dma_buf_release+0x10/0x20, CPU#0",
    "[   12.3] BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "[   12.3] kernel BUG at mm/slub.c:567!",
    "[   12.3] Oops: Oops: 0000 [#1] SMP NOPTI",
    "[   12.3] Oops: general protection fault, probably for non-canonical address 0xdead",
    "[   12.3] BUG: KASAN: slab-use-after-free in dmabuf_rw_map+0x1/0x2",
    "[   12.3] UBSAN: array-index-out-of-bounds in a.c:1:2",
    "[   12.3] WARNING: possible circular locking dependency detected",
    "[   12.3] INFO: task fio:123 blocked for more than 30 seconds.",
    "[   12.3] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [fio:123]",
    "[   12.3] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "[   12.3] rcu: INFO: rcu_preempt self-detected stall on CPU",
    "[   12.3] DMA-API: nvme 0000:00:03.0: device driver has pending DMA allocations",
    "[   12.3] DMAR: [DMA Read NO_PASID] Request device [00:03.0] fault addr 0xfffff000",
    "[   12.3] Call Trace:",
    "[   12.3] Call trace:",
    "[   12.3] arm-smmu-v3 9050000.smmuv3: event 0x10 received:",
    "[   12.3] Internal error: synchronous external abort: 0000000096000010 [#1]  SMP",
    "[   12.3] Kernel panic - not syncing: Fatal exception",
    "[   12.3] refcount_t: underflow; use-after-free.",
    "[   12.3] list_del corruption. prev->next should be ffff, but was 0",
    "[   12.3] nvme nvme0: I/O tag 5 (1005) QID 1 timeout, aborting req_op:READ(0) size:4096",
    "[   12.3] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "[   12.3] Out of memory: Killed process 123 (fio)",
    "dmabuf_rw: leaked 1 mapping",
]

HARMLESS = [
    "[    0.796663] mtrr: your CPUs had inconsistent fixed MTRR settings",
    "[    3.1] dmabuf_rw: loading out-of-tree module taints kernel.",
    "[    3.1] dmabuf_rw: module verification failed: signature and/or required key missing",
    "[    0.1] Speculative Return Stack Overflow: IBPB-extending microcode not applied!",
    "[    0.2] Speculative Return Stack Overflow: WARNING: See https://kernel.org/doc/html/latest/"
    "admin-guide/hw-vuln/srso.html for mitigation options.",
    "[    2.0] ACPI: PM-Timer IO Port: 0x608",
    "[    2.0] DMAR: Intel(R) Virtualization Technology for Directed I/O",
    "[    2.0] DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c222f0686 ecap f00f4a",
    "[    2.0] nvme nvme0: 2/0/0 default/read/poll queues",
    "[    0.3] DMA-API: preallocated 262144 debug entries",
    "[    0.3] DMA-API: debugging enabled by kernel config",
    "[    9.3] DMA-API: dma_debug_entry pool grown to 131072 (200%)",
    "[    9.3] DMA-API: enable driver filter for driver [nvme]",
    "[    9.3] DMA-API: switching off dma-debug driver filter",
    "[    0.1] rcu: \tRCU callback double-/use-after-free debug is enabled.",
    "rcu: \\x09RCU callback double-/use-after-free debug is enabled.",
    "[    0.3] kmemleak: Kernel memory leak detector initialized (mem pool available: 39000)",
    "[    2.0] nvme nvme0: Shutdown timeout set to 10 seconds",
    "[    2.0] Kernel command line: oops=panic nvme_core.io_timeout=255",
    "[    2.0] pcieport 0000:00:1c.0: AER: enabled with IRQ 24",
    "[    2.0] iommu: Default domain type: Translated",
    "[    2.0] debug: BUGS are not welcome here",
    "",
]


@pytest.mark.parametrize("line", COMPLAINTS)
def test_a_complaint_is_found(line: str) -> None:
    assert kernel_log.examine([line]) == [kernel_log.Finding(kernel_log.strip_time(line))]


@pytest.mark.parametrize("line", HARMLESS)
def test_a_harmless_line_is_not_found(line: str) -> None:
    assert kernel_log.examine([line], rules=kernel_log.MACHINE) == []


OF_DRIVES = [
    "nvme nvme0: Removing after probe failure status: -19",
    "nvme nvme0: frozen state error detected, reset controller",
    "nvme0n1: I/O Cmd(0x2) @ LBA 0, 8 blocks, I/O Error (sct 0x0 / sc 0x4)",
    "critical medium error, dev nvme0n1, sector 8 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
    "I/O error, dev nvme0n1, sector 8 op 0x1:(WRITE) flags 0x0 phys_seg 1 prio class 2",
    "pcieport 0000:00:01.0: AER: Corrected error received: 0000:01:00.0",
    "nvme 0000:01:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
    "nvme 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000c address=0x0 flags=0x0]",
    "arm-smmu-v3: iommu fault",
    "nvme 0000:01:00.0: swiotlb buffer is full (sz: 4096 bytes)",
]


@pytest.mark.parametrize("line", OF_DRIVES)
def test_what_is_said_of_a_drive_speaks_against_a_machine(line: str) -> None:
    assert kernel_log.complaints([line]) == [line]


def test_the_lab_looks_for_the_kernels_own_faults_alone() -> None:
    lines = ["nvme 0000:01:00.0: swiotlb buffer is full", "BUG: a"]
    assert [finding.line for finding in kernel_log.examine(lines)] == ["BUG: a"]


def test_every_pattern_is_exercised_by_a_complaint() -> None:
    samples = [*COMPLAINTS, *EXTRA, *OF_DRIVES]
    unused = [p.pattern for p in kernel_log.MACHINE if not any(p.search(line) for line in samples)]
    assert unused == []


EXTRA = [
    "BUG: unable to handle kernel paging request",
    "bad unlock balance detected!",
    "BUG: sleeping function called from invalid context at mm/x.c:1",
    "BUG: workqueue lockup - pool cpus=0",
    "Disabling lock debugging: tainting kernel due to x",
    "the kernel's log overran",
]


def test_allow_list_entries_have_reasons_and_match_a_complaint_pattern() -> None:
    for pattern, reason in kernel_log.ALLOWED:
        assert reason
        allowed = [line for line in HARMLESS if pattern.search(kernel_log.strip_time(line))]
        assert allowed, pattern.pattern
        assert any(bad.search(line) for line in allowed for bad in kernel_log.MACHINE)


def test_the_same_text_is_reported_once_though_console_and_kmsg_both_have_it() -> None:
    lines = ["[    1.0] BUG: a", "BUG: a", "[    2.0] BUG: b"]
    assert [finding.line for finding in kernel_log.examine(lines)] == ["BUG: a", "BUG: b"]


def test_the_trace_of_an_expected_warning_is_no_complaint_and_that_of_another_is() -> None:
    known = [re.compile(r"WARNING: a\.c:\d+ at f")]
    block = ["WARNING: a.c:1 at f+0x1", "Call Trace:", "---[ end trace 0000000000000000 ]---"]
    other = ["WARNING: b.c:1 at g+0x1", "Call Trace: <TASK>", "---[ end trace 0000000000000000 ]---"]
    assert kernel_log.examine(block, known) == []
    assert kernel_log.examine(block) == [kernel_log.Finding(block[0]), kernel_log.Finding(block[1])]
    assert kernel_log.examine(block + other, known) == [kernel_log.Finding(other[0]), kernel_log.Finding(other[1])]
    assert kernel_log.expected_taint(block, known) == kernel_log.TAINT_WARN
    assert kernel_log.expected_taint(other, known) == 0
    assert kernel_log.expected_taint(["a.c:1 at f, no warning"], known) == 0


def test_an_expected_warning_excuses_its_trace_and_nothing_else() -> None:
    known = [re.compile(r"WARNING: a\.c:\d+ at f"), re.compile("BUG: on purpose")]
    block = ["WARNING: a.c:1 at f+0x1", "Call Trace:", "BUG: another", "---[ end trace 0000000000000000 ]---"]
    assert [one.line for one in kernel_log.examine(block, known)] == ["BUG: another"]
    # What is no warning has no trace of its own.
    assert [one.line for one in kernel_log.examine(["BUG: on purpose", "Call Trace:"], known)] == ["Call Trace:"]
    # Nor does it take the excuse away from one that is.
    assert not kernel_log.examine(["WARNING: a.c:1 at f+0x1", "BUG: on purpose", "Call Trace:"], known)


def test_a_feature_that_taints_the_kernel_is_excused_by_its_message() -> None:
    message = ["[  1.5] prog (7): Using fanotify checks may deadlock; tainting kernel"]
    known = [re.compile("Using fanotify checks")]
    assert kernel_log.expected_taint(message, known) == kernel_log.TAINT_AUX
    assert kernel_log.expected_taint(message, [re.compile("another message")]) == 0
    assert kernel_log.expected_taint(["prog (7): Using fanotify checks"], known) == 0


RULE = "=" * 66


def race(first: str, second: str, *frames: str) -> list[str]:
    """A report of KCSAN as the kernel prints it."""
    return [
        RULE,
        f"BUG: KCSAN: data-race in {first} / {second}",
        "",
        "read-write to 0xffff8881023a4b40 of 8 bytes by task 211 on cpu 1:",
        *(f" {frame}+0x45/0x90" for frame in (first, *frames)),
        "",
        "read to 0xffff8881023a4b40 of 8 bytes by task 212 on cpu 0:",
        f" {second}+0x10/0x40",
        "",
        "value changed: 0x0000000000000001 -> 0x0000000000000002",
        "",
        "Reported by Kernel Concurrency Sanitizer on:",
        "CPU: 0 UID: 0 PID: 212 Comm: witness Not tainted 7.3.4-dmabuf-kcsan",
        RULE,
    ]


def test_a_data_race_of_our_module_is_a_complaint() -> None:
    report = race("dmabuf_rw_issue [dmabuf_rw]", "dmabuf_rw_info [dmabuf_rw]")
    title = "BUG: KCSAN: data-race in dmabuf_rw_issue [dmabuf_rw] / dmabuf_rw_info [dmabuf_rw]"
    assert kernel_log.examine([f"[   12.3] {line}" for line in report]) == [kernel_log.Finding(title)]


def test_a_data_race_below_our_module_is_a_complaint() -> None:
    assert kernel_log.examine(race("list_add", "list_del", "testexp_buffer_put [dmabuf_testexp]"))


def test_a_data_race_of_the_kernel_alone_is_none_and_hides_no_other_complaint() -> None:
    alone = race("rcu_core", "call_rcu")
    assert kernel_log.examine(alone) == []
    assert kernel_log.examine([f"[   12.3][  T{n}] {line}" for n, line in enumerate(alone)]) == []
    ours = race("x [dmabuf_rw]", "y")
    assert len(kernel_log.examine([*alone, *ours, *alone])) == 1
    assert kernel_log.examine([*alone, "BUG: KASAN: out-of-bounds in f"])


def test_a_report_without_an_end_is_no_excuse_for_what_our_module_did_in_it() -> None:
    assert kernel_log.examine([*race("a", "b")[:5], " dmabuf_rw_map+0x1/0x2 [dmabuf_rw]"])


def test_one_race_is_a_complaint_though_another_report_of_it_is_without_us() -> None:
    with_us = race("list_add", "list_del", "dmabuf_rw_map [dmabuf_rw]")
    assert kernel_log.examine([*race("list_add", "list_del"), *with_us])


@pytest.mark.parametrize("value", [0, 1 << 12, 1 << 13, (1 << 12) | (1 << 13)])
def test_taint_of_an_out_of_tree_unsigned_module_is_allowed(value: int) -> None:
    assert kernel_log.describe_taint(value) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [(1 << 9, "W (bit 9)"), (1 << 7 | 1 << 12, "D (bit 7)"), (1 << 18, "N (bit 18)")],
)
def test_other_taint_is_named(value: int, words: str) -> None:
    assert kernel_log.describe_taint(value) == words


def test_last_lines_skips_empty_ones() -> None:
    assert kernel_log.last_lines(["a", "", "b ", " ", "c"], 2) == ["b", "c"]


def test_the_log_is_searched_for_errors_of_drive_and_bus() -> None:
    lines = ["nvme nvme0: I/O tag 5 (1005) QID 1 timeout, aborting req_op:READ(0) size:4096",
             "pcieport 0000:00:01.0: AER: Corrected error received", "nvme nvme0: 2/0/0 default queues",
             "iommu: Default domain type: Translated", "Kernel command line: oops=panic",
             "INFO: task fio:12 blocked for more than 120 seconds."]
    assert kernel_log.complaints(lines) == [lines[0], lines[1], lines[5]]


def test_error_reporting_that_is_turned_on_is_no_error() -> None:
    assert kernel_log.complaints(["pcieport 0000:00:05.0: AER: enabled with IRQ 26"]) == []
    assert kernel_log.complaints(["pcieport 0000:00:05.0: AER: Uncorrected (Fatal) error received"]) != []
