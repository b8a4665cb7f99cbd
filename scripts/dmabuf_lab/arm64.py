# SPDX-License-Identifier: GPL-2.0-only
"""What guests of arm64 need besides a kernel: fetched and made once, when one is first asked for.

It is a folder in the cache, arm64-HASH, with

  tools      a root for this machine: cross compilers, libraries to link with, and QEMU
  root       the root of the guests; its packages are unpacked, and nothing of it ran
  info.json  what it is; written last
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmabuf_common import files
from dmabuf_common.clock import now

from . import apt, cache, chroot, config, fio_source, kept, root
from .errors import LabError
from .progress import fetching, say, step

# Raise it when what is made of the packages changes.
RECIPE_VERSION = 1
PREFIX = "arm64-"
# Under which the packages of both roots are kept.
TOOLS, GUEST = "arm64-tools", "arm64-guest"

# In `tools`: where the guests' root is shown while something is installed into it.
MOUNT = "/mnt"
TRIPLET = "aarch64-linux-gnu"
COMPILER = f"{TRIPLET}-gcc-14"
PKG_CONFIG = f"/usr/lib/{TRIPLET}/pkgconfig:/usr/share/pkgconfig"
# What make is given besides for a module.
KBUILD = ("ARCH=arm64", f"CROSS_COMPILE={TRIPLET}-")
# For CMake, in `tools`.
TOOLCHAIN = "/usr/local/share/arm64.cmake"
TOOLCHAIN_TEXT = f"""\
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER {COMPILER})
set(CMAKE_CXX_COMPILER {TRIPLET}-g++-14)
set(CMAKE_LIBRARY_ARCHITECTURE {TRIPLET})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(ENV{{PKG_CONFIG_LIBDIR}} {PKG_CONFIG})
"""


@dataclass(frozen=True)
class Arm64:
    """A complete one."""

    path: Path
    info: dict[str, Any]

    @property
    def tools(self) -> root.Root:
        """The root with the cross compilers and QEMU."""
        return root.Root(self.path / "tools", self.info)

    @property
    def guest(self) -> Path:
        """The root of the guests."""
        return self.path / "root"


def recipe() -> dict[str, Any]:
    """Everything that decides what it contains, but not where that comes from."""
    return {
        "version": RECIPE_VERSION,
        "suites": [config.SUITE, config.UPDATES, config.BACKPORTS, config.SECURITY],
        "fio": [config.FIO_VERSION, config.FIO_CONFIGURE],
        "tools": list(config.ARM64_TOOLS),
        "guest": list(config.ARM64_GUEST),
        "excluded": list(root.EXCLUDED_PATHS),
        "toolchain": TOOLCHAIN_TEXT,
    }


def item_path() -> Path:
    """Where it is in the cache, or will be."""
    return cache.folder() / f"{PREFIX}{root.recipe_hash(recipe())}"


def find() -> Arm64 | None:
    """It, if it was made."""
    path = item_path()
    try:
        return Arm64(path, json.loads((path / "info.json").read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


@contextmanager
def in_use() -> Iterator[Arm64]:
    """It, made now if it is not there; `clean` does not remove it meanwhile."""
    found = get()
    with cache.lock(_lock_path(found.path), shared=True, what="what guests of arm64 need"):
        if not (found.path / "info.json").exists():
            raise LabError("what guests of arm64 need was removed meanwhile; run this again")
        yield found


def _build_fio(tools: Path, guest: Path, fetched: Path) -> None:
    """Builds fio for the guests; its tree stays in `tools`, for the engine to be built with."""
    shutil.copytree(fetched, tools / config.FIO_SOURCE.lstrip("/"))
    script = (
        f"./configure --cc={COMPILER} --cpu=aarch64 --prefix=/usr/local {config.FIO_CONFIGURE} >/dev/null && "
        f"make -j{os.cpu_count() or 1} -s && make -s install DESTDIR={MOUNT}"
    )
    chroot.check(
        tools,
        ["env", f"PKG_CONFIG_LIBDIR={PKG_CONFIG}", "sh", "-c", script],
        "building fio for arm64",
        read_only=False,
        binds=[chroot.Bind(guest, MOUNT, read_only=False)],
        cwd=config.FIO_SOURCE,
    )
    if not (guest / "usr/local/bin/fio").is_file():
        raise LabError("fio was built for arm64 and is not where it was to be installed")


def prepare_tools(tools: Path) -> None:
    """What the packages do not bring: the compiler under the name that kernels call it by, and CMake's file."""
    (tools / f"usr/bin/{TRIPLET}-gcc").symlink_to(COMPILER)
    place = tools / TOOLCHAIN.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(TOOLCHAIN_TEXT)
    for name in ("src", "share"):
        (tools / name).mkdir(exist_ok=True)


