# SPDX-License-Identifier: GPL-2.0-only
"""The verdict on the tails of the latencies: performance.tails."""

from typing import Any

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP

from . import cases, tails
from .requirements import Requirements
from .rules import REMEDY, Judged, has_figures, not_done, too_little
from .store import Record

PERCENTILES = ((99.0, "most_p99_ratio"), (99.9, "most_p999_ratio"))
# That all intervals together have what they are of in them.
LEVEL = 0.95
# Rate times time is so near to how many I/Os there were.
MOST_APART = 0.02

# Exporter, datapath, cell, direction.
Key = tuple[str, str, str, str]


def sides(measured: list[Record]) -> tuple[dict[Key, tails.Side], list[str]]:
    """The repeats of each measurement and direction; and the cases that kept no latencies, or not those of
    all their I/Os."""
    repeats: dict[Key, list[tails.Bins]] = {}
    without = []
    for record in measured:
        kept = record.get("latency", {})
        for way in ("read", "write"):
            rate = record.get("figures", {}).get(f"{way}_iops")
            if not rate:
                continue
            done = rate * record.get("runtime_s", 0.0)
            if not kept.get(way) or abs(sum(count for _, count in kept[way]) - done) > MOST_APART * done:
                without.append(record["id"])
                continue
            key = (record["exporter"], record["path"], record["id"].split("/")[-2], way)
            repeats.setdefault(key, []).append(kept[way])
    return {key: tails.Side(bins) for key, bins in repeats.items()}, without


def judge_tails(records: list[Record], state: dict[str, Any], needs: Requirements) -> Judged:
    """performance.tails"""
    name, limits = "performance.tails", needs["performance"]
    if state.get("emulated"):
        return Judged(name, SKIP, "not applicable: the drive is emulated, its figures say nothing "
                      "about hardware")
    measured = [r for r in records if r["kind"] == "cell" and r["path"] != "bounce"]
    few = too_little(state, measured)
    if few:
        return Judged(name, SKIP if state.get("quick") else INCONCLUSIVE, f"not judged by {few}",
                      "run it without --quick, --repeats and --cell-seconds")
    found, without = sides([r for r in measured if has_figures(r)])
    lost = [r["id"] for r in measured if not has_figures(r)] + without
    lost += not_done("performance.paths", records, state, needs)[0]
    pairs = [(key, side, found[("", "host", *key[2:])]) for key, side in sorted(found.items())
             if key[1] not in cases.CONTROLS and ("", "host", *key[2:]) in found]
    level = 1 - (1 - LEVEL) / max(1, len(pairs) * len(PERCENTILES))
    evidence, bad, unsure, scarce = [], [], [], []
    for (exporter, path, cell, way), side, control in pairs:
        for wanted, threshold in PERCENTILES:
            what = f"{exporter} {path} {cell} {way} p{wanted:g}"
            looked = tails.ratio(control, side, wanted, level)
            if looked is None:
                scarce.append(what)
                continue
            evidence.append((what, looked.text(), "of host"))
            if looked.low > limits[threshold]:
                bad.append(f"{what} is {looked.text()} of host memory's, at most {limits[threshold]:g}")
            elif looked.high > limits[threshold]:
                unsure.append(f"{what} is {looked.text()} of host memory's, at most {limits[threshold]:g}")
    if bad:
        return Judged(name, FAIL, f"SLOW_TAIL: {bad[0]}", REMEDY["SLOW_TAIL"], evidence, 0, ["SLOW_TAIL"])
    if lost or not pairs:
        what = f"{len(lost)} measurements are missing, not valid or without the latencies of all their I/Os: {lost[0]}" if lost else \
            "nothing was measured"
        return Judged(name, INCONCLUSIVE, what, "run it to the end (--resume)", evidence)
    if unsure:
        return Judged(name, INCONCLUSIVE, f"the repeats differ too much to say: {unsure[0]}",
                      "give more --repeats", evidence)
    if scarce:
        return Judged(name, INCONCLUSIVE, f"too few samples for {scarce[0]}: {tails.LEAST_BEYOND} have to lie beyond",
                      "give more --repeats or --cell-seconds", evidence)
    return Judged(name, PASS, f"{len(evidence)} percentiles within limits, their intervals included", "", evidence)
