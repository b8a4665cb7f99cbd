# SPDX-License-Identifier: GPL-2.0-only
"""From records to a verdict for each requirement. Nothing passes that was not seen to hold."""

from typing import Any

from dmabuf_common.verdict import INCONCLUSIVE, PASS, SKIP

from . import snia
from .judge_integrity import faults, integrity
from .judge_machine import machine
from .judge_path import path
from .judge_performance import performance
from .rules import Judged, not_done
from .requirements import Requirements
from .store import Record, Store


def judge(records: dict[str, Record], state: dict[str, Any], needs: Requirements) -> list[Judged]:
    """All requirements. `state`: what run.json holds beside the records."""
    every = list(records.values())
    verdicts = [
        *integrity(every, state),
        *path(every, state, needs),
        *faults(every, state),
        *performance(every, state, needs),
        *machine(every, state, needs),
    ]
    return [_whole(one, every, state, needs) for one in verdicts]


def known_parts(store: Store) -> dict[str, Any]:
    """What the verdicts take besides run.json and the last record of each case: in which parts of the run
    the drive was written to by the test that needs it fresh."""
    return {"saturation_parts": store.parts_of(snia.SATURATION.prefix)}


def _whole(
    judged: Judged, every: list[Record], state: dict[str, Any], needs: Requirements
) -> Judged:
    """The verdict, but nothing passes of which only a part was done."""
    left, planned = not_done(judged.id, every, state, needs)
    if judged.status not in (PASS, SKIP) or not left:
        return judged
    text = f"{len(left)} of {planned} cases were not done: {left[0]}"
    return Judged(judged.id, INCONCLUSIVE, text, "run it to the end (--resume)", judged.evidence,
                  judged.seconds)
