# SPDX-License-Identifier: GPL-2.0-only
"""A document with one of everything, and with text that must be escaped wherever it goes."""

import random

from dmabuf_report import bins
from dmabuf_report.model import (
    ChangePoint,
    Commands,
    Comparison,
    Evidence,
    Fact,
    History,
    Measurement,
    Metric,
    Point,
    Proof,
    Requirement,
    Results,
    Tool,
    Verdict,
)

NASTY = 'a <script>alert("1")</script> & # b\x07'


def measurements() -> list[Measurement]:
    """Two datapaths over three block sizes, with bins."""
    rng = random.Random(1)
    made = []
    for path, slow in (("premapped", 1.0), ("bounce", 2.0)):
        for size in (512, 4096, 1 << 20):
            samples = [rng.gauss(1e5, 1e3) / slow / (1 + size / 8192) for _ in range(5)]
            shape = {1000 * i * int(slow): 50_000 // i for i in range(1, 40)}
            made.append(
                Measurement(
                    f"read-{size}-{path}",
                    f"read-{size}",
                    path,
                    "udmabuf",
                    block_bytes=size,
                    depth=32,
                    metrics=[
                        Metric("read_iops", "IOPS", "higher", sorted(samples)[2], samples,
                               min(samples), max(samples))
                    ],
                    latencies=[bins.latency("read", shape)],
                    proof=Proof(True, "the module counted them"),
                    commands=Commands(3000 * max(1, size >> 17), 3000, 3000 * size) if path == "premapped" else None,
                    cpu_percent=40 * slow,
                    emulated=True,
                )
            )
    return made


def results() -> Results:
    """The document."""
    points = [
        Point(f"2026-11-{1 + night:02d}T01:00:00Z", 100.0 if night < 8 else 90.0)
        for night in range(12)
    ]
    requirements = [
        Requirement("a.fail", NASTY, "fail", NASTY, "try again", [Evidence("log", NASTY, "", "x")]),
        Requirement("a.pass", "passes", "pass", "30 of 30", seconds=1.5),
        Requirement("b.unclear", "unclear", "inconclusive", "it throttled", group="b"),
        Requirement("b.skip", "skipped", "skip", "there is no GPU", group="b"),
    ]
    return Results(
        Tool("dmabuf-test", "1"),
        f"A night: {NASTY}",
        "2026-11-22T01:00:00Z",
        "2026-11-22T02:00:00Z",
        Verdict("fail", "1 of 4 failed"),
        "ab" * 32,
        [Fact("CPU", NASTY, "key"), Fact("kernel", "7.3", "subject"), Fact("T", "41 °C")],
        requirements,
        measurements(),
        [
            Comparison("read-512", "read_iops", "IOPS", "higher", "baseline", "tonight", 100, 90,
                       0.9, 0.88, 0.92, 0.02, 0.001, "fail", "confirmed", NASTY)
        ],
        [History("read-512", "read_iops", "IOPS", "higher", points,
                 [ChangePoint(8, 100, 90, 0.002, "confirmed")], 100.0, datapath="premapped", depth=32)],
        [NASTY],
    )
