# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages: what is in them, and their life on a machine with nothing but apt.

They are installed, upgraded, used, removed and purged by apt. DKMS builds the module for a kernel of the suite; a root
runs no kernel of its own, so that the module is found by modprobe, and not loaded.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bare_root
import kernel_of
import packages
import pytest

OLD, NEW = "0.0.9", "0.1.0"
PROGRAMS = ("dmabuf-bench", "dmabuf-guard", "dmabuf-integrity", "dmabuf-nightly", "dmabuf-qual", "gpu-check")
JOB = "--name=t --filename=/tmp/target --size=8m --rw=randrw --verify=crc32c --iodepth=8 --dmabuf_datapath=host"
# Where Debian's packages put nothing.
ODD = re.compile(r"^/(usr/local|opt|home|root|tmp|var)\b")


@pytest.fixture(name="debs", scope="module")
def _debs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of packages, by version."""
    place = tmp_path_factory.mktemp("debs")
    for version in (OLD, NEW):
        packages.build(version, place / version)
    return {version: place / version for version in (OLD, NEW)}


def field(deb: Path, name: str) -> str:
    return subprocess.run(["dpkg-deb", "-f", str(deb), name], check=True, text=True, capture_output=True).stdout.strip()


def deb(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"{name}_*.deb")
    return found


def names_in(file: Path) -> set[str]:
    """The files of a package, folders left out."""
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(file)], check=True, capture_output=True)
    listed = subprocess.run(["tar", "-t"], input=done.stdout, check=True, capture_output=True).stdout.decode()
    return {line.removeprefix(".") for line in listed.splitlines() if not line.endswith("/")}


def test_what_is_in_them(debs: dict[str, Path], tmp_path: Path) -> None:
    files = {name: names_in(deb(debs[NEW], name)) for name in packages.NAMES}
    for name, here in files.items():
        assert {f"/usr/share/doc/{name}/copyright", f"/usr/share/doc/{name}/changelog.gz"} <= here
        assert not [file for file in here if ODD.match(file)], name
        assert not [file for file in here if "__pycache__" in file or "testexp" in file and name != "libdmabuf-doc"]
        assert "Somebody" in field(deb(debs[NEW], name), "Maintainer")
    all_files = [file for here in files.values() for file in here]
    assert len(all_files) == len(set(all_files)), "two packages have one file"
    engine = files["libdmabuf"]
    assert {f"/usr/bin/{name}" for name in PROGRAMS} <= engine
    sections = {name: 8 if name == "dmabuf-guard" else 1 for name in PROGRAMS}
    assert {f"/usr/share/man/man{section}/{name}.{section}.gz" for name, section in sections.items()} <= engine
    assert len([file for file in engine if re.search(r"/libdmabuf/fio-[0-9.]+\.so$", file)]) >= 2
    assert {file for file in files["libdmabuf-rw0"] if file.startswith("/usr/lib/")} == {
        f"/usr/lib/x86_64-linux-gnu/libdmabuf_rw.so.{version}" for version in ("0", NEW)}  # fmt: skip
    assert {"/usr/include/linux/dmabuf_rw.h", "/usr/include/libdmabuf_rw.h",
            "/usr/lib/x86_64-linux-gnu/pkgconfig/libdmabuf_rw.pc"} <= files["libdmabuf-rw-dev"]  # fmt: skip
    source = {file for file in files["dmabuf-rw-dkms"] if file.startswith("/usr/src/")}
    tracked = subprocess.run(["git", "ls-files", "kernel"], cwd=bare_root.CHECKOUT, check=True, text=True,
                             capture_output=True).stdout.split()  # fmt: skip
    wanted = {name for name in tracked if not re.search(r"/(dmabuf_)?test(exp|mod)\b", name)}
    assert {f"/usr/src/dmabuf-rw-{NEW}/{name.removeprefix('kernel/')}" for name in wanted} <= source
    # Nothing knows the checkout that it was built in.
    for name in packages.NAMES:
        place = tmp_path / name
        subprocess.run(["dpkg-deb", "-x", str(deb(debs[NEW], name)), str(place)], check=True)
        found = subprocess.run(["grep", "-rl", str(bare_root.CHECKOUT), str(place)], text=True, capture_output=True)
        assert found.stdout == ""


def test_lintian_has_nothing_to_say(debs: dict[str, Path], suite: str) -> None:
    """What it is told to be silent about is answered in packaging/*.lintian."""
    with bare_root.bare(suite) as bare:
        put(bare, debs)
        bare.check("apt-get -qq update && apt-get -qq -y install --no-install-recommends lintian", "/")
        said = bare.run(f"lintian --allow-root --fail-on none --tag-display-limit 0 /debs/{NEW}/*.deb", "/").stdout
        assert said.strip() == ""


def put(bare: bare_root.Bare, debs: dict[str, Path]) -> None:
    for version, folder in debs.items():
        bare.inside(f"/debs/{version}").mkdir(parents=True)
        for file in folder.glob("*.deb"):
            bare.inside(f"/debs/{version}/{file.name}").write_bytes(file.read_bytes())


@pytest.fixture(name="machine", scope="module")
def _machine(suite: str, debs: dict[str, Path]) -> Iterator[tuple[bare_root.Bare, str]]:
    """A machine with fio and a kernel's headers, and the packages in a folder; the kernel's release."""
    with bare_root.bare(suite) as bare:
        release = kernel_of.pretend(bare)
        put(bare, debs)
        bare.write("/etc/apt/apt.conf.d/99yes", 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n')
        bare.check(f"apt-get -qq update; apt-get -qq install fio kmod linux-headers-{release}", "/")
        # A kernel that is installed has its modules.dep; without one, DKMS takes it for one that is not.
        bare.check(f"depmod {release}", "/")
        yield bare, release


def left(bare: bare_root.Bare) -> list[str]:
    """All files and folders that have to do with this project, but the checkout and the packages."""
    found = bare.check(
        f"find / -xdev \\( -path /proc -o -path /sys -o -path /debs -o -path {bare_root.SOURCE} \\) -prune -o "
        "\\( -iname '*dmabuf*' -o -name 'gpu-check*' -o -path '*/man3/drw_*' \\) -print", "/")  # fmt: skip
    return [name for name in found.split() if "/linux-headers-" not in name and name != "/usr/local/bin/uname"]


