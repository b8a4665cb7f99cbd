# SPDX-License-Identifier: GPL-2.0-only
"""A run passes only when command, kernel log, leftovers and the guest's end are all right."""

import pytest
from dmabuf_lab import checks, runner, verdict
from dmabuf_lab.vm import Outcome


def good(status: int = 0) -> Outcome:
    return Outcome(status=status, ended=True, ready=True, console=["[ 1.0] hello"])


@pytest.mark.parametrize("status", [0, 1, 3, 77, 127, 137])
def test_the_commands_status_is_returned_when_all_is_well(status: int) -> None:
    assert verdict.judge(good(status), 600) == verdict.Verdict(status)


def test_a_kernel_warning_on_the_console_fails_a_command_that_succeeded() -> None:
    outcome = good()
    outcome.console = ["[ 1.0] a", "[ 2.0] WARNING: CPU: 0 PID: 1 at x", "[ 2.1] Call Trace:"]
    result = verdict.judge(outcome, 600)
    assert result.status == 1
    assert "WARNING: CPU: 0 PID: 1 at x (and 1 more)" in result.reasons[0]
    assert "[ 2.1] Call Trace:" in result.log


def test_a_kernel_warning_only_in_kmsg_fails_too() -> None:
    outcome = good()
    outcome.kmsg = ["6 fine", "6 DMA-API: device driver has pending DMA allocations"]
    result = verdict.judge(outcome, 600)
    assert result.status == 1
    assert "DMA-API" in result.reasons[0]
    assert any("DMA-API" in line for line in result.log)


def test_a_time_out_is_a_failure_that_says_so() -> None:
    outcome = Outcome(ready=True, timed_out=True, console=["[ 1.0] last words"])
    result = verdict.judge(outcome, 5)
    assert result.status == 1
    assert result.reasons == [
        "time-out: the command did not end within 5 s, the guest was killed"
    ]
    assert result.log == ["[ 1.0] last words"]


def test_a_guest_that_dies_under_the_command_is_a_failure() -> None:
    outcome = Outcome(ready=True, console=["[ 9.0] Kernel panic - not syncing: sysrq"])
    result = verdict.judge(outcome, 600)
    assert result.status == 1
    assert any("Kernel panic" in reason for reason in result.reasons)
    assert any("died while the command ran" in reason for reason in result.reasons)


def test_a_guest_that_never_starts_is_a_lab_error_with_qemus_reason() -> None:
    text = "qemu: warning: TCG doesn't support x\nqemu: could not load kernel"
    result = verdict.judge(Outcome(qemu_error=text), 600)
    assert result.status == 2
    assert result.reasons == [
        "the guest died before the command started: qemu: could not load kernel"
    ]


def test_a_leftover_fails_a_command_that_succeeded() -> None:
    outcome = good()
    outcome.problems = ["1 dma-buf(s) left after the command ended"]
    result = verdict.judge(outcome, 600)
    assert (result.status, result.reasons) == (1, outcome.problems)


def test_taint_fails_a_command_that_succeeded() -> None:
    outcome = good()
    outcome.tainted = 1 << 9 | 1 << 12
    assert verdict.judge(outcome, 600).status == 1


@pytest.mark.parametrize(("pattern", "status"), [(r"WARNING: a\.c:1 at f", 0), (r"WARNING: b", 1)])
def test_a_warning_that_is_provoked_on_purpose_may_taint_and_no_other(pattern: str, status: int) -> None:
    outcome = good()
    outcome.tainted = 1 << 9 | 1 << 12
    outcome.kmsg = ["4 WARNING: a.c:1 at f+0x1", "6 Call Trace:", "4 ---[ end trace 0 ]---"]
    assert verdict.judge(outcome, 600, [pattern]).status == status
    outcome.tainted |= 1 << 7
    assert verdict.judge(outcome, 600, [pattern]).status == 1


def test_a_guest_that_could_not_be_prepared_is_a_lab_error() -> None:
    outcome = Outcome(ready=True, ended=True, problems=["cannot load nvme: no such file"])
    assert verdict.judge(outcome, 600).status == 2


def test_an_address_of_the_kernel_in_the_output_fails_a_command_that_succeeded() -> None:
    outcome = good()
    outcome.addresses = ["buffer at ffff888104c58a00", "and at ffff888104c58b00"]
    result = verdict.judge(outcome, 600)
    assert result.status == 1
    assert result.reasons == [
        "an address of the kernel is in the command's output: "
        "buffer at ffff888104c58a00 (and 1 more)"
    ]
    assert verdict.judge(outcome, 600, ["buffer at", "and at"]).status == 0
    assert verdict.judge(outcome, 600, ["buffer at"]).status == 1


