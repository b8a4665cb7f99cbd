# SPDX-License-Identifier: GPL-2.0-only
"""A judgement as the results document that every report is made of."""

from collections.abc import Sequence

from dmabuf_common import emulated, stats, verdict
from dmabuf_common.clock import now
from dmabuf_report import bins, model

from . import edivisive, fio, states
from .judge import metrics_of
from .judged import Judgement, Subject, subject
from .plan import metric_kind
from .question import Finding
from .store import LEAST_VALID, Run, Series, too_few_valid
from .words import shown_nights

TOOL = model.Tool("dmabuf-nightly", "0.1.0")

STATUS = {
    states.SAME: verdict.PASS,
    states.BETTER: verdict.PASS,
    states.CLEARED: verdict.PASS,
    states.SUSPECT: verdict.INCONCLUSIVE,
    states.INCONCLUSIVE: verdict.INCONCLUSIVE,
    states.CONFIRMED: verdict.FAIL,
}

BISECT = "git bisect run dmabuf-nightly bisect PLAN --case {case} --metric {metric} --build COMMAND"


def _id(*words: str) -> str:
    return ".".join(word.replace(" ", "-") for word in words if word)


def runs_requirement(judgement: Judgement, series: Series) -> model.Requirement:
    """Whether the runs of a series can be believed. One that failed counts in a rerun, too."""
    every = judgement.runs.get(series, [])
    runs = [run for run in every if run.phase == 0]
    done = [run for run in runs if run.state == "done"]
    valid = [run for run in done if run.valid]
    failed = [run for run in every if run.state == "done" and run.status == fio.FAILED]
    least = judgement.plan.rules.least_runs
    requirement = model.Requirement(
        _id(series.test, series.side, series.host, "runs"), f"{series}: runs", verdict.PASS, "",
        group=series.test, seconds=round(sum(run.seconds for run in done), 3),
    )
    proven = [run for run in valid if run.outcome.get("proven")]
    requirement.text = f"{len(valid)} of {len(runs)} runs are valid"
    if proven:
        requirement.text += f", {len(proven)} with a proven datapath"
    if failed:
        requirement.status = verdict.FAIL
        requirement.text = f"{len(failed)} of {len(every)} runs failed: {failed[0].reasons[0]}"
        requirement.remedy = "see fio's output beside the store, and docs/errors.md for the reason"
    elif len(valid) < least:
        requirement.status = verdict.INCONCLUSIVE
        why = next((run.reasons[0] for run in done if run.reasons), "they have not been run")
        requirement.text += f", and {least} are needed: {why}"
        requirement.remedy = "remove the cause and run the night again"
    elif too_few_valid(runs):
        requirement.status = verdict.INCONCLUSIVE
        why = next(run.reasons[0] for run in done if not run.valid)
        requirement.text += f", and at least {LEAST_VALID:.0%} of them must be: {why}".replace("%", " %")
        requirement.remedy = "remove the cause and run the night again"
    for run in every:
        for reason in run.reasons if run.state == "done" else ():
            name = f"{'rerun' if run.phase else 'run'} {run.repeat}" + ("" if run.valid else f", {run.status}")
            requirement.evidence.append(
                model.Evidence(name, reason, file=run.files.get("fio"))
            )
    return requirement


def whole_requirement(judgement: Judgement) -> model.Requirement | None:
    """Why the night is none: it was given up, or not all of it was run. None: it is whole."""
    night = judgement.store.night(judgement.night)
    runs = [run for those in judgement.runs.values() for run in those]
    left = sum(run.state != "done" for run in runs)
    if not left and not night.abandoned:
        return None
    text = f"{left} of {len(runs)} runs are missing: the night was interrupted"
    requirement = model.Requirement(
        "night.whole", f"Night {night.id}: whole", verdict.INCONCLUSIVE,
        night.verdict if night.abandoned and night.verdict else text,
    )
    requirement.remedy = (
        "run the night again" if night.abandoned else "`dmabuf-nightly run --resume` goes on with it"
    )
    return requirement


def status_of(finding: Finding) -> str:
    """What a finding means for the night."""
    return verdict.PASS if "acknowledged" in finding.extra else STATUS[finding.state]