def modules(bare: bare_root.Bare, release: str) -> list[str]:
    return [str(path.relative_to(bare.path)) for path in bare.inside(f"/lib/modules/{release}").rglob("dmabuf_rw.ko*")]


def test_their_life(machine: tuple[bare_root.Bare, str]) -> None:
    bare, release = machine
    before = left(bare)

    print(bare.check(f"apt-get install /debs/{OLD}/*.deb", "/")[-3000:])
    assert f"dmabuf-rw/{OLD}, {release}" in bare.check("dkms status", "/")
    assert len(modules(bare, release)) == 1
    assert "insmod" in bare.check("modprobe dmabuf_rw", "/")

    bare.check(f"apt-get install /debs/{NEW}/*.deb", "/")
    status = bare.check("dkms status", "/")
    assert f"dmabuf-rw/{NEW}, {release}" in status and OLD not in status
    assert len(modules(bare, release)) == 1 and "insmod" in bare.check("modprobe dmabuf_rw", "/")
    assert not bare.inside(f"/usr/src/dmabuf-rw-{OLD}").exists()

    # A group with nobody in it has the device, and nothing loads the module unasked.
    assert bare.check("getent group dmabuf", "/").strip().endswith(":")
    loaded = bare.inside("/etc/modules-load.d/dmabuf-rw.conf").read_text().splitlines()
    assert "#dmabuf_rw" in loaded and all(line.startswith("#") for line in loaded)
    assert 'GROUP="dmabuf"' in bare.inside("/usr/lib/udev/rules.d/60-dmabuf-rw.rules").read_text()

    for program in PROGRAMS:
        assert "usage:" in bare.check(f"{program} --help 2>&1", "/").lower(), program
    said = bare.check("dmabuf-nightly run /usr/share/libdmabuf/jobs/plans/basic.toml --dry-run", "/")
    assert ", run " in said
    job(bare)

    bare.check(f"apt-get remove {' '.join(packages.NAMES)}", "/")
    # What the administrator may have changed stays, as with every package, until it is purged.
    assert [name for name in left(bare) if name not in before and "/var/lib/dpkg" not in name] == [
        "/etc/modules-load.d/dmabuf-rw.conf"]  # fmt: skip
    assert modules(bare, release) == []
    # By dpkg: apt does not know those of which nothing is left.
    bare.check(f"dpkg --purge {' '.join(packages.NAMES)}", "/")
    assert [name for name in left(bare) if name not in before] == []
    assert bare.run("getent group dmabuf", "/").returncode != 0


def job(bare: bare_root.Bare) -> None:
    """A job in Debian's fio; or, where the packages have no engine for it, the sentence that says so."""
    fio = bare.check("fio --version", "/").strip()
    done = bare.run(f"fio --ioengine=libdmabuf.so {JOB} --dmabuf_report=/tmp/report && cat /tmp/report", "/")
    if bare.inside(f"/usr/lib/x86_64-linux-gnu/libdmabuf/{fio}.so").exists():
        assert json.loads(done.stdout.splitlines()[-1])["proven"] is True, done.stdout
    else:
        print(f"the packages were built without the source of {fio}")
        assert f"no engine for {fio}: /usr/lib/x86_64-linux-gnu/libdmabuf has fio-" in done.stdout, done.stdout
