# SPDX-License-Identifier: GPL-2.0-only
"""fio's own example jobs, with only the engine changed: the same exit status, the same I/Os.

Each is run by fio's io_uring and by this engine (datapath bounce, on the stand-in), both from the same
text, in which sizes, times and devices are made to fit a test.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import environment

# Engines whose jobs io_uring can run, too.
ENGINES = {"io_uring", "libaio", "sync", "psync", "posixaio"}

LEFT_OUT = {
    "1mbs_clients": "reads at 1250 bytes a second, for hours",
    "enospc-pressure": "fills the disk, and trims a file that other jobs verify",
    "surface-scan": "fills the disk",
    "numa": "wants a fio built with libnuma, and two nodes",
    "fsx": "half a million loops are the point of it",
}

# Numbers that are smaller here, by option. A job whose end is that of others (exitwhat) has to last until they have begun:
# fio ends only those that run, and the others of that example would take hours.
MOST = {"size": 2 << 20, "filesize": 2 << 20, "io_size": 1 << 20, "offset_increment": 10 << 20, "zonesize": 128 << 10,
        "zoneskip": 1 << 20, "number_ios": 500, "numjobs": 3, "loops": 2, "thinktime": 2000, "runtime": 1, "timeout": 1,
        "ss_dur": 1, "startdelay": 0, "iodepth": 64, "latency_window": 100_000}

# Where time, and not the job alone, decides how many I/Os there are.
BY_TIME = re.compile(r"^(time_based|randrepeat=0|flow|ss)\b", re.MULTILINE)
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "s": 1}


def examples() -> list[str]:
    """Names of the jobs that could be io_uring's."""
    folder = Path(os.environ.get("FIO_EXAMPLES", "/nonexistent"))
    found = []
    for path in sorted(folder.glob("*.fio")):
        engines = set(re.findall(r"^ioengine=(\S+)", path.read_text(), re.MULTILINE))
        if engines <= ENGINES and "=zbd" not in path.read_text():
            found.append(path.stem)
    return found


def smaller(match: re.Match[str]) -> str:
    """One option, with a number that fits a test."""
    option, number, unit = match.groups()
    value = int(number) * UNITS[unit.lower()] * (60 if option == "runtime" and unit == "m" else 1)
    return f"{option}={min(value, MOST[option])}"


def scaled(text: str, engine: str) -> str:
    """The job for this engine, small, on files in the current folder."""
    text = re.sub(rf"^({'|'.join(MOST)})=(\d+)([kmgs]?)\w*.*$", smaller, text, flags=re.MULTILINE | re.IGNORECASE)
    text = re.sub(r"^filename=/(?!dev/(null|zero)).*$", "filename=disk", text, flags=re.MULTILINE)
    text = re.sub(r"^directory=.*$", "directory=.", text, flags=re.MULTILINE)
    text = re.sub(r"^ss_ramp=.*\n", "", text, flags=re.MULTILINE)
    text, changed = re.subn(r"^ioengine=.*$", f"ioengine={engine}", text, flags=re.MULTILINE)
    if not changed:
        text = re.sub(r"^\[.*\]$", lambda match: f"{match[0]}\nioengine={engine}", text, count=1, flags=re.MULTILINE)
        if "[global]" not in text:
            text = re.sub(r"^(\[.*\])\nioengine=.*$", f"[global]\nioengine={engine}\n\\1", text, flags=re.MULTILINE)
    return text


def run(folder: Path, name: str, engine: str, *options: str, preload: str | None = None) -> tuple[int, Any, str]:
    """Exit status, and by job and direction how many I/Os there were."""
    folder.mkdir()
    with open(folder / "disk", "wb") as disk:
        disk.truncate(4 << 20)
    text = (Path(environment("FIO_EXAMPLES")) / f"{name}.fio").read_text()
    job = folder / "job.fio"
    job.write_text(scaled(text, engine))
    variables = dict(os.environ)
    if os.environ.get("SANITIZER") == "asan":
        asan = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
        preload = f"{asan}:{preload}" if preload else asan
        variables["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1"
    if preload:
        variables["LD_PRELOAD"] = preload
    words = [environment("FIO"), "--output-format=json", "--output=out.json", *options, str(job)]
    done = subprocess.run(words, cwd=folder, env=variables, text=True, capture_output=True, timeout=100, check=False)
    out = (folder / "out.json").read_text() if (folder / "out.json").exists() else ""
    counts = None
    if "\n{\n" in out or out.startswith("{"):
        # fio writes numbers that are none where a job was too short for them.
        document = json.loads(re.sub(r": -?nan\b", ": null", out[out.index("{\n"):]))
        counts = [(job["jobname"], {kind: job[kind]["total_ios"] for kind in ("read", "write", "trim")})
                  for job in document["jobs"]]
    return done.returncode, counts, done.stderr


def test_there_are_examples() -> None:
    names = examples()
    assert len(names) > 20
    assert set(LEFT_OUT) <= set(names), "left out for nothing"


@pytest.mark.parametrize("name", [name for name in examples() if name not in LEFT_OUT])
def test_an_example_runs_as_with_io_uring(tmp_path: Path, name: str) -> None:
    status, wanted, said = run(tmp_path / "theirs", name, "io_uring")
    text = (tmp_path / "theirs" / "job.fio").read_text()
    # The engine's own options come last on the command line only; in the file they are global.
    engine = f"external:{environment('LIBDMABUF')}\ndmabuf_datapath=bounce"
    our_status, counts, our_said = run(tmp_path / "ours", name, engine, preload=environment("STAND_IN"))
    assert our_status == status, f"{said}\n---\n{our_said}"
    if wanted is None:
        # fio does not begin with its engine (offloaded submission); ours refuses by itself, a little later.
        assert status and not any(number for _, kinds in counts or [] for number in kinds.values()), our_said
        return
    assert counts is not None, our_said
    if "exitall" in text:  # which job is cut short is a matter of luck
        return
    if BY_TIME.search(text):
        wanted = [(job, {kind: number > 0 for kind, number in kinds.items()}) for job, kinds in wanted]
        counts = [(job, {kind: number > 0 for kind, number in kinds.items()}) for job, kinds in counts]
    assert counts == wanted
    if status == 0:
        assert any(number for _, kinds in counts for number in kinds.values()), text
        assert "datapath bounce (asked: bounce)" in our_said
