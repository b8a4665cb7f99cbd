# SPDX-License-Identifier: GPL-2.0-only
"""Debian roots with nothing but apt in them, as a machine is right after it was installed.

One of a suite is made once, from the mirrors of the host's apt, and kept in the lab's cache; each test gets a copy. The
packages that tests fetch are kept beside it, so that a second run downloads none.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "scripts"))

from dmabuf_lab import apt, cache, chroot, private_apt  # noqa: E402
from dmabuf_lab import bare as kept_roots  # noqa: E402
from dmabuf_lab.errors import LabError  # noqa: E402

SUITES = ("bookworm", "trixie")
# Where the checkout is in a root: what the lab built is taken over by the same path alone.
SOURCE = str(CHECKOUT)
# Change it with what is done to a root, for those that are kept to be made again.
RECIPE = "1"
# Of the host, for the network.
NETWORK = ("/etc/resolv.conf", "/etc/hosts")


def _sources(suite: str) -> list[str]:
    mirrors = apt.host_mirrors()
    if mirrors.main is None:
        raise LabError("the host's apt names no mirror of Debian")
    security = mirrors.security or f"{mirrors.main}-security"
    return [f"deb {mirrors.main} {name} main" for name in (suite, f"{suite}-updates", f"{suite}-backports")] + [
        f"deb {security} {suite}-security main"
    ]


def _make(suite: str, target: Path) -> None:
    argv = ["setpriv", "--pdeathsig", "KILL"]
    argv += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    argv += ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--format=directory", "--architectures=amd64"]
    settings = (*apt.host_settings(), 'Acquire::Languages "none"')
    argv += [f"--aptopt={setting}" for setting in settings]
    # What mmdebstrap is told is kept in the root; its lists are not, as on a machine that was never updated.
    argv += ["--skip=cleanup/apt/cache", suite, str(target), *_sources(suite)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"mmdebstrap failed with status {done.returncode}: {done.stderr[-2000:]}")
    for name in NETWORK:
        if Path(name).exists():
            place = target / name.lstrip("/")
            place.unlink(missing_ok=True)
            place.touch()


def _pristine(suite: str, base: Path) -> Path:
    """The one that copies are made of; made now if it is not there. base: the folder of all."""
    chroot.need_root()
    text = "\n".join([RECIPE, *_sources(suite)]).encode()
    place = base / f"{suite}-{hashlib.sha256(text).hexdigest()[:12]}"
    with cache.lock(base / f"{suite}.lock", what=f"the bare {suite} root"):
        if not place.exists():
            for stale in base.glob(f"{suite}-*"):
                shutil.rmtree(stale)
            apt.install(("mmdebstrap", "debian-archive-keyring"))
            made = base / f"{suite}-tmp.{os.getpid()}"
            try:
                _make(suite, made)
            except BaseException:
                shutil.rmtree(made, ignore_errors=True)
                raise
            made.rename(place)
    return place


class Bare:
    """A copy of a bare root."""

    def __init__(self, suite: str, path: Path) -> None:
        self.suite, self.path = suite, path

    def inside(self, place: str) -> Path:
        """Where the host sees a path of the root."""
        return self.path / place.lstrip("/")

    def write(self, place: str, text: str) -> None:
        """A program or a file of the root."""
        file = self.inside(place)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def run(
        self, script: str, cwd: str = SOURCE, binds: Sequence[chroot.Bind] = (), env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a shell's lines as root, with the network; stdout and stderr come as one text."""
        network = [chroot.Bind(Path(name).resolve(), name) for name in NETWORK if Path(name).exists()]
        words = ["env", *(f"{key}={value}" for key, value in (env or {}).items())]
        return chroot.run(self.path, [*words, "sh", "-ec", script], read_only=False, cwd=cwd,
                          binds=[*network, *binds])

    def check(self, script: str, cwd: str = SOURCE, binds: Sequence[chroot.Bind] = ()) -> str:
        """Like run(), of lines that must end well."""
        done = self.run(script, cwd, binds)
        assert done.returncode == 0, f"status {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    def packages(self) -> set[str]:
        """What is installed, by name."""
        return set(self.check("dpkg-query -W -f '${Package}\\n'", "/").split())

    def take_checkout(self) -> None:
        """Copies what git knows, as it is now."""
        names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=CHECKOUT,
                               check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (CHECKOUT / name).exists():
                place = self.inside(SOURCE) / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, place, follow_symlinks=False)


def mirror_has(suite: str, package: str, folder: Path) -> bool:
    """Whether the host's mirror has a binary package in a suite."""
    main = apt.host_mirrors().main
    private = private_apt.PrivateApt(folder)
    return bool(main and private.use(main, suite, "deb") and private.show(package))


def _link(source: Path, target: Path) -> None:
    """Has the packages of one folder in another, too. Links: apt would not share a folder with another apt."""
    for package in source.glob("*.deb"):
        try:
            os.link(package, target / package.name)
        except FileExistsError:
            pass


@contextmanager
def bare(suite: str) -> Iterator[Bare]:
    """A copy of a bare root with the checkout in it; gone afterwards."""
    with kept_roots.in_use() as base:
        pristine = _pristine(suite, base)
        for stale in base.glob("copy.*"):
            pid = stale.name.rpartition(".")[2]
            if not Path(f"/proc/{pid}").exists():
                shutil.rmtree(stale, ignore_errors=True)
        kept = base / f"archives.{suite}"
        kept.mkdir(exist_ok=True)
        copy = base / f"copy.{suite}.{os.getpid()}"
        try:
            subprocess.run(["cp", "-a", "--reflink=auto", str(pristine), str(copy)], check=True)
            made = Bare(suite, copy)
            made.take_checkout()
            archives = made.inside("/var/cache/apt/archives")
            _link(kept, archives)
            try:
                yield made
            finally:
                _link(archives, kept)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
