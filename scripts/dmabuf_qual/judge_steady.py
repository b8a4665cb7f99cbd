# SPDX-License-Identifier: GPL-2.0-only
"""The verdicts on SNIA's tests and the steady state, by SNIA's rules."""

from collections.abc import Iterable
from typing import Any

from dmabuf_common.terminal import duration
from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS

from . import cases, snia, steady
from .rules import Judged, describe, has_figures, steady as to_be_steady, unsteady, verdict
from .snia import Rounds
from .store import Record

WINDOW_KINDS = ("precondition", "pts")
# Rounds of the write saturation test in the evidence; of more, each second one, or third.
MOST_SHOWN = 60
# A window with a longer pause in it is none: a drive that rests is another one afterwards.
LONGEST_PAUSE_S = 300.0
UNITS = {"iops": "IOPS", "mib_s": "MiB/s", "mean_us": "µs"}


def _of_part(records: Iterable[Record], rounds: Rounds) -> list[Record]:
    """Preconditioning, and those of the rounds that are of the same part of the run. Rounds without
    preconditioning: those of the first one's part."""
    both = [record for record in records if record["kind"] in WINDOW_KINDS and rounds.mine(record["id"])]
    first = [record.get("part") for record in both if (
        record["kind"] == "precondition" if rounds.prepares else record["id"].split("/")[1] == "round-01"
    )]
    return [record for record in both if record.get("part") == first[-1]] if first else []


def _pause(mine: list[Record]) -> tuple[int, float]:
    """The first of these before or in which nothing was done for too long, and for how many seconds: the
    machine slept, or the program was stopped. How many there are, and 0, where there is none."""
    for at, record in enumerate(mine):
        idle = record["seconds"] - record.get("runtime_s", record["seconds"])
        if at:
            idle = max(idle, record["started"] - mine[at - 1]["started"] - mine[at - 1]["seconds"])
        if idle > LONGEST_PAUSE_S:
            return at, idle
    return len(mine), 0.0


def window(records: Iterable[Record], rounds: Rounds = snia.IOPS) -> list[Record]:
    """Preconditioning, and those of the rounds that followed it without an interruption or a pause."""
    mine = _of_part(records, rounds)
    return mine[: _pause(mine)[0]]


def paused(records: Iterable[Record], rounds: Iterable[Rounds]) -> str:
    """What ended a window early; empty when nothing did."""
    every = list(records)
    for one in rounds:
        mine = _of_part(every, one)
        at, idle = _pause(mine)
        if idle:
            return f"; a pause of {duration(idle)} before or in {mine[at]['id']} ended the window"
    return ""


def value(record: Record, figure: str) -> float:
    """A cell's IOPS, MiB/s or mean latency, of reads and writes together."""
    figures = record["figures"]
    sides = [(figures.get(f"{way}_iops", 0.0), figures.get(f"{way}_{figure}", 0.0)) for way in ("read", "write")]
    if figure != "mean_us":
        return float(sum(one for _, one in sides))
    total = sum(iops for iops, _ in sides)
    return float(sum(iops * one for iops, one in sides) / total) if total else 0.0


def whole_rounds(
    records: Iterable[Record], block: int = 512, rounds: Rounds = snia.IOPS
) -> list[dict[str, Record]]:
    """Round by round from the first on, each with all its cells by name, up to the first round of which
    a cell is missing or not valid. `block`: the drive's logical block."""
    by_round: dict[int, dict[str, Record]] = {}
    for record in window(records, rounds):
        if record["kind"] == "pts" and has_figures(record):
            number = int(record["id"].split("/")[1].removeprefix("round-"))
            by_round.setdefault(number, {})[record["id"].split("/")[2]] = record
    whole = []
    for number in range(1, len(by_round) + 1):
        if not rounds.names(block) <= by_round.get(number, {}).keys():
            break
        whole.append(by_round[number])
    return whole


def tracked(records: Iterable[Record], block: int = 512, rounds: Rounds = snia.IOPS) -> dict[str, list[float]]:
    """What has to be steady, by the tracked cells, round by round."""
    whole = whole_rounds(records, block, rounds)
    return {cell: [value(one[cell], rounds.figure) for one in whole]
            for cell in rounds.tracked_names()} if whole else {}


