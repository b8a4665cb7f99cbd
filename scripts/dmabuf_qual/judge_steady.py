# SPDX-License-Identifier: GPL-2.0-only
"""The verdict on the steady state, by SNIA's rules: performance.steady."""

from collections.abc import Iterable
from typing import Any

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP

from . import cases, steady
from .rules import Judged, describe, has_figures, verdict
from .store import Record

WINDOW_KINDS = ("precondition", "pts")


def window(records: Iterable[Record]) -> list[Record]:
    """Preconditioning, and those of the rounds that followed it without an interruption."""
    both = [record for record in records if record["kind"] in WINDOW_KINDS]
    parts = [record.get("part") for record in both if record["kind"] == "precondition"]
    return [record for record in both if record.get("part") == parts[-1]] if parts else []


def settled(records: Iterable[Record], block: int = 512) -> bool:
    """Whether there is nothing more to be done for the steady state: it was reached, or will not be."""
    rounds = pts_rounds(records, block)
    looked = [steady.examine(values) for values in rounds.values()]
    return bool(looked) and (
        all(one.steady for one in looked) or looked[0].rounds >= steady.MOST_ROUNDS
    )


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


def steadiness(records: list[Record], state: dict[str, Any]) -> Judged:
    """performance.steady"""
    name = "performance.steady"
    if not state.get("steady"):
        return Judged(name, SKIP, "not applicable: a quick run does not bring the drive into its "
                      "steady state")  # fmt: skip
    before = [record for record in records if record["kind"] == "precondition"]
    for record in before:
        if record["findings"] or "error" in record:
            what = record.get("error") or describe(record, record["findings"][0], records)
            return Judged(name, INCONCLUSIVE, f"the drive was not brought into its state: {what}",
                          "look for the cause and run again")  # fmt: skip
    seconds = sum(record["seconds"] for record in records)
    # No cell of the rounds is judged anywhere else, and SNIA's test tracks three of 56.
    measured = [record for record in window(records) if record["kind"] == "pts"]
    if any(record["findings"] or "error" in record for record in measured):
        return verdict(name, measured, records, lambda ran: "", state)
    rounds = pts_rounds(records, int(state.get("block", 512)))
    if not rounds:
        return Judged(name, INCONCLUSIVE, "no round was completed", "run it to the end (--resume)")
    texts = []
    worst = None
    for cell, values in rounds.items():
        looked = steady.examine(values)
        texts.append((cell, looked.text(), ""))
        if not looked.steady and worst is None:
            worst = (cell, looked)
    scaled = not_snia(state, measured)
    if scaled:
        text = "; ".join(f"{c}: {t}" for c, t, _ in texts)
        return Judged(name, INCONCLUSIVE, f"not SNIA's test ({scaled}): {text}",
                      "run it without --cell-seconds and --size, on the whole drive", texts, seconds)  # fmt: skip
    if worst is None:
        return Judged(name, PASS, "; ".join(f"{c}: {t}" for c, t, _ in texts), "", texts, seconds)
    ended = worst[1].rounds >= steady.MOST_ROUNDS
    return Judged(name, FAIL if ended else INCONCLUSIVE, f"NOT_STEADY: {worst[0]}: {worst[1].text()}",
                  "look for throttling, other users of the drive, a worn drive", texts, seconds,
                  ["NOT_STEADY"] if ended else [])  # fmt: skip


def pts_rounds(records: Iterable[Record], block: int = 512) -> dict[str, list[float]]:
    """IOPS of the tracked cells, round by round from the first on, up to the first round of which a
    cell, tracked or not, is missing or not valid. `block`: the drive's logical block."""
    by_round: dict[int, dict[str, float]] = {}
    for record in window(records):
        if record["kind"] != "pts" or not has_figures(record):
            continue
        number = int(record["id"].split("/")[1].removeprefix("round-"))
        cell = record["id"].split("/")[2]
        figures = record["figures"]
        total = figures.get("read_iops", 0) + figures.get("write_iops", 0)
        by_round.setdefault(number, {})[cell] = total
    tracked = [f"{mix}-{size}" for mix, size in cases.PTS_TRACKED]
    rounds: dict[str, list[float]] = {}
    for number in range(1, len(by_round) + 1):
        if not cases.pts_names(block) <= by_round.get(number, {}).keys():
            break
        for cell in tracked:
            rounds.setdefault(cell, []).append(by_round[number][cell])
    return rounds
