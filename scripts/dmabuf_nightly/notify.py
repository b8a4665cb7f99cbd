# SPDX-License-Identifier: GPL-2.0-only
"""Tells a command of a night that came to something else than the night before it."""

import json
import os
import subprocess
from dataclasses import asdict

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP
from dmabuf_report import model

from .acknowledge import CONFIRMED
from .store import Night, Store

FORMAT = "libdmabuf-notice"
VERSION = 1
TIMEOUT_S = 60
JUDGED = (PASS, FAIL, INCONCLUSIVE, SKIP)


def state(store: Store, night: Night) -> tuple[str | None, list[str]]:
    """What a night came to: its status, and what is slower and not known."""
    slower = [
        " ".join(row[name] for name in ("test", "side", "host", "metric", "against"))
        for row in store.decisions(night.id)
        if row["state"] == CONFIRMED and not row["document"].get("acknowledged")
    ]
    return night.status, slower


def before(store: Store, night: Night) -> Night | None:
    """The night before that was judged."""
    found = [
        n for n in store.nights(night.plan)
        if n.id < night.id and n.status in JUDGED and not n.abandoned
    ]
    return found[-1] if found else None


def changed(store: Store, night: Night) -> bool:
    """Whether a night came to something else than the one before; a first one that is good did not."""
    last = before(store, night)
    if last is None:
        return night.status in (FAIL, INCONCLUSIVE)
    return state(store, last) != state(store, night)


def document(store: Store, night: Night, found: model.Results) -> dict[str, object]:
    """What the command reads on its stdin."""
    last = before(store, night)
    failed = [asdict(r) for r in found.requirements if r.status in (FAIL, INCONCLUSIVE)]
    return {
        "format": FORMAT, "version": VERSION, "plan": night.plan, "night": night.id,
        "label": night.label, "started": night.started, "status": found.verdict.status,
        "before": last.status if last else None, "text": found.verdict.text,
        "failed": [{name: one[name] for name in ("id", "title", "status", "text", "remedy")}
                   for one in failed],
    }


def tell(command: str, said: dict[str, object]) -> str:
    """Runs the command; why it failed, or ""."""
    names = ("plan", "night", "status", "text")
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command], input=json.dumps(said), text=True, timeout=TIMEOUT_S,
            env={**os.environ, **{f"DMABUF_{name.upper()}": str(said[name]) for name in names}},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {TIMEOUT_S} s"
    return f"it ended with status {done.returncode}" if done.returncode else ""
