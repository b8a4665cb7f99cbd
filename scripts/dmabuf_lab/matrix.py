# SPDX-License-Identifier: GPL-2.0-only
"""The table of docs/support-matrix.md that is made from results of runs.

The tests labelled matrix leave what each combination of exporter, datapath and target did as a file
for each kernel. `collect` keeps these in docs/matrix.json, the newest of each kernel; of a kernel whose
newest run failed it keeps only that. `table` makes the table of what is kept. Nothing in it is written by hand.
"""

import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dmabuf_common import files

from .errors import LabError

RESULTS = "docs/matrix.json"
DOCUMENT = "docs/support-matrix.md"
BEGIN = "<!-- made by `dmabuf-lab matrix` of docs/matrix.json: do not edit -->"
END = "<!-- end of what is made -->"

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
NOT_RUN = "not run"
NOT_RECORDED = "not recorded"
FAILED = "failed"
OUTCOME = re.compile(r"^(byte-exact|failed|refused [A-Z0-9_]+)$")
CELL_KEYS = ("exporter", "target", "path", "outcome")


@dataclass(frozen=True)
class Run:
    """What one guest found. cells: (path, target, exporter) and what came of it. version, srcversion: the module's own;
    source: the digest of its sources. These and qemu are empty where the run did not record them. failed: the test failed,
    and there is nothing else; kernel is the test's word for it.
    """

    kernel: str
    arch: str
    page: int
    date: str
    qemu: str
    cells: tuple[tuple[str, str, str, str], ...]
    version: str = ""
    srcversion: str = ""
    source: str = ""
    failed: bool = False

    @property
    def key(self) -> tuple[str, str, int]:
        """Runs of the same one replace each other: the series and flavour, and the size of pages."""
        series = re.match(r"\d+\.\d+", self.kernel)
        flavour = "rt" if re.search(r"-rt\b", self.kernel) else ""
        return (f"{series[0] if series else self.kernel}{flavour}", self.arch, self.page)

    @property
    def module(self) -> str:
        """What was tested, in words."""
        if not self.source:
            return NOT_RECORDED
        return f"{self.version}, sources {self.source}, srcversion {self.srcversion}"


