# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages: what is in them, and their life on a machine with nothing but apt.

One root builds them by README's words. In another they are installed, upgraded, used, removed and purged by apt, in the
order of the tests here. DKMS builds the module for a kernel of the suite; a root runs no kernel of its own, so that
modprobe finds the module and does not load it. Where the kernel is one of the lab's, the lab boots it with the root, loads
the module there, and reads a drive by README's words.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bare_root
import kernel_of
import packages
import pytest
import readme
from dmabuf_lab import root

OLD, NEW = "0.0.9", "0.1.0"
PROGRAMS = ("dmabuf-bench", "dmabuf-guard", "dmabuf-integrity", "dmabuf-nightly", "dmabuf-qual", "gpu-check")
JOB = "--name=t --filename=/tmp/target --size=8m --rw=randrw --verify=crc32c --iodepth=8 --dmabuf_datapath=host"
# What an administrator enables, and where systemd keeps that.
NIGHT = "dmabuf-nightly@basic.timer"
WANTED = f"/etc/systemd/system/timers.target.wants/{NIGHT}"
# Of a machine under systemd, which is started in namespaces of its own: a night is running, another one failed; then the
# package goes.
UNDER_SYSTEMD = r"""
set -e
mkdir -p /etc/dmabuf-nightly /etc/systemd/system/dmabuf-nightly@.service.d
touch /etc/dmabuf-nightly/basic.toml /etc/dmabuf-nightly/bad.toml
printf '#!/bin/sh\n[ "$1" != bad ] && exec sleep 100000\n' >/night
chmod 755 /night
printf '[Service]\nExecStart=\nExecStart=/night %%i\n' >/etc/systemd/system/dmabuf-nightly@.service.d/night.conf
mount -t cgroup2 none /sys/fs/cgroup
unshare --pid --fork --mount --cgroup --mount-proc sh -c 'mount -t tmpfs tmpfs /run
    container=lab exec /usr/lib/systemd/systemd --unit=basic.target' >/systemd.log 2>&1 &
apart=$!
first() { cat /proc/$apart/task/$apart/children; }
inside() { nsenter -t $(first) -m -p -C "$@"; }
until inside systemctl is-system-running 2>/dev/null | grep -qx 'running\|degraded'; do sleep 1; done
inside systemctl is-active dmabuf-nightly@basic.timer
inside systemctl start --no-block dmabuf-nightly@basic.service
inside systemctl start dmabuf-nightly@bad.service || true
inside systemctl is-failed dmabuf-nightly@bad.service
night=$(inside systemctl show -P MainPID dmabuf-nightly@basic.service)
inside sh -c "kill -0 $night"
inside /var/lib/dpkg/info/libdmabuf.prerm upgrade 9.0 2>&1
inside dpkg --purge libdmabuf
if inside sh -c "kill -0 $night"; then echo "dmabuf-nightly is still running"; fi
inside systemctl list-units --all --no-legend 'dmabuf*'
find /etc/systemd /var/lib/systemd -name 'stamp-dmabuf*' -o -name 'dmabuf*.timer'
kill -KILL $(first)
"""
# Where Debian's packages put nothing.
ODD = re.compile(r"^/(usr/local|opt|home|root|tmp|var)\b")