def metric_requirement(finding: Finding) -> model.Requirement:
    """What was decided about one metric."""
    about = subject(finding)
    series = about.series
    status = status_of(finding)
    if status == verdict.PASS and finding.judged is None and not finding.question.history:
        status = verdict.SKIP
    requirement = model.Requirement(
        _id(series.test, series.side, series.host, about.metric,
            "" if about.against == "baseline" else "against-" + about.against),
        f"{series}: {about.metric}", status, finding.text, group=series.test,
    )
    if status == verdict.FAIL:
        requirement.remedy = BISECT.format(case=series.test, metric=about.metric)
    elif finding.state == states.SUSPECT:
        requirement.remedy = "run the night again"
    if finding.contrast:
        unit = metric_kind(about.metric)[0]
        for name, values in (("old", finding.contrast.old), ("new", finding.contrast.new)):
            requirement.evidence.append(_spread(name, values, unit))
    if finding.fresh:
        requirement.evidence.append(
            _spread("reruns", finding.fresh.new, metric_kind(about.metric)[0])
        )
    if "change_from" in finding.extra:
        requirement.evidence.append(
            model.Evidence("first bad night", finding.extra["change_from"])
        )
    return requirement


def _spread(name: str, values: Sequence[float], unit: str) -> model.Evidence:
    text = f"median {stats.median(values):.6g}, MAD {stats.mad(values) / stats.NORMAL:.3g}"
    return model.Evidence(f"{name}, {len(values)} runs", text, unit)


def measurement(judgement: Judgement, series: Series) -> model.Measurement:
    """The figures of a series over its valid runs."""
    runs = judgement.valid(series)
    every = [run for run in judgement.runs.get(series, []) if run.phase == 0]
    shown = next(iter(runs or every), None)
    outcome = shown.outcome if shown else {}
    made = model.Measurement(
        _id(series.test, series.side, series.host), series.test,
        outcome.get("datapath") or "unknown", outcome.get("exporter") or "", series.side,
        series.host if len(judgement.plan.hosts) > 1 else "",
        block_bytes=outcome.get("block_bytes"), depth=outcome.get("depth"),
        parameters=dict(judgement.plan.case(series.test).parameters),
    )
    if outcome.get("load"):
        made.parameters.setdefault("rw", outcome["load"])
    drive = judgement.store.facts(shown.key).get("drive", "") if shown else ""
    # By its model alone: one that does not give itself away may be emulated all the same.
    made.emulated = emulated.drive(drive) or None
    if len(runs) < judgement.plan.rules.least_runs:
        made.status = verdict.INCONCLUSIVE
        made.text = f"{len(runs)} valid runs"
    if any(run.status == fio.FAILED for run in judgement.runs.get(series, [])):
        made.status = verdict.FAIL
        made.text = "a run failed"
    if not runs:
        return made
    names = dict.fromkeys(
        [*metrics_of(judgement.plan.case(series.test), runs), *sorted(runs[0].metrics)]
    )
    for name in names:
        values = [run.metrics[name] for run in runs if name in run.metrics]
        # Percentiles of all runs together come from their bins, below.
        if not values or ("_clat_p" in name and name not in metrics_of(
                judgement.plan.case(series.test), runs)):
            continue
        unit, better, _ = metric_kind(name)
        low, high = stats.median_interval(values) if len(values) > 1 else (None, None)
        made.metrics.append(
            model.Metric(name, unit, better, stats.median(values), values, low, high)
        )
    parts = [judgement.store.bins(run.id) for run in runs]
    for direction in fio.DIRECTIONS:
        merged = bins.merge(part.get(direction, {}) for part in parts)
        if merged:
            made.latencies.append(bins.latency(direction, merged))
    busy = [run.outcome["cpu_percent"] for run in runs if run.outcome.get("cpu_percent") is not None]
    made.cpu_percent = stats.median(busy) if busy else None
    counted = [run.outcome.get("commands") for run in runs]
    if all(counted):
        made.commands = model.Commands(**{name: sum(one[name] for one in counted if one)
                                          for name in ("count", "requests", "bytes")})
    if outcome.get("proven") is not None:
        all_proven = all(run.outcome.get("proven") for run in runs)
        made.proof = model.Proof(all_proven, str(outcome.get("proof", "")))
    return made


