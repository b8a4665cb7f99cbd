# SPDX-License-Identifier: GPL-2.0-only
"""The results of one qualification or one night, as dataclasses.

They mirror docs/schema/results.schema.json, which is the source of truth; `document.py` converts.
Every time is ISO 8601 in UTC, every latency is in ns, every ratio is new / old.
"""

from dataclasses import dataclass, field

from dmabuf_common.verdict import PASS

FORMAT = "libdmabuf-results"
VERSION = 1

# The forms that results are written in; write.py knows how.
FORMATS = ("json", "html", "junit", "ktap", "csv")


@dataclass(frozen=True)
class Tool:
    """The program that made the document."""

    name: str
    version: str


@dataclass(frozen=True)
class Verdict:
    """pass, fail, inconclusive, skip or no-fault, and one sentence that says why."""

    status: str
    text: str


@dataclass(frozen=True)
class Fact:
    """One thing known about the machine. role: `key` (what must be equal for runs to be compared),
    `subject` (what may change, and is what is judged) or `state` (seen, and neither)."""

    name: str
    value: str
    role: str = "state"


@dataclass(frozen=True)
class Evidence:
    """One observation behind a verdict: a value, or a file kept beside the document."""

    name: str
    value: str
    unit: str = ""
    file: str | None = None


@dataclass
class Requirement:
    """One thing that was judged. `text` says why, in one sentence; `remedy` what to try."""

    id: str
    title: str
    status: str
    text: str
    remedy: str = ""
    evidence: list[Evidence] = field(default_factory=list)
    seconds: float = 0.0
    group: str = ""


@dataclass
class Metric:
    """One figure of a measurement. `value` is the median of `samples`, one sample per run;
    better: `higher`, `lower` or `none`."""

    name: str
    unit: str
    better: str
    value: float
    samples: list[float] = field(default_factory=list)
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Percentile:
    """ns is None where too few samples lie beyond it to say."""

    percentile: float
    ns: float | None = None


@dataclass
class Latency:
    """Completion latency of one direction: merged bins, as [ns, count] in ascending order."""

    direction: str
    samples: int
    bins: list[list[float]]
    percentiles: list[Percentile] = field(default_factory=list)


@dataclass
class Proof:
    """How it is known which datapath ran."""

    proven: bool
    text: str


@dataclass(frozen=True)
class Commands:
    """What the module counted over all valid runs: commands that the drive got, for how many reads and
    writes of how many bytes. Where each took one command, all commands were of the block's size."""

    count: int
    requests: int
    bytes: int


@dataclass
class Measurement:
    """What was measured for one case: figures and latencies over all of its valid runs. cpu_percent: how
    much of a CPU the busiest job took; emulated: a hypervisor makes the drive up. None: not known."""

    name: str
    case: str
    datapath: str
    exporter: str = ""
    side: str = ""
    host: str = ""
    status: str = PASS
    text: str = ""
    block_bytes: int | None = None
    depth: int | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    proof: Proof | None = None
    commands: Commands | None = None
    cpu_percent: float | None = None
    emulated: bool | None = None


@dataclass
class Comparison:
    """New against old: ratio of medians, its interval, and what was decided by which rule."""

    case: str
    metric: str
    unit: str
    better: str
    old_name: str
    new_name: str
    old: float
    new: float
    ratio: float
    low: float
    high: float
    floor: float
    p_adjusted: float
    status: str
    state: str
    text: str
    host: str = ""


@dataclass
class Point:
    """One night in a history; `value` is the median of its valid runs."""

    time: str
    value: float
    label: str = ""


@dataclass
class ChangePoint:
    """Where a history changed: `index` is the first point after the change."""

    index: int
    before: float
    after: float
    p: float
    state: str = ""


@dataclass
class History:
    """One metric of one case over time; baseline is a pinned value or None. The datapath and the depth
    are those of the last point."""

    case: str
    metric: str
    unit: str
    better: str
    points: list[Point] = field(default_factory=list)
    change_points: list[ChangePoint] = field(default_factory=list)
    baseline: float | None = None
    host: str = ""
    side: str = ""
    datapath: str = ""
    depth: int | None = None


@dataclass
class Results:
    """The whole document."""

    tool: Tool
    title: str
    started: str
    finished: str
    verdict: Verdict
    comparability_key: str = ""
    environment: list[Fact] = field(default_factory=list)
    requirements: list[Requirement] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    format: str = FORMAT
    version: int = VERSION
