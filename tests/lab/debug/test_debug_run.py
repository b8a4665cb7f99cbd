# SPDX-License-Identifier: GPL-2.0-only
"""`dmabuf-lab run --kernel debug`: a run that does nothing passes, one that does harm fails.

Needs the debug kernel. Each test boots a guest; no module of ours and no engine are involved.
"""

import subprocess
from pathlib import Path

LAB = Path(__file__).resolve().parents[3] / "scripts/dmabuf-lab"
LIMIT_S = 900


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command on the debug kernel without building or loading anything of ours."""
    argv = [LAB, "run", "--kernel", "debug", "--no-module", "--no-build", *words]
    return subprocess.run(argv, capture_output=True, timeout=LIMIT_S, text=True)


def test_a_harmless_command_passes_and_the_debugging_aids_are_on() -> None:
    line = (
        "uname -r; grep -E 'debug_locks' /proc/lockdep_stats; cat /sys/kernel/debug/dma-api/disabled; "
        "zcat /proc/config.gz | grep -cE '^CONFIG_(KASAN|DMABUF_DEBUG|DEBUG_ATOMIC_SLEEP)=y'; "
        "dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=8 oflag=direct 2>/dev/null"
    )
    result = run("--", line)
    assert result.returncode == 0, result.stderr
    release, locks, disabled, count = result.stdout.splitlines()
    assert release.endswith("-dmabuf-debug")
    assert locks.split() == ["debug_locks:", "1"]
    assert (disabled, count) == ("N", "3")


def test_a_leak_is_reported_with_its_place() -> None:
    result = run("--", "modprobe kmemleak-test && rmmod kmemleak-test")
    assert result.returncode == 1
    assert "kmemleak: " in result.stderr and " bytes leaked by modprobe" in result.stderr


def test_a_use_after_free_is_reported() -> None:
    line = "modprobe lkdtm && echo READ_AFTER_FREE >/sys/kernel/debug/provoke-crash/DIRECT"
    result = run("--", line)
    assert result.returncode == 1
    assert "BUG: KASAN: slab-use-after-free in lkdtm_READ_AFTER_FREE" in result.stderr
