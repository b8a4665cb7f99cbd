# SPDX-License-Identifier: GPL-2.0-only
"""The recipe of docs/engine.md for containers, by its own words: Podman with the profile that Debian ships, in a guest of
the lab that is booted with a bare Debian 13.

The container is one of Podman's: namespaces, dropped capabilities, a cgroup that admits the named devices, the seccomp
profile. What it lacks is an image from a registry and a network. Some are of an ordinary user (rootless), whom the devices
belong to, in a user namespace of his and without a cgroup.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bare_root
import pytest
from dmabuf_lab import root

ENGINE = "external:/src/build/lab/engine/libdmabuf.so"
JOB = f"--name=t --filename=/dev/nvme0n1 --direct=1 --bs=16k --size=4m --ioengine={ENGINE} --dmabuf_report=/out/REPORT"
IN_FLIGHT = "--iodepth=16 --rw=randrw --verify=crc32c"
PACKAGES = {"image": "libaio1t64 libdrm2 libnuma1 liburing2 python3 zlib1g", "host": "jq mount passwd podman uidmap"}
# Debian's Podman is Docker's command here; its storage and its cgroups need no systemd so.
PODMAN = "podman --storage-driver vfs --cgroup-manager cgroupfs"
USER = 1000
DOCKER = f"""docker() {{ {PODMAN} "$@"; }}
useradd -m -u {USER} user
mkdir -p /run/user/{USER}
chown user /run/user/{USER} /dev/dmabuf_rw /dev/udmabuf /dev/nvme0n1
chmod 777 /share
users_docker() (
    ulimit -l unlimited
    setpriv --reuid {USER} --regid {USER} --init-groups env HOME=/home/user XDG_RUNTIME_DIR=/run/user/{USER} {PODMAN} "$@"
)
"""
# What the page's command is for these: the user's own, without root.
ROOTLESS = "without root, "
PROFILE = "/usr/share/containers/seccomp.json"
# By name: what of the page's command is left out, and what runs in the container.
CASES = {
    **{f"as the page says, {datapath}": ("", f"fio {JOB} {IN_FLIGHT} --dmabuf_datapath={datapath}")
       for datapath in ("premapped", "registered", "bvec", "auto")},
    **{f"{ROOTLESS}{datapath}": ("", f"fio {JOB} {IN_FLIGHT} --dmabuf_datapath={datapath}")
       for datapath in ("premapped", "registered", "bvec", "auto")},
    f"{ROOTLESS}without the profile": (r" --security-opt \S+", f"fio {JOB} {IN_FLIGHT}"),
    "without the profile": (r" --security-opt \S+", f"fio {JOB} {IN_FLIGHT}"),
    "by ioctl": (r" --security-opt \S+", f"fio {JOB} --rw=randread --dmabuf_datapath=premapped --dmabuf_submit=ioctl"),
    "preflight": (r" --security-opt \S+", "python3 -B /src/scripts/dmabuf-qual preflight /dev/nvme0n1"),
    "without the module's device": (r" --device /dev/dmabuf_rw", f"fio {JOB} {IN_FLIGHT}"),
    "preflight without the module's device": (r" --device /dev/dmabuf_rw",
                                              "python3 -B /src/scripts/dmabuf-qual preflight /dev/nvme0n1"),
    "without memory to pin": (r" --ulimit \S+", f"fio {JOB} {IN_FLIGHT} --bs=1m --iodepth=32"),
}


@dataclass(frozen=True)
class Ended:
    """One container: its exit status, what it printed, and the engine's report."""

    status: int
    said: str
    report: dict[str, object]


def recipe() -> tuple[str, str]:
    """The page's two commands, each in one line."""
    text = (bare_root.CHECKOUT / "docs/engine.md").read_text().partition("\n## In a container\n")[2]
    block = re.search(r"\n((?:    .*\n)+)", text)
    assert block
    lines = " ".join(re.sub(r"  +# .*", "", line).strip() for line in block[1].splitlines()).replace("\\ ", "")
    profile, _, run = lines.partition(" docker run ")
    return profile, f"docker run {run}"


def script() -> str:
    """What the guest runs: one container for each case."""
    profile, run = recipe()
    lines = ["cd /tmp", "mount -t cgroup2 none /sys/fs/cgroup", DOCKER, f"cp {PROFILE} default.json", profile]
    for number, (name, (without, program)) in enumerate(CASES.items()):
        command = re.sub(without, "", run, count=1) if without else run
        assert (command == run) == (not without), without
        own = f"--rm --network none --log-driver none -v /src:/src:ro -v /share:/out --rootfs /image {program}"
        command = command.replace("/dev/nvme1n1", "/dev/nvme0n1").replace("IMAGE fio …", own)
        command = command.replace("REPORT", f"report-{number}")
        if name.startswith(ROOTLESS):
            command = f"users_{command}"
        lines.append(f"{command} >/share/said-{number} 2>&1; echo $? >/share/status-{number}")
    return "\n".join(lines) + "\n"


