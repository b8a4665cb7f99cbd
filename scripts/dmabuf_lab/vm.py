# SPDX-License-Identifier: GPL-2.0-only
"""Runs one guest: starts QEMU, passes output on as it comes, keeps time, and collects what happened."""

import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import addresses, checks, config, initramfs, qemu
from .errors import LabError
from .guest_kernel import GuestKernel

PR_SET_PDEATHSIG = 1
DUMP_GRACE_S = 8.0
CHUNK = 1 << 16
SELECT_S = 1.0

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Outcome:
    """What is known after the guest is gone. Status None: the command did not end."""

    status: int | None = None
    timed_out: bool = False
    ended: bool = False
    ready: bool = False
    # Not ready when it should have been; it was ended then.
    hung_booting: bool = False
    release: str = ""
    boot_s: float = 0.0
    wall_s: float = 0.0
    tainted: int = 0
    problems: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    kmsg: list[str] = field(default_factory=list)
    # What kmemleak found at the end, one report each.
    leaks: list[str] = field(default_factory=list)
    # What the kernel printed because it was asked to after a time-out: where its tasks are.
    dump: list[str] = field(default_factory=list)
    # Lines of the command's output that show an address of the kernel.
    addresses: list[str] = field(default_factory=list)
    # The longest that the guest gave no sign of life when it was ready, and that this program did not
    # run: emulated CPUs can all wait for a timer that does not come, and machines are suspended.
    silent_s: float = 0.0
    late_s: float = 0.0
    # Its first lines that name a check that failed.
    failed_checks: list[str] = field(default_factory=list)
    qemu_error: str = ""


def _die_with_parent(parent: int) -> Callable[[], None]:
    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _anonymous_file(size: int = 0, data: bytes = b"") -> int:
    """A file without a name, so that nothing is left behind however the process ends."""
    try:
        with tempfile.TemporaryFile(prefix="dmabuf-lab-") as file:
            if data:
                file.write(data)
                file.flush()
            else:
                file.truncate(size)
            fd = os.dup(file.fileno())
    except OSError as error:
        place = tempfile.gettempdir()
        raise LabError(f"{place}: {error.strerror}: what a guest needs is kept there, or in TMPDIR") from error
    os.set_inheritable(fd, True)
    return fd


def _device_tree(emulator: Path, machine: qemu.Machine) -> bytes:
    """That of a machine whose devices are not coherent."""
    with tempfile.TemporaryDirectory(prefix="dmabuf-lab-") as folder:
        file = Path(folder) / "tree"
        result = subprocess.run(
            qemu.dump_tree(emulator, machine, file),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=qemu.environment(emulator, dict(os.environ)),
        )
        if result.returncode != 0 or not file.exists():
            raise LabError(f"QEMU writes no device tree: {result.stderr.decode('utf-8', 'replace').strip()}")
        return qemu.without_coherence(file.read_bytes())


def flash_of(firmware: qemu.Firmware) -> int:
    """What the firmware has as its flash."""
    if firmware.flash is None:
        return _anonymous_file(data=firmware.variables)
    try:
        fd = os.open(firmware.flash, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"--flash {firmware.flash}: {error.strerror}") from error
    os.set_inheritable(fd, True)
    return fd