def prepare_guest(guest: Path) -> None:
    """What scripts of the packages would have made."""
    for name in ("dev", "proc", "run", "share", "src", "sys", "tmp", "mnt", "root", "var/tmp"):
        (guest / name).mkdir(parents=True, exist_ok=True)
    for name in ("passwd", "group"):
        place = guest / "etc" / name
        if not place.exists():
            shutil.copyfile(guest / f"usr/share/base-passwd/{name}.master", place)


def _make(work: Path, mirrors: apt.Mirrors) -> dict[str, Any]:
    tools, guest = work / "tools", work / "root"
    settings = apt.host_settings()
    with fetching(
        "fetching the cross compilers and the emulator for arm64", *root.network_folders(tools), kept=kept.folder()
    ):
        used = root.debootstrap(
            tools, mirrors, settings, config.ARM64_TOOLS, name=TOOLS, architectures="amd64,arm64", variant="apt"
        )
        kept.settle(TOOLS, used)
        prepare_tools(tools)
    with fetching("fetching the root of arm64 guests", *root.network_folders(guest), kept=kept.folder()):
        used = root.debootstrap(
            guest, mirrors, settings, config.ARM64_GUEST, name=GUEST, architectures="arm64", variant="extract"
        )
        kept.settle(GUEST, used)
        prepare_guest(guest)
    with step(f"building fio {config.FIO_VERSION} for arm64"):
        _build_fio(tools, guest, fio_source.get(config.FIO_VERSION, mirrors.main))
    for path in (tools, guest):
        shutil.rmtree(path / "var/lib/apt/lists", ignore_errors=True)
        shutil.rmtree(path / "var/cache/apt", ignore_errors=True)
    return {"recipe": root.recipe_hash(recipe()), "fio": config.FIO_VERSION, "made": now()}


def get() -> Arm64:
    """It, made now if it is not there, under another name that becomes its own when it is complete."""
    found = find()
    if found is not None:
        return found
    chroot.need_root()
    with cache.lock(cache.folder() / "arm64.lock", what="the making of the root for arm64"):
        found = find()
        if found is not None:
            return found
        mirror = root.debian_mirror()
        if mirror is None:
            raise LabError("no Debian archive is known to fetch what guests of arm64 need from")
        apt.install(config.HOST_PACKAGES)
        target = item_path()
        # What was cut off: making it, and, without its info.json, removing it.
        for stale in (*cache.folder().glob(f"{PREFIX}*.tmp.*"), target):
            for name, place in ((TOOLS, "tools"), (GUEST, "root")):
                kept.rescue(name, stale / place / kept.ARCHIVES)
            shutil.rmtree(stale, ignore_errors=True)
        work = target.with_name(f"{target.name}.tmp.{os.getpid()}")
        work.mkdir()
        say(f"making what guests of arm64 need in {target} (about 2 GB and some minutes, once)")
        try:
            info = _make(work, apt.Mirrors(mirror, apt.host_mirrors().security))
            files.write_json(work / "info.json", info)
            work.rename(target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    found = find()
    if found is None:
        raise LabError("what guests of arm64 need vanished right after it was made")
    return found


def remove(everything: bool) -> list[str]:
    """Removes those of other recipes, or all; returns those kept because they are in use."""
    with files.try_lock(cache.folder() / "arm64.lock") as free:
        if not free:
            return ["what guests of arm64 need, which is being made"]
        keep = () if everything else (item_path(),)
        return cache.remove_unused(cache.folder().glob(f"{PREFIX}*"), keep, _lock_path)
