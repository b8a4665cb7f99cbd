# SPDX-License-Identifier: GPL-2.0-only
"""What the packages of the module and of the engine do as they are installed and purged, with programs that only say their
names."""

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "packaging/dkms"
ENGINE = "../engine"
# As Debian's adduser: one that is no system group is none of its own, and its status says so.
ADDGROUP = """[ ! -e "$HERE/group" ] || exit 13
"""
PROGRAMS = {
    "addgroup": ADDGROUP,
    "delgroup": "",
    "getent": '[ -e "$HERE/group" ] || exit 2\n',
    "chown": "",
    "udevadm": "",
    "ldconfig": "",
    "systemctl": "",
    "deb-systemd-invoke": "",
    "common.postinst": 'echo "for all kernels: $autoinstall_all_kernels" >>"$HERE/log"\n[ ! -e "$HERE/broken" ] || exit 11\n',
    "uname": "echo running\n",
    # It fails for kernels whose folder says so.
    "dkms": """case $1 in
install) [ ! -e "$HERE/kernels/$7/bad" ] ;;
status)
	for kernel in ${7:-$(ls "$HERE/kernels" 2>/dev/null)}; do
		[ -e "$HERE/kernels/$kernel/bad" ] || echo "$3/1, $kernel, x86_64: installed"
	done ;;
esac
""",
}

# What a script must not touch here, and what is there in its place.
PLACES = {
    "/usr/lib/dkms/": "",
    "/lib/modules/": "kernels/",
    "/var/lib/dkms/": "dkms-",
    "/var/log/": "log-",
    "/dev/dmabuf_rw": "device",
    "/sys/module/": "sys/",
    "/run/systemd/system": "systemd",
    "/etc/systemd/system": "units",
    "/var/lib/systemd/timers": "timers",
    "/etc/dmabuf-nightly": "plans",
    "/var/lib/dmabuf-nightly": "nights",
}


@pytest.fixture(name="here")
def _here(tmp_path: Path) -> Path:
    for name, rest in PROGRAMS.items():
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>"$HERE/log"\n{rest}')
        program.chmod(0o755)
    return tmp_path


def run(here: Path, script: str, *words: str) -> tuple[int, list[str]]:
    """Its status, and what it called."""
    text = (SCRIPTS / script).read_text()
    for path, stand_in in PLACES.items():
        text = text.replace(path, f"{here}/{stand_in}")
    variables = {"HERE": str(here), "PATH": f"{here}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", text, script, *words], env=variables, check=False, stderr=subprocess.PIPE, text=True)
    (here / "said").write_text(done.stderr)
    log = here / "log"
    return done.returncode, log.read_text().splitlines() if log.exists() else []


def test_the_group_is_made_and_the_module_is_built(here: Path) -> None:
    status, called = run(here, "postinst.in", "configure", "")
    assert status == 0
    assert "addgroup --quiet --system dmabuf" in called
    assert [line.split()[1] for line in called if line.startswith("common.postinst")] == ["dmabuf-rw", "dmabuf-testexp"]
    # DKMS's own choice is the running kernel and the newest one.
    assert called.count("for all kernels: yes") == 2
    assert (here / "said").read_text() == ""


@pytest.mark.parametrize("word", ["abort-upgrade", "abort-remove", "abort-deconfigure"])
def test_a_package_that_stays_after_all_has_its_module_again(here: Path, word: str) -> None:
    status, called = run(here, "postinst.in", word, "2.0.0")
    assert status == 0
    assert any(line.startswith("common.postinst dmabuf-rw ") for line in called)


