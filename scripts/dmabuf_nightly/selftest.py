# SPDX-License-Identifier: GPL-2.0-only
"""Judges made-up nights by the real rules, and says how often they are wrong.

The nights are drawn anew from a fixed seed, and go through decide.py exactly as measured ones do.
A claim holds only if its 95 % confidence bound does, not merely the observed share.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

from dmabuf_common import stats

from . import decide
from .earlier import Decided, Hold, Pin, view
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
    within each night instead of with a baseline. reruns: False for nights that are only measured.
    history: how many good nights there are before. baseline_nights: how many of these, the first ones, are
    pinned. repin: then so many slower nights of all metrics follow, and are pinned instead.
    within: in how many nights a loss must be found (0: in all). most_green: which share of the nights after
    that may be good at most."""

    name: str
    trials: int
    nights: int
    repeats: int = 10
    slow: float = 1.0
    between: float = 0.0
    sides: bool = False
    reruns: bool = True
    cv: float = CV
    history: int = HISTORY
    baseline_nights: int = BASELINE_NIGHTS
    repin: int = 0
    within: int = 0
    most_false: float | None = None
    least_power: float | None = None
    most_green: float | None = None


@dataclass
class Figures:
    """What came out. found: trials in which the slow metric was confirmed within the nights; at_once:
    in the first of them. after: nights after it was found; green: those of them in which it was not."""

    nights: int = 0
    suspected: int = 0
    alarmed: int = 0
    trials: int = 0
    found: int = 0
    at_once: int = 0
    after: int = 0
    green: int = 0
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
             history=2, most_false=MOST_FALSE),
    Scenario("5 % slower, sides in one night, nights differ by 1 %", 300, 3, slow=0.95,
             between=0.01, sides=True, history=2, least_power=LEAST_POWER),
    Scenario("A/A, measured only", 150, 4, reruns=False, most_false=MOST_FALSE),
    Scenario("5 % slower, measured only", 1500, 3, slow=0.95, reruns=False, least_power=LEAST_POWER),
    Scenario("A/A, measured only, nights differ by 1 %", 500, 4, between=0.01, reruns=False,
             most_false=MOST_FALSE),
    Scenario("5 % slower, measured only, nights differ by 1 %", 100, 3, slow=0.95, between=0.01,
             reruns=False),
    Scenario("A/A, sides, measured only, nights differ by 1 %", 300, 4, between=0.01, sides=True,
             reruns=False, history=2, most_false=MOST_FALSE),
    Scenario("5 % slower, sides, measured only, nights differ by 1 %", 300, 3, slow=0.95, between=0.01,
             sides=True, reruns=False, history=2, least_power=LEAST_POWER),
    Scenario("A/A, the first 6 nights after a baseline of 3, nights differ by 1 %", 300, 6, between=0.01,
             history=3, most_false=MOST_FALSE),
    Scenario("5 % slower, the first 3 nights after a baseline of 3, nights differ by 1 %", 100, 3,
             slow=0.95, between=0.01, history=3),
    Scenario("A/A, the first 6 nights after a baseline of 3, measured only, nights differ by 1 %", 150, 6,
             between=0.01, history=3, reruns=False, most_false=MOST_FALSE),
    Scenario("A/A, the first 6 nights after a baseline of 1, nights differ by 1 %", 150, 6, between=0.01,
             history=1, baseline_nights=1, most_false=MOST_FALSE),
    Scenario("A/A, pinned anew on 3 slower nights, nights differ by 1 %", 400, 4, between=0.01, repin=3,
             most_false=MOST_FALSE),
    Scenario("5 % slower, pinned anew on 3 slower nights", 100, 3, slow=0.95, repin=3),
    Scenario("A/A, pinned anew on 3 slower nights, measured only, nights differ by 1 %", 250, 4,
             between=0.01, repin=3, reruns=False, most_false=MOST_FALSE),
    Scenario("A/A, no baseline, nights differ by 1 %", 150, 6, between=0.01, baseline_nights=0,
             most_false=MOST_FALSE),
    Scenario("A/A, no baseline, the first 15 nights, nights differ by 1 %", 60, 15, between=0.01, history=0,
             baseline_nights=0, most_false=MOST_FALSE),
    Scenario("5 % slower, no baseline", 100, 12, slow=0.95, baseline_nights=0, within=5,
             least_power=LEAST_POWER, most_green=MOST_FALSE),
    Scenario("5 % slower, no baseline, measured only", 250, 12, slow=0.95, baseline_nights=0, within=5,
             reruns=False, least_power=LEAST_POWER, most_green=MOST_FALSE),
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
        self.all_slower = 1.0

    def next_night(self) -> None:
        """Another night: whatever all its runs share is drawn anew."""
        self.level = self.all_slower * (1 + self.rng.normal(0, self.scenario.between, (METRICS, 1)))

    def runs(self, count: int, slow: bool = False) -> Array:
        """`count` runs of every metric tonight."""
        values: Array = self.level * self.rng.normal(1, self.scenario.cv, (METRICS, count))
        if slow:
            values[0] *= self.scenario.slow
        return values


# How much slower the nights are that a baseline is pinned on anew.
PINNED_ANEW = 0.8