@pytest.fixture(name="debs", scope="module")
def _debs(suite: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of packages, by version; the new one is made by README's lines alone."""
    place = tmp_path_factory.mktemp(f"debs-{suite}")
    places = {version: place / version for version in (NEW, OLD)}
    with bare_root.bare(suite) as bare:
        packages.build(bare, places)
    return places


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
        assert not [file for file in here if "__pycache__" in file or "testmod" in file]
        assert "Somebody" in field(deb(debs[NEW], name), "Maintainer")
    all_files = [file for here in files.values() for file in here]
    assert len(all_files) == len(set(all_files)), "two packages have one file"
    engine = files["libdmabuf"]
    assert {f"/usr/bin/{name}" for name in PROGRAMS} <= engine
    sections = {name: 8 if name == "dmabuf-guard" else 1 for name in PROGRAMS}
    # A page for each program, and none without one.
    pages = {f"/usr/share/man/man{section}/{name}.{section}.gz" for name, section in sections.items()}
    assert pages == {file for file in engine if re.match(r"/usr/share/man/man[18]/", file)}
    # README's line names the source of one fio.
    assert len([file for file in engine if re.search(r"/libdmabuf/fio-[0-9.]+\.so$", file)]) == 1
    assert {file for file in files["libdmabuf-rw0"] if file.startswith("/usr/lib/")} == {
        f"/usr/lib/x86_64-linux-gnu/libdmabuf_rw.so.{version}" for version in ("0", NEW)}
    assert {"/usr/include/linux/dmabuf_rw.h", "/usr/include/libdmabuf_rw.h",
            "/usr/lib/x86_64-linux-gnu/pkgconfig/libdmabuf_rw.pc"} <= files["libdmabuf-rw-dev"]
    source = {file for file in files["dmabuf-rw-dkms"] if file.startswith("/usr/src/")}
    tracked = subprocess.run(["git", "ls-files", "kernel"], cwd=bare_root.CHECKOUT, check=True, text=True,
                             capture_output=True).stdout.split()
    # What tells an editor how to lay out the sources is of no use to DKMS.
    wanted = {name for name in tracked if not re.search(r"/(dmabuf_)?test(exp|mod)\b|/\.", name)}
    assert {f"/usr/src/dmabuf-rw-{NEW}/{name.removeprefix('kernel/')}" for name in wanted} <= source
    wanted = {name for name in tracked if name.startswith("kernel/testexp/")}
    assert {f"/usr/src/dmabuf-testexp-{NEW}/{name.removeprefix('kernel/')}" for name in wanted} <= source
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
    """A machine with fio and the headers of two kernels, and the packages in a folder; the release that is said to run, the
    lab's if may be. The other one is the newest of the suite itself."""
    with bare_root.bare(suite) as bare:
        lab = root.load()
        wanted = lab.release("7.3") if lab else ""
        release = kernel_of.pretend(bare, wanted)
        put(bare, debs)
        bare.write("/etc/apt/apt.conf.d/99yes", 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n')
        bare.check(f"apt-get -qq update; apt-get -qq install fio kmod systemd linux-headers-{release} linux-headers-amd64", "/")
        # A kernel that is installed has modules of its own, and a list of them; without, DKMS takes it for one that is not.
        # Some headers bring the image.
        modules = bare.inside(f"/lib/modules/{release}/kernel")
        if lab and release == wanted:
            shutil.copytree(lab.path / f"usr/lib/modules/{release}/kernel", modules, dirs_exist_ok=True)
        elif not any(modules.rglob("*.ko*")):
            modules.mkdir(exist_ok=True)
            bare.check(f"echo 'int own;' | gcc -x c -c -o /lib/modules/{release}/kernel/own.ko -", "/")
        bare.check(f"depmod {release}", "/")
        yield bare, release


def left(bare: bare_root.Bare) -> list[str]:
    """All files and folders that have to do with this project, but the checkout and the packages."""
    found = bare.check(
        f"find / -xdev \\( -path /proc -o -path /sys -o -path /debs -o -path {bare_root.SOURCE} \\) -prune -o "
        "\\( -iname '*dmabuf*' -o -name 'gpu-check*' -o -path '*/man3/drw_*' \\) -print", "/")
    return [name for name in found.split() if "/linux-headers-" not in name and name != "/usr/local/bin/uname"]


def modules(bare: bare_root.Bare, release: str) -> list[str]:
    """dmabuf_rw and dmabuf_testexp, where a kernel has them."""
    return [str(path.relative_to(bare.path)) for path in bare.inside(f"/lib/modules/{release}").rglob("dmabuf_*.ko*")]


def other_kernels(bare: bare_root.Bare, release: str) -> list[str]:
    """Those with headers besides."""
    here = bare.inside("/lib/modules").iterdir()
    found = sorted(path.name for path in here if path.name != release and os.path.lexists(path / "build"))
    assert found
    return found


def test_they_are_installed_and_the_module_is_built(machine: tuple[bare_root.Bare, str]) -> None:
    bare, release = machine
    assert left(bare) == [] and modules(bare, release) == []
    assert bare.run("modprobe dmabuf_rw", "/").returncode != 0
    install, modprobe, _ = readme.given()
    print(bare.check(install, f"/debs/{OLD}")[-3000:])
    assert len(left(bare)) > 100
    assert f"dmabuf-rw/{OLD}, {release}" in bare.check("dkms status", "/")
    assert len(modules(bare, release)) == 2
    # Without openssl DKMS signs none, and Secure Boot takes none.
    assert "DKMS" in bare.check(f"modinfo -k {release} -F signer dmabuf_rw", "/")
    for other in other_kernels(bare, release):
        assert len(modules(bare, other)) == 2, other
    assert "insmod" in bare.check(modprobe, "/")
    # What dmabuf-qual makes faults with, which it says to load.
    assert "insmod" in bare.check("modprobe dmabuf_testexp", "/")


def test_a_kernel_that_comes_later_gets_its_module(machine: tuple[bare_root.Bare, str]) -> None:
    """And its package is whole: of Debian 12 that is another 6.1."""
    bare, release = machine
    before = other_kernels(bare, release)
    bare.check("apt-get install linux-headers-rt-amd64", "/")
    later = [kernel for kernel in other_kernels(bare, release) if kernel not in before]
    assert len(later) == 1 and len(modules(bare, later[0])) == 2, later
    assert bare.check("dpkg --audit", "/") == ""


def test_an_upgrade_replaces_all_of_the_version_before(machine: tuple[bare_root.Bare, str]) -> None:
    """By README's words, in the checkout, where the packages were built. What was enabled still is."""
    bare, release = machine
    bare.check(f"systemctl enable {NIGHT}", "/")
    shutil.copytree(bare.inside(f"/debs/{NEW}"), bare.inside(bare_root.SOURCE) / "build/package")
    _, _, install, modprobe, _ = readme.packages()
    bare.check(install)
    status = bare.check("dkms status", "/")
    assert f"dmabuf-rw/{NEW}, {release}" in status and OLD not in status
    assert len(modules(bare, release)) == 2 and "insmod" in bare.check(modprobe)
    assert not bare.inside(f"/usr/src/dmabuf-rw-{OLD}").exists()
    assert [name for name in left(bare) if OLD in name and "/debs" not in name] == []
    assert bare.check(f"systemctl is-enabled {NIGHT}", "/").strip() == "enabled"


def test_nobody_may_use_it_and_nothing_loads_it_unasked(machine: tuple[bare_root.Bare, str]) -> None:
    bare, _ = machine
    assert bare.check("getent group dmabuf", "/").strip().endswith(":")
    loaded = bare.inside("/etc/modules-load.d/dmabuf-rw.conf").read_text().splitlines()
    assert "#dmabuf_rw" in loaded and all(line.startswith("#") for line in loaded)
    assert 'GROUP="dmabuf"' in bare.inside("/usr/lib/udev/rules.d/60-dmabuf-rw.rules").read_text()


def test_its_programs_work(machine: tuple[bare_root.Bare, str]) -> None:
    bare, _ = machine
    for program in PROGRAMS:
        assert "usage:" in bare.check(f"{program} --help 2>&1", "/").lower(), program
    said = bare.check("dmabuf-nightly run /usr/share/libdmabuf/jobs/plans/basic.toml --dry-run", "/")
    assert ", run " in said
    job(bare)


def in_guest(bare: bare_root.Bare, share: Path, line: str) -> subprocess.CompletedProcess[str]:
    """A line for the shell of a guest that is booted with the root, and does not change it; it must end well."""
    done = subprocess.run([str(bare_root.CHECKOUT / "scripts/dmabuf-lab"), "run", "--no-module", "--no-build",
                           "--root", str(bare.path), "--share", str(share), "--", line],
                          text=True, capture_output=True, check=False, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done


def test_the_first_result_is_readmes(machine: tuple[bare_root.Bare, str], tmp_path: Path) -> None:
    """The lab boots its kernel with this root: the module that DKMS built is loaded, and a drive is read."""
    bare, release = machine
    lab = root.load()
    if lab is None or lab.release("7.3") != release:
        pytest.skip(f"the lab has no kernel {release}, for which DKMS built the module in this root")
    _, _, _, modprobe, fio = readme.packages()
    lines = ["rm /usr/local/bin/uname /usr/local/sbin/modprobe", "cd /tmp"]
    if not engine_of(bare, bare.check("fio --version", "/").strip()):
        # The archive does not keep the source of Debian 13's fio: the guest has the lab's, for which there is an engine.
        shutil.copy2(lab.path / "usr/local/bin/fio", bare.inside("/debs/fio"))
        lines.append("mv /debs/fio /usr/local/bin")
    lines += ["modinfo -n dmabuf_rw", modprobe, fio, "cp r.json /share"]
    done = in_guest(bare, tmp_path, " && ".join(lines))
    assert done.stdout.startswith(f"/lib/modules/{release}/updates/dkms/dmabuf_rw.ko"), done.stdout
    assert "proven: the module counted" in done.stderr
    report = json.loads((tmp_path / "r.json").read_text().splitlines()[-1])
    assert report["proven"] is True and report["datapath"] == "premapped", report
    print(done.stderr[-600:])


def test_a_package_that_goes_takes_its_night_from_systemd(machine: tuple[bare_root.Bare, str], tmp_path: Path) -> None:
    bare, _ = machine
    assert bare.inside(WANTED).is_symlink()
    said = in_guest(bare, tmp_path, UNDER_SYSTEMD).stdout.splitlines()
    assert said[:2] == ["active", "failed"]
    # An upgrade in its place.
    assert said[2].startswith("A night of dmabuf-nightly runs")
    # After dpkg's own words systemd knows of none, failed or not, and nothing is in its folders.
    assert "dmabuf-nightly" not in " ".join(said[3:]), said


def test_removal_leaves_what_the_administrator_may_have_changed_and_a_purge_nothing(
    machine: tuple[bare_root.Bare, str],
) -> None:
    bare, release = machine
    shutil.rmtree(bare.inside(bare_root.SOURCE) / "build/package")
    # Besides the timer that was enabled: a plan, and what systemd and a night leave.
    own = ["/etc/dmabuf-nightly/basic.toml", "/var/lib/dmabuf-nightly/basic.db"]
    stamp = f"/var/lib/systemd/timers/stamp-{NIGHT}"
    for place in (*own, stamp):
        bare.write(place, "")
    assert bare.inside(WANTED).is_symlink()
    bare.check(f"apt-get remove {' '.join(packages.NAMES)}", "/")
    folders = [str(Path(name).parent) for name in own]
    assert sorted(name for name in left(bare) if "/var/lib/dpkg" not in name) == sorted(
        ["/etc/modules-load.d/dmabuf-rw.conf", stamp, *folders])
    assert modules(bare, release) == [] and "dmabuf" not in bare.check("dkms status", "/")
    assert not any(modules(bare, other) for other in other_kernels(bare, release))
    assert bare.run("modprobe dmabuf_rw", "/").returncode != 0
    # By dpkg: apt does not know those of which nothing is left.
    bare.inside(own[1]).unlink()
    bare.check(f"dpkg --purge {' '.join(packages.NAMES)}", "/")
    assert left(bare) == folders[:1] and bare.inside(own[0]).exists()
    assert bare.run("getent group dmabuf", "/").returncode != 0


def engine_of(bare: bare_root.Bare, fio: str) -> bool:
    """Whether the packages have an engine for a fio, such as fio-3.33."""
    return bare.inside(f"/usr/lib/x86_64-linux-gnu/libdmabuf/{fio}.so").exists()


def job(bare: bare_root.Bare) -> None:
    """A job in Debian's fio; or, where the packages have no engine for it, the sentence that says so."""
    fio = bare.check("fio --version", "/").strip()
    done = bare.run(f"fio --ioengine=libdmabuf.so {JOB} --dmabuf_report=/tmp/report && cat /tmp/report", "/")
    if engine_of(bare, fio):
        assert json.loads(done.stdout.splitlines()[-1])["proven"] is True, done.stdout
    else:
        print(f"the packages were built without the source of {fio}")
        assert f"no engine for {fio}: /usr/lib/x86_64-linux-gnu/libdmabuf has fio-" in done.stdout, done.stdout
