# SPDX-License-Identifier: GPL-2.0-only
"""From stored runs to findings: which runs are compared with which, and which must not be."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from dmabuf_common import stats
from dmabuf_common.fingerprint import differences

from . import acknowledge, baseline, decide
from .decide import CONFIRMED, INCONCLUSIVE, SUSPECT, Finding, Question
from .plan import Case, Plan, metric_kind
from .store import Run, Series, Store

DEFAULT_METRICS = ("read_iops", "write_iops", "read_clat_p99", "write_clat_p99", "cpu_per_gib")


@dataclass(frozen=True)
class Subject:
    """What a finding is about. against: `baseline`, or the side it is compared with."""

    series: Series
    metric: str
    against: str


@dataclass
class Judgement:
    """All findings of a night, and the runs they were made from."""

    store: Store
    plan: Plan
    night: int
    findings: list[Finding] = field(default_factory=list)
    runs: dict[Series, list[Run]] = field(default_factory=dict)
    old_names: dict[Subject, str] = field(default_factory=dict)

    def to_rerun(self) -> list[Series]:
        """The series of what is suspect and has not been confirmed on an earlier night."""
        found = [subject(f).series for f in self.findings if f.state == SUSPECT]
        return list(dict.fromkeys(found))

    def valid(self, series: Series, phases: Sequence[int] = (0,)) -> list[Run]:
        """The valid runs of a series."""
        return [r for r in self.runs.get(series, []) if r.valid and r.phase in phases]

    def save(self) -> None:
        """Stores the decisions."""
        with self.store.transaction():
            self.store.forget_decisions(self.night)
            for finding in self.findings:
                about = subject(finding)
                contrast = finding.judged
                self.store.decide(
                    self.night, about.series, about.metric, finding.state, about.against,
                    {
                        "text": finding.text,
                        "threshold": finding.threshold,
                        "ratio": contrast.ratio if contrast else None,
                        "change_from": finding.extra.get("change_from"),
                        "acknowledged": finding.extra.get("acknowledged"),
                    },
                )  # fmt: skip


def subject(finding: Finding) -> Subject:
    """What the finding is about."""
    assert isinstance(finding.question.id, Subject)
    return finding.question.id


def metrics_of(case: Case, runs: Sequence[Run]) -> tuple[str, ...]:
    """The metrics that are judged: those the plan names, or the usual ones that the runs have."""
    if case.metrics:
        return case.metrics
    return tuple(m for m in DEFAULT_METRICS if any(m in run.metrics for run in runs))


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    return [run.metrics[metric] for run in runs if metric in run.metrics]


@dataclass
class _Past:
    """Earlier nights of a series that may be compared with tonight's: night → valid runs."""

    nights: dict[int, list[Run]]

    def of(self, metric: str, least: int) -> dict[int, list[float]]:
        found = {night: _values(runs, metric) for night, runs in self.nights.items()}
        return {night: values for night, values in found.items() if len(values) >= least}


