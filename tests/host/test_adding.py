# SPDX-License-Identifier: GPL-2.0-only
"""docs/adding-an-exporter.md, done word for word: what it says to write is written into a copy of the tree, which is
then built; fio runs with the exporter, and the tests of tables that it names pass."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/adding-an-exporter.md"
COPIED = ("CMakeLists.txt", "cmake", "docs/design.md", "docs/engine.md", "docs/man", "engine", "kernel/uapi", "scripts",
          "tests/common", "tests/qual", "tests/unit/layers.py", "tests/unit/test_layers.py")
STEP = re.compile(r'^(?:Write|Append to|In) `([^`]+)`(?:, behind the line that begins with "(.+)")?:$')


def block(lines: list[str], start: int) -> list[str]:
    """The indented lines that follow, without their indentation."""
    found = []
    for line in lines[start:]:
        if line and not line.startswith("    "):
            break
        found.append(line[4:])
    while found and not found[-1]:
        found.pop()
    while found and not found[0]:
        found.pop(0)
    return found


def follow(tree: Path) -> list[str]:
    """Does what the page says; the files that it named."""
    named = []
    lines = PAGE.read_text().splitlines()
    for number, line in enumerate(lines):
        step = STEP.match(line)
        if not step:
            continue
        file, behind, text = tree / step[1], step[2], block(lines, number + 1)
        assert text, line
        named.append(step[1])
        if line.startswith("Write "):
            assert not file.exists(), line
            file.write_text("\n".join(text) + "\n")
            continue
        if file.suffix == ".scd":
            text.insert(0, "")  # an empty line parts entries
        there = file.read_text().splitlines()
        at = len(there)
        if behind:
            places = [i for i, old in enumerate(there) if old.startswith(behind)]
            assert len(places) == 1, f"{line} {places}"
            at = places[0] + 1
        file.write_text("\n".join([*there[:at], *text, *there[at:]]) + "\n")
    return named


def command() -> list[str]:
    """The first command of its last section, as a shell takes it."""
    lines = PAGE.read_text().splitlines()
    text = "\n".join(block(lines, lines.index("## 5. Try it") + 1))
    return shlex.split(text.replace("\\\n", " ").splitlines()[0])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which the page was followed."""
    made = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        source, copy = ROOT / name, made / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    assert follow(made) == ["engine/exporter/sample.cpp", "engine/exporter/exporters.def", "engine/CMakeLists.txt",
                            "docs/engine.md", "scripts/dmabuf_qual/exporters.py",
                            "docs/man/libdmabuf.7.scd"]
    return made


def test_the_engine_is_built_and_fio_runs_with_it(tree: Path, tmp_path: Path) -> None:
    fio = environment("FIO")
    version = subprocess.check_output([fio, "--version"], text=True).strip()
    build = tree / "build/host"
    cmake = environment("CMAKE")
    options = {"CMAKE_BUILD_TYPE": "Debug", "DMABUF_TESTS": "off", "DMABUF_WERROR": "ON", "FIO_VERSION": version,
               "FIO_SOURCE_DIR": str(Path(environment("FIO_EXAMPLES")).parent)}
    subprocess.run([cmake, "-S", tree, "-B", build, "-G", "Ninja", *(f"-D{key}={value}" for key, value in options.items())],
                   check=True, stdout=subprocess.DEVNULL, timeout=100)
    done = subprocess.run([cmake, "--build", build, "--target", "dmabuf", "-j2"], capture_output=True, text=True,
                          check=False, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:]
    words = [word.replace("$PWD", str(tree)).replace("/var/tmp/t", str(tmp_path / "t")) for word in command()]
    assert words[0] == "fio" and "--dmabuf_exporter=sample" in words
    report = tmp_path / "report.json"
    ran = subprocess.run([fio, *words[1:], f"--dmabuf_report={report}"], capture_output=True, text=True, check=False,
                         cwd=tmp_path, timeout=100,
                         env={**os.environ, "LD_PRELOAD": environment("STAND_IN")})
    assert ran.returncode == 0, ran.stderr
    said = json.loads(report.read_text())
    assert (said["exporter"], said["device"], said["proven"]) == ("sample", "/dev/udmabuf", True)
    help_text = subprocess.run([fio, f"--enghelp={build}/engine/libdmabuf.so,dmabuf_exporter"], capture_output=True,
                               text=True, check=False, timeout=60).stdout
    assert "sample" in help_text and "A memfd, as the documentation's example makes it" in help_text


def test_the_tables_agree(tree: Path) -> None:
    """Those that tests compare with the engine's, and what wings may include."""
    for tests in ("tests/qual/test_exporters.py", "tests/unit/test_layers.py"):
        done = subprocess.run([sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", tests], cwd=tree,
                              capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stdout
    page = (tree / "docs/man/libdmabuf.7.scd").read_text()
    assert "\n\n*sample*\n\tA memfd, by udmabuf.\n" in page.partition("# EXPORTERS")[2].partition("\n# ")[0]
    row = next(line for line in (tree / "docs/engine.md").read_text().splitlines() if line.startswith("| `sample` |"))
    assert row.endswith("| mmap | no |")
    assert row in (tree / "docs/engine.md").read_text().partition("## Exporters")[2].partition("\n## ")[0]
