# SPDX-License-Identifier: GPL-2.0-only
"""README's way to install: what is built needs no more than what README has installed before."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
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
    preset, _ = re.findall(r"^    cmake --preset (\w+) ", README, re.MULTILINE)
    (packages,) = re.findall(r"^    apt-get install (cmake .*)$", README, re.MULTILINE)
    assert "gtest" not in packages and "pytest" not in packages
    done = subprocess.run([CMAKE, "--preset", preset, "-B", str(tmp_path), f"-DFIO_SOURCE_DIRS={fio_sources()}",
                           "-DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON"],
                          cwd=ROOT, text=True, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "tests").exists()


def test_a_source_tree_is_named_from_the_checkout(tmp_path: Path) -> None:
    """As what `fio-source` prints where the archive has none: a clone of fio's own archive, which is a git tree with a tag."""
    tree, build = tmp_path / "fio", tmp_path / "build"
    shutil.copytree(fio_sources().partition(";")[0], tree)
    for name in ("FIO-VERSION-FILE", "version"):
        (tree / name).unlink(missing_ok=True)
    git = ["git", "-C", str(tree), "-c", "user.name=x", "-c", "user.email=x"]
    for words in (["init", "-q"], ["add", "ioengines.h"], ["commit", "-q", "-m", "x"], ["tag", "-a", "fio-3.99", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    done = subprocess.run([CMAKE, "--preset", "release", "-B", str(build), f"-DFIO_SOURCE_DIRS={os.path.relpath(tree, ROOT)}"],
                          cwd=ROOT, text=True, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"fio: fio-3.99 in {tree}\n" in done.stdout
    assert f"-isystem {tree} " in (build / "compile_commands.json").read_text()


def test_every_library_of_the_build_is_in_readmes_line() -> None:
    """pkg-config's names and Debian's."""
    (packages,) = re.findall(r"^    apt-get install (cmake .*)$", README, re.MULTILINE)
    text = (ROOT / "engine/CMakeLists.txt").read_text()
    wanted = re.findall(r"pkg_check_modules\(\w+ REQUIRED IMPORTED_TARGET (\w+)", text)
    assert len(wanted) > 1
    assert {f"{name}-dev" for name in wanted} <= set(packages.split())


# A root of its own in two places: what is installed and what the loader knows are gone with the process.
APART = """\
set -e
mount -t tmpfs tmpfs /usr/local
mkdir /usr/local/lib /usr/local/upper /usr/local/work
mount -t overlay -o lowerdir=/etc,upperdir=/usr/local/upper,workdir=/usr/local/work overlay /etc
"""


def apart(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A shell's lines, run where /usr/local is empty and /etc may be changed."""
    return subprocess.run(["unshare", "--mount", "sh", "-c", APART + script], cwd=folder, text=True, timeout=120,
                          capture_output=True, check=False)


def test_fio_finds_the_library_as_readme_names_it(tmp_path: Path) -> None:
    """By the name alone, after README's line, in the folders that it installs to."""
    if apart("", tmp_path).returncode:
        pytest.skip("no mounts of its own may be made here: run it as root")
    (install,) = re.findall(r" (cmake --install build/release.*)$", README, re.MULTILINE)
    install = install.replace("cmake", shlex.quote(CMAKE)).replace("build/release", shlex.quote(BUILD))
    (engine,) = set(re.findall(r"^        --ioengine=(\S+) --dmabuf_exporter=udmabuf$", README, re.MULTILINE))
    job = f"fio --name=t --filename=f --size=1m --rw=read --ioengine={engine} --dmabuf_datapath=host"
    done = apart(f"{install} >/dev/null\n{job}", tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "proven: " in done.stderr
