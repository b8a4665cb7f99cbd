# SPDX-License-Identifier: GPL-2.0-only
"""From stored runs to findings: which runs are compared with which, and which must not be."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from dmabuf_common import stats
from dmabuf_common.fingerprint import differences

from . import acknowledge, baseline, decide, jobfacts, known, words
from .earlier import BEFORE, Decided, Hold, Pin, held, last_good, slow_nights, view
from .judged import Judgement, Subject, subject
from .plan import Case, Plan, metric_kind
from .question import Finding, Question
from .states import INCONCLUSIVE, SUSPECT
from .store import Run, Series, Store, too_few_valid
from .words import shown_nights

DEFAULT_METRICS = ("read_iops", "write_iops", "read_clat_p99", "write_clat_p99", "cpu_per_gib")


def metrics_of(case: Case, runs: Sequence[Run]) -> tuple[str, ...]:
    """The metrics that are judged: those the plan names, or the usual ones that the runs have."""
    if case.metrics:
        return case.metrics
    return tuple(m for m in DEFAULT_METRICS if any(m in run.metrics for run in runs))


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    return [run.metrics[metric] for run in runs if metric in run.metrics]


def _jobless(tonight: Run | None, runs: Sequence[Run]) -> list[int]:
    """The nights of runs whose jobs are not known, where tonight's is."""
    if tonight is None or not tonight.job:
        return []
    return sorted({run.night for run in runs if not run.job})


@dataclass
class _Past:
    """Earlier nights of a series that may be compared with tonight's, in their order: night → valid runs.
    most: how many of them are the history; what is held, and what is good, may be of longer ago. last: a run
    of the last night of all, which may be one that must not be compared with tonight's."""

    nights: dict[int, list[Run]]
    most: int
    last: Run | None = None

    def jobless(self, tonight: Run | None, asked: Iterable[int]) -> list[int]:
        """Those of the nights that are asked whose jobs are not known, where tonight's is."""
        return _jobless(tonight, [run for night in asked for run in self.nights.get(night, [])])

    def every(self, metric: str, least: int) -> dict[int, list[float]]:
        """Those that have a metric: night → its values."""
        found = {night: _values(runs, metric) for night, runs in self.nights.items()}
        return {night: values for night, values in found.items() if len(values) >= least}

    def of(self, metric: str, least: int) -> dict[int, list[float]]:
        """The history of a metric."""
        kept = list(self.nights)[-self.most :]
        return {night: values for night, values in self.every(metric, least).items() if night in kept}


def _decided(document: Mapping[str, Any], state: str) -> Decided:
    """What a night decided, as it was stored."""
    hold = document.get("hold")
    held = Hold(hold["since"], tuple(hold["nights"]), hold["fast"]) if hold else None
    return Decided(state, document.get("baseline"), held)


