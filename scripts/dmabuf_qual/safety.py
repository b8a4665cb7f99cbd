# SPDX-License-Identifier: GPL-2.0-only
"""May this drive's data be destroyed? The guard that all programs share decides; here is what
dmabuf-qual asks for besides."""

from collections.abc import Iterable, Sequence

from dmabuf_common import drive_guard
from dmabuf_common.drive_devices import Devices
from dmabuf_common.drive_guard import Demand, Guard, Refused
from dmabuf_common.sysfs import System

from .drive import Drive


def claim(
    drive: Drive, erase: bool, wanted: Demand, consent: Iterable[str] = (),
    system: System | None = None, devices: Devices | None = None, name: str = "",
) -> Guard:
    """The drive, held for the whole run. Raises Refused unless the user said that it is to be erased,
    and which one it is, and nothing is against it. `name`: what the user calls it, where there are several."""
    if not erase:
        raise Refused(
            f"a run destroys the data on {drive.path} ({drive.model}); "
            "say --erase and its --serial if that is what you want"
        )

    def ask(types: Sequence[str]) -> str:
        return drive_guard.by_options(types, f"{name}=" if name else "")

    guard = drive_guard.claim(drive.path, wanted, consent, system, devices, ask)
    now = guard.identity
    if now.node.name != drive.name:
        guard.close()
        raise Refused(f"{drive.path} led to /dev/{drive.name} a moment ago and leads to {now.node.path} now")
    # What the run says of the drive, and how much it writes, was read before.
    if drive.serial not in ("", now.serial) or drive.bytes != now.node.bytes:
        guard.close()
        raise Refused(f"{drive.path} was another drive a moment ago ({drive.serial}, {drive.bytes} bytes): say "
                      "that once more")
    return guard


def reasons(
    drive: Drive, system: System | None = None, devices: Devices | None = None
) -> list[str]:
    """Why a run would be refused, as far as reading tells; empty when nothing is against it."""
    try:
        with drive_guard.observe(drive.path, system=system, devices=devices) as guard:
            return guard.against()
    except Refused as error:
        return [str(error)]
