# SPDX-License-Identifier: GPL-2.0-only
"""The sub-commands `run` and `shell`: build if needed, boot, run, judge."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from dmabuf_common.verdict import EXIT_ERROR

from . import arm64, build, config, guest_kernel, mok_manager, qemu, root, secure_boot, verdict, vm
from .errors import LabError
from .progress import say, step


# Where a guest with Secure Boot has our modules with a signature: the same names as where they are built.
SIGNED = "/run/lab/signed"
SIGNED_BESIDES = ("testexp/dmabuf_testexp.ko", "testmod/dmabuf_hurt.ko")


@dataclass(frozen=True)
class Request:
    """What the user asked for. command: the words of the command; one word is a line for sh. programs: of the test programs
    those that are built, with no engine; none: all."""

    command: list[str]
    kernel: str = config.KERNELS[0].name
    kernel_tree: Path | None = None
    arch: str = "amd64"
    pages: str = "4k"
    incoherent: bool = False
    iommu: str = "lazy"
    smp: int | None = None
    memory_mib: int = config.DEFAULT_MEMORY_MIB
    p2p: bool = False
    switch: bool = False
    icount: bool = False
    icount_shift: int | None = None
    plugin: str = ""
    multipath: bool = True
    mdts: int | None = None
    share: Path | None = None
    root: Path | None = None
    module: bool = True
    build: bool = True
    programs: tuple[str, ...] = ()
    timeout_s: float = config.DEFAULT_TIMEOUT_S
    append: str = ""
    cpu: str | None = None
    qmp: bool = False
    formats: bool = False
    errors: bool = False
    paths: int = 0
    nodes: int = 1
    drive_gib: int = 1
    writes: Path | None = None
    secure_boot: bool = False
    flash: Path | None = None
    mok_password: str | None = None
    topology: bool = False
    kaslr: bool = False
    expect: tuple[str, ...] = ()
    console: bool = False
    log: Path | None = None
    shell: bool = False
    env: list[str] = field(default_factory=list)


def guest_argv(command: list[str]) -> list[str]:
    """What the guest executes: the words as they are, or a single word as a line for its shell."""
    if not command:
        raise LabError("there is no command to run")
    return ["sh", "-c", command[0]] if len(command) == 1 else command


def guest_environment(
    machine: qemu.Machine, ko: str | None, extra: list[str]
) -> dict[str, str]:
    """The environment of a command in the guest; `extra` holds NAME=VALUE words that win."""
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        # The folders there are packages to each other.
        "PYTHONPATH": f"{config.GUEST_SOURCE}/tests/vm",
        "LIBDMABUF": config.ENGINE,
        "ENGINE": f"external:{config.ENGINE}",
        "DEV": "/dev/nvme0n1",
        **qemu.guest_environment(machine),
    }
    if ko is not None:
        environment["DMABUF_RW_KO"] = ko
        environment["DMABUF_TESTEXP_KO"] = f"{ko.rpartition('/')[0]}/testexp/dmabuf_testexp.ko"
    for word in extra:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise LabError(f"--env needs NAME=VALUE, not {word!r}")
        environment[name] = value
    return environment


def _machine(
    request: Request, kernel: guest_kernel.GuestKernel, firmware: qemu.Firmware | None = None
) -> qemu.Machine:
    if request.icount_shift is not None and not request.icount:
        raise LabError("--icount-shift says how long an instruction takes, and needs --icount")
    if request.plugin and request.arch == "arm64":
        raise LabError("--plugin is for guests of amd64")
    if request.switch and not request.p2p:
        raise LabError("--switch says where --p2p has its devices, and needs --p2p")
    if request.topology and (request.p2p or request.paths or request.arch == "arm64"):
        raise LabError("--topology has a BAR and ports of its own, for amd64: not with --p2p, --paths or --arch arm64")
    if request.paths and not request.multipath:
        raise LabError("--paths makes a multipath head, and does not go with --no-multipath")
    if request.arch != "arm64" and request.incoherent:
        raise LabError("--incoherent is for guests of arm64: PCI devices of amd64 are coherent")
    if request.kaslr and not (kernel.stock and kernel.arch == "amd64"):
        raise LabError("--kaslr is for stock kernels of amd64: the image of any other starts itself anyway")
    if request.arch == "arm64" and request.icount:
        raise LabError("--icount is for guests of amd64")
    if request.programs and not request.build:
        raise LabError("--programs names what is built, and does not go with --no-build")
    if request.share is not None and not request.share.is_dir():
        raise LabError(f"--share {request.share}: no such folder")
    if request.root is not None and not (request.root / "usr/bin/python3").exists():
        raise LabError(f"--root {request.root}: a guest needs usr/bin/python3 there")
    return qemu.Machine(
        release=kernel.release,
        debug=kernel.debug,
        arch=kernel.arch,
        incoherent=request.incoherent,
        iommu=request.iommu,
        smp=request.smp or (1 if request.icount else config.DEFAULT_SMP),
        memory_mib=request.memory_mib,
        p2p=request.p2p,
        switch=request.switch,
        icount=request.icount,
        icount_shift=config.DEFAULT_ICOUNT_SHIFT if request.icount_shift is None else request.icount_shift,
        plugin=request.plugin,
        multipath=request.multipath,
        mdts=request.mdts,
        share=request.share.resolve() if request.share else None,
        root=request.root.resolve() if request.root else None,
        append=request.append,
        cpu=request.cpu,
        qmp=request.qmp,
        formats=request.formats,
        errors=request.errors,
        paths=request.paths,
        # The far drive is on the second one.
        nodes=max(request.nodes, 2) if request.topology else request.nodes,
        drive_gib=request.drive_gib,
        writes=request.writes,
        firmware=firmware,
        topology=request.topology,
        kaslr=request.kaslr,
        shell=request.shell,
    )


def _end_on_signals(guest: vm.Guest) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _frame: FrameType | None) -> None:
        # The signal may have come while this thread held the lock that Popen.kill() and wait() take,
        # and another one may come while this runs.
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        with suppress(ProcessLookupError):
            os.kill(guest.process.pid, signal.SIGKILL)
        sys.stderr.write(f"dmabuf-lab: ended by {signal.Signals(number).name}\n")
        os._exit(128 + number)

    for each in numbers:
        signal.signal(each, stop)


def _products(
    request: Request, compilers: root.Root, kernel: guest_kernel.GuestKernel
) -> str | None:
    """Builds what the run needs; the module's path in the guest, None when it runs without."""
    if request.build:
        build.build(compilers, [kernel] if request.module else [], programs=request.programs, arch=kernel.arch)
    if not request.module:
        return None
    path = build.module_path(kernel.release, kernel.arch)
    if not (build.checkout() / path).exists():
        raise LabError(f"there is no {path}; run this without --no-build")
    return f"{config.GUEST_SOURCE}/{build.module_path(kernel.release)}"


