# SPDX-License-Identifier: GPL-2.0-only
"""Judges made-up nights by the real rules, and says how often they are wrong.

The nights are drawn anew from a fixed seed, and go through decide.py exactly as measured ones do.
A claim holds only if its 95 % confidence bound does, not merely the observed share.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

from dmabuf_common import stats

from . import decide
from .earlier import BEFORE, Decided, Hold, Pin, held, last_good, slow_nights, view
from .plan import Rules
from .question import Question
from .scenarios import BASELINE_NIGHTS, CV, FLOOR, HISTORY, METRICS, SCENARIOS, SEED, Scenario
from .states import CONFIRMED, GOOD, INCONCLUSIVE, SUSPECT

Array = npt.NDArray[np.float64]


@dataclass
class Figures:
    """What came out. found: trials in which the slow metric was confirmed within the nights; at_once:
    in the first of them. after: nights after it was found, while it was there; green: those that were good;
    unclear: those that were neither. mended: nights after it was gone; red: those that failed; open: those
    that were neither."""

    nights: int = 0
    suspected: int = 0
    alarmed: int = 0
    trials: int = 0
    found: int = 0
    at_once: int = 0
    after: int = 0
    green: int = 0
    unclear: int = 0
    mended: int = 0
    red: int = 0
    open: int = 0
    seconds: float = 0.0
    # Of each history, how many of its nights were `alarmed`, `green` or `red`, and of how many nights.
    by_history: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, other: "Figures") -> None:
        """Adds what came out of one history."""
        for name, events, nights in (
            ("alarmed", other.alarmed, other.nights), ("green", other.green, other.after),
            ("red", other.red, other.mended),
        ):
            self.by_history.setdefault(name, []).append((events, nights))
        for name in ("nights", "suspected", "alarmed", "trials", "found", "at_once", "after", "green", "unclear",
                     "mended", "red", "open"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Source:
    """Runs of METRICS metrics: CV within a night, `between` from night to night."""

    def __init__(self, rng: np.random.Generator, scenario: Scenario) -> None:
        self.rng = rng
        self.scenario = scenario
        self.level: Array = np.ones((METRICS, 1))
        self.all_slower = 1.0
        self.own: Array | None = None

    def next_night(self) -> None:
        """Another night: whatever all its runs share is drawn anew, or in part."""
        own: Array = self.rng.normal(0, self.scenario.between, (METRICS, 1))
        if self.own is not None:
            own = self.scenario.alike * self.own + math.sqrt(1 - self.scenario.alike**2) * own
        self.own = own
        self.level = self.all_slower * (1 + own)

    def runs(self, count: int, slow: bool = False) -> Array:
        """`count` runs of every metric tonight."""
        values: Array = self.level * self.rng.normal(1, self.scenario.cv, (METRICS, count))
        if slow:
            values[: self.scenario.many] *= self.scenario.slow
        return values


# How much slower the nights are that a baseline is pinned on anew, and how much faster those of an improvement.
PINNED_ANEW = 0.8
IMPROVED = 1.1


class Trial:
    """One made-up history: its nights so far, and what was decided in them."""

    def __init__(self, rng: np.random.Generator, scenario: Scenario, rules: Rules) -> None:
        self.source = Source(rng, scenario)
        self.scenario = scenario
        self.rules = rules
        self.past: list[tuple[Array, Array | None]] = []
        self.decided: list[dict[int, Decided]] = [{} for _ in range(METRICS)]
        self.pins: list[Pin] = []
        for number in range(scenario.history):
            self.source.all_slower = IMPROVED if number >= scenario.history - scenario.faster else 1.0
            self.source.next_night()
            reference = self.source.runs(scenario.repeats) if scenario.sides else None
            self.past.append((self.source.runs(scenario.repeats), reference))
        self.source.all_slower = 1.0
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
        return held(self.decided[metric], self.pins[-1] if self.pins else None)

    def _question(self, metric: int, tonight: Array, reference: Array | None) -> Question:
        new, decided, hold = tonight[metric].tolist(), self.decided[metric], self._hold(metric)
        every = range(len(self.past))
        pin = self.pins[-1] if self.pins else None
        slow = slow_nights(every, decided, hold, pin) if hold else []
        mended = hold is not None and hold.fast > 0
        if reference is not None:
            sides = {
                night: (old[metric].tolist(), self.past[night][0][metric].tolist())
                for night in {*every[-BEFORE:], *slow} if (old := self.past[night][1]) is not None
            }
            return Question(
                metric, "higher", FLOOR, reference[metric].tolist(), new, mended=mended,
                sides=[sides[night] for night in every[-BEFORE:]], held=bool(slow),
                slow=[sides[night] for night in slow],
            )
        nights = list(every)[-self.rules.history :]
        # The same as judge.py does with stored nights.
        compared = pin.nights if pin else hold.nights if hold else last_good(every, decided)
        runs = [self.past[night][0][metric].tolist() for night in nights]
        seen = view(nights, decided, self.pins, pin)
        return Question(
            metric, "higher", FLOOR, self._old(metric, compared), new,
            [stats.median(night) for night in runs], seen.flagged, runs, len(compared), seen.eras,
            seen.settled, hold is not None, (), pin is not None, compared, seen.apart, mended,
            [((), self.past[night][0][metric].tolist()) for night in slow],
        )

    def state(self, metric: int) -> str:
        """What the last night came to for a metric."""
        return self.decided[metric][len(self.past) - 1].state

    def night(self, slow: bool = True) -> tuple[set[int], set[int]]:
        """One night: which metrics were suspect and which confirmed. Adds it to the past."""
        scenario, source = self.scenario, self.source
        source.next_night()
        tonight = source.runs(scenario.repeats, slow)
        reference = source.runs(scenario.repeats) if scenario.sides else None
        findings = decide.first_look(
            [self._question(metric, tonight, reference) for metric in range(METRICS)], self.rules
        )
        suspects = {i for i, f in enumerate(findings) if f.state == SUSPECT}
        if not scenario.reruns:
            decide.agree(findings, METRICS, self.rules)
        elif suspects:
            again = source.runs(2 * scenario.repeats, slow)
            old = source.runs(2 * scenario.repeats) if scenario.sides else None
            fresh = {
                i: ([] if old is None else old[i].tolist(), again[i].tolist()) for i in suspects
            }
            decide.second_look(findings, fresh, self.rules)
        pin = self.pins[-1] if self.pins else None
        number = len(self.past)
        names = list(range(number))[-self.rules.history :]
        for metric, finding in enumerate(findings):
            hold = finding.hold(self._hold(metric), number, names)
            self.decided[metric][number] = Decided(finding.state, pin.id if pin else None, hold)
        self.past.append((tonight, reference))
        return suspects, {i for i, f in enumerate(findings) if f.state == CONFIRMED}


def simulate(scenario: Scenario, rules: Rules, seed: int = SEED) -> Figures:
    """All trials of a scenario."""
    rng = np.random.default_rng(seed)
    every = Figures()
    start = time.monotonic()
    losses = set(range(scenario.many)) if scenario.slow != 1 else set[int]()
    for _ in range(scenario.trials):
        figures = Figures()
        trial = Trial(rng, scenario, rules)
        for slow, nights in zip((True, False), scenario.earlier, strict=True):
            for _ in range(nights):
                trial.night(slow)
        found = 0
        for number in range(1, scenario.nights + 1):
            suspects, confirmed = trial.night()
            figures.nights += 1
            figures.suspected += bool(suspects)
            # With a slow metric, an alarm about another one is a false alarm, too.
            figures.alarmed += bool(confirmed - losses)
            if found:
                figures.after += 1
                figures.green += trial.state(0) in GOOD
                figures.unclear += trial.state(0) in (SUSPECT, INCONCLUSIVE)
            elif losses and 0 in confirmed:
                found = number
                if not scenario.goes_on:
                    break
        for _ in range(scenario.mended):
            _, confirmed = trial.night(slow=False)
            figures.mended += 1
            figures.red += bool(confirmed)
            figures.open += not confirmed and any(trial.state(m) not in GOOD for m in range(METRICS))
        figures.trials += 1
        figures.found += 0 < found <= (scenario.within or scenario.nights)
        figures.at_once += found == 1
        every.add(figures)
    every.seconds = time.monotonic() - start
    return every


def upper_bound(events: float, trials: float, level: float = 0.95) -> float:
    """The share that is not exceeded at this confidence (Clopper and Pearson, one-sided)."""
    if events >= trials:
        return 1.0
    return float(scipy_stats.beta.ppf(level, events + 1, trials - events))


def lower_bound(events: int, trials: int, level: float = 0.95) -> float:
    """The share that is reached at this confidence (Clopper and Pearson, one-sided)."""
    if events <= 0:
        return 0.0
    return float(scipy_stats.beta.ppf(1 - level, events, trials - events + 1))


def design_effect(histories: Sequence[tuple[int, int]]) -> float:
    """How many nights of these histories say as much as one independent night: nights of one history share
    its baseline, and what alarmed is held, so that they come to the same more often than not. The variance of
    the share between histories, by that of as many independent nights; at least 1."""
    nights = sum(count for _, count in histories)
    share = sum(events for events, _ in histories) / nights if nights else 0.0
    if not 0 < share < 1 or len(histories) < 2:
        return 1.0
    many = len(histories)
    between = sum((events - share * count) ** 2 for events, count in histories) * many / (many - 1)
    return max(1.0, between / (nights * share * (1 - share)))


def nights_bound(histories: Sequence[tuple[int, int]], level: float = 0.95) -> float:
    """upper_bound() of the share of nights, for as many nights as are independent (Korn and Graubard)."""
    effect = design_effect(histories)
    events, nights = (sum(one[i] for one in histories) for i in (0, 1))
    return upper_bound(events / effect, nights / effect, level)


def in_words(histories: Sequence[tuple[int, int]]) -> str:
    """nights_bound() as a claim has it."""
    effect = design_effect(histories)
    less = f" (each night counts for {1 / effect:.2f})" if effect > 1.005 else ""
    return f"at 95 % confidence at most {nights_bound(histories):.2%}{less}"


def check(scenario: Scenario, figures: Figures) -> list[tuple[bool, str]]:
    """The scenario's claims: whether each holds, and in words."""
    claims = []
    if scenario.most_false is not None:
        histories = figures.by_history["alarmed"]
        claims.append(
            (
                nights_bound(histories) <= scenario.most_false,
                f"false alarms in at most {scenario.most_false:.0%} of nights: "
                f"{in_words(histories)}",
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
        histories = figures.by_history["green"]
        claims.append(
            (
                nights_bound(histories) <= scenario.most_green,
                f"good in at most {scenario.most_green:.0%} of the nights after it was found: "
                f"{in_words(histories)}",
            )
        )
    if scenario.most_red is not None:
        histories = figures.by_history["red"]
        claims.append(
            (
                nights_bound(histories) <= scenario.most_red,
                f"red in at most {scenario.most_red:.0%} of the nights after it was mended: "
                f"{in_words(histories)}",
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
        text += f"good in {figures.green} of {figures.after} nights after that and unclear in {figures.unclear}, "
    if scenario.mended:
        text += (
            f"red in {figures.red} of {figures.mended} nights after it was mended and unclear in {figures.open}, "
        )
    text += (
        f"false alarms in {figures.alarmed} of {figures.nights} nights "
        f"({figures.alarmed / figures.nights:.2%}), "
        f"{'reruns' if scenario.reruns else 'suspects'} in {figures.suspected / figures.nights:.1%} of nights"
    )
    return text


def run(
    rules: Rules, say: Callable[[str], None], share: float = 1.0,
    scenarios: Sequence[Scenario] = SCENARIOS, seed: int = SEED,
) -> bool:
    """Every scenario; whether all claims hold. `share` of the trials, for a quicker look. Another `seed` draws
    nights that the rules were not made beside."""
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
        figures = simulate(drawn, rules, seed)
        say(describe(drawn, figures))
        for holds, text in check(drawn, figures):
            say(f"  {'holds' if holds else 'DOES NOT HOLD'}: {text}")
            good = good and holds
    say(f"{'every claim holds' if good else 'a claim does not hold'}; "
        f"{time.monotonic() - start:.0f} s")
    return good
