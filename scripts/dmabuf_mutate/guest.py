#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs in a guest: loads one mutated module after the other and runs the tests that should notice.

usage: guest.py FOLDER. FOLDER/plan.json says what to run; a line of FOLDER/events.jsonl says what
happened. The guest is left, for the host to boot a new one, as soon as it cannot be trusted any more.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dmabuf_common import kernel_log  # noqa: E402
from dmabuf_common.kmsg import OVERRAN, KernelLog  # noqa: E402

BUFINFO = Path("/sys/kernel/debug/dma_buf/bufinfo")
RMMOD_S = 20.0
DIE_S = 10.0
DRAIN_S = 3.0
# Exit status: the plan is not done, and the host must boot another guest for the rest.
BOOT_AGAIN = 3


class Broken(Exception):
    """The guest cannot be used any more; the text says why."""


def end_process(process: "subprocess.Popen[bytes]") -> None:
    """Kills a command and what it started; raises Broken if it does not die."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        process.wait(DIE_S)
    except subprocess.TimeoutExpired as error:
        raise Broken("hang: a process cannot be killed") from error


def complaint(log: KernelLog, expected: list[str]) -> str:
    """The first new line by which the kernel complained, "" if there is none. A log that overran
    is none: it says that there was much to say."""
    excused = [re.compile(text) for text in (*expected, OVERRAN)]
    found = kernel_log.examine(log.messages(), excused)
    return found[0].line if found else ""


def tool(*argv: str, limit_s: float = RMMOD_S) -> tuple[int | None, str]:
    """Runs a short program: its status (None: it did not end in time) and its last line."""
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output = process.communicate(timeout=limit_s)[0].decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:
        end_process(process)
        return None, ""
    return process.returncode, output.splitlines()[-1] if output else ""


def loaded() -> list[str]:
    """The names of the loaded modules."""
    lines = Path("/proc/modules").read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines]


def buffers() -> int:
    """How many dma-bufs there are."""
    for line in BUFINFO.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[:1] == ["Total"] and words[2].startswith("objects"):
            return int(words[1])
    raise Broken(f"{BUFINFO} has no total")


class Runner:
    """One guest's share of the plan."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan: dict[str, Any] = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        self.limits: dict[str, float] = {}
        # Whether commands have run here before the first mutant.
        self.measured = False
        self.log = KernelLog()
        if not self.log.readable:
            raise Broken("the kernel's log cannot be read")
        self.buffers = buffers()

    def event(self, **fields: Any) -> None:
        """Adds a line to the events; the host has it even if the guest dies right after."""
        with open(self.folder / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def run(self, command: dict[str, Any], module: str, limit_s: float) -> str:
        """Runs one command; "" if it passed, or how it failed."""
        environment = {**os.environ, "DMABUF_RW_KO": module}
        environment["DMABUF_TESTEXP_KO"] = str(self.plan["testexp"])
        environment["PROGRAMS"] = str(self.plan["programs"])
        output = self.folder / "output"
        with open(output, "wb") as file:
            process = subprocess.Popen(
                ["sh", "-c", command["run"]],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd="/src",
                start_new_session=True,
            )
            try:
                status = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                end_process(process)
                return f"did not end within {limit_s:.0f} s"
            end_process(process)
        if status == 0:
            return ""
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        failures = [line for line in lines if re.match(r"\s*(FAIL|fail)", line)]
        said = (failures or [line for line in lines if line.strip()] or ["no output"])[0]
        return f"status {status}: {said.strip()[:300]}"

    def load(self, module: str) -> str:
        """Loads the module; "" or what insmod said."""
        status, text = tool("insmod", module)
        return "" if status == 0 else f"insmod: {text or 'did not return'}"

    def unload(self) -> str:
        """Removes the modules and looks for what they left; "" or what is wrong, which stays so."""
        for name in ("dmabuf_hurt", "dmabuf_rw", "dmabuf_testexp"):
            if name not in loaded():
                continue
            status, text = tool("rmmod", name)
            if status != 0:
                return f"rmmod {name}: {text or 'did not return'}"
        end = time.monotonic() + DRAIN_S
        while (count := buffers()) > self.buffers and time.monotonic() < end:
            time.sleep(0.05)
        if count > self.buffers:
            return f"{count - self.buffers} dma-buf(s) left"
        return ""

    def round(
        self, module: str, commands: list[dict[str, Any]], limits: dict[str, float]
    ) -> tuple[str, str, bool]:
        """Loads a module, runs commands until one fails, removes it.

        The name of what noticed ("": nothing did), what it said, and whether the guest is still good.
        """
        expected = [text for command in commands for text in command["expect"]]
        failed = ("", "")
        try:
            if said := self.load(module):
                failed = ("insmod", said)
            for command in commands if not failed[0] else []:
                if said := self.run(command, module, limits[command["name"]]):
                    failed = (command["name"], said)
                    break
                if said := complaint(self.log, expected):
                    return "kernel log", f"{command['name']}: {said}", False
            left = self.unload()
        except Broken as error:
            return failed[0] or "hang", failed[1] or str(error), False
        if said := complaint(self.log, expected):
            return "kernel log", said, False
        if left:
            return failed[0] or "unload", failed[1] or left, False
        return (*failed, True)

    def baseline(self) -> bool:
        """Runs every command with the module as it is, and measures how long it takes.

        False: the guest is of no use.
        """
        for command in self.plan["commands"].values():
            name = command["name"]
            if name in self.plan["limits"]:
                self.limits[name] = float(self.plan["limits"][name])
                continue
            self.measured = True
            start = time.monotonic()
            limits = {name: float(command["limit_s"])}
            by, said, good = self.round(self.plan["module"], [command], limits)
            seconds = round(time.monotonic() - start, 1)
            self.event(event="baseline", command=name, seconds=seconds, by=by, said=said)
            if by:
                if not good:
                    return False
                continue
            patience, least = self.plan["patience"], self.plan["least_s"]
            self.limits[name] = max(least, patience * seconds)
        return True

    def job(self, job: dict[str, Any], fresh: bool) -> bool:
        """Tries one mutant; False if the guest cannot be trusted after it."""
        commands = [self.plan["commands"][name] for name in job["commands"]]
        commands = [command for command in commands if command["name"] in self.limits]
        self.event(event="start", id=job["id"], fresh=fresh)
        start = time.monotonic()
        for path, stand_in in job["shown"].items():
            if tool("mount", "--bind", stand_in, path)[0] != 0:
                raise SystemExit(f"{stand_in} cannot be shown at {path}")
        by, said, good = self.round(job["module"], commands, self.limits)
        for path in job["shown"]:
            good = tool("umount", path)[0] == 0 and good
        seconds = round(time.monotonic() - start, 1)
        # A command that fails must pass without the mutant, in this very guest: otherwise the mutant,
        # or one before it, has broken more than itself.
        if by and good and by in self.limits:
            again = [command for command in commands if command["name"] == by]
            good = not self.round(self.plan["module"], again, self.limits)[0]
        good = good and not (by and job["alone"])
        self.event(
            event="end", id=job["id"], by=by, said=said, good=good, fresh=fresh, seconds=seconds
        )
        return good

    def main(self) -> int:
        """Everything; the exit status."""
        if not self.baseline():
            return BOOT_AGAIN
        for number, job in enumerate(self.plan["jobs"]):
            # A command that cannot run twice in one guest is not to be taken for one that notices.
            if not self.job(job, fresh=number == 0 and not self.measured):
                return BOOT_AGAIN
        self.event(event="done")
        return 0


def leave(status: int) -> None:
    """Ends; a guest that is not to be used again is reset at once, whatever it is stuck in."""
    if status == BOOT_AGAIN:
        Path("/proc/sys/kernel/sysrq").write_text("1", encoding="utf-8")
        Path("/proc/sysrq-trigger").write_text("b", encoding="utf-8")
        time.sleep(60)
    sys.exit(status)


if __name__ == "__main__":
    leave(Runner(Path(sys.argv[1])).main())