def comparison(judgement: Judgement, finding: Finding) -> model.Comparison | None:
    """The row of a finding that compared something."""
    contrast = finding.judged
    if contrast is None:
        return None
    about = subject(finding)
    unit, better, _ = metric_kind(about.metric)
    low, high = contrast.interval
    several = len(judgement.plan.hosts) > 1
    return model.Comparison(
        str(Series(about.series.test, about.series.side, "")), about.metric, unit, better,
        judgement.old_names.get(about, "earlier nights"),
        finding.extra.get("new", f"night {judgement.night}") + (", reruns" if finding.fresh else ""),
        stats.median(contrast.old), stats.median(contrast.new), contrast.ratio, low, high,
        finding.threshold, min(1.0, finding.p_adjusted if finding.p_adjusted is not None else 1.0),
        status_of(finding), finding.state, finding.text,
        about.series.host if several else "",
    )


def fill_p(judgement: Judgement) -> None:
    """The corrected p of findings for which it did not matter, so that the report has it."""
    left = [f for f in judgement.findings if f.contrast and f.p_adjusted is None]
    every = [f for f in judgement.findings if f.contrast]
    if left and every:
        adjust = stats.CORRECTIONS[judgement.plan.rules.correction]
        adjusted = adjust([f.contrast.p for f in every if f.contrast])
        for finding, p in zip(every, adjusted, strict=True):
            if finding.p_adjusted is None:
                finding.p_adjusted = p


def history(judgement: Judgement, about: Subject) -> model.History | None:
    """Nightly medians of a metric up to this night, on this machine."""
    runs = judgement.valid(about.series)
    if not runs:
        return None
    nights = {night.id: night for night in judgement.store.nights(judgement.plan.name)}
    by_night: dict[int, list[float]] = {}
    earlier = judgement.store.series_runs(about.series, judgement.plan.name, judgement.night)
    for run in [*earlier, *runs]:
        if run.valid and judgement.store.alike(runs[0], run) and about.metric in run.metrics:
            by_night.setdefault(run.night, []).append(run.metrics[about.metric])
    least = judgement.plan.rules.least_runs
    kept = {n: values for n, values in by_night.items() if len(values) >= least and n in nights}
    if not kept:
        return None
    unit, better, _ = metric_kind(about.metric)
    medians = [stats.median(values) for values in kept.values()]
    made = model.History(
        about.series.test, about.metric, unit, better,
        [model.Point(nights[n].started, stats.median(v), nights[n].label) for n, v in kept.items()],
        host=about.series.host if len(judgement.plan.hosts) > 1 else "", side=about.series.side,
        datapath=runs[-1].outcome.get("datapath") or "", depth=runs[-1].outcome.get("depth"),
    )
    changes = edivisive.changes(medians)
    cuts = [change.index for change in changes]
    for change, start, end in zip(changes, [0, *cuts], [*cuts[1:], len(medians)], strict=False):
        made.change_points.append(
            model.ChangePoint(change.index, stats.median(medians[start : change.index]),
                              stats.median(medians[change.index : end]), change.p)
        )
    return made


def _written(judgement: Judgement, host: str, prefix: str) -> list[model.Fact]:
    """How much the drive says was written during the night, and since the night before."""

    def counts(night: int) -> list[int]:
        runs = [r for r in judgement.store.runs(night) if r.series.host == host]
        found = [r.conditions.get(f"drive written {when}", "") for r in runs for when in ("before", "after")]
        return [int(text) for text in found if text.isdecimal()]

    tonight = counts(judgement.night)
    if not tonight:
        return []
    facts = [("written during the night", max(tonight) - min(tonight))]
    earlier = [n.id for n in judgement.store.nights(judgement.plan.name) if n.id < judgement.night]
    before = counts(earlier[-1]) if earlier else []
    if before:
        facts.append((f"written since night {earlier[-1]}", min(tonight) - max(before)))
    return [model.Fact(prefix + name, f"{value / 1e9:.3g} GB", "state") for name, value in facts]


