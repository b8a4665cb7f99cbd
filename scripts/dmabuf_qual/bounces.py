# SPDX-License-Identifier: GPL-2.0-only
"""How often the kernel's swiotlb copied data for a device, by the kernel's own tracepoint.

Not by io_tlb_used_hiwater of debugfs: a high-water mark rises once, and Linux 7.3's stays at 0. Each
run counts in a tracing instance of its own, so that none ends the count of another.
"""

import os
import re
from itertools import count
from pathlib import Path
from types import TracebackType

TRACING = Path("/sys/kernel/tracing")
EVENT = "events/swiotlb/swiotlb_bounced"
TRIGGER = "hist:keys=dev_name:vals=hitcount"
_LINE = re.compile(r"dev_name: (\S+)\s*\} hitcount:\s*(\d+)")
_INSTANCE = re.compile(r"dmabuf-qual-(\d+)-\d+")
_NUMBERS = count()


def _sweep(instances: Path) -> None:
    """Takes away what killed runs left."""
    for path in instances.iterdir():
        match = _INSTANCE.fullmatch(path.name)
        if match and not Path(f"/proc/{match.group(1)}").exists():
            _remove(path)


def _remove(instance: Path) -> None:
    try:
        (instance / EVENT / "trigger").write_text("!" + TRIGGER)
    except OSError:
        pass  # a run that was killed before it had one
    try:
        instance.rmdir()
    except OSError:
        pass  # what is left counts on, and harms nobody


class Bounces:
    """Counts from when it is entered until it is left. `device`: a PCI address."""

    def __init__(self, device: str, tracing: Path = TRACING) -> None:
        self.device, self.tracing = device, tracing
        self._instance: Path | None = None

    @property
    def counting(self) -> bool:
        """Whether this kernel can tell."""
        return self._instance is not None

    def __enter__(self) -> "Bounces":
        if not (self.tracing / EVENT).exists():
            return self
        instances = self.tracing / "instances"
        made = instances / f"dmabuf-qual-{os.getpid()}-{next(_NUMBERS)}"
        try:
            _sweep(instances)
            made.mkdir()
            (made / EVENT / "trigger").write_text(TRIGGER)
            self._instance = made
        except OSError:
            if made.exists():
                _remove(made)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._instance is not None:
            _remove(self._instance)
            self._instance = None

    def count(self) -> int | None:
        """So far; None where this kernel cannot tell."""
        if self._instance is None:
            return None
        found = dict(_LINE.findall((self._instance / EVENT / "hist").read_text()))
        return int(found.get(self.device, 0))
