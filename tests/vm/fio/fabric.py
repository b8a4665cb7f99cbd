# SPDX-License-Identifier: GPL-2.0-only
"""Drives that are reached over something else than PCI: a disk of this guest, given by nvmet and taken by the
same guest, over TCP or by the loop transport."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGFS = Path("/sys/kernel/config")
PORTS = {"loop": 1, "tcp": 2}
MODULES = {"loop": ["nvmet", "nvme-loop"], "tcp": ["nvmet", "nvmet-tcp", "nvme-tcp"]}
ADDRESS, SERVICE = "127.0.0.1", "4420"


def drives() -> set[str]:
    """NVMe disks that can be opened: of a multipath head the head itself, as its paths are hidden."""
    return {place.name for place in Path("/sys/block").glob("nvme*n*") if Path("/dev", place.name).exists()}


def name_of(transport: str) -> str:
    """The subsystem's name."""
    return f"dmabuf-{transport}"


def connect(transport: str) -> str:
    """Takes what is given; the block device."""
    before = drives()
    where = ["-a", ADDRESS, "-s", SERVICE] if transport == "tcp" else []
    subprocess.run(["nvme", "connect", "-t", transport, *where, "-n", name_of(transport)], check=True,
                   stdout=subprocess.DEVNULL)
    for _ in range(300):
        new = drives() - before
        if new:
            return f"/dev/{new.pop()}"
        time.sleep(0.1)
    raise SystemExit(f"setup: no drive over {transport}")


def disconnect(transport: str) -> None:
    """Lets go of it, whoever uses it."""
    subprocess.run(["nvme", "disconnect", "-n", name_of(transport)], check=False, stdout=subprocess.DEVNULL)


@contextmanager
def given(device: str, transport: str) -> Iterator[None]:
    """A block device as the only namespace of a subsystem of its own."""
    subprocess.run(["modprobe", "-a", *MODULES[transport]], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if not (CONFIGFS / "nvmet").exists():
        subprocess.run(["mount", "-t", "configfs", "none", str(CONFIGFS)], check=True)
    subsystem = CONFIGFS / "nvmet/subsystems" / name_of(transport)
    space, port = subsystem / "namespaces/1", CONFIGFS / f"nvmet/ports/{PORTS[transport]}"
    for folder in (subsystem, space, port):
        folder.mkdir()
    settings = {subsystem / "attr_allow_any_host": "1", space / "device_path": device, space / "enable": "1",
                port / "addr_trtype": transport}
    if transport == "tcp":
        settings |= {port / "addr_adrfam": "ipv4", port / "addr_traddr": ADDRESS, port / "addr_trsvcid": SERVICE}
    for file, text in settings.items():
        file.write_text(text)
    link = port / "subsystems" / name_of(transport)
    link.symlink_to(subsystem)
    try:
        yield
    finally:
        link.unlink()
        (space / "enable").write_text("0")
        for folder in (space, subsystem, port):
            folder.rmdir()


@contextmanager
def taken(device: str, transport: str) -> Iterator[str]:
    """A disk of this machine as a drive over that transport: the block device."""
    with given(device, transport):
        try:
            yield connect(transport)
        finally:
            disconnect(transport)
