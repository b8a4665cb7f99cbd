# SPDX-License-Identifier: GPL-2.0-only
"""README's way to install: what is built needs no more than what README has installed before."""

import re
import subprocess
from pathlib import Path

from conftest import BUILD, CMAKE

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def fio_sources() -> str:
    """The source trees that the build of these tests was given."""
    cache = (Path(BUILD) / "CMakeCache.txt").read_text()
    (trees,) = re.findall(r"^FIO_SOURCE_DIRS:\w+=(.*)$", cache, re.MULTILINE)
    (tree,) = re.findall(r"^FIO_SOURCE_DIR:\w+=(.*)$", cache, re.MULTILINE)
    return str(trees or tree)


def test_the_preset_wants_nothing_that_only_tests_need(tmp_path: Path) -> None:
    """README installs neither GTest nor pytest."""
    (preset,) = re.findall(r"^    cmake --preset (\w+) ", README, re.MULTILINE)
    (packages,) = re.findall(r"^    apt-get install (.*)$", README, re.MULTILINE)
    assert "gtest" not in packages and "pytest" not in packages
    done = subprocess.run([CMAKE, "--preset", preset, "-B", str(tmp_path), f"-DFIO_SOURCE_DIRS={fio_sources()}",
                           "-DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON"],
                          cwd=ROOT, text=True, capture_output=True, check=False, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "tests").exists()


def test_every_library_of_the_build_is_in_readmes_line() -> None:
    """pkg-config's names and Debian's."""
    (packages,) = re.findall(r"^    apt-get install (.*)$", README, re.MULTILINE)
    text = (ROOT / "engine/CMakeLists.txt").read_text()
    wanted = re.findall(r"pkg_check_modules\(\w+ REQUIRED IMPORTED_TARGET (\w+)", text)
    assert len(wanted) > 1
    assert {f"{name}-dev" for name in wanted} <= set(packages.split())