@dataclass(frozen=True)
class Place:
    """Where a guest comes from. system: its own root; compilers: what builds for it; emulator: what runs it."""

    kernel: guest_kernel.GuestKernel
    system: Path
    compilers: root.Root
    emulator: Path


def check_kernel(request: Request) -> None:
    """Raises LabError where the kernel that is asked for is one that there cannot be."""
    if request.arch == "amd64" and request.pages not in config.PAGES["amd64"]:
        raise LabError(f"pages of {request.pages} are for arm64: give --arch arm64, too")
    if request.arch == "arm64" and request.kernel_tree is not None:
        raise LabError("--kernel-tree is for amd64")
    if request.secure_boot and request.arch == "arm64":
        raise LabError("--secure-boot is for guests of amd64")
    if request.secure_boot and (request.kernel_tree is not None or request.kernel in config.DEBUG_FLAVOURS):
        raise LabError("--secure-boot boots kernels that Debian signed, and this one was built here")
    if request.flash is not None and not request.secure_boot:
        raise LabError("--flash keeps the variables of the firmware, and needs --secure-boot")
    if request.mok_password is not None and request.flash is None:
        raise LabError("--mok-password is for a key that mokutil --import asked for, and needs the --flash that has it")


@contextmanager
def _place(request: Request, lab: root.Root) -> Iterator[Place]:
    check_kernel(request)
    if request.arch == "arm64":
        series = guest_kernel.arm64_series(request.kernel, request.pages)
        with guest_kernel.fetched_in_use(lab, series) as kernel, arm64.in_use() as made:
            yield Place(kernel, made.guest, made.tools, made.tools.path)
        return
    with guest_kernel.in_use(lab, request.kernel, request.kernel_tree) as kernel:
        yield Place(kernel, lab.path, lab, lab.path)


def firmware_for(
    stack: ExitStack, request: Request, lab: root.Root
) -> tuple[qemu.Firmware | None, secure_boot.Key | None]:
    """With --secure-boot: the firmware, and a key for this run that its variables have enrolled.

    With --flash there is no such key: the variables are in a file that stays, as the user's keys are.
    """
    if not request.secure_boot:
        return None, None
    made = stack.enter_context(secure_boot.in_use())
    if request.flash is not None:
        if not request.flash.exists():
            shutil.copyfile(made.variables, request.flash)
        return made.firmware(flash=request.flash), None
    key = secure_boot.make_key(lab)
    return made.firmware(secure_boot.enrol(made.variables.read_bytes(), key.certificate)), key


