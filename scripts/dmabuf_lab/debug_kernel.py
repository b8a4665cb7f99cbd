# SPDX-License-Identifier: GPL-2.0-only
"""Builds the debug kernels, each flavour once per recipe, and says where they are.

A finished kernel is a folder in the cache, debug-kernel-HASH, with

  vmlinuz              the image
  config, System.map   what it was built from, and its symbols
  lib/modules/RELEASE  its modules
  build                what modules are built against
  info.json            what it is; written last

It is built in a folder of its own, debug-kernel-HASH.build, which is kept when a build is interrupted
and goes on where that stopped.
"""

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dmabuf_common import files
from dmabuf_common.clock import now

from . import cache, chroot, config, kernels, linux_source, root
from .errors import LabError
from .progress import say, step

# Raise it when what the build does changes in a way that the fragment does not show.
RECIPE_VERSION = 1
PREFIX = "debug-kernel-"
REPORT_EVERY_S = 60.0

# Where the build folder, or a finished kernel, is mounted in the lab root.
MOUNT = "/share"

# With CONFIG_EXPERT, allnoconfig turns off what every other kernel has (futexes, say): it comes second.
BUILD_SCRIPT = f"""\
set -e
cd {MOUNT}/linux
if [ ! -e .config ]; then
	grep -v '^CONFIG_EXPERT=' {MOUNT}/fragment >{MOUNT}/first
	make -s KCONFIG_ALLCONFIG={MOUNT}/first allnoconfig
	cat {MOUNT}/fragment >>.config
	make -s olddefconfig 2>>{MOUNT}/log
fi
"""

COMPILE_SCRIPT = f"""\
set -e
cd {MOUNT}/linux
nice -n 10 make -j"$1" bzImage modules >>{MOUNT}/log 2>&1
"""

INSTALL_SCRIPT = f"""\
set -e
cd {MOUNT}/linux
rm -rf {MOUNT}/item
mkdir {MOUNT}/item
make -s INSTALL_MOD_PATH={MOUNT}/item INSTALL_MOD_STRIP=1 modules_install
make -s run-command KBUILD_RUN_COMMAND='$(srctree)/scripts/package/install-extmod-build {MOUNT}/item/build'
cp arch/x86/boot/bzImage {MOUNT}/item/vmlinuz
cp System.map {MOUNT}/item/System.map
cp .config {MOUNT}/item/config
rm -f {MOUNT}/item/lib/modules/*/build {MOUNT}/item/lib/modules/*/source
make -s kernelrelease
"""


@dataclass(frozen=True)
class DebugKernel(kernels.KeptKernel):
    """A finished one."""


_SETTING = re.compile(r"^(CONFIG_\w+)=.+$|^# (CONFIG_\w+) is not set$", re.MULTILINE)


def merged(base: str, changes: str) -> str:
    """A fragment with the changes made to it: their settings take the place of its own."""
    named = {match[1] or match[2] for match in _SETTING.finditer(changes)}
    kept = [line for line in base.splitlines() if not _names(line, named)]
    return "\n".join([changes.rstrip("\n"), *kept]) + "\n"


def _names(line: str, named: set[str]) -> bool:
    setting = _SETTING.match(line)
    return setting is not None and (setting[1] or setting[2]) in named


def fragment(flavour: str = config.DEBUG_KERNEL) -> str:
    """The part of the configuration of a debug kernel that is ours."""
    folder = Path(__file__).parent
    base = (folder / "debug-kernel.config").read_text(encoding="utf-8")
    changes = config.DEBUG_FLAVOURS[flavour]
    return base if changes is None else merged(base, (folder / changes).read_text(encoding="utf-8"))


def has(flavour: str, setting: str) -> bool:
    """Whether a debug kernel has a setting ("CONFIG_PROVE_LOCKING") on."""
    return wanted(fragment(flavour))[0].get(setting) == "y"


