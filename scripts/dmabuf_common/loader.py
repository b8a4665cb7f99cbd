# SPDX-License-Identifier: GPL-2.0-only
"""Where the loader finds the file of an ioengine, as fio asks it to."""

import glob
import os
import re
from pathlib import Path

from . import process

_PREFIX = "external:"
_CACHED = re.compile(r"^\s*(\S+) \(([^)]*)\) => (/.+)$", re.M)
_PLACES = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
# fio looks for engine X in such a folder as fio-X.so when the loader has found none.
_OF_FIO = ("/usr/lib/*/fio", "/usr/lib/fio", "/usr/local/lib/fio")


def is_file(engine: str) -> bool:
    """Whether fio loads this engine from a file, rather than having it built in."""
    return engine.startswith(_PREFIX) or "/" in engine or engine.endswith(".so")


def find(engine: str) -> str:
    """The file that fio loads for an engine, as ioengine= names it; "" where there is none."""
    name = engine.removeprefix(_PREFIX)
    if not is_file(engine):
        return ""
    if "/" in name:
        return name if Path(name).is_file() else ""
    folders = [f for f in re.split("[:;]", os.environ.get("LD_LIBRARY_PATH", "")) if f]
    cached = [path for soname, _, path in _CACHED.findall(_cache()) if soname == name]
    default = [f"{folder}/{name}" for folder in _PLACES]
    of_fio = [f"{folder}/fio-{name}.so" for place in _OF_FIO for folder in sorted(glob.glob(place))]
    every = [*(f"{folder}/{name}" for folder in folders), *cached, *default, *of_fio]
    return next((path for path in every if Path(path).is_file()), "")


def of_fio(library: str, fio: str) -> str:
    """The file with the code of an engine that is loaded from `library` by a fio that calls itself `fio`
    ("fio-3.41"): libdmabuf.so takes it from the folder beside it, any other library has it itself."""
    path = Path(library)
    own = path.resolve().parent / path.stem / f"{fio}.so"
    return str(own) if library and fio and own.is_file() else library


def _cache() -> str:
    """The loader's cache as text; ldconfig need not be on a user's path."""
    return process.output(["/sbin/ldconfig", "-p"]) or process.output(["ldconfig", "-p"])
