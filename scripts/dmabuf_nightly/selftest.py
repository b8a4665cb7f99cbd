# SPDX-License-Identifier: GPL-2.0-only
"""Judges made-up nights by the real rules, and says how often they are wrong.

The nights are drawn anew from a fixed seed, and go through decide.py exactly as measured ones do.
A claim holds only if its 95 % confidence bound does, not merely the observed share.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

from dmabuf_common import stats

from . import decide
from .plan import Rules

Array = npt.NDArray[np.float64]

METRICS = 12
BASELINE_NIGHTS = 3
HISTORY = 20
CV = 0.03
FLOOR = 0.02
MOST_FALSE = 0.01
LEAST_POWER = 0.95


@dataclass(frozen=True)
class Scenario:
    """One kind of made-up history. slow: the factor on the first metric's values (1: A/A).
    between: the CV from night to night, which all runs of a night share. sides: compare two sides
    within each night instead of with a baseline. reruns: False for nights that are only measured."""

    name: str
    trials: int
    nights: int
    repeats: int = 10
    slow: float = 1.0
    between: float = 0.0
    sides: bool = False
    reruns: bool = True
    cv: float = CV
    baseline_nights: int = BASELINE_NIGHTS
    most_false: float | None = None
    least_power: float | None = None


@dataclass
class Figures:
    """What came out. found: trials in which the slow metric was confirmed within the nights; at_once:
    in the first of them."""

    nights: int = 0
    suspected: int = 0
    alarmed: int = 0
    trials: int = 0
    found: int = 0
    at_once: int = 0
    seconds: float = 0.0


SCENARIOS = (
    Scenario("A/A, 10 repeats", 300, 4, most_false=MOST_FALSE),
    Scenario("5 % slower, 10 repeats", 300, 3, slow=0.95, least_power=LEAST_POWER),
    Scenario("5 % slower, 5 repeats", 60, 3, repeats=5, slow=0.95),
    Scenario("A/A, nights differ by 1 %", 250, 4, between=0.01, most_false=MOST_FALSE),
    Scenario("5 % slower, nights differ by 1 %", 100, 3, slow=0.95, between=0.01),
    Scenario("5 % slower, nights differ by 1 %, baseline of 10 nights", 100, 3, slow=0.95,
             between=0.01, baseline_nights=10),
    Scenario("A/A, nights differ by 2 %", 60, 4, between=0.02),
    Scenario("A/A, sides in one night, nights differ by 1 %", 150, 4, between=0.01, sides=True,
             most_false=MOST_FALSE),
    Scenario("5 % slower, sides in one night, nights differ by 1 %", 150, 3, slow=0.95,
             between=0.01, sides=True),
    Scenario("A/A, measured only", 150, 4, reruns=False, most_false=MOST_FALSE),
    Scenario("5 % slower, measured only", 900, 3, slow=0.95, reruns=False, least_power=LEAST_POWER),
    Scenario("A/A, measured only, nights differ by 1 %", 500, 4, between=0.01, reruns=False,
             most_false=MOST_FALSE),
    Scenario("5 % slower, measured only, nights differ by 1 %", 100, 3, slow=0.95, between=0.01,
             reruns=False),
)  # fmt: skip


# How large a slow-down must be to be found, for runs that differ by 3 % and by 1 %: what docs/nightly.md
# says of floors. Nothing is claimed of these.
POWER = tuple(
    Scenario(f"{effect:g} % slower, runs differ by {cv:g} %{'' if reruns else ', measured only'}", 100, 3,
             slow=1 - effect / 100, cv=cv / 100, reruns=reruns)
    for cv in (3.0, 1.0) for effect in (2.0, 2.5, 3.0, 4.0, 5.0, 7.0) for reruns in (True, False)
)  # fmt: skip


class Source:
    """Runs of METRICS metrics: CV within a night, `between` from night to night."""

    def __init__(self, rng: np.random.Generator, scenario: Scenario) -> None:
        self.rng = rng
        self.scenario = scenario
        self.level: Array = np.ones((METRICS, 1))

    def next_night(self) -> None:
        """Another night: whatever all its runs share is drawn anew."""
        self.level = 1 + self.rng.normal(0, self.scenario.between, (METRICS, 1))

    def runs(self, count: int, slow: bool = False) -> Array:
        """`count` runs of every metric tonight."""
        values: Array = self.level * self.rng.normal(1, self.scenario.cv, (METRICS, count))
        if slow:
            values[0] *= self.scenario.slow
        return values


def _night(
    source: Source, baseline: list[list[float]], past: list[tuple[Array, set[int]]], rules: Rules
) -> tuple[set[int], set[int]]:
    """One night: which metrics were suspect and which confirmed. Adds it to the past."""
    scenario = source.scenario
    source.next_night()
    tonight = source.runs(scenario.repeats, slow=True)
    reference = source.runs(scenario.repeats) if scenario.sides else None
    recent = past[-rules.history :]
    questions = []
    for metric in range(METRICS):
        runs = [night[metric].tolist() for night, _ in recent]
        flagged = frozenset(i for i, (_, slower) in enumerate(recent) if metric in slower)
        history = [stats.median(night) for night in runs]
        questions.append(
            decide.Question(
                metric, "higher", FLOOR,
                baseline[metric] if reference is None else reference[metric].tolist(),
                tonight[metric].tolist(),
                history if reference is None else (),
                flagged if reference is None else frozenset(),
                runs if reference is None else (),
                scenario.baseline_nights if reference is None else 0,
            )
        )  # fmt: skip
    findings = decide.first_look(questions, rules)
    suspects = {i for i, f in enumerate(findings) if f.state == decide.SUSPECT}
    if not scenario.reruns:
        decide.agree(findings, METRICS)
    elif suspects:
        again = source.runs(2 * scenario.repeats, slow=True)
        old = source.runs(2 * scenario.repeats) if scenario.sides else None
        fresh = {
            i: ([] if old is None else old[i].tolist(), again[i].tolist()) for i in suspects
        }
        decide.second_look(findings, fresh, rules)
    confirmed = {i for i, f in enumerate(findings) if f.state == decide.CONFIRMED}
    left = {i for i, f in enumerate(findings) if f.state in (decide.CONFIRMED, decide.SUSPECT)}
    past.append((tonight, left))
    return suspects, confirmed


def simulate(scenario: Scenario, rules: Rules, seed: int = 20) -> Figures:
    """All trials of a scenario."""
    rng = np.random.default_rng(seed)
    figures = Figures()
    start = time.monotonic()
    for _ in range(scenario.trials):
        source = Source(rng, scenario)
        past: list[tuple[Array, set[int]]] = []
        for _ in range(0 if scenario.sides else HISTORY):
            source.next_night()
            past.append((source.runs(scenario.repeats), set()))
        pinned = past[: scenario.baseline_nights]
        baseline = [
            [float(v) for night, _ in pinned for v in night[metric]] for metric in range(METRICS)
        ]
        hit = False
        for number in range(scenario.nights):
            suspects, confirmed = _night(source, baseline, past, rules)
            figures.nights += 1
            figures.suspected += bool(suspects)
            # With a slow metric, an alarm about another one is a false alarm, too.
            figures.alarmed += bool(confirmed - ({0} if scenario.slow != 1 else set()))
            hit = hit or (scenario.slow != 1 and 0 in confirmed)
            figures.at_once += hit and not number
        figures.trials += 1
        figures.found += hit
    figures.seconds = time.monotonic() - start
    return figures


def upper_bound(events: int, trials: int, level: float = 0.95) -> float:
    """The share that is not exceeded at this confidence (Clopper and Pearson, one-sided)."""
    if events >= trials:
        return 1.0
    return float(scipy_stats.beta.ppf(level, events + 1, trials - events))


def lower_bound(events: int, trials: int, level: float = 0.95) -> float:
    """The share that is reached at this confidence (Clopper and Pearson, one-sided)."""
    if events <= 0:
        return 0.0
    return float(scipy_stats.beta.ppf(1 - level, events, trials - events + 1))


def check(scenario: Scenario, figures: Figures) -> list[tuple[bool, str]]:
    """The scenario's claims: whether each holds, and in words."""
    claims = []
    if scenario.most_false is not None:
        bound = upper_bound(figures.alarmed, figures.nights)
        claims.append(
            (
                bound <= scenario.most_false,
                f"false alarms in at most {scenario.most_false:.0%} of nights: "
                f"at 95 % confidence at most {bound:.2%}",
            )
        )
    if scenario.least_power is not None:
        bound = lower_bound(figures.found, figures.trials)
        claims.append(
            (
                bound >= scenario.least_power,
                f"found within {scenario.nights} nights in at least {scenario.least_power:.0%}: "
                f"at 95 % confidence at least {bound:.1%}",
            )
        )
    return claims


