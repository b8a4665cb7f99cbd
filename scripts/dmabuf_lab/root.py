# SPDX-License-Identifier: GPL-2.0-only
"""Makes the lab root, once per recipe, and says what is in it."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmabuf_common import files
from dmabuf_common.clock import now

from . import apt, cache, chroot, config, fio_source, kept, kernels
from .errors import LabError
from .progress import fetching, say, step

# Raise it when what is done to the root changes in a way that the configuration does not show.
RECIPE_VERSION = 1

EXCLUDED_PATHS = (
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
)

INFO = "usr/local/share/dmabuf-lab.json"
# Where a root has a kernel's packages until they are unpacked.
KERNEL = "var/tmp/kernel"
# Under which its packages are kept.
NAME = "root"


def recipe() -> dict[str, Any]:
    """Everything that decides what the root contains, but not where it comes from."""
    return {
        "version": RECIPE_VERSION,
        "suites": [config.SUITE, config.UPDATES, config.BACKPORTS, config.SECURITY],
        "kernels": [{"name": k.name, "suite": k.suite} for k in config.SETUP_KERNELS],
        "fio": config.FIO_VERSION,
        "packages": list(config.PACKAGES),
        "excluded": list(EXCLUDED_PATHS),
    }


def recipe_hash(data: dict[str, Any]) -> str:
    """A short name for a recipe; equal recipes have equal names."""
    text = json.dumps(data, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Root:
    """A complete lab root and what was taken into it."""

    path: Path
    info: dict[str, Any]

    def release(self, series: str) -> str:
        """The release of the kernel of a series ("7.3" → "7.3.4+deb13-amd64")."""
        return str(self.info["kernels"][series])


def root_path() -> Path:
    """Where the root of the current recipe is, or will be."""
    return cache.folder() / f"root-{recipe_hash(recipe())}"


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def load() -> Root | None:
    """The root of the current recipe if it is complete."""
    path = root_path()
    try:
        return Root(path, json.loads((path / INFO).read_text()))
    except FileNotFoundError:
        return None


@contextmanager
def in_use(root: Root) -> Iterator[None]:
    """Keeps `clean` from removing the root meanwhile."""
    with cache.lock(_lock_path(root.path), shared=True, what="the lab root"):
        if not (root.path / INFO).exists():
            raise LabError("the lab root was removed meanwhile; run `dmabuf-lab setup` again")
        yield


def _sources(main: str, security: str) -> str:
    lines = [
        f"deb {main} {config.SUITE} main",
        f"deb {main} {config.UPDATES} main",
        f"deb {main} {config.BACKPORTS} main",
        f"deb {security} {config.SECURITY} main",
    ]
    return "".join(line + "\n" for line in lines)


def debootstrap(
    target: Path,
    mirrors: apt.Mirrors,
    settings: list[str],
    packages: Sequence[str],
    *,
    name: str,
    architectures: str = "amd64",
    variant: str = "apt",
) -> set[str]:
    """Makes a Debian root in `target` with what the packages need, by mmdebstrap's variants.

    What is kept of them is not fetched, and what is fetched is kept under a name; both stay in the root's archives.
    Returns the files of the packages that it was made of.
    """
    lent = target.with_name(f"{target.name}.lent")
    shutil.rmtree(lent, ignore_errors=True)
    lent.mkdir(parents=True)
    kept.lend(lent)
    # In namespaces of its own, so that it and all it starts and mounts end with this process.
    argv = ["setpriv", "--pdeathsig", "KILL"]
    argv += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    argv += ["mmdebstrap", "--mode=root", f"--variant={variant}", "--format=directory"]
    argv += [f"--architectures={architectures}", "--components=main", f"--include={','.join(packages)}"]
    argv += [f"--aptopt={setting}" for setting in (*settings, 'Acquire::Languages "none"')]
    argv += ["--aptopt=APT::Install-Recommends false"]
    argv += [f"--dpkgopt={path}" for path in EXCLUDED_PATHS]
    # mmdebstrap takes an empty folder only, and shows it to hooks as $1.
    into = f'"$1"/{kept.ARCHIVES}'
    argv += [f"--setup-hook=mkdir -p {into} && find {shlex.quote(str(lent))} -name '*.deb' -exec ln -t {into} {{}} +"]
    argv += ["--skip=essential/unlink", "--skip=cleanup/apt"]
    # The files that it unpacks itself. Of the variant "extract" these are all, and dpkg knows of none.
    argv += [f'--extract-hook=echo "$MMDEBSTRAP_ESSENTIAL" >{shlex.quote(str(lent))}/unpacked']
    argv += [config.SUITE, str(target)]
    if mirrors.main:
        security = mirrors.security or f"{mirrors.main}-security"
        argv += _sources(mirrors.main, security).splitlines()
    try:
        result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        unpacked = lent / "unpacked"
        used = {Path(word).name for word in unpacked.read_text().split()} if unpacked.exists() else set()
    finally:
        kept.keep(name, target / kept.ARCHIVES)
        shutil.rmtree(lent)
    if result.returncode != 0:
        tail = "\n".join(result.stderr.strip().splitlines()[-15:])
        raise apt.failure(result.stderr, f"mmdebstrap failed with status {result.returncode}:\n{tail}")
    return used | kept.installed(target)


def network_folders(target: Path) -> list[Path]:
    """Where a root has what comes by the network."""
    return [target / kept.ARCHIVES, target / kept.LISTS, target / KERNEL]


def _mirror_of(target: Path) -> str | None:
    """The archive that a root was made from, by its sources."""
    try:
        text = (target / "etc/apt/sources.list").read_text()
    except FileNotFoundError:
        return None
    match = re.search(rf"^deb (\S+) {config.SUITE} ", text, re.MULTILINE)
    return match[1] if match else None


def debian_mirror() -> str | None:
    """The host's mirror of Debian's archive, or the one that the lab root was made from."""
    return apt.host_mirrors().main or _mirror_of(root_path())


def _fetch(target: Path, command: list[str], what: str, network: list[chroot.Bind], cwd: str = "/") -> str:
    """A command in the root that may need the network; what it printed."""
    try:
        return chroot.check(target, command, what, read_only=False, binds=network, cwd=cwd)
    except LabError as error:
        raise apt.failure(str(error), str(error)) from error


def _kernel(target: Path, series: config.KernelSeries, network: list[chroot.Bind]) -> tuple[str, set[str]]:
    """Installs the newest kernel of a series with headers, without its boot-time hooks.

    Returns its release, and the files of the packages that dpkg does not know of.
    """
    folder = target / KERNEL

    def inside(command: list[str], what: str, cwd: str = "/") -> str:
        return _fetch(target, command, what, network, cwd)

    names = inside(["apt-cache", "pkgnames", "linux-image-"], "apt-cache").split()
    image = kernels.newest(names, series.version, series.flavour)
    release = kernels.release_of(image)
    headers = f"linux-headers-{release}"
    inside(
        ["apt-get", "-qq", "-y", "-t", series.suite, "install", headers],
        f"installing {headers}",
    )
    depends = inside(["apt-cache", "depends", image], "apt-cache depends")
    packages = sorted({image, *kernels.parts(depends, release)})
    folder.mkdir(exist_ok=True)
    download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root"]
    wanted = kept.uris(inside([*download, "--print-uris", "download", *packages], f"asking for {image}"))
    for package, digest in wanted.items():
        kept.lend_one(package, digest, folder)
    inside([*download, "download", *packages], f"downloading {image}", f"/{KERNEL}")
    kept.keep(NAME, folder)
    script = 'for deb in *.deb; do dpkg-deb -x "$deb" / || exit 1; done; rm -f -- *.deb; depmod "$1"'
    inside(["sh", "-c", script, "sh", release], f"unpacking {image}", f"/{KERNEL}")
    for needed in ("modules.dep", "kernel", "build/Makefile"):
        if not (target / "usr/lib/modules" / release / needed).exists():
            raise LabError(f"the kernel {release} came without {needed}")
    return release, set(wanted)


def _build_fio(target: Path, fetched: Path) -> None:
    source = target / config.FIO_SOURCE.lstrip("/")
    shutil.copytree(fetched, source)
    script = (
        f"./configure --prefix=/usr/local {config.FIO_CONFIGURE} >/dev/null && "
        f"make -j{os.cpu_count() or 1} -s && make -s install"
    )
    chroot.check(
        target, ["sh", "-c", script], "building fio", read_only=False, cwd=config.FIO_SOURCE
    )
    shown = chroot.check(target, ["/usr/local/bin/fio", "--version"], "starting fio").strip()
    if shown != f"fio-{config.FIO_VERSION}":
        raise LabError(f"the fio that was built says {shown}, not fio-{config.FIO_VERSION}")


def _describe(target: Path, releases: dict[str, str], seconds: float) -> dict[str, Any]:
    query = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n"]
    packages = dict(
        line.split() for line in chroot.check(target, query, "dpkg-query").splitlines() if line
    )
    qemu = packages["qemu-system-x86"]
    found = re.match(r"(?:\d+:)?(\d+)\.(\d+)", qemu)
    if found is None or (int(found[1]), int(found[2])) < config.MINIMUM_QEMU:
        raise LabError(f"the lab needs QEMU {config.MINIMUM_QEMU[0]} or newer, the archive has {qemu}")
    return {
        "recipe": recipe_hash(recipe()),
        "kernels": releases,
        "fio": config.FIO_VERSION,
        "qemu": qemu,
        "made": now(),
        "setup_seconds": round(seconds),
        "packages": packages,
    }


def _make(target: Path) -> None:
    start = time.monotonic()
    mirrors = apt.host_mirrors()
    settings = apt.host_settings()
    network = [
        chroot.Bind(Path(path).resolve(), path)
        for path in ("/etc/resolv.conf", "/etc/hosts")
        if Path(path).exists()
    ]
    with fetching(f"making a Debian {config.SUITE} root", *network_folders(target), kept=kept.folder()):
        debootstrap(target, mirrors, settings, config.PACKAGES, name=NAME)
        for bind in network:
            place = target / bind.target.lstrip("/")
            place.unlink(missing_ok=True)
            place.touch()
        mirror = _mirror_of(target)
        if mirror is None:
            raise LabError("mmdebstrap wrote no usable sources into the lab root")
        if not mirrors.main:
            with open(target / "etc/apt/sources.list", "a", encoding="utf-8") as file:
                file.write(f"deb {mirror} {config.BACKPORTS} main\n")
        for name in ("src", "share"):
            (target / name).mkdir()
        # Without a network it would else warn, end with 0, and know of no package.
        update = ["apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update"]
        _fetch(target, update, "apt-get update", network)
    fio = fio_source.get(config.FIO_VERSION, mirror)
    releases, used = {}, set()
    # fio is compiled while kernels are fetched and unpacked; they touch different parts of the root.
    with ThreadPoolExecutor(1) as pool:
        compiled = pool.submit(_build_fio, target, fio)
        for series in config.SETUP_KERNELS:
            # Not all of the target: fio is being built there.
            with fetching(f"installing the newest {series.name} kernel", *network_folders(target), kept=kept.folder()):
                try:
                    releases[series.name], unpacked = _kernel(target, series, network)
                finally:
                    kept.keep(NAME, target / kept.ARCHIVES)
                used |= unpacked
                say(f"the {series.name} kernel is {releases[series.name]}")
        with step(f"building fio {config.FIO_VERSION}"):
            compiled.result()
    kept.settle(NAME, used | kept.installed(target))
    chroot.check(target, ["apt-get", "clean"], "apt-get clean", read_only=False)
    shutil.rmtree(target / kept.LISTS, ignore_errors=True)
    info = _describe(target, releases, time.monotonic() - start)
    place = target / INFO
    place.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(place, info)


def setup() -> Root:
    """The root of the current recipe, made now if it is not there.

    It is made under another name and renamed when complete, so an interrupted set-up is never used;
    what such a one left is removed first. Only one set-up runs at a time.
    """
    root = load()
    if root is not None:
        return root
    chroot.need_root()
    base = cache.folder()
    with cache.lock(base / "setup.lock", what="the set-up"):
        root = load()
        if root is not None:
            return root
        remove_unfinished(base)
        apt.install(config.HOST_PACKAGES)
        target = base / f"{root_path().name}.tmp.{os.getpid()}"
        say(f"setting up the lab in {root_path()} (needs about 3 GB and some minutes)")
        try:
            _make(target)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        target.rename(root_path())
    made = load()
    if made is None:
        raise LabError("the lab root vanished right after it was made")
    return made


def remove_unfinished(base: Path) -> None:
    """Removes what interrupted set-ups left; the caller holds the set-up lock."""
    for path in base.glob("root-*.tmp.*"):
        say(f"removing an unfinished root {path.name}")
        kept.rescue(NAME, path / kept.ARCHIVES)
        shutil.rmtree(path)


def remove(everything: bool) -> list[str]:
    """Removes roots of other recipes, or all; returns those kept because they are in use."""
    base = cache.folder()
    kept = []
    with cache.lock(base / "setup.lock", what="the set-up"):
        remove_unfinished(base)
        for path in sorted(base.glob("root-*")):
            if not path.is_dir() or (path == root_path() and not everything):
                continue
            with files.try_lock(_lock_path(path)) as free:
                if not free:
                    kept.append(str(path))
                    continue
                say(f"removing {path}")
                dying = path.with_name(f"{path.name}.tmp.{os.getpid()}")
                path.rename(dying)
                shutil.rmtree(dying)
                _lock_path(path).unlink(missing_ok=True)
        if everything:
            kept += fio_source.remove()
    return kept


def machine_info() -> dict[str, Any]:
    """What `info` shows: the recipe and, when the root exists, what was taken into it."""
    root = load()
    shown: dict[str, Any] = {"root": str(root_path()), "recipe": recipe_hash(recipe())}
    if root is None:
        return {**shown, "complete": False}
    packages = {k: root.info["packages"].get(k) for k in config.SHOWN_PACKAGES}
    rest = {k: v for k, v in root.info.items() if k != "packages"}
    series = [{"name": k.name, "suite": k.suite} for k in config.SETUP_KERNELS]
    return {**shown, "complete": True, **rest, "packages": packages, "series": series}
