# SPDX-License-Identifier: GPL-2.0-only
"""Where the engine, the program that compares bytes and the job files are."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .errors import QualError

ENGINE = "libdmabuf.so"
CHECKOUT = Path(__file__).resolve().parents[2]
INSTALLED = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Tools:
    """Paths of what a run starts."""

    integrity: str
    engine: str  # as fio's --ioengine wants it
    jobs: Path


def _newest(patterns: tuple[str, ...]) -> Path | None:
    found = [path for pattern in patterns for path in CHECKOUT.glob(pattern) if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def engine_file() -> str:
    """The engine's library: the environment's LIBDMABUF, what a build made, or its bare name, by which
    the loader finds what is installed."""
    engine = os.environ.get("LIBDMABUF", "")
    if engine:
        return engine
    built = _newest((f"build/*/engine/{ENGINE}",))
    return str(built) if built else ENGINE


def integrity_program() -> str:
    """dmabuf-integrity: the environment's DMABUF_INTEGRITY, the one beside the engine, the one that is
    installed. QualError where there is none."""
    beside = Path(engine_file()).parent / "integrity/dmabuf-integrity"
    found = os.environ.get("DMABUF_INTEGRITY", "") or (str(beside) if beside.is_file() else "")
    found = shutil.which(found or "dmabuf-integrity") or ""
    if not found:
        raise QualError("dmabuf-integrity is not there: build and install the engine first")
    return found


def find() -> Tools:
    """The environment's LIBDMABUF and DMABUF_INTEGRITY, what is installed, what a build made."""
    engine, integrity = engine_file(), integrity_program()
    if not shutil.which("fio"):
        raise QualError("fio is not there: apt-get install fio")
    jobs = next((p for p in (CHECKOUT / "jobs", INSTALLED / "jobs") if p.is_dir()), None)
    if jobs is None:
        raise QualError("the job files are not there: use a whole checkout or installation")
    external = f"external:{engine}" if "/" in engine else engine
    return Tools(integrity, external, jobs)
