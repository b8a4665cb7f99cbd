#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""First process of the guest's own system: prepares it, runs the command, looks for what was left.

Talks to the host over three virtio-serial ports: lab.ctl carries one JSON object per line in both
directions, lab.out and lab.err carry the command's output unchanged. Needs only the standard library.
"""

import base64
import glob
import json
import os
import signal
import sys
import threading
import time
from typing import Any

# The agent is started with -I; what lies beside it is on the path only so.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import debug_checks  # type: ignore[import]  # noqa: E402

HUNG_TASK_S = 30
# How many times longer things may take on the debug kernel.
DEBUG_PATIENCE = 4
RMMOD_LIMIT_S = 30.0
# The host is told so often that the guest goes on.
BEAT_S = 5.0
DRAIN_LIMIT_S = 5.0
BUFINFO = "/sys/kernel/debug/dma_buf/bufinfo"

# In the order in which they can be removed.
OUR_MODULES = ("dmabuf_rw", "dmabuf_testexp")
BUSYBOX = "/run/lab/busybox"


def write_file(path: str, text: str) -> None:
    """Writes to a file of /proc or /sys."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def open_port(name: str) -> int:
    """Opens the virtio-serial port called `name`, waiting for it to appear."""
    folder = "/sys/class/virtio-ports"
    end = time.monotonic() + 40
    while time.monotonic() < end:
        for entry in os.listdir(folder) if os.path.isdir(folder) else []:
            with open(f"{folder}/{entry}/name", encoding="utf-8") as file:
                if file.read().strip() == name:
                    return os.open(f"/dev/{entry}", os.O_RDWR | os.O_CLOEXEC)
        time.sleep(0.02)
    raise OSError(f"no virtio-serial port {name}")


