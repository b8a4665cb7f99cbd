# SPDX-License-Identifier: GPL-2.0-only
"""A run as the document of dmabuf_report, and the files made of it."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from dmabuf_common.clock import iso
from dmabuf_common.verdict import EXIT_STATUS, FAIL, INCONCLUSIVE, NO_FAULT, PASS, STATUSES, overall
from dmabuf_report import model

from . import VERSION, cases, judge, plan, requirements, rules, whereabouts
from .errors import QualError
from .requirements import Requirements
from .store import FIO, RUN, Record, Store

UNITS = {"iops": ("IOPS", "higher"), "mib_s": ("MiB/s", "higher"), "mean_us": ("µs", "lower"),
         "cpu_s_per_gib": ("s/GiB", "lower"), "map_ms": ("ms", "lower")}

# What a report is made of, of all that a run stores.
NEEDED = ("scale", "requirements", "quick", "only", "emulated", "environment", "comparability_key", "parts",
          "model", "serial", "started", "seed")


def _unit(figure: str) -> tuple[str, str]:
    return next((u for end, u in UNITS.items() if figure.endswith(end)), ("", "none"))


def _jobs(folder: Path, records: list[Record]) -> list[dict[str, Any]]:
    """What fio said of each of the repeats, as far as it is there."""
    found = []
    for record in records:
        try:
            found.append(json.loads((folder / FIO / record["file"]).read_text())["jobs"][0])
        except (OSError, ValueError, LookupError):
            continue
    return found


def _latencies(jobs: list[dict[str, Any]]) -> list[model.Latency]:
    """Merged latency histograms of the repeats."""
    # Here, as it is the only use of it that needs fio's files.
    from dmabuf_report import bins  # pylint: disable=import-outside-toplevel

    merged = {way: bins.merge(bins.of_job(job, way) for job in jobs) for way in ("read", "write")}
    return [bins.latency(way, found) for way, found in merged.items() if found]


def _cpu_percent(jobs: list[dict[str, Any]]) -> float | None:
    """How much of a CPU the job took."""
    busy = [float(job["usr_cpu"]) + float(job["sys_cpu"]) for job in jobs if {"usr_cpu", "sys_cpu"} <= job.keys()]
    return median(busy) if busy else None


def _commands(path: str, records: list[Record]) -> model.Commands | None:
    """The commands of all repeats; None where the drive's commands are not what the module counts."""
    counts = [(record.get("report") or {}).get("module") or {} for record in records]
    if path != "premapped" or not counts or not all("commands" in one for one in counts):
        return None
    return model.Commands(sum(one["commands"] for one in counts),
                          sum(one["reads"] + one["writes"] for one in counts),
                          sum(one["read_bytes"] + one["write_bytes"] for one in counts))


# The chance that a resample's median is the least of five values is 5.8 %, over the tail of 2.5 %.
MOST_FROM_END_TO_END = 5


def _interval(values: list[float]) -> tuple[float | None, float | None]:
    """The bootstrap 95 % interval of the median; nothing for one value, or without numpy and scipy. Of
    five values and fewer it is from the least to the greatest."""
    if len(values) < 2:
        return None, None
    if len(values) <= MOST_FROM_END_TO_END:
        return min(values), max(values)
    try:
        from dmabuf_common import stats  # pylint: disable=import-outside-toplevel
    except ImportError:
        return None, None
    return stats.median_interval(values)


def measurements(folder: Path, records: list[Record], emulated: bool) -> list[model.Measurement]:
    """One for each exporter, datapath and cell."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record["kind"] == "cell":
            cell = record["id"].split("/")[-2]
            groups.setdefault((record["exporter"], record["path"], cell), []).append(record)
    made = []
    for (exporter, path, cell), group in sorted(groups.items()):
        good = [r for r in group if rules.has_figures(r)]
        bad = len(group) - len(good)
        samples: dict[str, list[float]] = {}
        for record in good:
            for figure, value in record["figures"].items():
                samples.setdefault(figure, []).append(float(value))
        metrics = [
            model.Metric(figure, *_unit(figure), median(values), values, *_interval(values))
            for figure, values in samples.items()
        ]
        words = group[0]["params"]
        jobs = _jobs(folder, good)
        proof = good[0].get("report") if good else None
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
                latencies=_latencies(jobs),
                proof=model.Proof(proof["proven"], proof["proof"]) if proof and {"proven", "proof"} <= proof.keys()
                else None,
                commands=_commands(path, good),
                cpu_percent=_cpu_percent(jobs),
                emulated=emulated,
            )
        )
    return made


def requirement(judged: rules.Judged) -> model.Requirement:
    """A verdict in the report's words."""
    evidence = [model.Evidence(name, value, unit) for name, value, unit in judged.evidence]
    return model.Requirement(judged.id, judged.title, judged.status, judged.text, judged.remedy,
                             evidence, judged.seconds, judged.id.split(".")[0])