def wanted(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """The required and the optional settings of a fragment, by name."""
    required, _, optional = text.partition("\n# optional:")
    first, second = (
        dict(re.findall(r"^(CONFIG_\w+)=(.+)$", part, re.MULTILINE)) for part in (required, optional)
    )
    return first, second


def unmet(text: str, result: str) -> list[str]:
    """The settings that a fragment requires and a final .config lacks, as "NAME=wanted"."""
    made, _ = wanted(result)
    required, _ = wanted(text)
    lacking = [f"{name}={value}" for name, value in required.items() if made.get(name) != value]
    off = [match[2] for match in _SETTING.finditer(text) if match[2]]
    return lacking + [f"{name}=n" for name in off if name in made]


def recipe_hash(lab: root.Root, flavour: str) -> str:
    """What decides how a kernel is built, but for the source: the fragment and the compiler."""
    text = json.dumps([RECIPE_VERSION, fragment(flavour), lab.info["packages"].get("gcc-14")])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _item_name(recipe: str, version: str) -> str:
    digest = hashlib.sha256(f"{recipe}|{version}".encode()).hexdigest()[:16]
    return f"{PREFIX}{digest}"


def _load(path: Path) -> DebugKernel | None:
    try:
        return DebugKernel(path, json.loads((path / "info.json").read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _finished() -> list[DebugKernel]:
    """Every finished debug kernel in the cache, oldest first."""
    loaded = (_load(path) for path in cache.folder().glob(f"{PREFIX}*") if "." not in path.name)
    return sorted((kernel for kernel in loaded if kernel), key=lambda k: str(k.info["made"]))


def find(lab: root.Root, flavour: str) -> DebugKernel | None:
    """The newest finished debug kernel of a flavour's current recipe, or None."""
    recipe = recipe_hash(lab, flavour)
    return next((k for k in reversed(_finished()) if k.info["recipe"] == recipe), None)


def need(lab: root.Root, flavour: str) -> DebugKernel:
    """Like find(), but raises LabError that says how to get one."""
    kernel = find(lab, flavour)
    if kernel is None:
        command = f"dmabuf-lab debug-kernel --flavour {flavour}"
        raise LabError(f"the kernel {flavour} is not built; run `{command}` (half an hour)")
    return kernel


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


@contextmanager
def in_use(kernel: DebugKernel) -> Iterator[None]:
    """Keeps `clean` from removing the kernel meanwhile."""
    with cache.lock(_lock_path(kernel.path), shared=True, what="the debug kernel"):
        if not (kernel.path / "info.json").exists():
            raise LabError("the debug kernel was removed meanwhile")
        yield


def _compiled(log: Path) -> int:
    """How many steps of the kernel's build a log shows."""
    try:
        return len(re.findall(rb"^  [A-Z]", log.read_bytes(), re.MULTILINE))
    except FileNotFoundError:
        return 0


@contextmanager
def _reports(log: Path) -> Iterator[None]:
    """Says once a minute how far the build is."""
    start, done = time.monotonic(), threading.Event()

    def report() -> None:
        while not done.wait(REPORT_EVERY_S):
            minutes = (time.monotonic() - start) / 60
            say(f"the debug kernel: {_compiled(log)} steps after {minutes:.0f} minutes")

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _inside(lab: root.Root, work: Path, script: str, what: str, *words: str) -> str:
    bind = chroot.Bind(work, MOUNT, read_only=False)
    try:
        return chroot.check(lab.path, ["sh", "-c", script, "sh", *words], what, binds=[bind])
    except LabError as error:
        log = work / "log"
        if not log.exists():
            raise
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
        found = [line for line in text if re.search(r"error|Error", line)] or text
        raise LabError("\n".join([str(error), *found[-20:], f"all of it is in {log}"])) from None


def _configure(lab: root.Root, work: Path, flavour: str) -> None:
    """Makes the .config of the source that is unpacked in `work`, of what the flavour asks for."""
    (work / "fragment").write_text(fragment(flavour))
    _inside(lab, work, BUILD_SCRIPT, "configuring the debug kernel")
    missing = unmet(fragment(flavour), (work / "linux/.config").read_text())
    if missing:
        (work / "linux/.config").unlink()
        raise LabError(f"this kernel cannot have {', '.join(missing)}")


def _build(lab: root.Root, source: linux_source.LinuxSource, flavour: str, target: Path) -> None:
    """Builds in the kernel's build folder; renames the result to `target` when all is there."""
    work = target.with_name(f"{target.name}.build")
    work.mkdir(exist_ok=True)
    if not (work / "linux").is_dir():
        with step("unpacking Linux's source"):
            linux_source.unpack(source, work / "linux")
    else:
        say("going on with an interrupted build of the debug kernel")
    (work / "log").unlink(missing_ok=True)
    start = time.monotonic()
    _configure(lab, work, flavour)
    with step("building the debug kernel (half an hour on two cores)"), _reports(work / "log"):
        jobs = str(os.cpu_count() or 1)
        _inside(lab, work, COMPILE_SCRIPT, "building the debug kernel", jobs)
    with step("installing the debug kernel"):
        release = _inside(lab, work, INSTALL_SCRIPT, "installing the debug kernel").split()[-1]
    item = work / "item"
    for needed in ("vmlinuz", f"lib/modules/{release}/modules.dep", "build/Module.symvers"):
        if not (item / needed).is_file():
            raise LabError(f"the debug kernel came without {needed}")
    info = {
        "release": release,
        "recipe": recipe_hash(lab, flavour),
        "source": f"{linux_source.PACKAGE} {source.version}",
        "compiler": f"gcc-14 {lab.info['packages'].get('gcc-14')}",
        "made": now(),
        "build_seconds": round(time.monotonic() - start),
    }
    files.write_json(item / "info.json", info)
    item.rename(target)
    shutil.rmtree(work)


def setup(lab: root.Root, flavour: str) -> DebugKernel:
    """The debug kernel of a flavour's current recipe, built now if it is not there.

    Only one build runs at a time. What an interrupted one left is never used but to go on with it.
    """
    kernel = find(lab, flavour)
    if kernel is not None:
        return kernel
    chroot.need_root()
    with cache.lock(cache.folder() / "debug-kernel.lock", what="the build of the debug kernel"):
        kernel = find(lab, flavour)
        if kernel is not None:
            return kernel
        source = linux_source.get()
        target = cache.folder() / _item_name(recipe_hash(lab, flavour), source.version)
        _build(lab, source, flavour, target)
    kernel = _load(target)
    if kernel is None:
        raise LabError("the debug kernel vanished right after it was built")
    return kernel


def remove(lab: root.Root | None, everything: bool) -> list[str]:
    """Removes debug kernels of other recipes and interrupted builds of them, or all.

    Returns those kept because they are in use.
    """
    flavours = config.DEBUG_FLAVOURS if lab and not everything else ()
    found = [find(lab, flavour) for flavour in flavours if lab]
    current = [kernel.path for kernel in found if kernel]
    with files.try_lock(cache.folder() / "debug-kernel.lock") as free:
        if not free:
            return ["the debug kernel that is being built"]
        found_here = cache.folder().glob(f"{PREFIX}*")
        kept = cache.remove_unused(
            (path for path in found_here if everything or path.suffix != ".build"), current, _lock_path
        )
        if everything:
            shutil.rmtree(linux_source.folder(), ignore_errors=True)
    return kept