class _Judge:
    def __init__(self, store: Store, plan: Plan, night: int, reruns: bool, need_baseline: bool) -> None:
        self.store, self.plan, self.night, self.reruns = store, plan, night, reruns
        self.need_baseline = need_baseline
        self.result = Judgement(store, plan, night)
        for run in store.runs(night):
            self.result.runs.setdefault(run.series, []).append(run)
        self.earlier: dict[Subject, dict[int, str]] = defaultdict(dict)
        for row in store.decisions(plan=plan.name):
            about = Subject(Series(row["test"], row["side"], row["host"]), row["metric"],
                            row["against"])  # fmt: skip
            if row["night"] < night:
                self.earlier[about][row["night"]] = row["state"]
        self.baselines = {b.series: b for b in baseline.all_of(store, plan.name)}
        self.known = {
            Subject(k.series, k.metric, k.against): k for k in acknowledge.all_of(store, plan.name)
        }
        self.unfit: dict[Subject, str] = {}

    def key(self, series: Series) -> tuple[str, str]:
        """The key of tonight's valid runs, or "" and why there is no single one."""
        valid = self.result.valid(series, (0, 1, 2))
        keys = sorted({run.key for run in valid})
        if len(keys) > 1:
            changed = differences(self.store.facts(keys[0]), self.store.facts(keys[1]))
            return "", f"the machine changed during the night: {', '.join(changed)}"
        subjects = sorted({run.subject for run in valid})
        if len(subjects) > 1:
            changed = differences(self.store.facts(subjects[0]), self.store.facts(subjects[1]))
            return "", f"what is judged changed during the night: {', '.join(changed)}"
        return (keys[0] if keys else ""), ""

    def past(self, series: Series, key: str) -> _Past:
        nights: dict[int, list[Run]] = defaultdict(list)
        for run in self.store.series_runs(series, self.plan.name, self.night):
            if run.valid and self.store.comparable(run.key, key):
                nights[run.night].append(run)
        whole = [night for night, runs in nights.items() if len({run.subject for run in runs}) == 1]
        kept = sorted(whole)[-self.plan.rules.history :]
        return _Past({night: nights[night] for night in kept})

    def questions(self, series: Series) -> list[Question]:
        """What is asked about a series: each metric against its baseline and its history."""
        runs = self.result.valid(series)
        case = self.plan.case(series.test)
        key, unfit = self.key(series)
        pinned = self.baselines.get(series)
        # A night that was pinned is compared with the others of the baseline, and never with itself.
        old_runs = [r for r in pinned.runs if r.valid and r.night != self.night] if pinned else []
        past = self.past(series, key)
        asked = []
        for metric in metrics_of(case, [*self.result.runs.get(series, []), *old_runs]):
            about = Subject(series, metric, "baseline")
            if pinned:
                left_out = " without this one" if self.night in pinned.nights else ""
                self.result.old_names[about] = pinned.name + left_out
            why = unfit or self._unfit(series, metric, key, pinned, old_runs)
            if why:
                self.unfit[about] = why
            by_night = past.of(metric, self.plan.rules.least_runs)
            slower = {n for n, s in self.earlier[about].items() if s in (SUSPECT, CONFIRMED)}
            asked.append(
                Question(
                    about, metric_kind(metric)[1], self.plan.rules.floor(metric),
                    [] if why else _values(old_runs, metric),
                    _values(runs, metric),
                    [stats.median(values) for values in by_night.values()],
                    frozenset(i for i, night in enumerate(by_night) if night in slower),
                    list(by_night.values()),
                    len({run.night for run in old_runs}),
                )
            )  # fmt: skip
        return asked

    def _unfit(
        self, series: Series, metric: str, key: str, pinned: baseline.Baseline | None,
        old_runs: Sequence[Run],
    ) -> str:  # fmt: skip
        """Why a metric cannot be compared with the baseline, though it should be; "" when it can."""
        if pinned is None:
            if not self.need_baseline or self.plan.old:
                return ""
            return (
                "no baseline is pinned, and one is demanded; `dmabuf-nightly baseline pin "
                f"--plan {self.plan.name} --last 3` pins one"
            )
        if key and not self.store.comparable(pinned.key, key):
            changed = self.store.differences(pinned.key, key)
            return (
                f"this is not the machine of the {pinned.name}: {', '.join(changed)} "
                "differ; pin a baseline for this one"
            )
        if not old_runs:
            return f"the {pinned.name} holds no night but this one; pin others"
        if not any(metric in run.metrics for run in old_runs):
            return f"the {pinned.name} has no {metric}; pin a baseline that has it"
        valid = self.result.valid(series)
        if valid and not any(metric in run.metrics for run in valid):
            return f"no run of this night has {metric}, and the {pinned.name} has it"
        return ""

    def side_questions(self, host: str, case: Case) -> list[Question]:
        """What is asked about two sides of one night."""
        old = Series(case.name, self.plan.old, host)
        new = Series(case.name, self.plan.new, host)
        old_runs, new_runs = self.result.valid(old), self.result.valid(new)
        asked = []
        for metric in metrics_of(case, [*self.result.runs.get(new, [])]):
            about = Subject(new, metric, f"side {self.plan.old}")
            self.result.old_names[about] = f"side {self.plan.old}"
            keys, changes = zip(*(self.key(series) for series in (old, new)), strict=True)
            if why := next(filter(None, changes), ""):
                self.unfit[about] = why
            elif old_runs and new_runs and not self.store.comparable(keys[0], keys[1]):
                changed = self.store.differences(keys[0], keys[1])
                self.unfit[about] = f"the sides ran on different machines: {', '.join(changed)}"
            asked.append(
                Question(about, metric_kind(metric)[1], self.plan.rules.floor(metric),
                         _values(old_runs, metric), _values(new_runs, metric))
            )  # fmt: skip
        return asked

    def run(self) -> Judgement:
        asked: list[Question] = []
        for case in self.plan.cases:
            for host in case.hosts:
                for side in self.plan.sides:
                    asked += self.questions(Series(case.name, side.name, host))
                if self.plan.old:
                    asked += self.side_questions(host, case)
        rules = self.plan.rules
        fit = [q for q in asked if q.id not in self.unfit]
        found = {id(f.question): f for f in decide.first_look(fit, rules)}
        for question in asked:
            finding = found.get(id(question))
            if finding is None:
                assert isinstance(question.id, Subject)
                finding = Finding(question, question.floor, None, INCONCLUSIVE)
                finding.text = self.unfit[question.id]
            self.result.findings.append(finding)
        self._keep_confirmed()
        self._reruns()
        for finding in self.result.findings:
            self._describe(finding)
            self._acknowledge(finding)
        return self.result

    def _keep_confirmed(self) -> None:
        """What was confirmed the night before and is as slow tonight needs no rerun."""
        for finding in self.result.findings:
            earlier = self.earlier[subject(finding)]
            last = earlier[max(earlier)] if earlier else ""
            if finding.state == SUSPECT and last == CONFIRMED:
                finding.state = CONFIRMED
                finding.extra["since"] = str(
                    next(n for n in sorted(earlier) if all(
                        earlier[m] == CONFIRMED for m in earlier if m >= n))
                )  # fmt: skip

    def _reruns(self) -> None:
        fresh: dict[int, tuple[list[float], list[float]]] = {}
        for index, finding in enumerate(self.result.findings):
            about = subject(finding)
            planned = self._planned(about.series)
            if finding.state != SUSPECT or not planned or any(r.state != "done" for r in planned):
                continue
            old: list[float] = []
            if about.against != "baseline":
                other = Series(about.series.test, self.plan.old, about.series.host)
                old = _values(self.result.valid(other, (1, 2)), about.metric)
            runs = [r for r in self.result.valid(about.series, (1, 2))]
            fresh[index] = (old, _values(runs, about.metric))
        decide.second_look(self.result.findings, fresh, self.plan.rules)
        if not self.reruns:
            left = [f for f in self.result.findings if not self._planned(subject(f).series)]
            decide.agree(left, len(self.result.findings))

    def _planned(self, series: Series) -> list[Run]:
        return [run for run in self.result.runs.get(series, []) if run.phase]

    def _acknowledge(self, finding: Finding) -> None:
        """What is known to be slower fails no more while it is no worse than it was."""
        known = self.known.get(subject(finding))
        if finding.state != CONFIRMED or known is None or self.night < known.night:
            return
        contrast = finding.judged
        if contrast is None:
            holds = int(finding.extra["change_from"]) <= known.night
        else:
            better = finding.question.better
            worse = decide.worsening(contrast.ratio, better) - decide.worsening(known.ratio, better)
            holds = worse < finding.threshold
        if holds:
            finding.extra["acknowledged"] = known.note
            finding.text += f"; known since night {known.night}: {known.note}"

    def _describe(self, finding: Finding) -> None:
        """The sentence that says what was decided, and why."""
        about = subject(finding)
        if finding.change_from is not None:
            past = self.past(about.series, self.key(about.series)[0])
            nights = [*past.of(about.metric, self.plan.rules.least_runs), self.night]
            finding.extra["change_from"] = str(nights[finding.change_from])
            self.result.old_names[about] = f"the nights before {nights[finding.change_from]}"
        contrast = finding.judged
        if finding.text or contrast is None:
            if not finding.text and finding.state == SUSPECT:
                finding.text = (
                    f"the history of {about.metric} changed for the worse with night "
                    f"{finding.extra['change_from']}, and was not run again"
                )
            elif not finding.text and finding.state == CONFIRMED:
                finding.text = (
                    f"the history of {about.metric} changed for the worse with night "
                    f"{finding.extra['change_from']}, as one of the two nights before showed, too"
                )
            elif not finding.text:
                finding.text = (
                    f"nothing to compare with: no baseline is pinned, and {len(finding.question.history)} "
                    "earlier nights show no change"
                )
            return
        low, high = contrast.interval
        worse = decide.worsening(contrast.ratio, finding.question.better)
        against = self.result.old_names.get(about, "the nights before")
        text = (
            f"{about.metric} is {abs(worse):.1%} {'worse' if worse > 0 else 'better'} than {against} "
            f"(ratio {contrast.ratio:.3f}, 95 % interval {low:.3f} … {high:.3f}; "
            f"{finding.threshold:.1%} would count)"
        )
        since = finding.extra.get("since")
        finding.text = text + {
            SUSPECT: (
                "; both reruns agree, but nights may differ by as much: it is confirmed when the "
                "next night or the one after it agrees" if "reruns" in finding.extra else
                "; not run again yet" if self.reruns else
                "; not run again: it is confirmed when the next night or the one after it agrees"
            ),
            CONFIRMED: f"; as it was since night {since}" if since else
            "; one of the two nights before agrees" if "nights" in finding.extra else
            "; both reruns agree",
            decide.CLEARED: "; suspect at first, and the reruns do not agree",
        }.get(finding.state, "")


def judge(
    store: Store, plan: Plan, night: int, reruns: bool = False, need_baseline: bool = False
) -> Judgement:
    """Judges a night by what is stored. reruns: what is suspect may still be run again. need_baseline:
    what has none is inconclusive."""
    return _Judge(store, plan, night, reruns, need_baseline).run()