class Trial:
    """One made-up history: its nights so far, and what was decided in them."""

    def __init__(self, rng: np.random.Generator, scenario: Scenario, rules: Rules) -> None:
        self.source = Source(rng, scenario)
        self.scenario = scenario
        self.rules = rules
        self.past: list[tuple[Array, Array | None]] = []
        self.decided: list[dict[int, Decided]] = [{} for _ in range(METRICS)]
        self.pins: list[Pin] = []
        for _ in range(scenario.history):
            self.source.next_night()
            reference = self.source.runs(scenario.repeats) if scenario.sides else None
            self.past.append((self.source.runs(scenario.repeats), reference))
        if scenario.baseline_nights and not scenario.sides:
            self._pin(range(scenario.baseline_nights))
        if scenario.repin:
            self.source.all_slower = PINNED_ANEW
            for _ in range(scenario.repin):
                self.night(slow=False)
            self._pin(range(len(self.past) - scenario.repin, len(self.past)))

    def _pin(self, nights: Iterable[int]) -> None:
        self.pins.append(Pin(len(self.pins), tuple(nights)))

    def _old(self, metric: int, nights: Iterable[int]) -> list[float]:
        return [float(v) for night in nights for v in self.past[night][0][metric]]

    def _hold(self, metric: int) -> Hold | None:
        found = self.decided[metric]
        return found[max(found)].hold if found and not self.pins else None

    def _question(self, metric: int, tonight: Array, reference: Array | None) -> decide.Question:
        new = tonight[metric].tolist()
        if reference is not None:
            sides = [
                (old[metric].tolist(), runs[metric].tolist())
                for runs, old in self.past[-decide.BEFORE :] if old is not None
            ]  # fmt: skip
            return decide.Question(metric, "higher", FLOOR, reference[metric].tolist(), new, sides=sides)
        nights = list(range(len(self.past)))[-self.rules.history :]
        pin = self.pins[-1] if self.pins else None
        hold = self._hold(metric)
        pinned = pin.nights if pin else hold.nights if hold else ()
        runs = [self.past[night][0][metric].tolist() for night in nights]
        seen = view(nights, self.decided[metric], decide.SLOWER, self.pins, pin)
        return decide.Question(
            metric, "higher", FLOOR, self._old(metric, pinned), new,
            [stats.median(night) for night in runs], seen.flagged, runs, len(pinned), seen.eras,
            seen.settled, hold is not None,
        )  # fmt: skip

    def night(self, slow: bool = True) -> tuple[set[int], set[int]]:
        """One night: which metrics were suspect and which confirmed. Adds it to the past."""
        scenario, source = self.scenario, self.source
        source.next_night()
        tonight = source.runs(scenario.repeats, slow)
        reference = source.runs(scenario.repeats) if scenario.sides else None
        findings = decide.first_look(
            [self._question(metric, tonight, reference) for metric in range(METRICS)], self.rules
        )
        pin = self.pins[-1] if self.pins else None
        for metric, finding in enumerate(findings):
            decide.keep_confirmed(finding, self.decided[metric], pin)
        suspects = {i for i, f in enumerate(findings) if f.state == decide.SUSPECT}
        if not scenario.reruns:
            decide.agree(findings, METRICS, self.rules)
        elif suspects:
            again = source.runs(2 * scenario.repeats, slow)
            old = source.runs(2 * scenario.repeats) if scenario.sides else None
            fresh = {
                i: ([] if old is None else old[i].tolist(), again[i].tolist()) for i in suspects
            }
            decide.second_look(findings, fresh, self.rules)
        number = len(self.past)
        names = list(range(number))[-self.rules.history :]
        for metric, finding in enumerate(findings):
            hold = finding.hold(self._hold(metric), number, names)
            self.decided[metric][number] = Decided(finding.state, pin.id if pin else None, hold)
        self.past.append((tonight, reference))
        return suspects, {i for i, f in enumerate(findings) if f.state == decide.CONFIRMED}


def simulate(scenario: Scenario, rules: Rules, seed: int = 20) -> Figures:
    """All trials of a scenario."""
    rng = np.random.default_rng(seed)
    figures = Figures()
    start = time.monotonic()
    for _ in range(scenario.trials):
        trial = Trial(rng, scenario, rules)
        found = 0
        for number in range(1, scenario.nights + 1):
            suspects, confirmed = trial.night()
            figures.nights += 1
            figures.suspected += bool(suspects)
            # With a slow metric, an alarm about another one is a false alarm, too.
            figures.alarmed += bool(confirmed - ({0} if scenario.slow != 1 else set()))
            if found:
                figures.after += 1
                figures.green += 0 not in confirmed
            elif scenario.slow != 1 and 0 in confirmed:
                found = number
        figures.trials += 1
        figures.found += 0 < found <= (scenario.within or scenario.nights)
        figures.at_once += found == 1
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
                f"found within {scenario.within or scenario.nights} nights in at least "
                f"{scenario.least_power:.0%}: at 95 % confidence at least {bound:.1%}",
            )
        )
    if scenario.most_green is not None:
        bound = upper_bound(figures.green, figures.after)
        claims.append(
            (
                bound <= scenario.most_green,
                f"good in at most {scenario.most_green:.0%} of the nights after it was found: "
                f"at 95 % confidence at most {bound:.2%}",
            )
        )
    return claims


def describe(scenario: Scenario, figures: Figures) -> str:
    """The figures of a scenario in one line."""
    text = f"{scenario.name}: "
    if scenario.slow != 1:
        text += (
            f"found within {scenario.within or scenario.nights} nights in {figures.found} of {figures.trials} "
            f"({figures.found / figures.trials:.1%}), at once in {figures.at_once / figures.trials:.1%}, "
        )
    if scenario.most_green is not None:
        text += f"good in {figures.green} of {figures.after} nights after that, "
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
