# SPDX-License-Identifier: GPL-2.0-only
"""The plan of a night: a TOML file, checked whole before anything runs."""

import hashlib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from dmabuf_common.drive_guard import Demand

from .errors import NightlyError

CORRECTIONS = ("holm", "bh")
VERSION = 1
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")
LOCAL = "local"

# How a metric's name ends → (unit, better, the relative effect that must be passed).
METRICS = {
    "iops": ("IOPS", "higher", 0.02),
    "bandwidth": ("B/s", "higher", 0.02),
    "clat_p50": ("ns", "lower", 0.03),
    "clat_p90": ("ns", "lower", 0.03),
    "clat_p95": ("ns", "lower", 0.05),
    "clat_p99": ("ns", "lower", 0.05),
    "clat_p99.9": ("ns", "lower", 0.10),
    "cpu_per_gib": ("s/GiB", "lower", 0.05),
}

T = TypeVar("T")


def metric_kind(name: str) -> tuple[str, str, float]:
    """Unit, better and floor of a metric by its name: read_iops is of the kind iops."""
    for kind, known in METRICS.items():
        if name == kind or name in (f"read_{kind}", f"write_{kind}"):
            return known
    raise KeyError(name)


@dataclass(frozen=True)
class Rules:
    """How a night is judged; the defaults are those that `selftest` computes its figures for."""

    alpha: float = 0.05
    correction: str = "holm"
    mad_factor: float = 3.0
    least_runs: int = 5
    history: int = 30
    floors: dict[str, float] = field(default_factory=dict)

    def own(self) -> list[str]:
        """What is not as `selftest` computes its figures for."""
        usual = Rules()
        found = [
            f"{name} {getattr(self, name)} (usual: {getattr(usual, name)})"
            for name in ("alpha", "correction", "mad_factor", "least_runs", "history")
            if getattr(self, name) != getattr(usual, name)
        ]
        return [*found, *(f"floor of {name} {value:g}" for name, value in self.floors.items())]

    def floor(self, metric: str) -> float:
        """The relative effect that a change of this metric must pass, whatever its history."""
        if metric in self.floors:
            return self.floors[metric]
        for kind, floor in self.floors.items():
            if metric.endswith(f"_{kind}"):
                return floor
        return metric_kind(metric)[2]


@dataclass(frozen=True)
class Side:
    """One of the things compared within a night; "" where there is only one."""

    name: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """The drive that the jobs are meant for, and what may be lost on it."""

    serial: str
    wwid: str = ""
    nsid: str = ""
    consent: tuple[str, ...] = ()

    @property
    def demand(self) -> Demand:
        """The same for the guard of drives."""
        return Demand(self.serial, self.wwid, self.nsid)


@dataclass(frozen=True)
class Host:
    """Where fio runs. An address means `fio --server` there; commands tell what fio cannot."""

    name: str = LOCAL
    address: str = ""
    fingerprint: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    folder: str = "/tmp"
    parameters: dict[str, str] = field(default_factory=dict)
    target: Target | None = None