def write_all(fd: int, data: bytes) -> None:
    """Writes everything, however the device splits it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def spawn(argv: list[str], env: dict[str, str], cwd: str, stdio: list[int]) -> int:
    """Starts a program in a session of its own and returns its pid; exit status 127 if it cannot."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for target, fd in enumerate(stdio):
                os.dup2(fd, target)
            for number in (signal.SIGPIPE, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.chdir(cwd)
            os.execvpe(argv[0], argv, env)
        except OSError as error:
            os.write(2, f"dmabuf-lab: cannot run {argv[0]}: {error.strerror}\n".encode())
        os._exit(127)
    return pid


def wait_for(pid: int, limit_s: float | None) -> int | None:
    """Reaps children until `pid` ends; its status (128 + N for signal N), or None at the limit."""
    end = None if limit_s is None else time.monotonic() + limit_s
    while True:
        reaped, status = os.waitpid(-1, 0 if end is None else os.WNOHANG)
        if reaped == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if reaped == 0:
            if end is not None and time.monotonic() > end:
                return None
            time.sleep(0.01)


def read_kmsg() -> list[str]:
    """Every record still in the kernel's log, oldest first, as "LEVEL TEXT"."""
    records = []
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    while True:
        try:
            record = os.read(fd, 16384).decode("utf-8", "replace")
        except BlockingIOError:
            break
        except BrokenPipeError:
            records.append("4 dmabuf-lab: the kernel's log overran")
            continue
        head, _, text = record.partition(";")
        records.append(f"{int(head.split(',')[0]) & 7} {text.splitlines()[0] if text else ''}")
    os.close(fd)
    return records


def count_buffers(path: str) -> int:
    """The number of dma-bufs that exist, from the kernel's own list; raises OSError if it has none."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            words = line.split()
            # Each buffer also has a line "Total N devices attached".
            if words[:1] == ["Total"] and words[2].startswith("objects"):
                return int(words[1])
    raise OSError(f"{path} has no total")


def no_scheduler() -> None:
    """NVMe drives have none, as Linux gives it to those with several queues. With one CPU they have one, and mq-deadline:
    commands would end one by one then, which no real drive shows."""
    for path in glob.glob("/sys/block/nvme*/queue/scheduler"):
        with open(path, encoding="utf-8") as file:
            other = "[mq-deadline]" in file.read()
        if other:
            write_file(path, "none")


class Pump(threading.Thread):
    """Copies a pipe to a port and counts the bytes."""

    def __init__(self, source: int, port: int) -> None:
        super().__init__(daemon=True)
        self.source, self.port, self.count = source, port, 0

    def run(self) -> None:
        while data := os.read(self.source, 65536):
            write_all(self.port, data)
            self.count += len(data)


class Agent:
    """One run of one command."""

    def __init__(self) -> None:
        with open("/run/lab/spec.json", encoding="utf-8") as file:
            self.spec: dict[str, Any] = json.load(file)
        self.debug = bool(self.spec["debug"])
        self.patience = DEBUG_PATIENCE if self.debug else 1
        self.control = open_port("lab.ctl")
        self.lock = threading.Lock()
        self.acknowledged = threading.Event()

    def send(self, event: str, **fields: Any) -> None:
        """Sends one event to the host."""
        with self.lock:
            write_all(self.control, json.dumps({"event": event, **fields}).encode() + b"\n")

    def listen(self) -> None:
        """Thread: obeys the host's words "dump" (a hang is to be diagnosed) and "ack"."""
        pending = b""
        while data := os.read(self.control, 4096):
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if line == b"ack":
                    self.acknowledged.set()
                elif line == b"dump":
                    before = read_kmsg()
                    self.send("kmsg", records=before)
                    write_file("/proc/sysrq-trigger", "w")
                    self.send("dump", records=read_kmsg()[len(before) :])

    def beat(self) -> None:
        """Thread: gives signs of life, by which the host sees when the guest stood still."""
        while not self.acknowledged.wait(BEAT_S):
            self.send("alive")

    def tool(self, *argv: str, limit_s: float = 60) -> tuple[int | None, str]:
        """Runs a short program; its status (None: did not end in time) and its output."""
        path = "/run/lab/tool.out"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        status = wait_for(spawn(list(argv), self.environment(), "/", [self.null, fd, fd]), limit_s)
        text = os.pread(fd, 65536, 0).decode("utf-8", "replace").strip()
        os.close(fd)
        return status, text

    def environment(self) -> dict[str, str]:
        """The environment of the command: nothing of the host's but TERM."""
        return dict(self.spec["env"])

    def prepare(self) -> list[str]:
        """Settings, devices and our module; returns what went wrong."""
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for name, source in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
            if not os.path.lexists(f"/dev/{name}"):
                os.symlink(f"/proc/self/fd{source}", f"/dev/{name}")
        write_file("/proc/sys/kernel/hung_task_timeout_secs", str(HUNG_TASK_S * self.patience))
        write_file("/proc/sys/kernel/hung_task_warnings", "-1")
        write_file("/proc/sys/kernel/hostname", "lab")
        if self.debug:
            debug_checks.prepare()
        problems = []
        for path in self.spec["devices"]:
            end = time.monotonic() + 20 * self.patience
            while not os.path.exists(path) and time.monotonic() < end:
                time.sleep(0.02)
            if not os.path.exists(path):
                problems.append(f"{path} did not appear")
        no_scheduler()
        if not problems and self.spec["secure_boot"] is not None:
            problems += self.show_firmware()
            if not problems and self.spec["secure_boot"]:
                problems += self.sign_modules(self.spec["secure_boot"])
        if not problems and self.spec["module"]:
            status, text = self.tool(BUSYBOX, "insmod", self.spec["module"])
            if status != 0:
                problems.append(f"cannot load {self.spec['module']}: {text}")
        return problems

    def show_firmware(self) -> list[str]:
        """Shows the firmware's variables, and what Secure Boot makes Linux do; what went wrong."""
        status, text = self.tool(BUSYBOX, "mount", "-t", "efivarfs", "efivarfs", "/sys/firmware/efi/efivars")
        if status != 0:
            return [f"the firmware's variables cannot be seen: {text}"]
        if not os.path.exists("/sys/kernel/security/lockdown"):
            self.tool(BUSYBOX, "mount", "-t", "securityfs", "securityfs", "/sys/kernel/security")
        return []

    def sign_modules(self, secure: dict[str, Any]) -> list[str]:
        """Puts the key where DKMS has it, and signs copies of our modules with it; what went wrong."""
        key, certificate = secure["key_path"], secure["certificate_path"]
        os.makedirs(os.path.dirname(key), exist_ok=True)
        with open(key, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(secure["key"])
        with open(certificate, "wb") as file:
            file.write(base64.b64decode(secure["certificate"]))
        programs = glob.glob("/usr/lib/linux-kbuild-*/scripts/sign-file")
        if not programs:
            return ["there is no program that signs modules"]
        for unsigned, signed in secure["modules"]:
            os.makedirs(os.path.dirname(signed), exist_ok=True)
            status, text = self.tool(programs[0], "sha256", key, certificate, unsigned, signed)
            if status != 0:
                return [f"{unsigned} cannot be signed: {text}"]
        return []

    def command(self) -> None:
        """Runs the command and reports its status and how much output it made."""
        pumps, stdio = [], [self.null]
        for name in ("lab.out", "lab.err"):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            stdio.append(writer)
            pumps.append(Pump(reader, open_port(name)))
        pid = spawn(self.spec["argv"], self.environment(), self.spec["cwd"], stdio)
        for fd in stdio[1:]:
            os.close(fd)
        for pump in pumps:
            pump.start()
        status = wait_for(pid, None)
        left = self.kill_everything()
        # All writers are dead, so the pipes end, unless one of them could not be killed.
        for pump in pumps:
            pump.join(DRAIN_LIMIT_S if left else None)
        self.send(
            "exit",
            status=status,
            out=pumps[0].count,
            err=pumps[1].count,
            stuck=[pump.is_alive() for pump in pumps].count(True),
            left=left,
        )

    def shell(self) -> None:
        """Runs a shell on the second serial line."""
        tty = os.open(self.spec["terminal"], os.O_RDWR | os.O_CLOEXEC)
        argv = ["setsid", "-c", "-w", *self.spec["argv"]]
        status = wait_for(spawn(argv, self.environment(), self.spec["cwd"], [tty] * 3), None)
        self.send("exit", status=status, out=0, err=0, stuck=0, left=self.kill_everything())

    def kill_everything(self) -> list[str]:
        """Kills what the command left running; returns the processes that do not die."""
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return []
        end = time.monotonic() + RMMOD_LIMIT_S * self.patience
        while time.monotonic() < end:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.02)
            except ChildProcessError:
                return []
        names = []
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                    fields = file.read().rpartition(")")
                is_kernel = int(fields[2].split()[6]) & 0x00200000
            except (OSError, ValueError, IndexError):
                continue
            if entry != "1" and not is_kernel:
                names.append(fields[0].replace("(", " ") + " in state " + fields[2].split()[0])
        return names

    def end_checks(self) -> list[str]:
        """What must hold after any command: the module goes away, and no dma-buf is left."""
        problems = []
        with open("/proc/modules", encoding="utf-8") as file:
            loaded = [line.split()[0] for line in file]
        if self.debug:
            kallsyms = debug_checks.read_file("/proc/kallsyms")
            symbols = debug_checks.Symbols(kallsyms, OUR_MODULES)
        limit_s = RMMOD_LIMIT_S * self.patience
        for module in OUR_MODULES:
            if module not in loaded:
                continue
            status, text = self.tool(BUSYBOX, "rmmod", module, limit_s=limit_s)
            if status is None:
                problems.append(f"rmmod {module} did not return within {limit_s:.0f} s")
                write_file("/proc/sysrq-trigger", "w")
            elif status != 0:
                problems.append(f"rmmod {module} failed: {text}")
        end = time.monotonic() + 3 * self.patience
        while (buffers := count_buffers(BUFINFO)) != 0 and time.monotonic() < end:
            time.sleep(0.05)
        if buffers:
            problems.append(f"{buffers} dma-buf(s) left after the command ended ({BUFINFO})")
        if self.debug:
            problems += debug_checks.unbind_drives(self.tool, BUSYBOX)
            self.send("leaks", reports=debug_checks.leaks(symbols))
        if self.spec["lockdep"]:
            problems += debug_checks.lockdep_off(debug_checks.read_file(debug_checks.LOCKDEP))
        if self.spec["kcsan"]:
            problems += debug_checks.kcsan_off(debug_checks.read_file(debug_checks.KCSAN))
        return problems

    def main(self) -> None:
        """Everything, in order; the host ends the guest if this does not."""
        threading.Thread(target=self.listen, daemon=True).start()
        problems = self.prepare()
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.send("ready", problems=problems, release=os.uname().release, uptime_s=uptime)
        threading.Thread(target=self.beat, daemon=True).start()
        if not problems:
            if self.spec["shell"]:
                self.shell()
            else:
                self.command()
            problems = self.end_checks()
            with open("/proc/sys/kernel/tainted", encoding="utf-8") as file:
                tainted = int(file.read())
            self.send("checks", problems=problems, tainted=tainted)
        self.send("kmsg", records=read_kmsg())
        self.send("end")
        self.acknowledged.wait(30)


if __name__ == "__main__":
    try:
        Agent().main()
    except BaseException as failure:  # pid 1: say it on the console, the host reads that
        print(f"lab-agent: {type(failure).__name__}: {failure}", file=sys.stderr, flush=True)
    os.execv(BUSYBOX, ["busybox", "poweroff", "-f"])