def signed_modules(key: secure_boot.Key, ko: str | None) -> tuple[str | None, dict[str, Any]]:
    """Where the guest has the signed module, and what the agent needs to know to sign it and its likes."""
    modules = []
    if ko is not None:
        built = Path(ko).parent
        here = build.checkout() / built.relative_to(config.GUEST_SOURCE)
        for name in (Path(ko).name, *SIGNED_BESIDES):
            if (here / name).is_file():
                modules.append((str(built / name), f"{SIGNED}/{name}"))
        ko = modules[0][1]
    return ko, {**key.spec(), "modules": modules}


def _at_the_screen(guest: vm.Guest, operator: mok_manager.Operator) -> None:
    """Boots a machine as far as MokManager's screen, and goes through that, which resets the machine. No reset: LabError."""
    with step("enrolling the key at MokManager's screen"):
        try:
            outcome = guest.run(config.BOOT_S)
        finally:
            guest.kill()
        missing = operator.missing()
        if outcome.ready:
            raise LabError("MokManager's screen did not appear, and Linux booted: give mokutil --import a key first")
        if missing is not None or outcome.timed_out:
            what = f"{missing!r} was not shown" if missing else "the machine did not reset"
            raise LabError(f"at MokManager's screen {what} within {config.BOOT_S} s; what was:\n{operator.screen()}")


def run(request: Request) -> int:
    """Runs one command in a fresh guest and returns the exit status of `dmabuf-lab run`."""
    argv = guest_argv(request.command)
    lab = root.setup()
    with ExitStack() as stack:
        stack.enter_context(root.in_use(lab))
        place = stack.enter_context(_place(request, lab))
        kernel = place.kernel
        firmware, key = firmware_for(stack, request, lab)
        machine = _machine(request, kernel, firmware)
        ko = _products(request, place.compilers, kernel)
        signed: dict[str, Any] | None = None
        loaded = ko
        if key is not None:
            ko, signed = signed_modules(key, ko)
            loaded = ko
        elif firmware is not None:
            # Whoever enrols a key loads what it signed.
            loaded, signed = None, {}
        spec: dict[str, Any] = {
            "argv": argv,
            "env": {
                "LAB_QEMU": qemu.version(place.emulator, kernel.arch),
                **guest_environment(machine, ko, request.env),
            },
            "cwd": config.GUEST_SOURCE,
            "devices": [path for path in qemu.guest_devices(machine) if path not in kernel.lacks],
            "module": loaded,
            "secure_boot": signed,
            "shell": request.shell,
            "terminal": "/dev/ttyAMA1" if kernel.arch == "arm64" else "/dev/ttyS1",
            "debug": kernel.debug,
            "lockdep": kernel.lockdep,
            "kcsan": kernel.kcsan,
        }
        if "TERM" in os.environ and request.shell:
            spec["env"]["TERM"] = os.environ["TERM"]
        sinks = {"lab.out": 1, "lab.err": 2}
        boot_s = config.DEBUG_BOOT_S if kernel.debug else config.BOOT_S

        def boot(what: dict[str, Any], operator: mok_manager.Operator | None = None) -> vm.Guest:
            guest = vm.Guest(
                place.system,
                kernel,
                build.checkout(),
                machine,
                what,
                sinks,
                2 if request.console else None,
                place.emulator,
                operator.see if operator else None,
            )
            _end_on_signals(guest)
            return guest

        if request.mok_password is not None:
            operator = mok_manager.Operator(request.mok_password)
            _at_the_screen(boot({**spec, "argv": ["true"], "shell": False}, operator), operator)
        for last in (False, True):
            guest = boot(spec)
            try:
                outcome = guest.run(request.timeout_s, None if last else boot_s)
            except BrokenPipeError:
                guest.kill()
                say("the reader of the command's output went away, the guest was killed")
                return EXIT_ERROR
            if last or not verdict.died_booting(outcome):
                break
            how = "hung" if outcome.hung_booting else "died"
            say(f"the guest {how} while it booted, before our modules were loaded: booting once more")
    if request.log is not None:
        write_log(request.log, outcome)
    return report(verdict.judge(outcome, request.timeout_s, request.expect))


def write_log(path: Path, outcome: vm.Outcome) -> None:
    """Writes console and kernel log, whatever the verdict."""
    times = f"# {outcome.release}: ready after {outcome.boot_s:.1f} s, gone after {outcome.wall_s:.1f} s"
    lines = [times, "# console", *outcome.console, "# kernel log (level, text)", *outcome.kmsg]
    if outcome.leaks:
        lines += ["# kmemleak", *outcome.leaks]
    path.write_text("\n".join(lines) + "\n")


def report(result: verdict.Verdict) -> int:
    """Prints why a run failed on stderr; returns the exit status.

    What names the cause comes last: automation shows the end of a failed test's output.
    """
    if result.log:
        say("from the guest's log:")
        for line in result.log:
            print(f"    {line}", file=sys.stderr)
    for line in result.notes:
        say(line)
    for line in result.checks:
        say(f"a check failed: {line}")
    for reason in result.reasons:
        say(reason)
    return result.status
