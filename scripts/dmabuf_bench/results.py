# SPDX-License-Identifier: GPL-2.0-only
"""The document of a run: JSON that `report` reads again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .cases import FLAGS, LONGEST_COMMAND, Case, IoCase, MapCase
from .errors import BenchError
from .lab import Boot
from .samples import Sample, records

VERSION = 2
NOTE = "an emulated machine: figures compare datapaths with each other and say nothing of hardware"


def case_of(line: str) -> Case:
    """The case behind a line of a plan."""
    kind, *words = line.split()
    values = dict(word.split("=", 1) for word in words)
    if kind == "map":
        return MapCase(
            values["how"], values["memory"], int(values["bytes"]), int(values.get("count", "1"))
        )
    return IoCase(
        values["path"],
        values["memory"],
        int(values["bs"]),
        int(values["depth"]),
        **{name: values.get(name) == "1" for name in FLAGS},
        ranges=int(values.get("ranges", "1")),
        command=int(values.get("hint", str(LONGEST_COMMAND))),
        file=values.get("file", ""),
    )


def document(boots: list[Boot], fio: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "version": VERSION,
        "note": NOTE,
        "boots": [
            {
                "iommu": boot.iommu,
                "scheduler": boot.scheduler,
                "command": boot.command,
                "cases": records(boot.found),
            }
            for boot in boots
        ],
        "fio": fio,
    }


def load(path: Path) -> dict[str, Any]:
    """A document that `run` or `goals` wrote; BenchError for anything else."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise BenchError(f"{path} is no results file of this dmabuf-bench")
    return found


def samples_of(found: Mapping[str, Any]) -> dict[str, list[Sample]]:
    """The samples of a document by IOMMU mode."""
    return {
        str(boot["iommu"]): [
            Sample(case_of(record["case"]), list(record["instructions"]), dict(record["other"]))
            for record in boot["cases"]
        ]
        for boot in found["boots"]
    }