@pytest.mark.parametrize(("kernels", "bad", "status"), [
    (("old", "running", "zz-new"), ("old",), 0),
    (("old", "running", "zz-new"), ("running",), 1),
    # A chroot, in which another kernel runs.
    (("old", "zz-new"), ("old",), 0),
    (("old", "zz-new"), ("old", "zz-new"), 1),
])
def test_a_kernel_that_is_not_running_keeps_nobody_from_installing(
    here: Path, kernels: tuple[str, ...], bad: tuple[str, ...], status: int
) -> None:
    (here / "broken").touch()
    log = here / "dkms-dmabuf-rw/@DMABUF_PACKAGE_VERSION@/build/make.log"
    log.parent.mkdir(parents=True)
    log.write_text("the compiler's words")
    for kernel in kernels:
        (here / "kernels" / kernel / "build").mkdir(parents=True)
    # Headers that are gone leave such a link.
    (here / "kernels/gone").mkdir()
    (here / "kernels/gone/bad").touch()
    (here / "kernels/gone/build").symlink_to("/nonexistent")
    for kernel in bad:
        (here / "kernels" / kernel / "bad").touch()
    ended, called = run(here, "postinst.in", "configure", "")
    assert ended == status
    built = [line.split()[-1] for line in called if line.startswith("dkms install -m dmabuf-rw ")]
    assert built == list(kernels)
    assert "dmabuf_rw is not built for every kernel" in (here / "said").read_text()
    # The next kernel's build removes DKMS's own.
    assert {path.name for path in here.glob("log-dmabuf-rw-*")} == {f"log-dmabuf-rw-dkms-{kernel}.log" for kernel in bad}
    run(here, "postrm", "purge")
    assert not list(here.glob("log-dmabuf*"))


def test_a_module_that_stays_loaded_is_said_to_be_the_old_one(here: Path) -> None:
    for name in ("dmabuf_rw", "dmabuf_testexp"):
        (here / "sys" / name).mkdir(parents=True)
        assert run(here, "postinst.in", "configure", "0.0.9")[0] == 0
        assert f"rmmod {name} && modprobe {name}" in (here / "said").read_text()


@pytest.mark.parametrize(("kernel", "built"), [
    ("6.1.0-50-amd64", True), ("6.1", True), ("6.2.1", False), ("6.11.4",
     False), ("6.12.118+deb13-amd64", True), ("6.19.2-1", True), ("7.0.0", True),
    ("7.3.4+deb13-rt-amd64", True), ("7.3", True), ("7.4.0", False), ("7.30.1", False), ("8.0.1", False), ("16.12.1", False),
])
def test_dkms_builds_for_kernels_that_were_tried_and_those_between(kernel: str, built: bool) -> None:
    for name in ("dkms.conf.in", "testexp.conf.in"):
        found = re.search(r'^BUILD_EXCLUSIVE_KERNEL="(.*)"$', (SCRIPTS / name).read_text(), re.MULTILINE)
        assert found
        # As DKMS asks: bash's [[ =~ ]].
        done = subprocess.run(["bash", "-c", "[[ $1 =~ $2 ]]", "bash", kernel, found[1]], check=False)
        assert (done.returncode == 0) == built


def test_a_group_that_the_administrator_made_will_do(here: Path) -> None:
    (here / "group").touch()
    status, called = run(here, "postinst.in", "configure", "")
    assert status == 0
    assert any(line.startswith("common.postinst dmabuf-rw ") for line in called)


def test_a_device_that_is_still_there_is_taken_from_the_group_before_that_goes(here: Path) -> None:
    (here / "device").touch()
    status, called = run(here, "postrm", "purge")
    assert status == 0
    assert called == [f"chown root:root {here}/device", "delgroup --quiet --system --only-if-empty dmabuf"]


@pytest.mark.parametrize("word", ["remove", "upgrade", "abort-install"])
def test_the_group_stays_until_the_package_is_purged(here: Path, word: str) -> None:
    (here / "device").touch()
    assert run(here, "postrm", word) == (0, [])


def enabled(here: Path) -> list[str]:
    return sorted(str(path.relative_to(here / "units")) for path in (here / "units").rglob("*") if path.is_symlink())


@pytest.fixture(name="night")
def _night(here: Path) -> Path:
    """A machine under systemd on which an administrator has two plans measured each night, and has a timer of his own."""
    for name in ("systemd", "timers", "plans", "nights", "units/timers.target.wants", "units/multi-user.target.wants"):
        (here / name).mkdir(parents=True)
    for name in ("timers.target.wants/dmabuf-nightly@basic.timer", "timers.target.wants/dmabuf-nightly@two-drives.timer",
                 "timers.target.wants/other@basic.timer", "multi-user.target.wants/dmabuf-nightly@basic.service"):
        (here / "units" / name).symlink_to("/usr/lib/systemd/system/template")
    (here / "timers/stamp-dmabuf-nightly@basic.timer").touch()
    (here / "timers/stamp-other@basic.timer").touch()
    return here


