# SPDX-License-Identifier: GPL-2.0-only
"""Lays out the C++ and Python files: clang-format with .clang-format, autopep8 with .pep8.

The kernel modules are left alone: checkpatch says how they are laid out (lint.py), and the kernel's own .clang-format
changes hundreds of lines that checkpatch has nothing against, one of them into one that it has.
"""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from dmabuf_common.verdict import EXIT_FAIL

from . import build
from .errors import LabError
from .progress import say

# The same in Debian 12 and 13; what other releases make differs.
CLANG_FORMAT = "clang-format-19"
AUTOPEP8 = "autopep8"
PACKAGES = {CLANG_FORMAT: CLANG_FORMAT, AUTOPEP8: "python3-autopep8"}
CPP = ("engine", "tests")
PYTHON = ("docs", "scripts", "tests")
# Of another formatter, which nobody runs.
MARK = re.compile(rb" +# fmt: skip$", re.MULTILINE)


def tracked(base: Path, folders: tuple[str, ...]) -> list[Path]:
    """The files that git knows in some folders, but for links."""
    names = subprocess.run(["git", "ls-files", "-z", *folders], cwd=base, check=True, capture_output=True).stdout
    found = [base / name.decode() for name in names.split(b"\0") if name]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def is_python(path: Path) -> bool:
    """By its name, or by its first line."""
    if path.suffix:
        return path.suffix == ".py"
    with path.open("rb") as file:
        return file.readline().startswith(b"#!/usr/bin/python3")


def laid_out(path: Path, base: Path) -> bytes:
    """A file as it should be."""
    text = path.read_bytes()
    if path.suffix in (".cpp", ".hpp"):
        argv = [CLANG_FORMAT, "--style=file", f"--assume-filename={path}"]
    else:
        text = MARK.sub(b"", text)
        argv = [AUTOPEP8, f"--global-config={base / '.pep8'}", "--ignore-local-config", "-"]
    done = subprocess.run(argv, cwd=base, input=text, capture_output=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{argv[0]} fails on {path}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def files(base: Path) -> list[Path]:
    """What is laid out."""
    cpp = [path for path in tracked(base, CPP) if path.suffix in (".cpp", ".hpp")]
    return cpp + [path for path in tracked(base, PYTHON) if is_python(path)]


def run(check: bool) -> int:
    """Lays the files out, or says with `check` which differ; 1 if any does then."""
    for name, package in PACKAGES.items():
        if not shutil.which(name):
            raise LabError(f"there is no {name} here: apt-get install {package}")
    base = build.checkout()
    found = files(base)
    differ = 0
    # Threads that wait for programs.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, wanted in zip(found, pool.map(partial(laid_out, base=base), found), strict=True):
            if wanted != path.read_bytes():
                differ += 1
                print(path.relative_to(base))
                if not check:
                    path.write_bytes(wanted)
    say(f"{differ} of {len(found)} files {'differ' if check else 'were laid out anew'}")
    return EXIT_FAIL if check and differ else 0
