# SPDX-License-Identifier: GPL-2.0-only
"""What a night was judged to be: its findings, what they are about, and how they are stored."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from dmabuf_common import stats

from . import acknowledge, baseline
from .earlier import Hold
from .plan import Plan
from .question import Finding
from .states import SUSPECT
from .store import Run, Series, Store


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
    # The number of the baseline, what was held before, and the nights of the history.
    baselines: dict[Subject, int] = field(default_factory=dict)
    holds: dict[Subject, Hold] = field(default_factory=dict)
    nights: dict[Subject, list[int]] = field(default_factory=dict)
    pinned: dict[Series, baseline.Baseline] = field(default_factory=dict)
    # Nights of the history that an earlier release stored, with no job, where tonight has one.
    jobless: dict[Subject, list[int]] = field(default_factory=dict)
    need_baseline: bool = False

    def to_rerun(self) -> list[Series]:
        """The series of what is suspect and has not been confirmed on an earlier night."""
        found = [subject(f).series for f in self.findings if f.state == SUSPECT]
        return list(dict.fromkeys(found))

    def own(self, finding: Finding) -> float | None:
        """The ratio of this night alone, where nights together decided."""
        new, old = finding.question.new, finding.question.old
        if not finding.together or finding.fresh or not new or not old:
            return None
        return stats.median(new) / stats.median(old)

    def valid(self, series: Series, phases: Sequence[int] = (0,)) -> list[Run]:
        """The valid runs of a series."""
        return [r for r in self.runs.get(series, []) if r.valid and r.phase in phases]

    def save(self) -> None:
        """Stores the decisions."""
        with self.store.transaction():
            self.store.forget_decisions(self.night)
            if self.need_baseline:
                self.store.demand_baseline(self.night)
            for finding in self.findings:
                about = subject(finding)
                contrast = finding.judged
                hold = finding.hold(self.holds.get(about), self.night, self.nights.get(about, []))
                if about in self.holds and hold is None:
                    acknowledge.stop(self.store, self.plan.name, about.series, self.night, about.metric, about.against)
                self.store.decide(
                    self.night, about.series, about.metric, finding.state, about.against,
                    {
                        "text": finding.text,
                        "threshold": finding.threshold,
                        "ratio": contrast.ratio if contrast else None,
                        "own": self.own(finding),
                        "change_from": finding.extra.get("change_from"),
                        "acknowledged": finding.extra.get("acknowledged"),
                        "worse": finding.extra.get("worse"),
                        "baseline": self.baselines.get(about),
                        "hold": asdict(hold) if hold else None,
                    },
                )


def subject(finding: Finding) -> Subject:
    """What the finding is about."""
    assert isinstance(finding.question.id, Subject)
    return finding.question.id
