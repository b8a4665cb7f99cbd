# SPDX-License-Identifier: GPL-2.0-only
"""How long a run takes, how much it writes, and what that is of the drive's endurance."""

from dataclasses import dataclass, replace
from typing import Any

from dmabuf_common.nvme import Health
from dmabuf_common.terminal import duration

from . import cases, snia, steady
from .cases import Scale
from .drive import Drive
from .requirements import Requirements
from .snia import Rounds

# What a plan assumes of a drive that nobody has measured yet.
ASSUMED_BYTES_S = 1e9
OVERHEAD_S = 1.5
NIGHT_S = 12 * 3600
# Shorter measurements say nothing.
LEAST_CELL_S = 5


@dataclass(frozen=True)
class Part:
    """A part of the run, at the least and at the most."""

    name: str
    seconds: tuple[float, float]
    written: tuple[float, float]


def parts(
    drive: Drive, exporters: int, needs: Requirements, scale: Scale, speed: float = ASSUMED_BYTES_S
) -> list[Part]:
    """What the run consists of; three datapaths an exporter. speed: bytes a second, of writes."""
    paths = 3 * exporters
    load = scale.load_bytes
    # A load reads and writes that much, and lays down the region twice.
    per_path = 7 * cases.REGION_BYTES * 2 + load + 2 * cases.REGION_BYTES
    checked = per_path * paths + cases.RETENTION_BYTES
    integrity_s = paths * (len(cases.EACH_PATH) * OVERHEAD_S + 2 * load / speed) + 10
    again = len(cases.AFTER_LOAD)
    again_s = paths * (again * OVERHEAD_S + 2 * load / speed) + 10
    again_written = (again * 2 * cases.REGION_BYTES + load + 2 * cases.REGION_BYTES) * paths + cases.RETENTION_BYTES
    cells = cases.cells_of(scale)
    runs = len(cells) * scale.repeats * (4 * exporters + 1)
    writing = sum("write" in rw or "rw" in rw for rw, _, _ in cells) / len(cells)
    cell_s = runs * (scale.cell_seconds + OVERHEAD_S)
    cell_written = runs * scale.cell_seconds * speed * writing
    made = [
        Part("integrity and faults", (integrity_s, integrity_s), (checked, checked)),
        Part("comparison of datapaths", (cell_s, cell_s), (0.0, cell_written)),
    ]
    if scale.steady:
        made.append(Part("integrity once more", (again_s, again_s), (again_written, again_written)))
    for rounds in snia.of_tests(scale.tests) if scale.steady else ():
        made += rounds_of(rounds, drive, scale, speed)
    del needs
    return made


def rounds_of(rounds: Rounds, drive: Drive, scale: Scale, speed: float) -> list[Part]:
    """Preconditioning and rounds of one of SNIA's tests."""
    listed = rounds.cells(drive.block, 1)
    round_s = len(listed) * (scale.cell_seconds + OVERHEAD_S)
    # A mix writes what it does not read, and no more than the drive takes.
    round_written = sum(cases.shares(case)[1] for case in listed) * scale.cell_seconds * speed
    if not rounds.tracked:
        most = min(snia.SATURATION_TIMES * drive.bytes + round_written, snia.SATURATION_ROUNDS * round_written)
        least_s = most / round_written * round_s
        return [Part("write saturation", (least_s, snia.SATURATION_ROUNDS * round_s), (0.0, most))]
    fill = 2.0 * (cases.size_bytes(scale.size, drive.bytes) or drive.bytes)
    name = "the steady state" if rounds is snia.IOPS else f"the steady state, {rounds.prefix}"
    return [
        Part(f"preconditioning, {rounds.prefix}" if rounds is not snia.IOPS else "preconditioning",
             (fill / speed, fill / speed), (fill, fill)),
        Part(f"rounds to {name}", (steady.WINDOW * round_s, steady.MOST_ROUNDS * round_s),
             (0.0, steady.MOST_ROUNDS * round_written)),
    ]


def endurance(written: float, rated_tbw: float | None, health: Health | None) -> str:
    """The share of the rated endurance, or why it is not known."""
    if rated_tbw:
        return f"{written / (rated_tbw * 1e12):.3%} of the rated {rated_tbw:g} TB"
    if health and health.used_percent >= 1 and health.written_bytes:
        rated = health.written_bytes * 100 / health.used_percent
        return (
            f"about {written / rated:.2%} of the endurance, going by {health.used_percent} % used "
            f"after {health.written_bytes / 1e12:.1f} TB; --rated-tbw says it better"
        )
    return "share of the rated endurance not known: give --rated-tbw from the data sheet"


def amount(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e12:.2f} TB" if count >= 1e12 else f"{count / 1e9:.1f} GB"


def span(seconds: tuple[float, float]) -> str:
    """A time in words, from the least to the most."""
    low, high = (duration(one) for one in seconds)
    return low if low == high else f"{low} to {high}"


def sentence(made: list[Part]) -> str:
    """Hours and bytes of all of it."""
    whole = total(made)
    return f"{span(whole.seconds)}; writes at least {amount(whole.written[0])}, up to {amount(whole.written[1])}"


def advice(
    drive: Drive, exporters: int, needs: Requirements, scale: Scale, speed: float = ASSUMED_BYTES_S
) -> list[str]:
    """How to have it done in a night, where it may take longer."""
    def takes(**changes: Any) -> tuple[float, float]:
        return total(parts(drive, exporters, needs, replace(scale, **changes), speed)).seconds

    if takes()[1] <= NIGHT_S:
        return []
    lines = []
    shares = [100] if scale.size == "100%" else []
    for share in [*shares, 50, 25, 10, 5, 1]:
        size = {"size": f"{share}%"} if share != 100 else {}
        longest = next((seconds for seconds in range(scale.cell_seconds, LEAST_CELL_S - 1, -1)
                        if takes(cell_seconds=seconds, **size)[1] <= NIGHT_S), 0)
        if longest:
            words = f"--cell-seconds {longest}" + "".join(f" --size {one}" for one in size.values())
            lines.append(f"in a night: {words} takes {span(takes(cell_seconds=longest, **size))}; the verdict says "
                         "that it is scaled, and its steady state is not SNIA's")
            break
    whole = [part for rounds in snia.of_tests(scale.tests) for part in rounds_of(rounds, drive, scale, speed)]
    if scale.steady and whole:
        lines.append(f"or as it is, in parts: Ctrl-C stops it and --resume goes on; preconditioning and rounds of a "
                     f"test ({span(total(whole).seconds)}) have to be in one piece")
    return lines


def table(made: list[Part]) -> str:
    """The parts as text."""
    rows = [("part", "hours", "GB written at most")]
    for part in [*made, total(made)]:
        low, high = (seconds / 3600 for seconds in part.seconds)
        hours = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        rows.append((part.name, hours, f"{part.written[1] / 1e9:.1f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}" for row in rows
    )


def total(made: list[Part]) -> Part:
    """All parts together."""
    return Part(
        "all",
        (sum(p.seconds[0] for p in made), sum(p.seconds[1] for p in made)),
        (sum(p.written[0] for p in made), sum(p.written[1] for p in made)),
    )