class _Judge:
    def __init__(self, store: Store, plan: Plan, night: int, reruns: bool, need_baseline: bool) -> None:
        self.store, self.plan, self.night, self.reruns = store, plan, night, reruns
        self.need_baseline = need_baseline or store.night(night).need_baseline
        self.result = Judgement(store, plan, night, need_baseline=self.need_baseline)
        for run in store.runs(night):
            self.result.runs.setdefault(run.series, []).append(run)
        self.earlier: dict[Subject, dict[int, Decided]] = defaultdict(dict)
        # The ratios of nights that were worse than what is known.
        self.worse: dict[Subject, dict[int, float]] = defaultdict(dict)
        for row in store.decisions(plan=plan.name):
            about = Subject(Series(row["test"], row["side"], row["host"]), row["metric"],
                            row["against"])
            if row["night"] < night:
                self.earlier[about][row["night"]] = _decided(row["document"], row["state"])
                if row["document"].get("worse") and row["document"]["ratio"]:
                    self.worse[about][row["night"]] = row["document"]["ratio"]
        self.baselines = baseline.in_force(store, plan.name, night)
        self.result.pinned = self.baselines
        # Later pins are none of tonight.
        self.later_pins: set[Series] = set()
        self.pins: dict[Series, list[Pin]] = defaultdict(list)
        for series, every in baseline.pins(store, plan.name).items():
            last = self.baselines[series].id if series in self.baselines else 0
            self.pins[series] = [one for one in every if one.id <= last]
            if len(self.pins[series]) < len(every):
                self.later_pins.add(series)
        # What was given up, or not run to its end, was judged by nobody, and is not what is usual.
        self.whole = {n.id for n in store.nights(plan.name) if n.finished and not n.abandoned}
        self.known = {
            Subject(k.series, k.metric, k.against): k for k in acknowledge.all_of(store, plan.name)
            if k.of_time(night)
        }
        self.unfit: dict[Subject, str] = {}

    def one(self, series: Series) -> tuple[Run | None, str]:
        """A run that stands for tonight's valid ones, or None and why there is no such one."""
        valid = self.result.valid(series, (0, 1, 2))
        keys = sorted({run.key for run in valid})
        if len(keys) > 1:
            changed = differences(self.store.facts(keys[0]), self.store.facts(keys[1]))
            return None, f"the machine changed during the night: {', '.join(changed)}"
        subjects = sorted({run.subject for run in valid})
        if len(subjects) > 1:
            changed = differences(self.store.facts(subjects[0]), self.store.facts(subjects[1]))
            return None, f"what is judged changed during the night: {', '.join(changed)}"
        for first, second in combinations(self.store.unlike(valid), 2):
            if changed := self.store.job_differences(second, first):
                return None, f"the job changed during the night: {jobfacts.shown(changed)}"
        return (valid[0] if valid else None), ""

    def pin(self, about: Subject) -> Pin | None:
        """The baseline that a metric is compared with."""
        pinned = self.baselines.get(about.series)
        if pinned is None or about.against != "baseline":
            return None
        return next(pin for pin in self.pins[about.series] if pin.id == pinned.id)

    def past(self, series: Series, tonight: Run | None) -> _Past:
        every: dict[int, list[Run]] = defaultdict(list)
        if tonight is not None:
            for run in self.store.series_runs(series, self.plan.name, self.night):
                if run.night in self.whole:
                    every[run.night].append(run)
        valid = {n: [run for run in runs if run.valid] for n, runs in every.items() if not too_few_valid(runs)}
        last = next((valid[n][-1] for n in sorted(valid, reverse=True) if valid[n]), None)
        past = _Past({}, self.plan.rules.history, last)
        for night in sorted(valid):
            runs = [run for run in valid[night] if tonight is not None and self.store.alike(tonight, run)]
            if len({run.subject for run in runs}) == 1:
                past.nights[night] = runs
        return past

    def hold(self, about: Subject) -> Hold | None:
        """What was found slower, and is not over."""
        return held(self.earlier[about], self.pin(about))

    def _holding(self, series: Series, against: str) -> list[str]:
        """The metrics of which something is held: tonight may have no figures of them."""
        return [s.metric for s in list(self.earlier) if (s.series, s.against) == (series, against) and self.hold(s)]

    def questions(self, series: Series) -> list[Question]:
        """What is asked about a series: each metric against its baseline and its history."""
        runs = self.result.valid(series)
        case = self.plan.case(series.test)
        tonight, changed = self.one(series)
        pinned = self.baselines.get(series)
        # A night that was pinned is compared with the others of the baseline, and never with itself.
        old_runs = [r for r in pinned.runs if r.valid and r.night != self.night] if pinned else []
        past = self.past(series, tonight)
        asked = []
        holding = self._holding(series, "baseline")
        metrics = metrics_of(case, [*self.result.runs.get(series, []), *old_runs])
        least = self.plan.rules.least_runs
        for metric in dict.fromkeys([*metrics, *holding]):
            about = Subject(series, metric, "baseline")
            compared, hold, decided, pin = old_runs, self.hold(about), self.earlier[about], self.pin(about)
            every, reference = past.every(metric, least), hold.nights if hold else ()
            if hold:
                self.result.holds[about] = hold
            if pinned:
                left_out = " without this one" if self.night in pinned.nights else ""
                unknown = "" if pinned.jobs_known or not (tonight and tonight.job) else (
                    ", whose jobs an earlier release did not store,")
                having = sorted({run.night for run in old_runs if metric in run.metrics})
                some = f", of which {shown_nights(having)} {'has' if len(having) == 1 else 'have'} {metric}"
                less = some if having and len(having) < len({run.night for run in old_runs}) else ""
                self.result.old_names[about] = pinned.name + left_out + unknown + less
                self.result.baselines[about] = pinned.id
            elif hold:
                compared = self._reference(series, hold)
                self.result.old_names[about] = shown_nights(hold.nights)
            elif reference := last_good(list(every), decided):
                compared = [run for night in reference for run in past.nights[night]]
                self.result.old_names[about] = shown_nights(reference)
            why = changed or self._few(series) or self._unfit(series, metric, tonight, pinned, compared, hold)
            if not (why or compared or self.plan.old):
                why = self._another(tonight, past.last)
            if why:
                self.unfit[about] = why
            by_night = past.of(metric, least)
            self.result.nights[about] = list(by_night)
            self.result.jobless[about] = _jobless(tonight, compared) if hold and not pinned else past.jobless(
                tonight, [*by_night, *reference])
            seen = view(list(by_night), decided, self.pins[series], pin)
            slow = slow_nights(list(every), decided, hold, pin) if hold else []
            asked.append(
                Question(
                    about, metric_kind(metric)[1], self.plan.rules.floor(metric),
                    [] if why else _values(compared, metric),
                    _values(runs, metric),
                    [stats.median(values) for values in by_night.values()],
                    seen.flagged,
                    list(by_night.values()),
                    len({run.night for run in compared if metric in run.metrics}), seen.eras, seen.settled,
                    hold is not None, (), pinned is not None, reference, seen.apart,
                    hold is not None and hold.fast > 0, [((), every[night]) for night in slow],
                )
            )
        return asked

    def _reference(self, series: Series, hold: Hold) -> list[Run]:
        runs = [run for night in hold.nights for run in self.store.runs(night, 0)]
        return [run for run in runs if run.series == series and run.valid]

    def _few(self, series: Series) -> str:
        """Why the valid runs of a series say nothing, where they are a choice among those that were done."""
        runs = [run for run in self.result.runs.get(series, []) if run.phase == 0]
        valid = sum(run.valid for run in runs)
        if valid < self.plan.rules.least_runs or not too_few_valid(runs):
            return ""
        return (f"{valid} of {len(runs)} runs are valid: what is left was chosen by what made the others unclear, "
                "and says nothing")

    def _another(self, tonight: Run | None, last: Run | None) -> str:
        """In what tonight is not as the night before, where there is no other one that it is compared with."""
        if tonight is None or last is None or self.store.alike(tonight, last):
            return ""
        if changed := self.store.differences(last.key, tonight.key):
            said = f"this is not the machine of night {last.night}: {', '.join(changed)} differ"
        else:
            said = f"this is not the job of night {last.night}: " + jobfacts.shown(self.store.job_differences(tonight, last))
        return (f"{said}. So there is nothing to compare with, and the next nights are compared with those from now "
                "on; pin a baseline of nights like this one")

    def _unfit(
        self, series: Series, metric: str, tonight: Run | None, pinned: baseline.Baseline | None,
        old_runs: Sequence[Run], hold: Hold | None,
    ) -> str:
        """Why a metric cannot be compared with what it should be; "" when it can."""
        if pinned is None and self.need_baseline and not self.plan.old:
            if series in self.later_pins:
                return "no baseline was pinned when this night was judged first, and one was demanded"
            return (
                "no baseline is pinned, and one is demanded; `dmabuf-nightly baseline pin "
                f"--plan {self.plan.name} --last 3` pins one"
            )
        if pinned is None and hold is None:
            return ""  # the nights before it are alike, or are none
        name = f"the {pinned.name}" if pinned else f"the {shown_nights(hold.nights if hold else ())}"
        if not old_runs:
            return f"{name} holds no night but this one; pin others" if pinned else (
                f"{name} have no valid run any more; pin a baseline")
        if tonight is not None:
            keys = [pinned.key] if pinned else []
            for key in [*keys, *(run.key for run in self.store.unlike(old_runs))]:
                if changed := self.store.differences(key, tonight.key):
                    return (
                        f"this is not the machine of {name}: {', '.join(changed)} "
                        "differ; pin a baseline for this one"
                    )
            for old in self.store.unlike(old_runs):
                if changed := self.store.job_differences(tonight, old):
                    return (
                        f"this is not the job of {name}: {jobfacts.shown(changed)}; pin a baseline for "
                        "this one"
                    )
        if not any(metric in run.metrics for run in old_runs):
            return f"{name} has no {metric}; pin a baseline that has it"
        valid = self.result.valid(series)
        if valid and not any(metric in run.metrics for run in valid):
            return f"no run of this night has {metric}, which {name} {'has' if pinned else 'have'}"
        return ""

    def side_questions(self, host: str, case: Case) -> list[Question]:
        """What is asked about two sides of one night."""
        old = Series(case.name, self.plan.old, host)
        new = Series(case.name, self.plan.new, host)
        old_runs, new_runs = self.result.valid(old), self.result.valid(new)
        ones, changes = zip(*(self.one(series) for series in (old, new)), strict=True)
        pasts = [self.past(series, one) for series, one in zip((old, new), ones, strict=True)]
        asked = []
        against = f"side {self.plan.old}"
        metrics = metrics_of(case, [r for s in (old, new) for r in self.result.runs.get(s, [])])
        for metric in dict.fromkeys([*metrics, *self._holding(new, against)]):
            about = Subject(new, metric, against)
            self.result.old_names[about] = against
            if why := next((said for said in (*changes, self._few(old), self._few(new)) if said), ""):
                self.unfit[about] = why
            elif old_runs and new_runs and not self.store.comparable(ones[0].key, ones[1].key):
                changed = self.store.differences(ones[0].key, ones[1].key)
                self.unfit[about] = f"the sides ran on different machines: {', '.join(changed)}"
            elif bool(_values(old_runs, metric)) != bool(_values(new_runs, metric)):
                has, lacks = (new, old) if _values(new_runs, metric) else (old, new)
                self.unfit[about] = (
                    f"side {has.side} alone has {metric}, and side {lacks.side} has none to compare it with"
                )
            elif metric not in metrics:
                self.unfit[about] = f"no run of this night has {metric}, which was slower than {against}"
            by_side = [past.every(metric, self.plan.rules.least_runs) for past in pasts]
            beside = [n for n in by_side[0] if n in by_side[1] and min(*by_side[0][n], *by_side[1][n]) > 0]
            both = [n for n in self._nights_before() if n in beside]
            self.result.nights[about] = both
            hold, decided = self.hold(about), self.earlier[about]
            # On another machine, or with another job, what is held says nothing, and stays held.
            slow = slow_nights(beside, decided, hold, None) if hold else []
            if hold:
                self.result.holds[about] = hold
            parts = [past.jobless(one, both) for past, one in zip(pasts, ones, strict=True)]
            self.result.jobless[about] = sorted({n for part in parts for n in part})
            asked.append(
                Question(about, metric_kind(metric)[1], self.plan.rules.floor(metric),
                         _values(old_runs, metric), _values(new_runs, metric),
                         sides=[(by_side[0][n], by_side[1][n]) for n in both],
                         held=bool(slow), mended=hold is not None and hold.fast > 0,
                         slow=[(by_side[0][n], by_side[1][n]) for n in slow])
            )
        return asked

    def _nights_before(self) -> list[int]:
        """The nights of the plan just before this one that were run to their end."""
        nights = [n for n in self.store.nights(self.plan.name) if n.id < self.night and n.finished]
        return [night.id for night in nights if not night.abandoned][-BEFORE :]

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
        self._reruns()
        for finding in self.result.findings:
            words.describe(self.result, finding, self.reruns)
            self._acknowledge(finding)
        return self.result

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
            decide.agree(left, len(self.result.findings), self.plan.rules)

    def _planned(self, series: Series) -> list[Run]:
        return [run for run in self.result.runs.get(series, []) if run.phase]

    def _acknowledge(self, finding: Finding) -> None:
        """What is known to be slower fails no more while it is no worse than it was."""
        about = subject(finding)
        if (found := self.known.get(about)) is not None:
            last = sorted(self.earlier[about])[-BEFORE:]
            known.decide(finding, found, [self.worse[about][n] for n in last if n in self.worse[about]])


def judge(
    store: Store, plan: Plan, night: int, reruns: bool = False, need_baseline: bool = False
) -> Judgement:
    """Judges a night by what is stored. reruns: what is suspect may still be run again. need_baseline:
    what has none is inconclusive; so it is where that was demanded when the night was judged before."""
    return _Judge(store, plan, night, reruns, need_baseline).run()