@dataclass(frozen=True)
class Case:
    """A job file with parameters. runtime 0: the job ends by its size, not by time."""

    name: str
    job: Path
    metrics: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    repeats: int = 10
    runtime: float = 30.0
    datapath: str = ""
    memory: str = ""
    route: str = ""
    proof: bool | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A whole plan; `old` and `new` name the sides that are compared within a night."""

    name: str
    text: str
    cases: tuple[Case, ...]
    sides: tuple[Side, ...] = (Side(),)
    hosts: tuple[Host, ...] = (Host(),)
    old: str = ""
    new: str = ""
    rules: Rules = Rules()
    label: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Which text this plan was read from."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def case(self, name: str) -> Case:
        """The case of that name."""
        return _named(self.cases, name, "case")

    def side(self, name: str) -> Side:
        """The side of that name."""
        return _named(self.sides, name, "side")

    def host(self, name: str) -> Host:
        """The host of that name."""
        return _named(self.hosts, name, "host")


def _named(items: Iterable[T], name: str, what: str) -> T:
    known = {getattr(item, "name"): item for item in items}
    if name not in known:
        raise NightlyError(f"the plan has no {what} {name!r}; it has {', '.join(map(repr, known))}")
    return known[name]


class _Table:
    """A TOML table whose keys are taken one by one; what is left over is a mistake."""

    def __init__(self, where: str, table: Any) -> None:
        if not isinstance(table, dict):
            raise NightlyError(f"{where} must be a table, not {table!r}")
        self.where = where
        self.left = dict(table)

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """A value of this type; without a default it must be there."""
        if key not in self.left:
            if default is None:
                raise NightlyError(f"{self.where} has no {key}; add `{key} = …`")
            return default
        value = self.left.pop(key)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise NightlyError(f"{self.where}: {key} must be {kind.__name__}, not {value!r}")
        return value

    def words(self, key: str) -> tuple[str, ...]:
        """A list of strings, or none."""
        value: list[Any] = self.take(key, list, [])
        if not all(isinstance(word, str) for word in value):
            raise NightlyError(f"{self.where}: {key} must be a list of strings, not {value!r}")
        return tuple(value)

    def strings(self, key: str) -> dict[str, str]:
        """A table of strings; numbers are taken as they are written, true as 1."""
        table: dict[str, Any] = self.take(key, dict, {})
        made = {}
        for name, value in table.items():
            if isinstance(value, bool):
                value = int(value)
            if not isinstance(value, (str, int, float)):
                raise NightlyError(f"{self.where}: {key}.{name} must be a string or a number")
            made[name] = str(value)
        return made

    def end(self) -> None:
        """Nothing may be left."""
        if self.left:
            raise NightlyError(
                f"{self.where} has the unknown key {sorted(self.left)[0]!r}; "
                "see docs/nightly.md for those there are"
            )


def shipped_jobs() -> Path:
    """The job files of the checkout, or those that were installed beside the program."""
    here = Path(__file__).resolve()
    checkout = here.parents[2] / "jobs"
    return checkout if checkout.is_dir() else here.parents[1] / "jobs"


def _name(where: str, text: str) -> str:
    if not NAME.match(text):
        raise NightlyError(f"{where}: the name {text!r} must be of letters, digits and _.+-")
    return text


def _rules(table: _Table) -> Rules:
    floors = {}
    for name, value in table.take("floors", dict, {}).items():
        if name not in METRICS:
            try:
                metric_kind(name)
            except KeyError:
                raise NightlyError(f"{table.where}: floors names no metric: {name!r}") from None
        if not isinstance(value, (int, float)) or not 0 <= value < 0.5:
            raise NightlyError(
                f"{table.where}: the floor of {name} must be at least 0 and below 0.5, as 0.02"
            )
        floors[name] = float(value)
    default = Rules()
    rules = Rules(
        table.take("alpha", float, default.alpha),
        table.take("correction", str, default.correction),
        table.take("mad_factor", float, default.mad_factor),
        table.take("least_runs", int, default.least_runs),
        table.take("history", int, default.history),
        floors,
    )
    table.end()
    if not 0 < rules.alpha <= 0.2:
        raise NightlyError(f"{table.where}: alpha must be in 0 … 0.2, not {rules.alpha}")
    if rules.correction not in CORRECTIONS:
        raise NightlyError(f"{table.where}: correction must be one of {', '.join(CORRECTIONS)}")
    if not 0 < rules.mad_factor <= 10:
        raise NightlyError(f"{table.where}: mad_factor must be in 0 … 10, not {rules.mad_factor}")
    if rules.least_runs < 5:
        raise NightlyError(f"{table.where}: least_runs must be at least 5: fewer decide nothing")
    if rules.history < 6:
        raise NightlyError(f"{table.where}: history must be at least 6 nights")
    return rules


def _target(where: str, raw: Any) -> Target:
    table = _Table(where, raw)
    target = Target(
        table.take("serial", str),
        table.take("wwid", str, ""),
        table.take("nsid", str, ""),
        table.words("overwrite_signature"),
    )
    table.end()
    return target


def _host(name: str, table: _Table, target: Target | None) -> Host:
    own = _target(f"{table.where}: target", table.take("target", dict)) if "target" in table.left else None
    host = Host(
        _name(table.where, name),
        table.take("address", str, ""),
        table.words("fingerprint"),
        table.words("report"),
        table.words("remove"),
        table.take("folder", str, "/tmp"),
        table.strings("parameters"),
        own,
    )
    table.end()
    if host.address and own:
        raise NightlyError(
            f"{table.where} has an address and a target: a drive can be held by the machine that it is "
            "in alone, and such a host only reads; run dmabuf-nightly there, or take the target out"
        )
    if not host.address and not own:
        host = replace(host, target=target)
    if host.address and not host.fingerprint:
        raise NightlyError(
            f"{table.where} has an address and no fingerprint: nothing would say which machine it "
            'is; add fingerprint = ["ssh", "HOST", "dmabuf-nightly", "fingerprint", "--target", '
            '"{target}"], or any command that prints such JSON'
        )
    return host


def _case(
    number: int, raw: Any, folder: Path, top: Case, hosts: tuple[str, ...], check_files: bool
) -> Case:
    table = _Table(f"case {number}", raw)
    name = _name(table.where, table.take("name", str))
    table.where = f"case {name}"
    named = table.take("job", str)
    job = folder / named
    if not job.is_file() and (shipped_jobs() / named).is_file():
        job = shipped_jobs() / named
    if check_files and not job.is_file():
        raise NightlyError(f"case {name}: there is no job file {job}")
    proof = table.take("proof", bool) if "proof" in table.left else None
    case = Case(
        name,
        job.resolve(),
        table.words("metrics"),
        table.words("jobs"),
        table.words("hosts") or hosts,
        table.take("repeats", int, top.repeats),
        table.take("runtime", float, top.runtime),
        table.take("datapath", str, ""),
        table.take("memory", str, ""),
        table.take("route", str, ""),
        proof,
        {**top.parameters, **table.strings("parameters")},
        {**top.options, **table.strings("options")},
    )
    table.end()
    for metric in case.metrics:
        try:
            metric_kind(metric)
        except KeyError:
            known = ", ".join(METRICS)
            raise NightlyError(
                f"case {name}: {metric!r} is no metric; there are cpu_per_gib and, after read_ or "
                f"write_, {known}"
            ) from None
    for host in case.hosts:
        if host not in hosts:
            raise NightlyError(f"case {name}: there is no host {host!r} in [hosts]")
    if case.repeats < 1:
        raise NightlyError(f"case {name}: repeats must be positive")
    if case.runtime < 0 or case.runtime != int(case.runtime):
        raise NightlyError(f"case {name}: runtime must be whole seconds, as fio takes them, or 0")
    return case


def parse(text: str, folder: Path, check_files: bool = True) -> Plan:
    """A plan from TOML; job files are relative to `folder`. Raises NightlyError for any mistake.
    check_files: the job files must be there, as they need not for a night of long ago."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NightlyError(f"the plan is no TOML: {error}") from error
    table = _Table("the plan", raw)
    version = table.take("version", int)
    if version != VERSION:
        raise NightlyError(f"the plan has version {version}; this program reads version {VERSION}")
    name = _name("the plan", table.take("name", str))
    top = Case(
        "", Path(),
        repeats=table.take("repeats", int, 10),
        runtime=table.take("runtime", float, 30.0),
        parameters=table.strings("parameters"),
        options=table.strings("options"),
    )
    sides = []
    for side_name, side_raw in table.take("sides", dict, {}).items():
        side = _Table(f"side {side_name}", side_raw)
        sides.append(Side(_name("[sides]", side_name), side.strings("parameters"),
                          side.strings("options")))
        side.end()
    target = _target("[target]", table.take("target", dict)) if "target" in table.left else None
    hosts = tuple(
        _host(host_name, _Table(f"host {host_name}", host_raw), target)
        for host_name, host_raw in table.take("hosts", dict, {}).items()
    ) or (Host(target=target),)
    host_names = tuple(host.name for host in hosts)
    cases = tuple(
        _case(number, case, folder, top, host_names, check_files)
        for number, case in enumerate(table.take("cases", list, []), 1)
    )
    compare = _Table("[compare]", table.take("compare", dict, {}))
    old, new = compare.take("old", str, ""), compare.take("new", str, "")
    compare.end()
    rules = _rules(_Table("[rules]", table.take("rules", dict, {})))
    label = table.words("label")
    table.end()
    plan = Plan(name, text, cases, tuple(sides) or (Side(),), hosts, old, new, rules, label)
    if not cases:
        raise NightlyError("the plan has no case; add a [[cases]] with name and job")
    names = [case.name for case in cases]
    double = next((n for n in names if names.count(n) > 1), None)
    if double:
        raise NightlyError(f"the plan has two cases called {double}; give each its own name")
    if bool(old) != bool(new) or (old and old == new):
        raise NightlyError("[compare] must name two sides, as old = … and new = …")
    if old:
        plan.side(old)
        plan.side(new)
    return plan


def load(path: Path) -> Plan:
    """A plan from a file."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NightlyError(f"the plan {path} cannot be read: {error}") from error
    return parse(text, path.resolve().parent)
