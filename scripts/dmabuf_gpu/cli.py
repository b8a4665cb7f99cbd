# SPDX-License-Identifier: GPL-2.0-only
"""What gpu-check does, and how it ends."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dmabuf_common import files, loader
from dmabuf_common import program as programs
from dmabuf_common.sysfs import System
from dmabuf_common.verdict import EXIT_ERROR, EXIT_FAIL, EXIT_PASS, EXIT_UNDECIDED, FAIL, PASS, SKIP

from . import cuda, jobs, machine
from .tally import Tally, say

FORMAT, VERSION = "libdmabuf-gpu-check", 1
EXPORTERS = ("cuda", "hip", "amdgpu", "xe", "i915")
CALLS_LIMIT_S = 240
EXIT_STATUS = {PASS: EXIT_PASS, FAIL: EXIT_FAIL, SKIP: EXIT_UNDECIDED, "error": EXIT_ERROR}

DESCRIPTION = """\
Tries a GPU of this machine with dma-bufs, without a drive to lose and without the kernel module:
the driver's own calls (CUDA), then fio's jobs with the engine's exporter on datapath bounce, every
byte compared. One JSON on standard output (docs/gpu-check.md) has every call's answer; what goes on
is said on standard error.
"""
EXAMPLES = """\
examples:
  gpu-check --folder /var/tmp > gpu.json
  gpu-check --exporter xe --device /dev/dri/renderD128
  gpu-check --only calls                 # CUDA alone: needs neither fio nor the engine

exit status: 0 all checks hold, 1 one does not, 2 wrong usage, or fio or the engine does not work,
77 there is no such GPU here, or its driver gives none
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="gpu-check", description=DESCRIPTION, epilog=EXAMPLES,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--exporter", choices=EXPORTERS, default="cuda")
    made.add_argument("--device", default="", help="as dmabuf_device (default: the exporter's first)")
    made.add_argument("--engine", type=Path,
                      help="libdmabuf.so, of the same fio version (default: the one that is installed)")
    made.add_argument("--fio", default="fio")
    made.add_argument("--libraries", type=Path, help="folder with libraries that fio or the engine needs")
    made.add_argument("--folder", type=Path, default=Path("/var/tmp"),
                      help="takes files of 1.1 GiB in all, and removes them (default: /var/tmp)")
    made.add_argument("--output", type=Path, help="file for the JSON (default: standard output)")
    made.add_argument("--only", choices=("calls", "jobs"), help="one part alone")
    made.add_argument("--too-much", type=int, default=1024, metavar="GIB",
                      help="more than the GPU has; where the machine itself has more, the refusal is the "
                      "GPU's own (default: 1024)")
    return made


class Ended(Exception):
    """There is nothing more to do: the verdict, and why."""

    def __init__(self, verdict: str, why: str) -> None:
        super().__init__(why)
        self.verdict = verdict


def ask_cuda(device: str) -> dict[str, Any]:
    """The driver's answers, by a program of its own."""
    command = [sys.executable, "-B", "-m", cuda.__name__, device.partition("+")[0]]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parents[1], text=True, capture_output=True,
                              timeout=CALLS_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"calls": [], "broke": f"the driver's calls did not end within {CALLS_LIMIT_S} s"}
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"calls": [], "broke": f"the driver's calls ended with status {done.returncode}: {done.stderr[-500:]}"}
    return said


def judge_calls(tally: Tally, said: dict[str, Any]) -> None:
    """What must hold of the driver's answers."""
    if "broke" in said:
        tally.check(False, "the driver's calls end", said["broke"])
        return
    attributes = said["gpu"]["attributes"]
    for way in said.get("ways", ()):
        name = f"{way['kind']}, {way['mapping']} mapping"
        offered = attributes.get("DMA_BUF_SUPPORTED") == 1
        if way["kind"] == "vmm":
            offered = offered and attributes.get("VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED") == 1 and \
                attributes.get("GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED") == 1
        if way["exported"]:
            tally.same(way["dmabuf"]["size"], cuda.SIZE, f"{name}: the dma-buf's size")
            tally.same(way["copy"], {"bytes": cuda.SIZE, "wrong": 0}, f"{name}: each byte that was copied")
        elif offered and (way["mapping"] == "default" or way["answer"] not in cuda.UNKNOWN):
            tally.check(False, f"{name}: is exported, as the GPU's attributes promise", way["answer"])
        else:
            tally.skip(name, f"the driver has none ({way['answer']})")
    lost = {call["call"] for call in said["calls"] if call["name"] == cuda.NO_FUNCTION}
    for call in sorted(lost & cuda.OPTIONAL):
        tally.skip(f"what {call} does", f"the driver has no {call}")
    needed = ", ".join(sorted(lost - cuda.OPTIONAL))
    tally.check(not needed, "the driver has every call that the exporter needs", f"the driver has no {needed}")


