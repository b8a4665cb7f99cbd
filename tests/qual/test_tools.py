# SPDX-License-Identifier: GPL-2.0-only
"""What a run starts is known by its contents, so that a run does not go on with another engine."""

from pathlib import Path

import pytest

from dmabuf_common.sysfs import System
from dmabuf_qual import VERSION, environment, paths
from dmabuf_qual.drive import Drive

DRIVE = Drive("/dev/none", "none", "none", "", "", "M", "S", "F", 1 << 30, 512, 0, False, None)


def subject(system: System, engine: str, integrity: str) -> dict[str, str]:
    known = environment.facts(DRIVE, engine, system, integrity)
    return {name: value for name, value, role in known if role == "subject"}


def test_the_programs_of_a_run_are_its_subject(tmp_path: Path) -> None:
    engine, integrity = tmp_path / "libdmabuf.so", tmp_path / "dmabuf-integrity"
    engine.write_text("1")
    integrity.write_text("1")
    first = subject(System(tmp_path), f"external:{engine}", str(integrity))
    assert first["dmabuf-qual"] == VERSION
    integrity.write_text("2")
    second = subject(System(tmp_path), f"external:{engine}", str(integrity))
    assert {name for name in first if first[name] != second[name]} == {"dmabuf-integrity"}
    engine.write_text("2")
    third = subject(System(tmp_path), f"external:{engine}", str(integrity))
    assert {name for name in first if second[name] != third[name]} == {"engine"}


def test_what_is_the_users_own_is_its_subject_by_contents_and_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.so"
    says = {"plugin": paths.Exporter("", "0000:41:00.0", says="mygpu 1.0"),
                                     "fd": paths.Exporter("", "pool of frames", says="/run/s")}
    monkeypatch.setattr(paths, "of_exporter", lambda integrity, spec: says[spec.partition(":")[0]])
    wanted = ["udmabuf", f"plugin:{mine},card1", "fd:/run/s"]

    def own() -> dict[str, str]:
        known = environment.facts(DRIVE, "", System(tmp_path), "", wanted)
        return {name: value for name, value, role in known if name.startswith("exporter ") and role == "subject"}

    mine.write_text("1")
    first = own()
    assert list(first) == [f"exporter plugin:{mine},card1", "exporter fd:/run/s"]
    assert first["exporter fd:/run/s"] == "pool of frames"
    digest, _, words = first[f"exporter plugin:{mine},card1"].partition(" ")
    assert len(digest) == 16 and words == "mygpu 1.0"
    mine.write_text("2")
    second = own()[f"exporter plugin:{mine},card1"]
    assert second.endswith(" mygpu 1.0") and not second.startswith(digest)
    says["plugin"] = paths.Exporter("", no=paths.No("NOT_AVAILABLE", "no card"))
    assert own()[f"exporter plugin:{mine},card1"].endswith(" no card")
    mine.unlink()
    assert own()[f"exporter plugin:{mine},card1"] == "no card"
