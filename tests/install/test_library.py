# SPDX-License-Identifier: GPL-2.0-only
"""The installed libdmabuf_rw: programs in C and C++ find it by pkg-config, and its pages by name."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "engine/module/libdmabuf_rw.h"

# What both languages take; the C++ one besides names structures without `struct`.
PROGRAM = """
#include <libdmabuf_rw.h>
#include <stdio.h>

int main(void)
{
	struct drw_session *session;
	struct drw_error error;
	char text[128];

	drw_cause_text(text, sizeof(text), DMABUF_RW_REASON_NOT_NVME, 95);
	puts(text);
	if (drw_open(&session, &error) < 0)
		puts(error.text);
	else
		drw_close(session);
	return 0;
}
"""
CALLS = re.compile(r"^[a-z].*?\b\**(drw_\w+)\(", re.MULTILINE)


@pytest.fixture(name="config", scope="module")
def _config(prefix: Path) -> dict[str, str]:
    """The environment in which pkg-config finds the installed library, and nothing else's."""
    found = sorted(prefix.rglob("libdmabuf_rw.pc"))
    assert len(found) == 1, found
    return {"PATH": os.environ["PATH"], "PKG_CONFIG_LIBDIR": str(found[0].parent)}


def asked(config: dict[str, str], *words: str) -> list[str]:
    """What pkg-config says of the library."""
    done = subprocess.run(["pkg-config", *words, "libdmabuf_rw"], env=config, check=True, text=True,
                          capture_output=True)
    return done.stdout.split()


def folder_of(config: dict[str, str]) -> Path:
    """Where the library is, as pkg-config says."""
    (folder,) = (Path(word[2:]).resolve() for word in asked(config, "--libs") if word.startswith("-L"))
    return folder


def compiled(config: dict[str, str], place: Path, compiler: list[str], text: str, libs: list[str]) -> Path:
    """A program that is made of the text with nothing but what is installed."""
    source = place / ("program.cpp" if "++" in compiler[0] else "program.c")
    source.write_text(text)
    program = place / "program"
    subprocess.run([*compiler, "-Wall", "-Wextra", "-Wpedantic", "-Werror", *asked(config, "--cflags"),
                    str(source), "-o", str(program), *libs], check=True, cwd=place)
    return program


def said(program: Path, folder: Path | None) -> list[str]:
    """The lines that it prints."""
    env = {"LD_LIBRARY_PATH": str(folder)} if folder else {}
    return subprocess.run([str(program)], env=env, check=True, text=True, capture_output=True).stdout.splitlines()


@pytest.mark.parametrize("compiler", [["cc", "-std=c11"], ["cc", "-std=c99"], ["c++", "-std=c++11"],
                                      ["c++", "-std=c++20"]], ids=" ".join)
def test_a_program_is_built_and_runs(config: dict[str, str], tmp_path: Path, compiler: list[str]) -> None:
    text = PROGRAM
    if compiler[0] == "c++":
        text = text.replace("struct drw_session", "drw_session").replace("struct drw_error", "drw_error")
    program = compiled(config, tmp_path, compiler, text, asked(config, "--libs"))
    lines = said(program, folder_of(config))
    assert lines[0] == "the target is not NVMe over PCI (NOT_NVME, EOPNOTSUPP)"
    if not Path("/dev/dmabuf_rw").exists():
        assert lines[1].startswith("there is no /dev/dmabuf_rw: the dmabuf_rw kernel module is not loaded")


def test_the_static_library_needs_no_other(config: dict[str, str], tmp_path: Path) -> None:
    archive = folder_of(config) / "libdmabuf_rw.a"
    program = compiled(config, tmp_path, ["cc"], PROGRAM, [str(archive)])
    assert said(program, None)[0] == "the target is not NVMe over PCI (NOT_NVME, EOPNOTSUPP)"


def dynamic(config: dict[str, str]) -> str:
    """The dynamic section of the library."""
    done = subprocess.run(["readelf", "-dW", str(folder_of(config) / "libdmabuf_rw.so")], check=True, text=True,
                          capture_output=True)
    return done.stdout


def test_it_needs_nothing_but_the_c_library(config: dict[str, str]) -> None:
    assert re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic(config)) == ["libc.so.6"]


def test_programs_ask_for_it_by_its_soname(config: dict[str, str]) -> None:
    assert re.findall(r"\(SONAME\).*\[(.*)\]", dynamic(config)) == ["libdmabuf_rw.so.0"]
    assert (folder_of(config) / "libdmabuf_rw.so.0").exists()


def test_it_exports_what_its_header_declares(config: dict[str, str]) -> None:
    done = subprocess.run(["nm", "-D", "--defined-only", str(folder_of(config) / "libdmabuf_rw.so")], check=True,
                          text=True, capture_output=True)
    exported = {line.split()[2] for line in done.stdout.splitlines() if " A " not in line}
    declared = set(CALLS.findall(HEADER.read_text()))
    assert len(declared) > 25
    assert exported == {f"{name}@@LIBDMABUF_RW_0" for name in declared}


def test_the_engine_has_it_inside(prefix: Path) -> None:
    (engine,) = (path for path in prefix.rglob("libdmabuf.so") if not path.is_symlink())
    done = subprocess.run(["readelf", "-dW", str(engine)], check=True, text=True, capture_output=True)
    assert "libdmabuf_rw" not in done.stdout
    done = subprocess.run(["nm", "-D", str(engine)], check=True, text=True, capture_output=True)
    assert "drw_" not in done.stdout


def test_the_version_is_the_projects(config: dict[str, str]) -> None:
    (version,) = re.findall(r"^project\(libdmabuf VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text(),
                            re.MULTILINE)
    assert asked(config, "--modversion") == [version]


def test_every_call_has_a_page(prefix: Path) -> None:
    folder = prefix / "share/man/man3"
    calls = set(CALLS.findall(HEADER.read_text()))
    assert {path.stem for path in folder.iterdir()} == calls | {"libdmabuf_rw"}
    for call in calls:
        assert (folder / f"{call}.3").read_text() == ".so man3/libdmabuf_rw.3\n"


def test_the_page_is_read_without_a_warning(prefix: Path) -> None:
    groff = shutil.which("groff")
    if not groff:
        pytest.skip("groff is not here: apt-get install groff-base")
    page = prefix / "share/man/man3/libdmabuf_rw.3"
    done = subprocess.run([groff, "-man", "-Tutf8", "-ww", "-rF0", "-P-cbou", str(page)], text=True, check=True,
                          capture_output=True)
    assert done.stderr == ""
    assert "NAME" in done.stdout and "storage read into" in " ".join(done.stdout.split())