def calls(tally: Tally, chosen: argparse.Namespace, answer: dict[str, Any]) -> None:
    """The first part: the driver by itself."""
    if chosen.exporter != "cuda":
        tally.skip("the driver's own calls", f"made for cuda only; {chosen.exporter}'s are seen by fio's jobs")
        return
    say("asking the CUDA driver")
    said = ask_cuda(chosen.device)
    answer["calls"] = said["calls"]
    answer |= {key: said[key] for key in ("cuda", "gpu", "ways") if key in said}
    if "why" in said:
        raise Ended(SKIP, said["why"])
    if said.get("gpu", {}).get("attributes", {}).get("DMA_BUF_SUPPORTED") == 0:
        raise Ended(SKIP, f"the driver of GPU {said['gpu']['pci']} exports no dma-bufs (DMA_BUF_SUPPORTED is 0); "
                    "NVIDIA's open kernel modules do, on a GPU of 2018 (Turing) or later")
    judge_calls(tally, said)


def run_jobs(tally: Tally, chosen: argparse.Namespace, bench: jobs.Bench, answer: dict[str, Any]) -> None:
    """The second part: fio."""
    answer["fio"] = bench.version()
    host = bench.host()
    if host.status:
        raise Ended("error", f"fio with this engine does not run, whatever the exporter: {host.engine}")
    say(f"fio with exporter {chosen.exporter}")
    first = bench.first()
    # Of CUDA it is known by now that there is a GPU, unless nobody asked.
    if first.status and "gpu" not in answer:
        raise Ended(SKIP, f"exporter {chosen.exporter} gives no memory here: {first.engine}")
    report = jobs.writes(tally, bench)
    if report is not None:
        say(f"GPU {report['device']}")
        jobs.reads(tally, bench)
        jobs.jobs(tally, bench)
    if "ways" in answer:
        jobs.choices(tally, bench, answer["gpu"], answer["ways"])
    jobs.refusals(tally, bench, chosen.too_much)
    if chosen.exporter == "cuda" and report is not None:
        jobs.memory(tally, bench, report["device"])


def program(chosen: argparse.Namespace) -> str:
    """fio's path."""
    found = shutil.which(chosen.fio)
    if not found:
        raise Ended("error", f"there is no fio at {chosen.fio}: install it, give --fio, or use --only calls")
    if chosen.engine is None and (installed := loader.find("libdmabuf.so")):
        chosen.engine = Path(installed)
    if chosen.engine is None:
        raise Ended("error", "no libdmabuf.so is installed: give --engine libdmabuf.so, or use --only calls")
    if not chosen.engine.is_file():
        raise Ended("error", f"there is no engine at {chosen.engine}: give --engine libdmabuf.so, or use --only calls")
    if not chosen.folder.is_dir():
        raise Ended("error", f"--folder {chosen.folder} is not there")
    return str(Path(found).resolve())


def check(chosen: argparse.Namespace, answer: dict[str, Any], tally: Tally) -> str:
    """Both parts; the verdict."""
    fio = program(chosen) if chosen.only != "calls" else ""
    if chosen.only != "jobs":
        calls(tally, chosen, answer)
    if fio:
        with tempfile.TemporaryDirectory(prefix="libdmabuf-gpu-", dir=chosen.folder) as folder:
            libraries = str(chosen.libraries.resolve()) if chosen.libraries else ""
            bench = jobs.Bench(fio, chosen.engine.resolve(), chosen.exporter, chosen.device, Path(folder), libraries,
                               answer["jobs"])
            run_jobs(tally, chosen, bench, answer)
    if tally.wrong:
        return FAIL
    return PASS if tally.right else SKIP


def work(chosen: argparse.Namespace) -> int:
    """Checks, and gives the answer; the exit status."""
    tally = Tally()
    answer: dict[str, Any] = {"format": FORMAT, "version": VERSION, "verdict": "error", "why": "it was ended midway",
                              "exporter": chosen.exporter, "device": chosen.device,
                              "machine": machine.facts(System()), "calls": [], "jobs": [],
                              "checks": tally.words}
    if chosen.output:
        # Before minutes of work: what cannot be written ends it now.
        files.write_text(chosen.output, json.dumps(answer, indent=1) + "\n")
    try:
        answer["why"] = ""
        answer["verdict"] = check(chosen, answer, tally)
    except Ended as ended:
        answer["verdict"] = FAIL if tally.wrong else ended.verdict
        answer["why"] = str(ended)
        say(str(ended))
    except (OSError, subprocess.SubprocessError) as error:
        answer["verdict"], answer["why"] = "error", f"it could not go on: {error}"
        say(answer["why"])
    answer["checks"] = tally.words
    text = json.dumps(answer, indent=1) + "\n"
    if chosen.output:
        files.write_text(chosen.output, text)
    else:
        sys.stdout.write(text)
        sys.stdout.flush()
    say(f"{answer['verdict']}: {tally.right} checks hold, {len(tally.wrong)} do not, "
        f"{len(tally.skipped)} were not looked at")
    return EXIT_STATUS[answer["verdict"]]


def main(argv: list[str]) -> int:
    """The program."""
    chosen = parser().parse_args(argv)
    return programs.run(lambda: work(chosen), say, ())
