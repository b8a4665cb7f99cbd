#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The measuring program, at a tiny scale: every datapath gives figures, and they can be believed.

Needs --icount and --mdts 9. Standard library only.
"""

import json
import subprocess
import sys
import tempfile

from fio.harness import DEV, Tally, engine, fio

PROGRAM = "/src/build/lab/tests/vm/measure"
REPEATS = 3
PATHS = ("host", "passthrough", "registered", "bvec", "premapped", "bounce")


def measure(plan: list[str]) -> list[list[dict[str, float]]]:
    """The figures of each case; none when the program failed."""
    with tempfile.NamedTemporaryFile("w", suffix=".plan") as file:
        file.write("\n".join(plan) + "\n")
        file.flush()
        done = subprocess.run(
            [PROGRAM, file.name, str(REPEATS)], stdout=subprocess.PIPE, text=True, timeout=100
        )
    figures: list[list[dict[str, float]]] = [[] for _ in plan]
    if done.returncode == 0:
        for line in done.stdout.splitlines():
            record = json.loads(line)
            figures[int(record["case"])].append(record)
    return figures


def check_longest_command(tally: Tally) -> None:
    """The engine finds out by itself how long a command may be, also behind an IOMMU."""
    words = ["--name=t", f"--filename={DEV}", "--direct=1", "--rw=read", "--bs=1m", "--size=8m"]
    run = fio([*words, *engine([], "premapped")])
    commands = [report["module"]["commands"] for report in run.reports]
    tally.same((run.status, commands), (0, [8]), "commands of fio's 8 reads of 1 MiB")


def main() -> int:
    """Exit status 0 only if all checks hold."""
    tally = Tally()
    io = [f"io path={path} memory=scattered bs=4096 depth=8 batches=4" for path in PATHS]
    large = "io path=premapped memory=scattered bs=1048576 depth=8 batches=4 hint=1048576"
    split = "io path=premapped memory=scattered bs=1048576 depth=8 batches=4 hint=131072"
    free = "io path=premapped memory=scattered bs=4096 depth=8 free=1 ios=200"
    fenced = [f"io path=premapped memory={kind} bs=4096 depth=8 batches=4" for kind in ("unfenced", "signalled")]
    maps = [f"map how={how} memory=scattered bytes=8388608 count=1" for how in ("first", "again")]
    plan = [*io, large, split, free, *fenced, *maps]
    figures = measure(plan)
    median = {}
    for line, records in zip(plan, figures, strict=True):
        values = sorted(record["instructions"] for record in records)
        if tally.same(len(values), REPEATS, f"repeats of {line}"):
            median[line] = values[1]
            tally.check(values[0] > 100, f"cost of {line}", f"{values[0]} instructions")
    if len(median) == len(plan):
        cost = {path: median[line] for path, line in zip(PATHS, io, strict=True)}
        tally.check(cost["premapped"] < cost["host"], "premapped costs less", f"{cost}")
        tally.check(median[fenced[1]] < median[fenced[0]] * 1.25, "fences that have signalled cost a look each",
                    f"{median[fenced[0]]} and {median[fenced[1]]}")
        tally.check(cost["bounce"] > cost["host"], "a copy costs more than none", f"{cost}")
        tally.check(median[maps[1]] < median[maps[0]] / 2, "a second MAP is found",
                    f"{median[maps[1]]} and {median[maps[0]]}")
        commands = [figures[plan.index(line)][0].get("commands") for line in (large, split)]
        tally.same(commands, [1, 8], "commands per I/O, by the hint")
    check_longest_command(tally)
    wrong = subprocess.run([PROGRAM, "/dev/null", "1"], capture_output=True)
    tally.check(wrong.returncode != 0, "an empty plan fails")
    return tally.finish("bench_smoke")


if __name__ == "__main__":
    sys.exit(main())
