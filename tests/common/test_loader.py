# SPDX-License-Identifier: GPL-2.0-only
"""The engine is found where fio's loader finds it."""

import subprocess
import sys
from pathlib import Path

import pytest
from dmabuf_common import fingerprint, loader, process


def test_a_path_is_that_file(tmp_path: Path) -> None:
    engine = tmp_path / "libdmabuf.so"
    assert loader.find(f"external:{engine}") == ""
    engine.write_bytes(b"1")
    assert loader.find(f"external:{engine}") == loader.find(str(engine)) == str(engine)


def test_a_name_is_looked_for_where_the_loader_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}/none:{tmp_path}")
    (tmp_path / "libdmabuf.so").write_bytes(b"1")
    assert loader.find("external:libdmabuf.so") == f"{tmp_path}/libdmabuf.so"
    # The same as the loader itself, for a library that every machine has.
    code = (
        "import ctypes, re; ctypes.CDLL('libz.so.1');"
        "print(re.search(r'\\S*/libz\\.so\\.\\S*', open('/proc/self/maps').read()).group(0))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], text=True, check=True, capture_output=True)
    found = loader.find("external:libz.so.1")
    assert found and Path(found).resolve() == Path(loaded.stdout.strip()).resolve()


def test_what_is_built_into_fio_is_no_file() -> None:
    assert loader.find("io_uring") == loader.find("null") == ""
    assert not loader.is_file("io_uring") and not loader.is_file("")
    assert loader.is_file("external:libdmabuf.so") and loader.is_file("/x/libdmabuf.so")


def test_an_engine_by_name_is_a_part_of_the_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan that ships names the engine without a folder."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    seen = []
    for contents in (b"1", b"2"):
        (tmp_path / "libdmabuf.so").write_bytes(contents)
        seen.append(fingerprint.collect("/dev/null", "external:libdmabuf.so")["subject"]["engine"])
    assert seen[0] != seen[1]
    assert fingerprint.collect("/dev/null", "external:libnot.so")["subject"]["engine"] == "not found"
    assert "engine" not in fingerprint.collect("/dev/null", "null")["subject"]


def test_the_engine_is_the_one_that_the_library_loads_for_this_fio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libdmabuf.so stays the same when its engine is built anew: the engine is what is measured."""
    library, engines = tmp_path / "lib/libdmabuf.so", tmp_path / "lib/libdmabuf"
    engines.mkdir(parents=True)
    library.write_bytes(b"loads the others")
    link = tmp_path / "libdmabuf.so"
    link.symlink_to(library)
    assert loader.of_fio(str(link), "fio-3.41") == str(link), "there is none"
    (engines / "fio-3.41.so").write_bytes(b"1")
    assert loader.of_fio(str(link), "fio-3.41") == str(engines / "fio-3.41.so")
    assert loader.of_fio(str(link), "fio-3.33") == str(link)
    assert loader.of_fio(str(link), "") == str(link)
    assert loader.of_fio("", "fio-3.41") == ""
    running = "fio-3.41"
    monkeypatch.setattr(process, "output", lambda argv: running if "--version" in argv else "")
    seen = []
    for fio, contents in (("fio-3.41", b"1"), ("fio-3.41", b"2"), ("fio-3.33", b"2")):
        running = fio
        (engines / "fio-3.41.so").write_bytes(contents)
        seen.append(fingerprint.collect("/dev/null", str(link))["subject"]["engine"])
    assert len(set(seen)) == 3
