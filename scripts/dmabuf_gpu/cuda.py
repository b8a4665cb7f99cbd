# SPDX-License-Identifier: GPL-2.0-only
"""Each call of the CUDA driver API that exporter cuda makes, made here by itself, with its answer: both kinds of
memory, both mappings of the dma-buf, copies both ways with every byte compared.

It runs as a program of its own (`python3 -m dmabuf_gpu.cuda DEVICE`) and prints one JSON: a driver that dies or hangs
takes nothing else along. No job of fio is forked from a process that has used CUDA.
"""

import ctypes
import fcntl
import json
import mmap
import operator
import os
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dmabuf_common import errnos

SIZE = 64 << 20
BLOCK = 2 << 20
PAGE = 4096
# (_IOW('b', 0, __u64)), start of an access both ways and its end.
_SYNC, _SYNC_START, _SYNC_END = 0x40086200, 3, 3 | 4
_EXPORT_FD, _PCIE = 1, 1
_FLUSH_OWNER = 100
ATTRIBUTES = {
    "INTEGRATED": 18, "VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED": 102, "GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED": 110,
    "GPU_DIRECT_RDMA_SUPPORTED": 116, "GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS": 117,
    "GPU_DIRECT_RDMA_WRITES_ORDERING": 118, "DMA_BUF_SUPPORTED": 124,
    "PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES": 100,
}
KINDS, MAPPINGS = ("alloc", "vmm"), {"default": 0, "pcie": _PCIE}
# What a driver answers that does not have what it was asked for.
UNKNOWN = ("CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_NOT_SUPPORTED")
NO_FUNCTION = "no such function"
# What the exporter does without where the library has none.
OPTIONAL = frozenset((
    "cuDeviceGetUuid", "cuDeviceGetUuid_v2", "cuFlushGPUDirectRDMAWrites", "cuMemGetAllocationGranularity",
    "cuMemCreate", "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess", "cuMemUnmap", "cuMemAddressFree", "cuMemRelease",
))


class Refused(Exception):
    """A call that the rest needs did not answer with success."""


class _Location(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


class _Properties(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("handle_types", ctypes.c_int), ("location", _Location), ("win32", ctypes.c_void_p),
        ("compression", ctypes.c_ubyte), ("rdma", ctypes.c_ubyte), ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 4),
    ]


class _Access(ctypes.Structure):
    _fields_ = [("location", _Location), ("flags", ctypes.c_int)]


def u64(value: int = 0) -> ctypes.c_uint64:
    """As the API takes addresses, sizes and handles."""
    return ctypes.c_uint64(value)


