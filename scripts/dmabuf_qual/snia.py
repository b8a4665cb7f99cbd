# SPDX-License-Identifier: GPL-2.0-only
"""The tests of SNIA's Solid State Storage Performance Test Specification: which cells a round of each
has, and which of them have to be steady."""

from dataclasses import dataclass

from .cases import BLOCK_BYTES, CONTROL, PTS_DEPTH, Case

# Of the write saturation test: so many times the drive, or so many rounds of a minute.
SATURATION_TIMES = 4
SATURATION_ROUNDS = 24 * 60


@dataclass(frozen=True)
class Rounds:
    """Rounds of one test. tracked: the cells, by mix and size, whose `figure` has to be steady; without
    any, the rounds end otherwise."""

    prefix: str  # what the names of its cases begin with
    test: str  # its name in --tests
    requirement: str
    job: str
    mixes: tuple[int, ...]  # reads in per cent
    sizes: tuple[str, ...]
    depth: int
    tracked: tuple[tuple[int, str], ...]
    figure: str = "iops"
    prepares: bool = True  # the drive is written twice over before the first round

    def mine(self, case: str) -> bool:
        """Whether a case is of these rounds, or their preconditioning."""
        return case.split("/", 1)[0] == self.prefix

    def _sizes(self, block: int) -> list[str]:
        """Those that a drive with this logical block can do."""
        return [size for size in self.sizes if BLOCK_BYTES[size] % block == 0]

    def names(self, block: int) -> set[str]:
        """What the cells of a round are called."""
        return {f"{mix}-{size}" for mix in self.mixes for size in self._sizes(block)}

    def tracked_names(self) -> list[str]:
        """What the tracked cells are called."""
        return [f"{mix}-{size}" for mix, size in self.tracked]

    def cells(self, block: int, number: int) -> list[Case]:
        """The cells of one round."""
        return [
            Case(f"{self.prefix}/round-{number:02}/{mix}-{size}", "pts", self.requirement, CONTROL, "premapped",
                 self.job, self._words(mix, size))
            for mix in self.mixes
            for size in self._sizes(block)
        ]

    def _words(self, mix: int, size: str) -> dict[str, str]:
        if self.job == "pts-throughput":
            return {"RW": "read" if mix else "write", "BS": size, "DEPTH": str(self.depth)}
        return {"READS": str(mix), "BS": size, "DEPTH": str(self.depth)}

    def precondition(self) -> Case:
        """What comes before the first round."""
        return Case(f"{self.prefix}/precondition", "precondition", self.requirement, CONTROL, "premapped",
                    "precondition", {"DEPTH": str(PTS_DEPTH)})


IOPS = Rounds(
    "steady", "iops", "performance.steady", "pts-iops", (100, 95, 65, 50, 35, 5, 0),
    ("1m", "128k", "64k", "32k", "16k", "8k", "4k", "512"), PTS_DEPTH, ((0, "4k"), (65, "64k"), (100, "1m")),
)
# Each size by itself, with its own preconditioning.
THROUGHPUT = tuple(
    Rounds(f"throughput-{size}", "throughput", "performance.throughput", "pts-throughput", (100, 0), (size,),
           PTS_DEPTH, ((100, size), (0, size)), "mib_s")
    for size in ("128k", "1m")
)
LATENCY = Rounds("latency", "latency", "performance.latency", "pts-latency", (100, 65, 0), ("8k", "4k", "512"), 1,
                 ((0, "4k"),), "mean_us")
SATURATION = Rounds("saturation", "saturation", "performance.saturation", "pts-iops", (0,), ("4k",), PTS_DEPTH, (),
                    prepares=False)

# In the order in which they are done: what is to see a fresh drive comes first.
ALL = (SATURATION, IOPS, *THROUGHPUT, LATENCY)
TESTS = ("iops", "throughput", "latency", "saturation")


def of_tests(tests: str) -> list[Rounds]:
    """Of the tests that --tests names."""
    return [rounds for rounds in ALL if rounds.test in tests.split(",")]