def test_removal_stops_every_night_and_disables_it_in_the_end(night: Path) -> None:
    before = enabled(night)
    status, called = run(night, f"{ENGINE}/prerm", "remove")
    assert status == 0
    # A timer that is stopped after the night would start it again.
    assert called == [f"deb-systemd-invoke stop dmabuf-nightly@*.{kind}" for kind in ("timer", "service")]
    # Until its files are gone the package may stay after all.
    assert enabled(night) == before
    assert run(night, f"{ENGINE}/postrm", "remove")[0] == 0
    assert enabled(night) == ["timers.target.wants/other@basic.timer"]
    assert not (night / "units/multi-user.target.wants").exists()


def test_a_removal_that_broke_off_leaves_the_nights_as_they_were(night: Path) -> None:
    before = enabled(night)
    assert run(night, f"{ENGINE}/prerm", "remove")[0] == 0
    (night / "log").unlink()
    status, called = run(night, f"{ENGINE}/postinst", "abort-remove")
    assert status == 0 and enabled(night) == before
    assert [line for line in called if "start" in line] == [
        f"deb-systemd-invoke start dmabuf-nightly@{name}.timer" for name in ("basic", "two-drives")]


def test_a_night_that_cannot_be_stopped_keeps_nobody_from_removing(night: Path) -> None:
    (night / "deb-systemd-invoke").write_text("#!/bin/sh\nexit 1\n")
    assert run(night, f"{ENGINE}/prerm", "remove")[0] == 0
    assert run(night, f"{ENGINE}/postrm", "remove")[0] == 0
    assert enabled(night) == ["timers.target.wants/other@basic.timer"]


@pytest.mark.parametrize("words", [("upgrade", "0.2.0"), ("deconfigure", "in-favour", "x", "1"), ("failed-upgrade", "0.0.9")])
@pytest.mark.parametrize("running", [False, True])
def test_an_upgrade_leaves_nights_as_they_are(night: Path, words: tuple[str, ...], running: bool) -> None:
    before = enabled(night)
    # As systemd 257 shows a service of type oneshot that runs; asked whether it is active, it says no.
    shown = "dmabuf-nightly@basic.service loaded activating start start One night" if running else ""
    (night /
     "systemctl").write_text(f'#!/bin/sh\n[ -z "{shown}" ] || case "$*" in *activating*) echo "{shown}" ;; *) exit 3 ;; esac\n')
    status, called = run(night, f"{ENGINE}/prerm", *words)
    assert status == 0 and not [line for line in called if "deb-systemd-invoke" in line]
    assert enabled(night) == before
    assert ("A night" in (night / "said").read_text()) == (running and words[0] == "upgrade")


def test_without_systemd_what_was_enabled_is_disabled_all_the_same(night: Path) -> None:
    (night / "systemd").rmdir()
    assert run(night, f"{ENGINE}/prerm", "remove") == (0, [])
    assert run(night, f"{ENGINE}/postrm", "remove") == (0, ["ldconfig"])
    assert enabled(night) == ["timers.target.wants/other@basic.timer"]
    # A machine on which nothing of it was ever used.
    for name in ("units/timers.target.wants/other@basic.timer", "units/timers.target.wants", "units"):
        place = night / name
        place.unlink() if place.is_symlink() else place.rmdir()
    for script in ("prerm", "postrm"):
        assert run(night, f"{ENGINE}/{script}", "remove")[0] == 0


def test_systemd_learns_of_units_that_came_and_went(night: Path) -> None:
    assert run(night, f"{ENGINE}/postinst", "configure", "") == (0, ["ldconfig", "systemctl --system daemon-reload"])
    (night / "log").unlink()
    _, called = run(night, f"{ENGINE}/postrm", "remove")
    assert called[:2] == ["ldconfig", "systemctl --system daemon-reload"]
    assert [line.split("@")[0] for line in called[2:]] == ["systemctl --system reset-failed dmabuf-nightly"]


def test_a_purge_leaves_what_the_administrator_wrote_and_measured_and_nothing_else(night: Path) -> None:
    (night / "nights/basic.db").write_text("nights")
    assert run(night, f"{ENGINE}/postrm", "purge") == (0, [])
    assert sorted(path.name for path in (night / "timers").iterdir()) == ["stamp-other@basic.timer"]
    assert (night / "nights/basic.db").exists() and not (night / "plans").exists()
    # The folders may be links, or not there.
    (night / "plans").symlink_to("/nonexistent")
    assert run(night, f"{ENGINE}/postrm", "purge")[0] == 0
    assert (night / "plans").is_symlink()
