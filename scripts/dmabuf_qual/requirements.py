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

# The least and the most that a threshold may be; beyond, it could not fail, or not hold.
LIMITS = {
    "buffer_mib": (1, 1 << 20),
    "most_moves": (0, 1 << 32),
    "extra_commands": (0, 1 << 16),
    "longest_end_ms": (1, 600_000),
    "most_reissues": (0, 1),
    "performance.most_cpu_ratio": (0.01, 100),
    "performance.most_p99_ratio": (0.1, 100),
    "performance.most_p999_ratio": (0.1, 100),
    "drive.new_media_errors": (0, 1 << 32),
    "drive.most_used_percent": (0, 255),
}
# Likewise, where the least itself is too little.
ABOVE = {"load_gib": (0, 1 << 20), "performance.least_iops_ratio": (0, 10)}


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
        whole = isinstance(value, int) and not isinstance(value, bool)
        if type(value) is not type(default) and not (whole and isinstance(default, float)):
            raise QualError(f"{path}: {name} must be a {type(default).__name__}")
        _sensible(name, value, path)
        merged[key] = value
    return merged


def _sensible(name: str, value: Any, path: Path) -> None:
    """QualError for a threshold that anything holds, or nothing; NaN is both."""
    if name in LIMITS:
        least, most = LIMITS[name]
        if not least <= value <= most:
            raise QualError(f"{path}: {name} must be in {least:g} … {most:g}, and is {value}")
    elif name in ABOVE:
        least, most = ABOVE[name]
        if not least < value <= most:
            raise QualError(f"{path}: {name} must be above {least:g} and {most:g} at most, and is {value}")
    elif name == "datapaths":
        unknown = [one for one in value if one not in KNOWN_PATHS]
        if unknown:
            raise QualError(f"datapath {unknown[0]!r} in datapaths: must be of {', '.join(KNOWN_PATHS)}")
        if not value:
            raise QualError(f"{path}: datapaths must name one that has to work")
    elif value not in KNOWN_MEMORY:
        raise QualError(f"memory must be one of {', '.join(KNOWN_MEMORY)}")


def load(path: Path | None) -> Requirements:
    """The default thresholds, with those of `path` in their place; QualError for unknown ones."""
    base = _read(DEFAULT)
    return _merge(base, _read(path), "", path) if path else base


def check(found: Any, path: Path) -> Requirements:
    """Thresholds that a run's folder holds; QualError for those that load() would not have taken."""
    if not isinstance(found, dict):
        raise QualError(f"{path}: there are no requirements in it")
    return _merge(_read(DEFAULT), found, "", path)


def flat(needs: Requirements, where: str = "") -> dict[str, str]:
    """Each threshold by its whole name, as text."""
    words: dict[str, str] = {}
    for name, value in needs.items():
        if isinstance(value, dict):
            words |= flat(value, f"{where}{name}.")
        else:
            words[where + name] = ", ".join(value) if isinstance(value, list) else f"{value}"
    return words


def changed(needs: Requirements) -> list[str]:
    """Which thresholds are not the default ones, in words."""
    base = flat(_read(DEFAULT))
    return [f"{name} {value} (not {base[name]})" for name, value in flat(needs).items()
            if not _equal(value, base[name])]


def _equal(a: str, b: str) -> bool:
    """1 and 1.0 are the same threshold."""
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b