def describe(scenario: Scenario, figures: Figures) -> str:
    """The figures of a scenario in one line."""
    text = f"{scenario.name}: "
    if scenario.slow != 1:
        text += (
            f"found within {scenario.nights} nights in {figures.found} of {figures.trials} "
            f"({figures.found / figures.trials:.1%}), at once in {figures.at_once / figures.trials:.1%}, "
        )
    text += (
        f"false alarms in {figures.alarmed} of {figures.nights} nights "
        f"({figures.alarmed / figures.nights:.2%}), "
        f"{'reruns' if scenario.reruns else 'suspects'} in {figures.suspected / figures.nights:.1%} of nights"
    )
    return text


def run(
    rules: Rules, say: Callable[[str], None], share: float = 1.0,
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> bool:  # fmt: skip
    """Every scenario; whether all claims hold. `share` of the trials, for a quicker look."""
    say(
        f"{METRICS} metrics per night, CV {CV:.0%} from run to run, baseline of {BASELINE_NIGHTS} "
        f"nights, {HISTORY} nights of history; floor {FLOOR:.0%}, {rules.mad_factor:g} × MAD, "
        f"{rules.correction}, alpha {rules.alpha:g}"
    )
    start = time.monotonic()
    good = True
    for scenario in scenarios:
        trials = max(1, round(scenario.trials * share))
        drawn = replace(scenario, trials=trials)
        figures = simulate(drawn, rules)
        say(describe(drawn, figures))
        for holds, text in check(drawn, figures):
            say(f"  {'holds' if holds else 'DOES NOT HOLD'}: {text}")
            good = good and holds
    say(f"{'every claim holds' if good else 'a claim does not hold'}; "
        f"{time.monotonic() - start:.0f} s")  # fmt: skip
    return good
