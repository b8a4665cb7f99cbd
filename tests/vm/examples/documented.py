#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs docs/examples in the guest and compares what they write, byte for byte.

usage: documented.py FOLDER    FOLDER has the built C examples; data on $DEV is destroyed
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[3] / "docs/examples"
FRAMES, FRAME_BYTES = 4, 320 * 240 * 2
SENT_BYTES = 1 << 20
DEV = os.environ.get("DEV", "/dev/nvme0n1")
# What drive.c says: an I/O each way of 1 MiB, in the machine's memory.
COUNTED = "reads 1 writes 1 read_bytes 1048576 write_bytes 1048576 memory 1 route 1 segments "


def frame(number: int, size: int) -> bytes:
    """What the examples' device makes, computed another way than there: row by row of 256."""
    rows = (
        bytes((number * 131 + column * 7 + row * (256 * 7 + 3)) % 256 for column in range(256))
        for row in range(-(-size // 256))
    )
    return b"".join(rows)[:size]


def failure(command: list[str], wanted: bytes) -> str | None:
    """What is wrong with the file that the command writes, or None."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        result = subprocess.run([*command, str(output)], check=False, timeout=60)
        if result.returncode != 0:
            return f"exit status {result.returncode}"
        found = output.read_bytes()
    if len(found) != len(wanted):
        return f"{len(found)} bytes instead of {len(wanted)}"
    different = sum(a != b for a, b in zip(found, wanted, strict=True)) if found != wanted else 0
    return f"{different} bytes differ" if different else None


def drive_failure(program: Path) -> str | None:
    """What is wrong with drive.c, or None: what it says, and what is on the drive afterwards."""
    result = subprocess.run([program, DEV], capture_output=True, text=True, check=False, timeout=60)
    if result.returncode != 0:
        return f"exit status {result.returncode}: {result.stderr}"
    if not result.stdout.startswith(COUNTED):
        return f"it said {result.stdout!r}"
    # Its last bytes on the drive are a plain write's; that its own write was there it has compared itself.
    with open(DEV, "rb") as drive:
        found = drive.read(SENT_BYTES)
    return None if found == frame(5, SENT_BYTES) else "other bytes are on the drive"


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    built = Path(sys.argv[1])
    frames = b"".join(frame(number, FRAME_BYTES) for number in range(FRAMES))
    cases = (
        ([str(built / "example_frames")], frames),
        ([sys.executable, "-B", str(SOURCES / "frames.py")], frames),
        ([str(built / "example_send")], frame(9, SENT_BYTES)),
    )
    failed = 0
    for command, wanted in cases:
        wrong = failure(command, wanted)
        print(f"{'FAIL' if wrong else 'ok  '}  {Path(command[-1]).name}{f': {wrong}' if wrong else ''}")
        failed += wrong is not None
    wrong = drive_failure(built / "example_drive")
    print(f"{'FAIL' if wrong else 'ok  '}  example_drive{f': {wrong}' if wrong else ''}")
    failed += wrong is not None
    total = len(cases) + 1
    print(f"{'FAIL' if failed else 'PASS'} examples: {total - failed} of {total}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
