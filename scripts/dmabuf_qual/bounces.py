# SPDX-License-Identifier: GPL-2.0-only
"""How often the kernel's swiotlb copied data for a device, by the kernel's own tracepoint.

Not by io_tlb_used_hiwater of debugfs: a high-water mark rises once, and Linux 7.3's stays at 0.
"""

import re
from pathlib import Path
from types import TracebackType

EVENT = Path("/sys/kernel/tracing/events/swiotlb/swiotlb_bounced")
TRIGGER = "hist:keys=dev_name:vals=hitcount"
_LINE = re.compile(r"dev_name: (\S+)\s*\} hitcount:\s*(\d+)")


class Bounces:
    """Counts from when it is entered until it is left. `device`: a PCI address."""

    def __init__(self, device: str, event: Path = EVENT) -> None:
        self.device, self.event = device, event
        self.counting = False

    def __enter__(self) -> "Bounces":
        try:
            (self.event / "trigger").write_text(TRIGGER)
            self.counting = True
        except FileExistsError:  # left by a run that was killed
            self.counting = True
        except OSError:
            pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.counting:
            (self.event / "trigger").write_text("!" + TRIGGER)
            self.counting = False

    def count(self) -> int | None:
        """So far; None where this kernel cannot tell."""
        if not self.counting:
            return None
        found = dict(_LINE.findall((self.event / "hist").read_text()))
        return int(found.get(self.device, 0))
