# SPDX-License-Identifier: GPL-2.0-only
"""Which partition, namespace or mapped device a drive's name led to, and sections that have one name."""

import json
import re
import sqlite3
from pathlib import Path

import pytest
from dmabuf_common import fingerprint
from dmabuf_common.sysfs import System
from dmabuf_nightly import jobfacts, jobfile, publish, store
from made import Made
from test_migrate import HERE, filled


class Drives:
    """A machine with drives that are files here, each with a folder in /sys."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.folders: dict[str, str] = {}
        monkeypatch.setattr(System, "block_folder", lambda _, target: self.folders[target])
        monkeypatch.setattr(Path, "is_block_device", lambda path: str(path) in self.folders)

    def add(self, target: str, folder: str, **files: str) -> None:
        """A device that /sys has in this folder."""
        for name, text in files.items():
            path = self.root / folder.lstrip("/") / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        link = self.root / "sys/block" / Path(folder).name
        if "partition" not in files:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self.root / folder.lstrip("/"))
        self.folders[target] = folder

    def key(self, target: str) -> fingerprint.Facts:
        return fingerprint.collect(target, system=System(self.root))["key"]


@pytest.fixture
def drives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drives:
    found = Drives(tmp_path, monkeypatch)
    one = "/sys/devices/nvme0/nvme0n1"
    found.add("/dev/nvme0n1", one, size="1000", nsid="1", wwid="eui.01")
    found.add("/dev/nvme0n2", "/sys/devices/nvme0/nvme0n2", size="1000", nsid="2", wwid="eui.02")
    found.add("/dev/nvme0n1p1", f"{one}/nvme0n1p1", partition="1", start="34", size="400")
    found.add("/dev/nvme0n1p2", f"{one}/nvme0n1p2", partition="2", start="434", size="400")
    found.add("/dev/mapper/plain", "/sys/devices/virtual/block/dm-0", size="1000", dm__uuid="LVM-a", dm__name="plain")
    found.add("/dev/mapper/raid5", "/sys/devices/virtual/block/dm-1", size="1000", dm__uuid="LVM-b", dm__name="raid5")
    return found


@pytest.mark.parametrize(("one", "other", "differ"), [
    ("/dev/nvme0n1p1", "/dev/nvme0n1p2", ["drive part"]),
    ("/dev/nvme0n1", "/dev/nvme0n1p1", ["drive part"]),
    ("/dev/nvme0n1", "/dev/nvme0n2", ["drive namespace"]),
    ("/dev/mapper/plain", "/dev/mapper/raid5", ["drive namespace"]),
    ("/dev/nvme0n1p2", "/dev/nvme0n1p2", []),
])
def test_the_part_of_the_drive_is_in_the_key(
    drives: Drives, made: Made, one: str, other: str, differ: list[str]
) -> None:
    keys = [made.store.add_facts(drives.key(target)) for target in (one, other)]
    assert made.store.differences(*keys) == differ


def test_a_key_without_it_is_no_other_one(drives: Drives, made: Made) -> None:
    """An earlier release did not look."""
    key = drives.key("/dev/nvme0n1p1")
    old = {name: value for name, value in key.items() if name not in ("drive part", "drive namespace")}
    assert made.store.comparable(made.store.add_facts(old), made.store.add_facts(key))
    assert {"drive part", "drive namespace"} <= store.LATER
    assert "drive namespace".endswith(publish.PRIVATE)  # a wwid names one drive on earth


def facts(text: str) -> dict[str, str]:
    return jobfacts.facts(jobfile.Job(text, {"filename": "/dev/x"}))


def test_sections_of_one_name_are_told_apart() -> None:
    first = "[global]\nfilename=/dev/x\n[a]\nrw=read\n[a]\nrw=read\nbs=4k\n[a 2]\nrw=read\nbs=64k\n"
    other = first.replace("bs=4k", "bs=1m")
    assert jobfacts.differences(facts(other), facts(first)) == ["[a] 2 bs 1m was 4k"]
    assert facts(first)["[a 2] bs"] == "64k"


def test_jobs_that_an_earlier_release_stored_are_named_anew(tmp_path: Path) -> None:
    path = filled((HERE / "stores/version-3.sql").read_text(), tmp_path / "s.db")
    jobs = [{"[a] bs": "4k", "[a 2] bs": "64k", "sections": "global, a, a"},
            {"[a] bs": "4k", "[a 2] bs": "64k", "sections": "global, a, a 2"}]
    with sqlite3.connect(path) as db:
        for run, job in enumerate(jobs, 1):
            name = fingerprint.digest(job)
            db.execute("INSERT INTO fingerprint VALUES (?, ?)", (name, json.dumps(job)))
            db.execute("UPDATE run SET job = ? WHERE id = ?", (name, run))
    db.close()
    opened = store.Store(path)
    found = [opened.facts(run.job) for run in opened.runs(1)[:2]]
    assert found[0] == {"[a] bs": "4k", "[a] 2 bs": "64k", "sections": "global, a, a"}
    assert found[1] == jobs[1]
    text = "[global]\nfilename=/dev/x\n[a]\nbs=4k\n[a]\nbs=64k\n"
    assert {**found[0], "filename": "the drive"} == facts(text)
    assert re.fullmatch(r"[0-9a-f]{64}", opened.runs(1)[0].job)