def _log(path: Path) -> int:
    """An empty file that stays, for Machine.writes."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LabError(f"--writes {path}: {error.strerror}") from error
    os.set_inheritable(fd, True)
    return fd


class Guest:
    """One virtual machine and the channels to it."""

    def __init__(
        self,
        root: Path,
        kernel: GuestKernel,
        checkout: Path,
        machine: qemu.Machine,
        spec: dict[str, Any],
        sinks: dict[str, int],
        live_console: int | None,
        emulator: Path | None = None,
        operator: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """root: that of the guest; emulator: the root that has its QEMU, where that is another; operator: what somebody at the
        console types on what it shows."""
        self.operator = operator
        self.outcome = Outcome()
        self.console = self.outcome.console
        self.dumped = False
        self.sinks = sinks
        self.live_console = live_console
        self.counts = {name: 0 for name in sinks}
        self.output = {name: addresses.Output() for name in sinks}
        self.checks = {name: checks.Failed() for name in sinks}
        self.expected: dict[str, int] = {}
        self.pending = {"lab.ctl": b"", qemu.CONSOLE: b""}
        self.start = time.monotonic()
        self.life = self.start
        self.machine = machine
        self.selector = selectors.DefaultSelector()
        self.channels: dict[str, socket.socket] = {}
        theirs: dict[str, socket.socket] = {}
        for name in (qemu.CONSOLE, *qemu.PORTS):
            self.channels[name], theirs[name] = socket.socketpair()
            self.selector.register(self.channels[name], selectors.EVENT_READ, name)
        qmp = socket.socketpair() if machine.qmp else ()
        emulator = emulator or root
        archive = initramfs.make(
            root, kernel, spec, machine.share is not None, machine.firmware is not None
        )
        boot = None
        if machine.firmware is not None:
            self.boot_disk = tempfile.TemporaryDirectory(prefix="dmabuf-lab-")
            boot = Path(self.boot_disk.name)
            qemu.boot_disk(boot, machine.firmware, kernel.image, archive, qemu.kernel_parameters(machine))
        # Firmware starts the image, whose signature it looks at.
        body = None if machine.firmware or machine.kaslr else kernel.body()
        fds = qemu.Descriptors(
            kernel=None if body is None else _anonymous_file(data=body),
            initrd=_anonymous_file(data=archive),
            nvme=_anonymous_file(size=machine.drive_gib * config.DISK_BYTES),
            virtio=_anonymous_file(size=config.DISK_BYTES),
            channels={name: end.fileno() for name, end in theirs.items()},
            formats=tuple(
                _anonymous_file(size=config.FORMAT_BYTES) for _ in config.FORMATS if machine.formats
            ),
            branches=tuple(
                _anonymous_file(size=config.BRANCH_BYTES) for _ in config.BRANCHES if machine.topology
            ),
            errors=_anonymous_file(size=config.ERRORS_BYTES) if machine.errors else None,
            device_tree=_anonymous_file(data=_device_tree(emulator, machine))
            if machine.incoherent
            else None,
            qmp=tuple(end.fileno() for end in qmp),
            writes=None if machine.writes is None else _log(machine.writes),
            variables=flash_of(machine.firmware) if machine.firmware else None,
            boot=boot,
        )
        self.errors = tempfile.TemporaryFile(prefix="dmabuf-lab-")
        self.process = subprocess.Popen(
            [*qemu.program(emulator, machine.arch), *qemu.arguments(root, kernel, checkout, machine, fds)],
            stdin=None if machine.shell else subprocess.DEVNULL,
            stdout=None if machine.shell else self.errors,
            stderr=self.errors,
            env=qemu.environment(emulator, dict(os.environ)),
            pass_fds=fds.all(),
            preexec_fn=_die_with_parent(os.getpid()),
        )
        for end in (*theirs.values(), *qmp):
            end.close()
        for fd in fds.files():
            os.close(fd)

    def kill(self) -> None:
        """Ends QEMU at once, whatever the guest does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def run(self, timeout_s: float, boot_s: float | None = None) -> Outcome:
        """Serves the guest until it is gone or `timeout_s` seconds passed; then it is gone too.

        With `boot_s` it also has to be ready after so many seconds.
        """
        deadline = self.start + timeout_s
        self.ready_by = self.start + boot_s if boot_s else deadline
        # Ends the guest even if this thread is stuck writing to a full pipe.
        watchdog = threading.Timer(timeout_s + DUMP_GRACE_S + 2, self.process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            self._serve(deadline)
        finally:
            watchdog.cancel()
            self.kill()
        self._drain()
        if not self.outcome.ended:
            self._sign_of_life()
        if self.machine.icount:
            self.outcome.silent_s = 0.0  # its seconds are not ours
        for output in self.output.values():
            output.end()
            self.outcome.addresses += output.found
        for failed in self.checks.values():
            failed.end()
            self.outcome.failed_checks += failed.found
        self.outcome.wall_s = time.monotonic() - self.start
        self.errors.seek(0)
        self.outcome.qemu_error = self.errors.read().decode("utf-8", "replace").strip()
        if self.pending[qemu.CONSOLE]:
            self._console_line(self.pending[qemu.CONSOLE])
        return self.outcome

    def _serve(self, deadline: float) -> None:
        open_channels = len(self.channels)
        asked = False
        before = time.monotonic()
        while open_channels:
            now = time.monotonic()
            self.outcome.late_s = max(self.outcome.late_s, now - before - SELECT_S)
            before = now
            left = deadline - now
            if not self.outcome.ready and left > 0 and time.monotonic() > self.ready_by:
                self.outcome.hung_booting = True
                return
            if left <= 0 and not asked:
                if not self.outcome.ended:
                    self.outcome.timed_out = True
                    self.console = self.outcome.dump
                    self._tell(b"dump\n")
                asked = True
                deadline += DUMP_GRACE_S
                continue
            if left <= 0:
                return
            for key, _ in self.selector.select(min(left, SELECT_S)):
                if not self._receive(key.data):
                    open_channels -= 1
            if self.outcome.timed_out and self.dumped:
                return
            if self.process.poll() is not None:
                return

    def _drain(self) -> None:
        for name, channel in self.channels.items():
            if channel.fileno() >= 0:
                channel.setblocking(False)
            while channel.fileno() >= 0 and self._receive(name):
                pass

    def _receive(self, name: str) -> bool:
        channel = self.channels[name]
        try:
            data = channel.recv(CHUNK)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            self.selector.unregister(channel)
            channel.close()
            return False
        if name in self.sinks:
            self.counts[name] += len(data)
            self.output[name].feed(data)
            self.checks[name].feed(data)
            view = memoryview(data)
            while view:
                view = view[os.write(self.sinks[name], view) :]
        else:
            *lines, self.pending[name] = (self.pending[name] + data).split(b"\n")
            if name == qemu.CONSOLE and self.operator is not None and (typed := self.operator(data)):
                channel.send(typed)
            for line in lines:
                if name == qemu.CONSOLE:
                    self._console_line(line)
                else:
                    self._event(json.loads(line))
        self._acknowledge()
        return True

    def _console_line(self, line: bytes) -> None:
        self.console.append(line.decode("utf-8", "replace").rstrip("\r"))
        if self.live_console is not None:
            os.write(self.live_console, line + b"\n")

    def _event(self, event: dict[str, Any]) -> None:
        outcome = self.outcome
        self._sign_of_life()
        match event["event"]:
            case "alive":
                pass
            case "ready":
                outcome.ready = True
                outcome.release = event["release"]
                outcome.boot_s = time.monotonic() - self.start
                outcome.problems += event["problems"]
            case "exit":
                outcome.status = event["status"]
                self.expected = {"lab.out": event["out"], "lab.err": event["err"]}
                if event["stuck"]:
                    outcome.problems.append("the command's output did not end with it")
                for process in event["left"]:
                    outcome.problems.append(f"process {process} could not be killed")
            case "checks":
                outcome.problems += event["problems"]
                outcome.tainted = event["tainted"]
            case "leaks":
                outcome.leaks = event["reports"]
            case "kmsg":
                outcome.kmsg = event["records"]
            case "dump":
                outcome.dump = [record.partition(" ")[2] for record in event["records"]]
                self.dumped = True
            case "end":
                outcome.ended = True
            case other:
                raise LabError(f"the guest sent an unknown event {other!r}")

    def _sign_of_life(self) -> None:
        now = time.monotonic()
        if self.outcome.ready:
            self.outcome.silent_s = max(self.outcome.silent_s, now - self.life)
        self.life = now

    def _acknowledge(self) -> None:
        if self.outcome.ended and all(
            self.counts.get(name, 0) >= count for name, count in self.expected.items()
        ):
            self.expected = {}
            self._tell(b"ack\n")

    def _tell(self, text: bytes) -> None:
        try:
            self.channels["lab.ctl"].send(text)
        except OSError:
            pass  # the guest is gone; the caller sees that by itself