def _environment(judgement: Judgement) -> tuple[str, list[model.Fact]]:
    facts: list[model.Fact] = []
    keys = []
    several = len(judgement.plan.hosts) > 1
    for host in judgement.plan.hosts:
        runs = [r for rs in judgement.runs.values() for r in rs
                if r.series.host == host.name and r.state == "done"]
        if not runs:
            continue
        first: Run = runs[0]
        keys.append(first.key)
        prefix = f"{host.name}: " if several else ""
        for role, found in (
            ("key", judgement.store.facts(first.key)),
            ("subject", judgement.store.facts(first.subject)),
            ("state", runs[-1].conditions),
        ):
            facts += [model.Fact(prefix + name, value, role) for name, value in found.items()]
        facts += _written(judgement, host.name, prefix)
    single = set(keys)
    return (single.pop() if len(single) == 1 else ""), facts


def before_requirement(nights: Sequence[int]) -> model.Requirement:
    """That the night rests on nights that nobody judged."""
    those = "was" if len(nights) == 1 else "were"
    return model.Requirement(
        "night.before", "Nights before: judged", verdict.INCONCLUSIVE,
        f"{shown_nights(nights)} {those} only measured, and nobody judged "
        f"{'it' if len(nights) == 1 else 'them'}: what this night comes to rests on that",
        remedy="`dmabuf-nightly analyze` judges them, and this one after them",
    )


def build(judgement: Judgement, unjudged: Sequence[int] = ()) -> model.Results:
    """The whole document. unjudged: the nights before that were only measured."""
    plan, night = judgement.plan, judgement.store.night(judgement.night)
    fill_p(judgement)
    every = [
        Series(case.name, side.name, host)
        for case in plan.cases for host in case.hosts for side in plan.sides
    ]
    whole = whole_requirement(judgement)
    requirements = [whole] if whole else []
    requirements += [before_requirement(unjudged)] if unjudged else []
    requirements += [runs_requirement(judgement, series) for series in every]
    requirements += [metric_requirement(finding) for finding in judgement.findings]
    key, environment = _environment(judgement)
    compared = [comparison(judgement, finding) for finding in judgement.findings]
    histories = [
        history(judgement, subject(f)) for f in judgement.findings
        if subject(f).against == "baseline"
    ]
    status = verdict.overall(r.status for r in requirements)
    sentence = verdict_text(requirements, status)
    if own := plan.rules.own():
        sentence = f"{sentence.rstrip('.')}. Rules of this plan: {', '.join(own)}."
    results = model.Results(
        TOOL, f"Night {night.id} of plan {plan.name}", night.started, night.finished or now(),
        model.Verdict(status, sentence), key, environment,
        requirements, [measurement(judgement, series) for series in every],
        [c for c in compared if c is not None], [h for h in histories if h is not None],
    )
    pinned = {series: one.runs for series, one in judgement.pinned.items()}
    for found in results.histories:
        runs: list[Run] = next((r for s, r in pinned.items() if s.test == found.case and s.side == found.side
                     and (not found.host or s.host == found.host)), [])
        values = [run.metrics[found.metric] for run in runs if found.metric in run.metrics]
        found.baseline = stats.median(values) if values else None
    if night.label:
        results.notes.append(f"Label: {night.label}")
    return results


def verdict_text(requirements: Sequence[model.Requirement], status: str) -> str:
    """One sentence for the whole night."""
    those = [r for r in requirements if r.status == status]
    total = len(requirements)
    if status == verdict.FAIL:
        return f"{len(those)} of {total} requirements failed; the first: {those[0].title}: {those[0].text}"
    if status == verdict.INCONCLUSIVE:
        return f"{len(those)} of {total} are neither good nor bad; the first: {those[0].title}: {those[0].text}"
    if status == verdict.PASS:
        skipped = sum(r.status == verdict.SKIP for r in requirements)
        tail = f"; {skipped} had nothing to be compared with" if skipped else ""
        return f"{len(those)} of {total} requirements hold{tail}."
    return "nothing was judged"