def pattern(generation: int) -> bytes:
    """SIZE bytes: each 8 of them name their page and the generation."""
    return b"".join((offset ^ generation).to_bytes(8, "little") * (PAGE // 8) for offset in range(0, SIZE, PAGE))


class Driver:
    """libcuda.so.1, and a record of what each call answered."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.calls: list[dict[str, Any]] = []
        self.step = "start"

    def name(self, answer: int) -> str:
        """CUDA_ERROR_…"""
        text = ctypes.c_char_p()
        self.library.cuGetErrorName(ctypes.c_int(answer), ctypes.byref(text))
        return text.value.decode() if text.value else f"error {answer}"

    def note(self, call: str, answer: int, name: str, started: float, gave: dict[str, Any] | None = None) -> None:
        """One line of the record."""
        entry = {"step": self.step, "call": call, "answer": answer, "name": name,
                 "ms": round((time.monotonic() - started) * 1000, 3)}
        self.calls.append(entry | ({"gave": gave} if gave else {}))

    def call(self, name: str, *words: Any, gives: Callable[[], dict[str, Any]] | None = None) -> str:
        """Makes a call; the name of its answer."""
        started = time.monotonic()
        try:
            function = getattr(self.library, name)
        except AttributeError:
            self.note(name, -1, NO_FUNCTION, started)
            return NO_FUNCTION
        answer = function(*words)
        text = "CUDA_SUCCESS" if answer == 0 else self.name(answer)
        self.note(name, answer, text, started, gives() if gives and answer == 0 else None)
        return text

    def need(self, name: str, *words: Any, gives: Callable[[], dict[str, Any]] | None = None) -> None:
        """Makes a call that the rest needs."""
        said = self.call(name, *words, gives=gives)
        if said != "CUDA_SUCCESS":
            raise Refused(f"{name}: {said}")

    def system(self, name: str, action: Callable[[], dict[str, Any]]) -> bool:
        """The same for a call of the kernel's."""
        started = time.monotonic()
        try:
            gave = action()
        except OSError as error:
            number = error.errno or -1
            self.note(name, number, errnos.name(number), started)
            return False
        self.note(name, 0, "0", started, gave)
        return True


def find(driver: Driver, wanted: str) -> int:
    """The device's number: `wanted` is a number, a PCI address or a UUID as nvidia-smi writes it."""
    count = ctypes.c_int()
    driver.need("cuDeviceGetCount", ctypes.byref(count), gives=lambda: {"count": count.value})
    device = ctypes.c_int()
    if not wanted or wanted.isdecimal():
        driver.need("cuDeviceGet", ctypes.byref(device), int(wanted or 0), gives=lambda: {"device": device.value})
        return device.value
    if not wanted.startswith(("GPU-", "MIG-")):
        driver.need("cuDeviceGetByPCIBusId", ctypes.byref(device), wanted.encode(),
                    gives=lambda: {"device": device.value})
        return device.value
    for number in range(count.value):
        if any(name.startswith(wanted.lower()[4:]) for name in uuids(driver, number).values()):
            return number
    raise Refused(f"CUDA shows this process no device {wanted}")


def uuids(driver: Driver, device: int) -> dict[str, str]:
    """A device's own, and that of the instance of a GPU that it is."""
    found = {}
    for call in ("cuDeviceGetUuid", "cuDeviceGetUuid_v2"):
        raw = (ctypes.c_ubyte * 16)()
        if driver.call(call, raw, ctypes.c_int(device)) == "CUDA_SUCCESS":
            text = bytes(raw).hex()
            found[call] = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    return found


def bar1(pci: str) -> int:
    """Bytes of the largest memory BAR: by which others reach the GPU's memory. 0 where it is not known."""
    largest = 0
    try:
        lines = Path(f"/sys/bus/pci/devices/{pci}/resource").read_text().splitlines()[:6]
    except OSError:
        return 0
    for line in lines:
        first, last, flags = (int(word, 16) for word in line.split())
        if flags & 0x200 and last > first:
            largest = max(largest, last - first + 1)
    return largest


def describe(driver: Driver, device: int) -> dict[str, Any]:
    """What CUDA says of the GPU, and the size of its BAR."""
    name = ctypes.create_string_buffer(128)
    pci = ctypes.create_string_buffer(32)
    total = u64()
    driver.call("cuDeviceGetName", name, len(name), ctypes.c_int(device), gives=lambda: {"name": name.value.decode()})
    driver.need("cuDeviceGetPCIBusId", pci, len(pci), ctypes.c_int(device), gives=lambda: {"pci": pci.value.decode()})
    driver.call("cuDeviceTotalMem_v2", ctypes.byref(total), ctypes.c_int(device), gives=lambda: {"bytes": total.value})
    own = uuids(driver, device)
    gpu, instance = own.get("cuDeviceGetUuid", ""), own.get("cuDeviceGetUuid_v2", "")
    values = {}
    for attribute, which in ATTRIBUTES.items():
        value = ctypes.c_int()

        def given(value: ctypes.c_int = value, attribute: str = attribute) -> dict[str, Any]:
            return {attribute: value.value}

        if driver.call("cuDeviceGetAttribute", ctypes.byref(value), which, ctypes.c_int(device),
                       gives=given) == "CUDA_SUCCESS":
            values[attribute] = value.value
    address = pci.value.decode().lower()
    said: dict[str, Any] = {"device": device, "name": name.value.decode(), "pci": address, "memory_bytes": total.value,
                            "attributes": values}
    said |= {"uuid": f"GPU-{gpu}"} if gpu else {}
    said |= {"instance": f"MIG-{instance}"} if instance and instance != gpu else {}
    return said | ({"bar1_bytes": bar1(address)} if bar1(address) else {})


@contextmanager
def allocated(driver: Driver) -> Iterator[int]:
    """Memory of cuMemAlloc."""
    pointer = u64()
    driver.need("cuMemAlloc_v2", ctypes.byref(pointer), u64(SIZE), gives=lambda: {"inside_page": pointer.value % PAGE})
    try:
        yield pointer.value
    finally:
        driver.call("cuMemFree_v2", pointer)


@contextmanager
def created(driver: Driver, device: int) -> Iterator[int]:
    """Memory of cuMemCreate that other devices may reach, mapped at an address."""
    wanted = _Properties(type=1, location=_Location(1, device), rdma=1)
    block, handle, pointer = u64(), u64(), u64()
    driver.need("cuMemGetAllocationGranularity", ctypes.byref(block), ctypes.byref(wanted), 0,
                gives=lambda: {"bytes": block.value})
    driver.need("cuMemCreate", ctypes.byref(handle), u64(SIZE), ctypes.byref(wanted), u64(0))
    try:
        driver.need("cuMemAddressReserve", ctypes.byref(pointer), u64(SIZE), u64(0), u64(0), u64(0))
        try:
            driver.need("cuMemMap", pointer, u64(SIZE), u64(0), handle, u64(0))
            try:
                access = _Access(_Location(1, device), 3)
                driver.need("cuMemSetAccess", pointer, u64(SIZE), ctypes.byref(access), u64(1))
                yield pointer.value
            finally:
                driver.call("cuMemUnmap", pointer, u64(SIZE))
        finally:
            driver.call("cuMemAddressFree", pointer, u64(SIZE))
    finally:
        driver.call("cuMemRelease", handle)


def copy(driver: Driver, pointer: int, generation: int) -> dict[str, Any]:
    """A pattern up and back down, every byte compared; what differs, if anything."""
    sent, back = pattern(generation), ctypes.create_string_buffer(b"\xa5" * SIZE, SIZE)
    driver.need("cuMemcpyHtoD_v2", u64(pointer), sent, u64(SIZE))
    driver.need("cuCtxSynchronize")
    driver.call("cuFlushGPUDirectRDMAWrites", 0, _FLUSH_OWNER)
    driver.need("cuMemcpyDtoH_v2", back, u64(pointer), u64(SIZE))
    got = back.raw
    wrong = 0 if got == sent else sum(map(operator.ne, array("Q", got), array("Q", sent)))
    return {"bytes": SIZE, "wrong": wrong}


def look(driver: Driver, fd: int) -> dict[str, Any]:
    """What the dma-buf is, by the kernel's own words, and what the CPU may do with it."""
    said: dict[str, Any] = {"size": os.lseek(fd, 0, os.SEEK_END)}
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    fdinfo = dict(line.split(":", 1) for line in lines if ":" in line)
    said["exp_name"] = fdinfo.get("exp_name", "").strip()

    def mapped() -> dict[str, Any]:
        with mmap.mmap(fd, PAGE):
            return {}

    def sync() -> dict[str, Any]:
        for flags in (_SYNC_START, _SYNC_END):
            fcntl.ioctl(fd, _SYNC, flags.to_bytes(8, "little"))
        return {}

    said["mmap"] = driver.system("mmap", mapped)
    said["sync"] = driver.system("DMA_BUF_IOCTL_SYNC", sync)
    return said


def export(driver: Driver, pointer: int, kind: str, mapping: str, generation: int) -> dict[str, Any]:
    """One kind of memory by one mapping."""
    driver.step = f"{kind}+{mapping}"
    fd = ctypes.c_int(-1)
    answer = driver.call("cuMemGetHandleForAddressRange", ctypes.byref(fd), u64(pointer), u64(SIZE), _EXPORT_FD,
                         u64(MAPPINGS[mapping]))
    said: dict[str, Any] = {"kind": kind, "mapping": mapping, "answer": answer, "exported": answer == "CUDA_SUCCESS"}
    if not said["exported"]:
        return said
    try:
        return said | {"dmabuf": look(driver, fd.value), "copy": copy(driver, pointer, generation)}
    finally:
        os.close(fd.value)


def ways(driver: Driver, device: int, kind: str) -> list[dict[str, Any]]:
    """One kind of memory, by each mapping."""
    driver.step = kind
    memory = allocated(driver) if kind == "alloc" else created(driver, device)
    try:
        with memory as pointer:
            on = ctypes.c_uint(1)
            sync = driver.call("cuPointerSetAttribute", ctypes.byref(on), 6, u64(pointer))
            return [export(driver, pointer, kind, mapping, 1 + 2 * number + (kind == "vmm")) | {"sync_memops": sync}
                    for number, mapping in enumerate(MAPPINGS)]
    except Refused as refused:
        return [{"kind": kind, "mapping": mapping, "answer": str(refused), "exported": False} for mapping in MAPPINGS]


def everything(wanted: str) -> dict[str, Any]:
    """All that the driver answers. `why` where there is no GPU to ask."""
    try:
        driver = Driver(ctypes.CDLL("libcuda.so.1"))
    except OSError as error:
        return {"why": f"there is no NVIDIA driver: libcuda.so.1 cannot be loaded ({error}); install it "
                       "(Debian's package libcuda1 and the open kernel modules)", "calls": []}
    said: dict[str, Any] = {"calls": driver.calls}
    try:
        version = ctypes.c_int()
        driver.call("cuDriverGetVersion", ctypes.byref(version), gives=lambda: {"version": version.value})
        said["cuda"] = f"{version.value // 1000}.{version.value % 1000 // 10}"
        driver.need("cuInit", 0)
        device = find(driver, wanted)
        said["gpu"] = describe(driver, device)
        context = ctypes.c_void_p()
        driver.need("cuDevicePrimaryCtxRetain", ctypes.byref(context), ctypes.c_int(device))
        driver.need("cuCtxPushCurrent_v2", context)
        said["ways"] = [way for kind in KINDS for way in ways(driver, device, kind)]
        driver.step = "end"
        driver.call("cuCtxPopCurrent_v2", ctypes.byref(context))
        driver.call("cuDevicePrimaryCtxRelease_v2", ctypes.c_int(device))
    except Refused as refused:
        said["why"] = f"CUDA gives no GPU here ({refused}); see nvidia-smi, /dev/nvidia* and CUDA_VISIBLE_DEVICES"
    return said


if __name__ == "__main__":
    json.dump(everything(sys.argv[1] if len(sys.argv) > 1 else ""), sys.stdout)