def parse(text: str, date: str) -> Run:
    """A run by the file that a guest left; LabError says what is wrong with it."""
    try:
        data = json.loads(text)
        module = data.get("module", {})
        cells = [tuple(str(cell[key]) for key in CELL_KEYS) for cell in data["cells"]]
        run = Run(
            kernel=str(data["kernel"]),
            arch=ARCHITECTURES[data["machine"]],
            page=int(data["page"]),
            date=date,
            qemu=str(data.get("qemu", "")),
            cells=tuple(sorted((path, target, exporter, outcome) for exporter, target, path, outcome in cells)),
            version=str(module.get("version", "")),
            srcversion=str(module.get("srcversion", "")),
            source=str(module.get("source", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"this is no file of results: {error}") from None
    if not run.cells:
        raise LabError("a run without results")
    wrong = [cell for cell in run.cells if not OUTCOME.match(cell[3])]
    if wrong:
        raise LabError(f"{wrong[0][3]!r} is no outcome")
    return run


def failed_run(name: str, date: str) -> Run:
    """The run of a test that failed, by the test's name: its kernel, architecture and pages ("7.3-arm64-16k")."""
    parts = re.fullmatch(r"\d+\.\d+(-rt)?(-arm64)?(-16k)?", name)
    if not parts:
        raise LabError(f"{name}: no kernel is called so")
    return Run(name, "arm64" if parts[2] else "amd64", 16384 if parts[3] else 4096, date, "", (), failed=True)


def load(path: Path) -> list[Run]:
    """The runs that are kept in a file."""
    runs: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"]
    for run in runs:
        run["cells"] = tuple(tuple(cell) for cell in run["cells"])
    return [Run(**run) for run in runs]


def _order(run: Run) -> tuple[str, int, list[int], str]:
    numbers = [-int(number) for number in re.findall(r"\d+", run.kernel)]
    return (run.arch, run.page, numbers, run.kernel)


def merge(kept: Iterable[Run], new: Iterable[Run]) -> list[Run]:
    """What is to be kept: of each kernel the newest run."""
    found: dict[tuple[str, str, int], Run] = {}
    for run in (*kept, *new):
        if run.key not in found or run.date >= found[run.key].date:
            found[run.key] = run
    return sorted(found.values(), key=_order)


def check_sources(runs: Iterable[Run]) -> None:
    """LabError where runs are of different sources of the module; those that are not recorded may be any."""
    found: dict[str, list[str]] = {}
    for run in runs:
        if not run.failed:
            found.setdefault(run.source or NOT_RECORDED, []).append(run.kernel)
    if len(found) > 1:
        kinds = "; ".join(f"{source}: {_listed(kernels)}" for source, kernels in found.items())
        raise LabError(
            f"the results are of different sources of the module ({kinds}); "
            "run `scripts/check --matrix` for all kernels, or give --mixed to have them side by side"
        )


def save(path: Path, runs: Sequence[Run]) -> None:
    """Keeps runs in a file."""
    files.write_json(path, {"runs": [asdict(run) for run in runs]})


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def rows(runs: Sequence[Run]) -> list[list[str]]:
    """Datapath, targets, exporters and what came of them in each run: nothing but that it failed, where the run did.

    Exporters and targets of which all is the same are in one row.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    unknown = [FAILED if run.failed else NOT_RUN for run in runs]
    for number, run in enumerate(runs):
        for path, target, exporter, outcome in run.cells:
            found.setdefault((path, target, exporter), unknown.copy())[number] = outcome
    exporters: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (path, target, exporter), outcomes in sorted(found.items()):
        exporters.setdefault((path, target, tuple(outcomes)), []).append(exporter)
    targets: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (path, target, same), names in exporters.items():
        targets.setdefault((path, tuple(names), same), []).append(target)
    order = ("premapped", "registered", "bvec")
    lines = [
        [path, _listed(where), _listed(names), *outcomes]
        for (path, names, outcomes), where in targets.items()
    ]
    return sorted(lines, key=lambda line: (order.index(line[0]) if line[0] in order else 9, line[1], line[2]))


def _count(cells: Iterable[str], what: str) -> int:
    return sum(cell.startswith(what) for cell in cells)


def table(runs: Sequence[Run]) -> str:
    """The text for the document: which runs there were, and what each combination did."""
    if not runs:
        return "Nothing was run."
    lines = [
        "| kernel | architecture, pages | run on | QEMU | module | byte-exact | refused | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        outcomes = [cell[3] for cell in run.cells]
        counts = [str(_count(outcomes, what)) for what in ("byte-exact", "refused", FAILED)]
        if run.failed:
            counts = ["–", "–", "the whole run"]
        words = [run.kernel, f"{run.arch}, {run.page >> 10} KiB", run.date, run.qemu or NOT_RECORDED, run.module, *counts]
        lines.append(f"| {' | '.join(words)} |")
    heads = [f"{run.kernel}" for run in runs]
    lines += ["", f"| datapath | target | exporter | {' | '.join(heads)} |", "|---|---|---|" + "---|" * len(runs)]
    lines += [f"| {' | '.join(row)} |" for row in rows(runs)]
    return "\n".join(lines)


def placed(document: str, made: str) -> str:
    """The document with the table in its place."""
    parts = re.split(f"({re.escape(BEGIN)}|{re.escape(END)})", document)
    if parts[1::2] != [BEGIN, END]:
        raise LabError(f"{DOCUMENT} has no place for the table: the lines {BEGIN!r} and {END!r}")
    return f"{parts[0]}{BEGIN}\n\n{made}\n\n{END}{parts[4]}"


def _date(path: Path) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(path.stat().st_mtime))


def collect(checkout: Path, folder: Path, mixed: bool = False) -> list[Run]:
    """Keeps the results that tests left in a folder, and which tests failed; returns them. mixed: results of different
    sources of the module may be kept side by side.
    """
    failures = sorted(folder.glob("*.failed"))
    new = [failed_run(path.stem, _date(path)) for path in failures]
    for path in sorted(folder.glob("*.json")):
        # A test that was killed may have left both.
        if path.with_suffix(".failed") in failures:
            continue
        try:
            new.append(parse(path.read_text(encoding="utf-8"), _date(path)))
        except LabError as error:
            raise LabError(f"{path}: {error}") from None
    if not new:
        raise LabError(f"{folder}: no results; `scripts/check --matrix` leaves some")
    kept = load(checkout / RESULTS) if (checkout / RESULTS).exists() else []
    merged = merge(kept, new)
    if not mixed:
        check_sources(merged)
    save(checkout / RESULTS, merged)
    return new


def write(checkout: Path) -> None:
    """Makes the table of what is kept, in the document."""
    place = checkout / DOCUMENT
    text = place.read_text(encoding="utf-8")
    place.write_text(placed(text, table(load(checkout / RESULTS))), encoding="utf-8")
