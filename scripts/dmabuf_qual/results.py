# SPDX-License-Identifier: GPL-2.0-only
"""A run as the document of dmabuf_report, and the files made of it."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from dmabuf_common.clock import iso
from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, STATUSES, overall
from dmabuf_report import model

from . import VERSION, cases, judge
from .errors import QualError
from .requirements import Requirements
from .store import Record, Store

UNITS = {"iops": ("IOPS", "higher"), "mib_s": ("MiB/s", "higher"), "mean_us": ("µs", "lower"),
         "cpu_s_per_gib": ("s/GiB", "lower"), "map_ms": ("ms", "lower")}  # fmt: skip


def _unit(figure: str) -> tuple[str, str]:
    return next((u for end, u in UNITS.items() if figure.endswith(end)), ("", "none"))


def _bins(folder: Path, records: list[Record]) -> list[model.Latency]:
    """Merged latency histograms of the repeats."""
    # Here, as it is the only use of it that needs fio's files.
    from dmabuf_report import bins  # pylint: disable=import-outside-toplevel

    latencies = []
    for way in ("read", "write"):
        parts = []
        for record in records:
            try:
                job = json.loads((folder / "fio" / record["file"]).read_text())["jobs"][0]
            except (OSError, ValueError, LookupError):
                continue
            parts.append(bins.of_job(job, way))
        merged = bins.merge(parts)
        if merged:
            latencies.append(bins.latency(way, merged))
    return latencies


def measurements(folder: Path, records: list[Record], emulated: bool) -> list[model.Measurement]:
    """One for each exporter, datapath and cell."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record["kind"] == "cell":
            cell = record["id"].split("/")[-2]
            groups.setdefault((record["exporter"], record["path"], cell), []).append(record)
    made = []
    for (exporter, path, cell), group in sorted(groups.items()):
        good = [r for r in group if not r["findings"] and "figures" in r]
        bad = len(group) - len(good)
        samples: dict[str, list[float]] = {}
        for record in good:
            for figure, value in record["figures"].items():
                samples.setdefault(figure, []).append(float(value))
        metrics = [
            model.Metric(figure, *_unit(figure), median(values), values, min(values), max(values))
            for figure, values in samples.items()
        ]
        words = group[0]["params"]
        proof = good[0]["report"] if good else None
        text = "emulated drive: says nothing about hardware" if emulated else ""
        status = PASS if good and not bad else FAIL if bad else INCONCLUSIVE
        made.append(
            model.Measurement(
                name=f"{cell} {path} {exporter}".strip(),
                case=cell,
                datapath=path,
                exporter=exporter,
                status=status,
                text=f"{bad} of {len(group)} runs are not valid" if bad else text,
                block_bytes=cases.BLOCK_BYTES.get(words["BS"]),
                depth=int(words["DEPTH"]),
                parameters={"rw": words["RW"]},
                metrics=metrics,
                latencies=_bins(folder, good),
                proof=model.Proof(proof["proven"], proof["proof"]) if proof else None,
            )
        )
    return made


def requirement(judged: judge.Judged) -> model.Requirement:
    """A verdict in the report's words."""
    evidence = [model.Evidence(name, value, unit) for name, value, unit in judged.evidence]
    return model.Requirement(judged.id, judged.title, judged.status, judged.text, judged.remedy,
                             evidence, judged.seconds, judged.id.split(".")[0])  # fmt: skip


def summary(verdicts: list[judge.Judged], quick: bool, ended: str = "") -> model.Verdict:
    """The verdict of all, in a sentence. `ended`: why the run did not come to its end."""
    status = overall(v.status for v in verdicts)
    if ended and status != FAIL:
        status = INCONCLUSIVE
    counts = ", ".join(
        f"{sum(v.status == s for v in verdicts)} {s}"
        for s in STATUSES
        if any(v.status == s for v in verdicts)
    )
    note = "; a quick run: it looks for faults and does not qualify a drive" if quick else ""
    before = f"{ended}; " if ended else ""
    return model.Verdict(status, f"{before}requirements: {counts}{note}")


def document(folder: Path, run: dict[str, Any], records: dict[str, Record],
             needs: Requirements) -> model.Results:  # fmt: skip
    """The whole document of a run, finished or not."""
    verdicts = judge.judge(records, run, needs)
    notes = []
    if run["emulated"]:
        notes.append("The drive is emulated: figures compare datapaths with each other and say "
                     "nothing about hardware.")  # fmt: skip
    if "finished" not in run:
        notes.append("The run did not come to its end.")
    facts = [model.Fact(*fact) for fact in run["environment"]]
    facts.append(model.Fact("seed", str(run["seed"])))
    last = max((r["started"] + r["seconds"] for r in records.values()), default=0.0)
    return model.Results(
        tool=model.Tool("dmabuf-qual", VERSION),
        title=f"Qualification of {run['model']} {run['serial']}",
        started=run["started"],
        finished=run.get("finished") or (iso(last) if last else run["started"]),
        verdict=summary(verdicts, run["quick"], run.get("ended", "")),
        comparability_key=run["comparability_key"],
        environment=facts,
        requirements=[requirement(v) for v in verdicts],
        measurements=measurements(folder, list(records.values()), run["emulated"]),
        notes=notes,
    )


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Record]]:
    """run.json and the records of a folder."""
    store = Store(folder)
    run = store.load()
    return run, store.records


def write(folder: Path, output: Path | None = None) -> tuple[model.Results, list[Path]]:
    """Writes the report in all its forms; QualError names what is missing for it."""
    run, records = load(folder)
    results = document(folder, run, records, run["requirements"])
    try:
        from dmabuf_report import errors, write as writer  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise QualError(
            f"the report needs {error.name}: apt-get install python3-jinja2 python3-jsonschema "
            f"python3-matplotlib python3-junitparser, then dmabuf-qual report {folder}"
        ) from error
    try:
        return results, writer.write(results, output or folder)
    except errors.ReportError as error:
        raise QualError(str(error)) from error