def test_an_address_of_the_kernel_in_our_modules_log_fails_and_in_others_not() -> None:
    outcome = good()
    outcome.kmsg = ["6 nvme: queue at ffff888104c58a00"]
    assert verdict.judge(outcome, 600).status == 0
    outcome.kmsg.append("6 dmabuf_rw: mapping ffff888104c58a00")
    outcome.console.append("[ 12.345678] dmabuf_rw: mapping ffff888104c58a00")
    result = verdict.judge(outcome, 600)
    assert result.status == 1
    assert result.reasons == [
        "an address of the kernel is in our modules' log: dmabuf_rw: mapping ffff888104c58a00"
    ]


def test_a_message_that_the_console_has_in_part_and_then_whole_is_one() -> None:
    outcome = good()
    outcome.console += ["[ 2.0] DMA-API: ", "** replaying previous printk message **", "[ 2.0] DMA-API: Mapped at:"]
    assert verdict.judge(outcome, 600, ["DMA-API: Mapped at:"]).status == 0
    # What is written anew is looked at, and so is a part that nothing follows.
    assert verdict.judge(outcome, 600).reasons
    outcome.console.append("[ 3.0] DMA-API: ")
    assert verdict.judge(outcome, 600, ["DMA-API: Mapped at:"]).reasons


def test_expected_message_fails_nothing_and_others_still_do() -> None:
    outcome = good(0)
    outcome.console = ["nvme nvme0: I/O tag 1 (1001) QID 2 timeout, aborting"]
    assert verdict.judge(outcome, 600).status == 1
    assert verdict.judge(outcome, 600, ["QID 2 timeout, aborting"]).status == 0
    outcome.console.append("WARNING: CPU: 0 PID: 1 at fs/x.c:1")
    assert verdict.judge(outcome, 600, ["QID 2 timeout, aborting"]).status == 1


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (Outcome(console=["[ 2.3] Oops: int3: 0000 [#1] SMP"]), True),
        (Outcome(console=["[ 2.3] Oops", "[ 2.0] dmabuf_rw: loading out-of-tree module"]), False),
        (Outcome(ready=True, console=["[ 2.3] Oops"]), False),
        (Outcome(timed_out=True), False),
        (Outcome(hung_booting=True, console=["[ 2.3] Freeing initrd memory"]), True),
        (Outcome(hung_booting=True, console=["[ 9.0] dmabuf_rw: loading out-of-tree"]), False),
        (Outcome(ended=True, status=1), False),
    ],
)
def test_only_a_guest_that_dies_without_our_modules_is_booted_again(
    outcome: Outcome, again: bool
) -> None:
    assert verdict.died_booting(outcome) == again


def test_failed_checks_are_found_in_output_that_comes_in_any_parts() -> None:
    text = b"PASS  a\nFAIL  b: it was 3\n   FAIL  no\n" + b"FAIL" + b"x" * 5000 + b"\nPASS\nFAIL  last"
    for size in (1, 7, 4096):
        failed = checks.Failed()
        for at in range(0, len(text), size):
            failed.feed(text[at : at + size])
        failed.end()
        long = "FAIL" + "x" * (checks.LINE_CHARACTERS - 4)
        assert failed.found == ["FAIL  b: it was 3", long, "FAIL  last"]


def test_of_many_failed_checks_the_first_are_kept() -> None:
    failed = checks.Failed()
    failed.feed(b"".join(b"FAIL  %d\n" % i for i in range(100)))
    assert failed.found == [f"FAIL  {i}" for i in range(checks.KEPT_LINES)]


@pytest.mark.parametrize(
    ("status", "silent_s", "late_s", "words"),
    [
        (0, 300, 300, []),
        (1, 29, 29, []),
        (1, 300, 0, ["no sign of life for 300 s"]),
        (77, 300, 299, ["did not run for 299 s", "no sign of life for 300 s"]),
    ],
)
def test_a_guest_that_stood_still_is_named_where_a_run_failed(
    status: int, silent_s: float, late_s: float, words: list[str]
) -> None:
    outcome = good(status)
    outcome.silent_s, outcome.late_s = silent_s, late_s
    notes = verdict.judge(outcome, 600).notes
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize(("status", "named"), [(0, []), (1, ["FAIL  b: it was 3"])])
def test_a_command_that_failed_is_said_to_have_failed_its_checks(status: int, named: list[str]) -> None:
    outcome = good(status)
    outcome.failed_checks = ["FAIL  b: it was 3"]
    assert verdict.judge(outcome, 600) == verdict.Verdict(status, checks=named)


def test_the_causes_are_the_last_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = good(1)
    outcome.failed_checks = ["FAIL  b: it was 3"]
    outcome.problems = ["1 dma-buf(s) left"]
    assert runner.report(verdict.judge(outcome, 600)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == [
        "dmabuf-lab: a check failed: FAIL  b: it was 3",
        "dmabuf-lab: 1 dma-buf(s) left",
    ]
    assert any("hello" in line for line in lines[:-2])