def scope(run: dict[str, Any], records: Iterable[Record] = ()) -> list[str]:
    """What a reader must know of a verdict: how large the run was, by what it was judged, and of what
    its figures are. `records`: of the cases, which say where the memory was."""
    words = [whereabouts.words(run, records)]
    needs, scale = run["requirements"], run["scale"]
    usual = cases.usual(needs, run["quick"]).as_words()
    other = [f"{name} {value} (not {usual[name]})" for name, value in scale.items()
             if name in usual and value != usual[name]]
    if run["quick"]:
        words.append("a quick run: it looks for faults and qualifies nothing")
    if other:
        words.append(f"scaled: {', '.join(other)}")
    elif not run["quick"]:
        words.append("the whole scale")
    if "tests" in scale:
        words.append(f"SNIA's tests: {scale['tests'].replace(',', ', ')}")
    thresholds = requirements.changed(needs)
    words.append(f"other thresholds: {', '.join(thresholds)}" if thresholds else "the default thresholds")
    if run["only"]:
        words.append(f"only cases that match {', '.join(run['only'])}")
    if run.get("among"):
        words.insert(0, f"{len(run['among'])} drives ran at once, of which this is one: {', '.join(run['among'])}")
    if run.get("most_written"):
        words.append(f"--most-written {plan.amount(run['most_written'])}")
    if not run.get("whole_drive", True):
        words.append("a partition, not the drive")
    if run["emulated"]:
        words.append("the drive is emulated, which says nothing about the speed of hardware")
    return words


def summary(verdicts: list[rules.Judged], run: dict[str, Any], records: Iterable[Record] = ()) -> model.Verdict:
    """The verdict of all, in a sentence. A quick run does not pass: it has a word of its own."""
    status = overall(v.status for v in verdicts)
    ended = run.get("ended", "")
    if ended and status != FAIL:
        status = INCONCLUSIVE
    if run["quick"] and status == PASS:
        status = NO_FAULT
    counts = ", ".join(
        f"{sum(v.status == s for v in verdicts)} {s}"
        for s in STATUSES
        if any(v.status == s for v in verdicts)
    )
    before = f"{ended}; " if ended else ""
    return model.Verdict(status, f"{before}requirements: {counts}; {'; '.join(scope(run, records))}")


def exit_status(verdict: model.Verdict) -> int:
    """What the program ends with."""
    return EXIT_STATUS[verdict.status]


def _scale_facts(run: dict[str, Any]) -> list[model.Fact]:
    """Scale and thresholds. The scale is part of the comparability key."""
    facts = [model.Fact(f"scale {name}", str(value), "key") for name, value in run["scale"].items()]
    facts += [model.Fact(f"threshold {name}", value)
              for name, value in requirements.flat(run["requirements"]).items()]
    facts.append(model.Fact("quick", "yes" if run["quick"] else "no"))
    facts.append(model.Fact("only", ", ".join(run["only"]) or "all cases"))
    facts.append(model.Fact("parts of the run", str(len(run["parts"]))))
    return facts


def document(folder: Path, run: dict[str, Any], records: dict[str, Record],
             needs: Requirements) -> model.Results:
    """The whole document of a run, finished or not."""
    verdicts = judge.judge(records, run, needs)
    notes = whereabouts.notes(run, records.values())
    if run["emulated"]:
        notes.append("The drive is emulated: figures compare datapaths with each other and say "
                     "nothing about hardware.")
    if any(record["kind"] == "cell" for record in records.values()):
        notes.append("The comparison of datapaths writes the same buffers, one for each I/O in flight, again and "
                     "again within a measurement. A drive that deduplicates may show figures for it that other "
                     "data does not have; the host control beside them has the same.")
    if len(run["parts"]) > 1:
        notes.append(f"The run was done in {len(run['parts'])} parts; the steady state is of one of them.")
    if "finished" not in run:
        notes.append("The run did not come to its end.")
    facts = [model.Fact(*fact) for fact in run["environment"]]
    facts.append(model.Fact("seed", str(run["seed"])))
    facts += _scale_facts(run)
    last = max((r["started"] + r["seconds"] for r in records.values()), default=0.0)
    return model.Results(
        tool=model.Tool("dmabuf-qual", VERSION),
        title=f"Qualification of {run['model']} {run['serial']}",
        started=run["started"],
        finished=run.get("finished") or (iso(last) if last else run["started"]),
        verdict=summary(verdicts, run, records.values()),
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
    missing = [name for name in NEEDED if name not in run]
    if missing:
        raise QualError(f"{folder / RUN} has no {missing[0]!r}: a dmabuf-qual of another release made it")
    run["requirements"] = requirements.check(run.get("requirements"), folder / RUN)
    return {**run, **judge.known_parts(store)}, store.records


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