def settled(records: Iterable[Record], rounds: Rounds = snia.IOPS, block: int = 512) -> bool:
    """Whether there is nothing more to be done for the steady state: it was reached, or will not be."""
    looked = [steady.examine(values) for values in tracked(records, block, rounds).values()]
    return bool(looked) and (
        all(one.steady for one in looked) or looked[0].rounds >= steady.MOST_ROUNDS
    )


def written(records: Iterable[Record]) -> float:
    """The bytes that the rounds of the write saturation test wrote."""
    return float(sum(one["0-4k"].get("written_bytes", 0) for one in whole_rounds(records, 512, snia.SATURATION)))


def saturated(records: Iterable[Record], drive_bytes: int) -> bool:
    """Whether the write saturation test is at its end."""
    every = list(records)
    return (written(every) >= snia.SATURATION_TIMES * drive_bytes
            or len(whole_rounds(every, 512, snia.SATURATION)) >= snia.SATURATION_ROUNDS)


def not_snia(state: dict[str, Any], measured: list[Record]) -> str:
    """In what the rounds are not those of SNIA's test, by what was asked for and by what was measured;
    empty when they are."""
    if "scale" not in state or "whole_drive" not in state:
        return "how long its rounds were is not known"
    scale = cases.Scale.of_words(state["scale"])
    wrong = []
    if scale.cell_seconds < cases.PTS_SECONDS:
        wrong.append(f"rounds of {scale.cell_seconds} s, not {cases.PTS_SECONDS}")
    if scale.size != "100%":
        wrong.append(f"over {scale.size} of the drive, not 100%")
    if not state["whole_drive"]:
        wrong.append("over a partition, not the drive")
    for record in () if wrong else measured:
        runtime, size = record.get("runtime_s"), record.get("size")
        if runtime is None or size is None:
            return f"how long {record['id']} was is not known"
        if runtime < cases.LEAST_RUNTIME * cases.PTS_SECONDS:
            return f"{record['id']} was {runtime:.0f} s long, not {cases.PTS_SECONDS}"
        if size != "100%":
            return f"{record['id']} was over {size} of the drive, not 100%"
    return ", ".join(wrong)


def not_prepared(ready: Iterable[Record], drive_bytes: int) -> str:
    """Which preconditioning does not say that it wrote the whole drive twice over; empty when all do."""
    for record in ready:
        done = has_figures(record) and record.get("runtime_s", 0.0) > 0 and record.get("size") == "100%"
        if not done or not drive_bytes or record.get("written_bytes", 0) < cases.twice("100%", drive_bytes):
            return f"{record['id']} does not say that it wrote the whole drive twice over"
    return ""


def _unfit(name: str, records: list[Record], state: dict[str, Any], rounds: list[Rounds]) -> Judged | None:
    """The verdict where preconditioning or a cell went wrong, or nothing was measured."""
    for record in records:
        if record["kind"] == "precondition" and (record["findings"] or "error" in record):
            what = record.get("error") or describe(record, record["findings"][0], records)
            return Judged(name, INCONCLUSIVE, f"the drive was not brought into its state: {what}",
                          "look for the cause and run again")
    # No cell of the rounds is judged anywhere else, and a test tracks a few of many.
    measured = [record for one in rounds for record in window(records, one) if record["kind"] == "pts"]
    if any(record["findings"] or "error" in record for record in measured):
        return verdict(name, measured, records, lambda ran: "", state)
    block = int(state.get("block", 512))
    if any(not whole_rounds(records, block, one) for one in rounds):
        return Judged(name, INCONCLUSIVE, f"no round was completed{paused(records, rounds)}", "run it to the end (--resume)")
    return None


def _means(rounds: Rounds, whole: list[dict[str, Record]]) -> list[tuple[str, str, str]]:
    """What a test reports: each cell's mean over the last five rounds."""
    last = whole[-steady.WINDOW :]
    return [(f"{rounds.prefix} {cell}", f"{sum(value(one[cell], rounds.figure) for one in last) / len(last):.4g}",
             UNITS[rounds.figure]) for cell in sorted(last[0])]


