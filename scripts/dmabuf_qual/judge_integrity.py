# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts on the data: integrity.*, and faults.*, which must harm none."""

from typing import Any

from dmabuf_common.verdict import INCONCLUSIVE, PASS

from . import cases
from .rules import Judged, steady, unsteady, verdict
from .store import Record


def _compared(records: list[Record]) -> str:
    total = sum(r.get("compared_bytes", 0) for r in records)
    paths = sorted({f"{r['exporter']} {r['path']}".strip() for r in records if r["path"]})
    where = f" on {', '.join(paths)}" if paths else ""
    return f"{total / cases.MIB:.0f} MiB compared in {len(records)} cases{where}, all right"


def masked(records: list[Record]) -> list[Record]:
    """The round trips, with ROUNDTRIP_MASKED where one agrees although a direction alone is wrong."""
    judged = []
    for record in records:
        if record["test"] != "roundtrip":
            continue
        alone = [r for r in records if r["requirement"] in ("integrity.read", "integrity.write")
                 and (r["exporter"], r["path"]) == (record["exporter"], record["path"])]
        wrong = [one["name"] for r in alone for one in r["findings"] if one["name"] in (
            "READ_NOT_LANDED", "WRITE_NOT_LANDED", "WRITE_NOT_FETCHED", "MISADDRESSED",
            "MULTI_SEGMENT_MISADDRESSED", "STALE_DATA", "DATA_CORRUPTED")]
        facts = record.get("facts", {})
        copy = {**record, "findings": list(record["findings"])}
        if wrong and facts.get("agree") and not facts.get("differ"):
            copy["findings"].append({"name": "ROUNDTRIP_MASKED", "count": facts["agree"], "text":
                f"{facts['agree']} round trips agree, while one direction alone shows {wrong[0]}"})
        judged.append(copy)
    return judged


def integrity(every: list[Record], state: dict[str, Any]) -> list[Judged]:
    """integrity.*"""

    def of(name: str) -> list[Record]:
        return [record for record in every if record["requirement"] == name]

    verdicts = [
        verdict(name, of(name), every, _compared, state)
        for name in ("integrity.drive", "integrity.read", "integrity.write", "integrity.segments")
    ]
    laid = any(record["id"] == "integrity/check" for record in every)
    if verdicts[0].status == PASS and not laid:
        verdicts[0] = Judged("integrity.drive", INCONCLUSIVE, "what was laid down was not looked at",
                             "run it to the end (--resume)")
    verdicts.append(verdict("integrity.roundtrip", masked(every), every, _compared, state))
    verdicts.append(verdict("integrity.load", of("integrity.load"), every, _compared, state))
    if steady(state):
        verdicts.append(verdict("integrity.after", of("integrity.after"), every, _compared, state))
    else:
        verdicts.append(unsteady("integrity.after", state, "a quick run is too short to upset anything"))
    return verdicts


def faults(every: list[Record], state: dict[str, Any]) -> list[Judged]:
    """faults.*"""
    return [
        verdict(f"faults.{name}", [r for r in every if r["requirement"] == f"faults.{name}"], every,
                lambda ran: f"{sum(r['transfers'] for r in ran)} transfers in {len(ran)} cases ended as they must",
                state)
        for name in ("close", "liar", "fence", "invalidate", "revoke")
    ]
