# SPDX-License-Identifier: GPL-2.0-only
"""What guests with Secure Boot need: fetched once, when one is first asked for, and a key for each run.

It is a folder in the cache, secure-boot-HASH, with

  firmware   UEFI for QEMU: its code, and variables in which Microsoft's keys are enrolled
  shim.efi   the boot loader that Microsoft signed, which knows Debian's keys and the user's (MOK)
  grub.efi   the boot loader that Debian signed
  mok.efi    MokManager, which shim starts when the user asked for a key to be enrolled
  guest      programs that the guest has besides: mokutil
  info.json  what it is; written last
"""

import base64
import json
import os
import shutil
import struct
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmabuf_common import files
from dmabuf_common.clock import now

from . import cache, chroot, config, kept, qemu, root, stock_kernel
from .errors import LabError
from .private_apt import PrivateApt
from .progress import fetching

# Raise it when what is made of the packages changes.
RECIPE_VERSION = 1
PREFIX = "secure-boot-"
# Under which its packages are kept.
NAME = "secure-boot"

# Where a guest has the key of its run: where DKMS has its own.
KEY = "/var/lib/dkms/mok.key"
CERTIFICATE = "/var/lib/dkms/mok.pub"
# Where the lab root is shown the folder in which the key is made.
MOUNT = "/share"

# Of the UEFI specification and of EDK2, whose variables in flash these are.
AUTHENTICATED_STORE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792")
X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
STORE_HEADER = struct.Struct("<16sIBBHI")
VARIABLE_HEADER = struct.Struct("<HBBIQ16sIII16s")
VARIABLE_START = 0x55AA
VARIABLE_ADDED = 0x3F
NON_VOLATILE, BOOT_SERVICE = 1, 2
# Of shim: the list of the user's keys, which only boot services can reach.
SHIM = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
MOK_LIST = "MokList"


@dataclass(frozen=True)
class SecureBoot:
    """A complete one."""

    path: Path

    @property
    def code(self) -> Path:
        """The firmware."""
        return self.path / "firmware/OVMF_CODE_4M.secboot.fd"

    @property
    def variables(self) -> Path:
        """Its variables, as they are before a key of the user's is enrolled."""
        return self.path / "firmware/OVMF_VARS_4M.ms.fd"

    @property
    def shim(self) -> Path:
        """The first thing that the firmware starts."""
        return self.path / "shim.efi"

    @property
    def grub(self) -> Path:
        """What shim starts, which starts the kernel."""
        return self.path / "grub.efi"

    @property
    def manager(self) -> Path:
        """MokManager, which Debian signed."""
        return self.path / "mok.efi"

    @property
    def guest(self) -> Path:
        """Shown over the guest's root."""
        return self.path / "guest"

    def firmware(self, variables: bytes = b"", flash: Path | None = None) -> qemu.Firmware:
        """What a machine is made of, with what its flash holds, or the file that is its flash."""
        return qemu.Firmware(self.code, self.shim, self.grub, self.manager, self.guest, variables, flash)


@dataclass(frozen=True)
class Key:
    """A key that signs modules (PEM), and its certificate (DER)."""

    private: bytes
    certificate: bytes

    def spec(self) -> dict[str, str]:
        """For the guest's agent."""
        return {
            "key": self.private.decode(),
            "key_path": KEY,
            "certificate": base64.b64encode(self.certificate).decode(),
            "certificate_path": CERTIFICATE,
        }


def item_path() -> Path:
    """Where it is in the cache, or will be."""
    recipe = {"version": RECIPE_VERSION, "suite": config.SUITE, "packages": list(config.SECURE_BOOT_PACKAGES)}
    return cache.folder() / f"{PREFIX}{root.recipe_hash(recipe)}"


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def find() -> SecureBoot | None:
    """It, if it was fetched."""
    path = item_path()
    return SecureBoot(path) if (path / "info.json").is_file() else None


@contextmanager
def in_use() -> Iterator[SecureBoot]:
    """It, fetched now if it is not there; `clean` does not remove it meanwhile."""
    found = get()
    with cache.lock(_lock_path(found.path), shared=True, what="the firmware for Secure Boot"):
        if not (found.path / "info.json").exists():
            raise LabError("the firmware for Secure Boot was removed meanwhile; run this again")
        yield found


def place(unpacked: Path, item: Path) -> None:
    """Moves what the packages hold to where it is kept; LabError if they lack something."""
    made = SecureBoot(item)
    made.code.parent.mkdir(parents=True)
    for target, source in (
        (made.code, f"usr/share/OVMF/{made.code.name}"),
        (made.variables, f"usr/share/OVMF/{made.variables.name}"),
        (made.shim, "usr/lib/shim/shimx64.efi.signed"),
        (made.manager, "usr/lib/shim/mmx64.efi.signed"),
        (made.grub, "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"),
        (made.guest / "usr/bin/mokutil", "usr/bin/mokutil"),
    ):
        if not (unpacked / source).is_file():
            raise LabError(f"the packages for Secure Boot hold no {source}")
        target.parent.mkdir(parents=True, exist_ok=True)
        (unpacked / source).rename(target)
    libraries = made.guest / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    for path in unpacked.glob("usr/lib/x86_64-linux-gnu/libefivar.so.*"):
        path.rename(libraries / path.name)


