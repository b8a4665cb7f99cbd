#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Makes go wrong, on purpose, what the fuzzer looks for, and requires that it says so."""

import subprocess
import sys

# What --provoke takes, and how the check begins that must fail.
PROVOKED = {
    "disk": "FAIL  after life 0: the drive at 63 MiB is as it was",
    "buffer": "FAIL  after life 0: the test exporter's buffer is as it was",
    "hang": "FAIL  every call returns",
    "linger": "FAIL  a process whose threads have ended goes",
}


def main() -> int:
    """The program's path is the only argument; 0 if everything was noticed, else 1."""
    missed = 0
    for what, line in PROVOKED.items():
        command = [sys.argv[1], "--avoid-known", "--calls", "20000", "--life", "20000", "--hang", "60"]
        run = subprocess.run([*command, "--provoke", what], capture_output=True, text=True, check=False)
        failures = [said for said in run.stdout.splitlines() if said.startswith("FAIL ")]
        noticed = run.returncode == 1 and any(said.startswith(line) for said in failures)
        print(f"{'PASS' if noticed else 'FAIL'}  {what}: {failures[:1]}", flush=True)
        if not noticed:
            missed += 1
            # What hangs, and where; the table of calls comes after it.
            print(run.stdout[:12000], run.stderr, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
