# SPDX-License-Identifier: GPL-2.0-only
"""What a run starts is known by its contents, so that a run does not go on with another engine."""

from pathlib import Path

from dmabuf_common.sysfs import System
from dmabuf_qual import VERSION, environment
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