def _fetch(mirror: str, work: Path) -> dict[str, Any]:
    private = PrivateApt(work / "apt", name=NAME)
    if not private.use(mirror, config.SUITE, "deb"):
        raise LabError(
            "the firmware for Secure Boot is to be fetched, and the archive cannot be reached: "
            "with a network, run this again"
        )
    packages = {}
    for name in config.SECURE_BOOT_PACKAGES:
        folder = private.download(name)
        packages[name] = sorted(path.name for path in folder.glob("*.deb"))
        stock_kernel.extract(folder, work / "unpacked")
    place(work / "unpacked", work / "item")
    kept.settle(NAME, private.used)
    return {"packages": packages, "made": now()}


def get() -> SecureBoot:
    """It, fetched now if it is not there, under another name that becomes its own when it is complete."""
    found = find()
    if found is not None:
        return found
    with cache.lock(cache.folder() / "secure-boot.lock", what="the fetching of the firmware for Secure Boot"):
        found = find()
        if found is not None:
            return found
        mirror = root.debian_mirror()
        if mirror is None:
            raise LabError("no Debian archive is known to fetch the firmware for Secure Boot from")
        target = item_path()
        # What was cut off: fetching it, and, without its info.json, removing it.
        for stale in (*cache.folder().glob(f"{PREFIX}*.tmp.*"), target):
            shutil.rmtree(stale, ignore_errors=True)
        work = target.with_name(f"{target.name}.tmp.{os.getpid()}")
        work.mkdir()
        try:
            with fetching("fetching the firmware for Secure Boot (7 MB, once)", work / "apt", kept=kept.folder()):
                info = _fetch(mirror, work)
            files.write_json(work / "item/info.json", info)
            (work / "item").rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    found = find()
    if found is None:
        raise LabError("the firmware for Secure Boot vanished right after it was fetched")
    return found


def remove(everything: bool) -> list[str]:
    """Removes those of other recipes, or all; returns those kept because they are in use."""
    with files.try_lock(cache.folder() / "secure-boot.lock") as free:
        if not free:
            return ["the firmware for Secure Boot, which is being fetched"]
        keep = () if everything else (item_path(),)
        return cache.remove_unused(cache.folder().glob(f"{PREFIX}*"), keep, _lock_path)


def make_key(lab: root.Root) -> Key:
    """A key of its own for one run, as DKMS makes one."""
    with tempfile.TemporaryDirectory(prefix="dmabuf-lab-") as name:
        folder = Path(name)
        command = ["openssl", "req", "-new", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "36500"]
        command += ["-subj", "/CN=dmabuf-lab, for one run", "-outform", "DER"]
        command += ["-keyout", f"{MOUNT}/mok.key", "-out", f"{MOUNT}/mok.pub"]
        bind = chroot.Bind(folder, MOUNT, read_only=False)
        chroot.check(lab.path, command, "making a key for modules", binds=[bind])
        return Key((folder / "mok.key").read_bytes(), (folder / "mok.pub").read_bytes())


def _end_of_variables(flash: bytes, place: int, limit: int) -> int:
    """Where the next variable of a store can be written; the first one begins at `place`."""
    while place + VARIABLE_HEADER.size <= limit:
        start, *_, name_size, data_size, _ = VARIABLE_HEADER.unpack_from(flash, place)
        if start != VARIABLE_START:
            return place
        place += VARIABLE_HEADER.size + name_size + data_size
        place += -place % 4
    raise LabError("the firmware's variables have no end")


def enrol(flash: bytes, certificate: bytes) -> bytes:
    """The firmware's variables with a certificate in the list of the user's keys (MOK), which must be empty."""
    # The header of the volume says how long it is itself; the store follows.
    (start,) = struct.unpack_from("<H", flash, 48)
    kind, size, *_ = STORE_HEADER.unpack_from(flash, start)
    if kind != AUTHENTICATED_STORE.bytes_le or start + size > len(flash):
        raise LabError("the firmware's variables are of an unknown form")
    name = MOK_LIST.encode("utf-16-le") + b"\0\0"
    if name in flash:
        raise LabError("the firmware's variables have a list of the user's keys already")
    signature = SHIM.bytes_le + certificate
    header = struct.pack("<III", 28 + len(signature), 0, len(signature))
    data = X509.bytes_le + header + signature
    attributes = NON_VOLATILE | BOOT_SERVICE
    variable = VARIABLE_HEADER.pack(
        VARIABLE_START, VARIABLE_ADDED, 0, attributes, 0, bytes(16), 0, len(name), len(data), SHIM.bytes_le
    )
    variable += name + data
    end = _end_of_variables(flash, start + STORE_HEADER.size, start + size)
    if flash[end : end + len(variable)] != b"\xff" * len(variable) or end + len(variable) > start + size:
        raise LabError("the firmware's variables have no room for a key")
    return flash[:end] + variable + flash[end + len(variable) :]
