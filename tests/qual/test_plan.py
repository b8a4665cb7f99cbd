# SPDX-License-Identifier: GPL-2.0-only
"""A plan says hours and bytes of all that a run does, and at the most what it may become."""

import dataclasses

import pytest
from dmabuf_qual import cases, plan, requirements
from dmabuf_qual.drive import Drive

NEEDS = requirements.load(None)
BYTES = 4 * 10**12
DRIVE = Drive("/dev/nvme9n1", "nvme9n1", "nvme9n1", "nvme9", "0000:09:00.0", "M", "S", "F", BYTES, 512, 0,
              False, 131072)  # fmt: skip
FULL = cases.Scale(16 << 30, 60, 5, True)
SPEED = 2e9


def parts(tests: str) -> dict[str, plan.Part]:
    made = plan.parts(DRIVE, 1, NEEDS, dataclasses.replace(FULL, tests=tests), SPEED)
    return {part.name: part for part in made}


def test_each_test_has_its_preconditioning_and_its_rounds() -> None:
    alone, every = parts("iops"), parts("iops,throughput,latency,saturation")
    assert set(every) - set(alone) == {
        "write saturation", "preconditioning, throughput-128k", "rounds to the steady state, throughput-128k",
        "preconditioning, throughput-1m", "rounds to the steady state, throughput-1m",
        "preconditioning, latency", "rounds to the steady state, latency"}  # fmt: skip
    assert every["preconditioning, latency"].written == (2 * BYTES, 2 * BYTES)
    assert every["preconditioning, latency"].seconds[0] == pytest.approx(2 * BYTES / SPEED)
    # 9 cells of 61.5 s, five rounds of them to 25.
    assert every["rounds to the steady state, latency"].seconds == pytest.approx((5 * 9 * 61.5, 25 * 9 * 61.5))
    # Three mixes: none, a third and all of it writes.
    assert every["rounds to the steady state, latency"].written[1] == pytest.approx(25 * 60 * SPEED * 3 * 1.35)
    assert every["rounds to the steady state, throughput-1m"].written[1] == pytest.approx(25 * 60 * SPEED)


def test_the_iops_test_writes_what_its_mixes_do_not_read() -> None:
    rounds = parts("iops")["rounds to the steady state"]
    assert rounds.seconds == pytest.approx((5 * 56 * 61.5, 25 * 56 * 61.5))
    assert rounds.written[1] == pytest.approx(25 * 60 * SPEED * 8 * 3.5)


def test_saturation_writes_the_drive_four_times_or_takes_a_day() -> None:
    most = parts("saturation")["write saturation"]
    assert most.written[1] == pytest.approx(4 * BYTES + 60 * SPEED)
    assert most.seconds[0] == pytest.approx((4 * BYTES / SPEED + 60) / 60 * 61.5)
    assert most.seconds[1] == pytest.approx(1440 * 61.5)


def test_without_the_iops_test_nothing_of_it_is_planned() -> None:
    assert "preconditioning" not in parts("latency")