@pytest.fixture(name="ended", scope="module")
def _ended(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    lab = root.load()
    if suite != "trixie":
        pytest.skip("the lab and its fio are of Debian 13")
    if lab is None:
        pytest.fail("the lab is not set up: scripts/dmabuf-lab setup")
    share = tmp_path_factory.mktemp("container")
    with bare_root.bare(suite) as bare:
        bare.write("/etc/apt/apt.conf.d/99yes", 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n')
        bare.check(f"apt-get -qq update; apt-get -qq install kmod {PACKAGES['image']}", "/")
        # Named as bare_root names its copies, so that one that is left behind is removed as they are.
        image = bare.path.with_name(f"copy.image.{os.getpid()}")
        try:
            subprocess.run(["cp", "-a", "--reflink=auto", str(bare.path), str(image)], check=True)
            shutil.copy2(lab.path / "usr/local/bin/fio", image / "usr/local/bin/fio")
            bare.check(f"apt-get -qq install {PACKAGES['host']}", "/")
            # Containers without root have no image but the user's own.
            subprocess.run(["chown", "-R", f"{USER}:{USER}", str(image)], check=True)
            image.rename(bare.inside("/image"))
        finally:
            shutil.rmtree(image, ignore_errors=True)
        bare.write("/containers", script())
        done = subprocess.run([str(bare_root.CHECKOUT / "scripts/dmabuf-lab"), "run", "--root", str(bare.path), "--share",
                               str(share), "--", "bash /containers"],
                              text=True, capture_output=True, check=False, timeout=1500)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        yield {name: read(share, number) for number, name in enumerate(CASES)}


def read(share: Path, number: int) -> Ended:
    """What one container left."""
    report = share / f"report-{number}"
    text = report.read_text() if report.exists() else ""
    return Ended(int((share / f"status-{number}").read_text()), (share / f"said-{number}").read_text(),
                 json.loads(text) if text else {})


@pytest.mark.parametrize("datapath", ["premapped", "registered", "bvec", "auto"])
@pytest.mark.parametrize("whose", ["as the page says, ", ROOTLESS])
def test_a_job_in_a_container_made_by_the_page_is_proven(ended: dict[str, Ended], whose: str, datapath: str) -> None:
    one = ended[whose + datapath]
    assert one.status == 0, one.said
    wanted = "premapped" if datapath == "auto" else datapath
    assert (one.report["datapath"], one.report["proven"]) == (wanted, True), one.report
    issued = one.report["issued"]
    assert isinstance(issued, dict) and issued["write_bytes"] > 0 and issued["read_bytes"] >= 4 << 20


@pytest.mark.parametrize("whose", ["", ROOTLESS])
def test_podmans_own_profile_forbids_io_uring_and_that_is_named(ended: dict[str, Ended], whose: str) -> None:
    one = ended[f"{whose}without the profile"]
    assert one.status != 0 and not one.report
    for words in ("io_uring is forbidden here (ENOSYS) although /proc/sys/kernel/io_uring_disabled is 0", "seccomp",
                  "dmabuf_submit=ioctl"):
        assert words in one.said


def test_what_needs_no_ring_runs_with_podmans_own_profile(ended: dict[str, Ended]) -> None:
    one = ended["by ioctl"]
    assert one.status == 0, one.said
    assert (one.report["submit"], one.report["datapath"], one.report["proven"]) == ("ioctl", "premapped", True)


def test_preflight_says_the_same(ended: dict[str, Ended]) -> None:
    one = ended["preflight"]
    (line,) = [line for line in one.said.splitlines() if "io_uring" in line and "seccomp" in line]
    assert "ENOSYS" in line


@pytest.mark.parametrize("case,words", [
    ("without the module's device", ["there is no /dev/dmabuf_rw here, though the dmabuf_rw kernel module is loaded",
                                     "--device /dev/dmabuf_rw"]),
    ("preflight without the module's device", ["stop  module", "there is no /dev/dmabuf_rw here", "--device /dev/dmabuf_rw"]),
    ("without memory to pin", ["MEMLOCK", "ulimit"]),
])
def test_what_the_container_was_not_given_is_named(ended: dict[str, Ended], case: str, words: list[str]) -> None:
    one = ended[case]
    assert one.status != 0 and not one.report, one.said
    for word in words:
        assert word in one.said
