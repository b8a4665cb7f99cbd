# SPDX-License-Identifier: GPL-2.0-only
"""Thresholds: the default file, and the user's over it."""

import tomllib
from pathlib import Path
from typing import Any

from .errors import QualError

DEFAULT = Path(__file__).with_name("requirements.toml")
KNOWN_PATHS = ("premapped", "registered", "bvec")
KNOWN_MEMORY = ("system", "peer", "any")

Requirements = dict[str, Any]


def _read(path: Path) -> Requirements:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise QualError(f"{path}: {error.strerror}; give a readable requirements file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise QualError(f"{path} is no valid TOML: {error}") from error


def _merge(base: Requirements, over: Requirements, where: str, path: Path) -> Requirements:
    merged = dict(base)
    for key, value in over.items():
        name = where + key
        if key not in base:
            raise QualError(f"{path}: there is no requirement {name!r}; see {DEFAULT.name}")
        default = base[key]
        if isinstance(default, dict):
            if not isinstance(value, dict):
                raise QualError(f"{path}: {name} must be a table")
            merged[key] = _merge(default, value, f"{name}.", path)
            continue
        number = isinstance(default, int | float) and not isinstance(value, bool)
        if not (number and isinstance(value, int | float)) and type(value) is not type(default):
            raise QualError(f"{path}: {name} must be a {type(default).__name__}")
        if number and value < 0:
            raise QualError(f"{path}: {name} must not be negative")
        merged[key] = value
    return merged


def load(path: Path | None) -> Requirements:
    """The default thresholds, with those of `path` in their place; QualError for unknown ones."""
    base = _read(DEFAULT)
    merged = _merge(base, _read(path), "", path) if path else base
    unknown = [name for name in merged["datapaths"] if name not in KNOWN_PATHS]
    if unknown:
        raise QualError(f"datapath {unknown[0]!r} in datapaths: must be of {', '.join(KNOWN_PATHS)}")
    if merged["memory"] not in KNOWN_MEMORY:
        raise QualError(f"memory must be one of {', '.join(KNOWN_MEMORY)}")
    return merged