def steadiness(name: str, records: list[Record], state: dict[str, Any], rounds: list[Rounds]) -> Judged:
    """Of one requirement: the IOPS, the throughput or the latency test."""
    unfit = _unfit(name, records, state, rounds)
    if unfit:
        return unfit
    block = int(state.get("block", 512))
    seconds = sum(record["seconds"] for record in records)
    texts, means = [], []
    worst = None
    for one in rounds:
        where = "" if one is snia.IOPS else f"{one.prefix} "
        means += _means(one, whole_rounds(records, block, one))
        for cell, values in tracked(records, block, one).items():
            looked = steady.examine(values)
            texts.append((f"{where}{cell}", looked.text(), ""))
            if not looked.steady and (worst is None or looked.rounds > worst[1].rounds):
                worst = (f"{where}{cell}", looked)
    measured = [record for one in rounds for record in window(records, one) if record["kind"] == "pts"]
    ready = [r for one in rounds for r in window(records, one) if r["kind"] == "precondition"]
    scaled = not_snia(state, measured) or not_prepared(ready, int(state.get("drive_bytes", 0)))
    text = "; ".join(f"{c}: {t}" for c, t, _ in texts)
    if scaled:
        return Judged(name, INCONCLUSIVE, f"not SNIA's test ({scaled}): {text}",
                      "run it without --cell-seconds and --size, on the whole drive", texts + means,
                      seconds)
    if worst is None:
        return Judged(name, PASS, text, "", texts + means, seconds)
    ended = worst[1].rounds >= steady.MOST_ROUNDS
    why = "" if ended else paused(records, rounds)
    return Judged(name, FAIL if ended else INCONCLUSIVE, f"NOT_STEADY: {worst[0]}: {worst[1].text()}{why}",
                  "look for throttling, other users of the drive, a worn drive", texts + means, seconds,
                  ["NOT_STEADY"] if ended else [])


def saturation(records: list[Record], state: dict[str, Any]) -> Judged:
    """performance.saturation: has no steady state, but an end."""
    name = "performance.saturation"
    unfit = _unfit(name, records, state, [snia.SATURATION])
    if unfit:
        return unfit
    whole = whole_rounds(records, 512, snia.SATURATION)
    rates = [value(one["0-4k"], "iops") for one in whole]
    drive_bytes = int(state.get("drive_bytes", 0))
    times = written(records) / drive_bytes if drive_bytes else 0.0
    text = (f"{times:.1f} times the drive in {len(whole)} rounds: {rates[0]:.0f} IOPS in the first, {rates[-1]:.0f} "
            f"in the last, {min(rates):.0f} at the least; with no purge before, unless you did one")
    every = -(-len(rates) // MOST_SHOWN)
    evidence = [(f"saturation {number}", f"{rate:.0f}", "IOPS")
                for number, rate in enumerate(rates, 1) if number % every == 1 % every]
    seconds = sum(record["seconds"] for record in records)
    scaled = not_snia(state, [one["0-4k"] for one in whole])
    if scaled:
        return Judged(name, INCONCLUSIVE, f"not SNIA's test ({scaled}): {text}",
                      "run it without --cell-seconds and --size, on the whole drive", evidence, seconds)
    begun = window(records, snia.SATURATION)[0].get("part")
    if any(part != begun for part in state.get("saturation_parts", ())):
        return Judged(name, INCONCLUSIVE, f"it began anew, when the drive was not fresh any more: {text}",
                      "purge the drive, and choose another --output", evidence, seconds)
    if not drive_bytes or not saturated(records, drive_bytes):
        why = paused(records, [snia.SATURATION])
        return Judged(name, INCONCLUSIVE, f"it ended early: {text}{why}", "run it to the end (--resume)", evidence, seconds)
    return Judged(name, PASS, text, "", evidence, seconds)


def tests(every: list[Record], state: dict[str, Any]) -> list[Judged]:
    """A verdict for each test that was asked for, and for the IOPS test in any case."""
    wanted = cases.Scale.of_words(state["scale"]).tests if "scale" in state else "iops"
    verdicts = []
    brought = to_be_steady(state)
    for test in snia.TESTS:
        rounds = [one for one in snia.ALL if one.test == test]
        name = rounds[0].requirement
        mine = [r for r in every if r["kind"] in WINDOW_KINDS and any(one.mine(r["id"]) for one in rounds)]
        if not brought:
            if test == "iops":
                verdicts.append(unsteady(name, state, "a quick run does not bring the drive into its steady state"))
        elif test not in wanted.split(","):
            if test == "iops":
                verdicts.append(Judged(name, INCONCLUSIVE, f"SNIA's IOPS test was not asked for (--tests {wanted})",
                                       "run it with iops among --tests"))
        elif test == "saturation":
            verdicts.append(saturation(mine, state))
        else:
            verdicts.append(steadiness(name, mine, state, rounds))
    return verdicts
