# SPDX-License-Identifier: GPL-2.0-only
"""Claims of made-up drives, for the tests of the guard."""

import os
from collections.abc import Iterable

import pytest
from drives import Machine

from dmabuf_common.drive_guard import Demand, Guard, Refused, claim

MIB = 1 << 20
S1 = Demand("S1")
MOUNT = "22 1 {} / {} rw - {} {} rw"


def take(
    machine: Machine, path: str = "/dev/nvme0n1", demand: Demand = S1, consent: Iterable[str] = ()
) -> Guard:
    return claim(path, demand, consent, machine.system, machine.devices)


def refusal(machine: Machine, path: str = "/dev/nvme0n1", demand: Demand = S1,
            consent: Iterable[str] = ()) -> str:
    """Why it is refused; it must be, and nothing may have been opened for writing then."""
    with pytest.raises(Refused) as caught:
        take(machine, path, demand, consent).close()
    open_now = {os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")}
    assert not [one for one in open_now if one.startswith(str(machine.root))], "left open"
    return str(caught.value)


def refused_or_taken(machine: Machine, path: str = "/dev/nvme0n1") -> str:
    """"" when it is taken."""
    try:
        take(machine, path).close()
    except Refused as error:
        return str(error)
    return ""
