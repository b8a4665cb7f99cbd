# SPDX-License-Identifier: GPL-2.0-only
"""What the debug kernel is asked after a command: leaked memory, leaked DMA mappings, lockdep's state.

Imported by the agent in the guest, and only there. Needs only the standard library.
"""

import bisect
import os
import re
import time
from collections.abc import Callable, Iterable

KMEMLEAK = "/sys/kernel/debug/kmemleak"
LOCKDEP = "/proc/lockdep_stats"
KCSAN = "/sys/kernel/debug/kcsan"
NVME = "/sys/bus/pci/drivers/nvme"
DMA_API = "/sys/kernel/debug/dma-api"

# kmemleak leaves objects younger than this alone.
LEAK_AGE_S = 5.5
UNBIND_LIMIT_S = 120.0

# Runs a short program: its status (None: did not end in time) and its output.
Tool = Callable[..., tuple[int | None, str]]


def write_file(path: str, text: str) -> None:
    """Writes to a file of /proc or /sys."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read_file(path: str) -> str:
    """The text of a file of /proc or /sys."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class Symbols:
    """Functions of modules, kept so that addresses can be named when the modules are gone."""

    def __init__(self, kallsyms: str, modules: Iterable[str]) -> None:
        wanted = {f"[{name}]" for name in modules}
        found = []
        for line in kallsyms.splitlines():
            words = line.split()
            if len(words) == 4 and words[3] in wanted and words[1] in "tT":
                found.append((int(words[0], 16), f"{words[2]} {words[3]}"))
        self.symbols = sorted(found)

    def name(self, address: int) -> str | None:
        """The function that an address is in, as the kernel writes it, or None."""
        index = bisect.bisect(self.symbols, (address, "\x7f")) - 1
        # Functions are not as long as that: the address is in something else.
        if index < 0 or address - self.symbols[index][0] >= 1 << 16:
            return None
        function, _, module = self.symbols[index][1].partition(" ")
        return f"{function}+{address - self.symbols[index][0]:#x} {module}"

    def resolve(self, text: str) -> str:
        """A text in which the addresses that are known have their names."""

        def replace(match: re.Match[str]) -> str:
            return self.name(int(match[0], 16)) or match[0]

        return re.sub(r"\b0xffffffff[0-9a-f]{8}\b", replace, text)


def split_reports(text: str) -> list[str]:
    """kmemleak's file as one text per object that nothing refers to."""
    parts = re.split(r"^(?=unreferenced object)", text, flags=re.MULTILINE)
    return [part.rstrip() for part in parts if part.startswith("unreferenced object")]


def prepare() -> None:
    """Turns kmemleak's own scans off, and has the DMA debugging watch the NVMe drives, all the time.

    kmemleak's scans take the CPU when a test does not expect it. DMA debugging says nothing more after
    its first complaint unless told otherwise; and udmabuf's own use of DMA, of a device without any limits
    of its own, makes it complain in every run that synchronises one for the CPU.
    """
    write_file(KMEMLEAK, "scan=off")
    write_file(f"{DMA_API}/all_errors", "1")
    write_file(f"{DMA_API}/driver_filter", "nvme")


def mappings_left(dump: str) -> list[str]:
    """The DMA mappings of devices that have no driver (any more), from the list of all mappings.

    A line begins with the device's driver, or with its bus where it has none, and the device's name.
    """
    left: dict[str, int] = {}
    for line in dump.splitlines():
        words = line.split()
        if len(words) > 2 and words[0] == "pci":
            left[words[1]] = left.get(words[1], 0) + 1
    return [f"{count} DMA mapping(s) left on device {name}" for name, count in sorted(left.items())]


def leaks(symbols: Symbols) -> list[str]:
    """kmemleak's reports after two scans. One scan alone may miss what a register still held."""
    time.sleep(LEAK_AGE_S)
    write_file(KMEMLEAK, "scan")
    time.sleep(LEAK_AGE_S)
    write_file(KMEMLEAK, "scan")
    return split_reports(symbols.resolve(read_file(KMEMLEAK)))


def mounted_disks(mounts: str) -> list[str]:
    """Where file systems of NVMe drives are mounted, the last one first."""
    words = (line.split() for line in mounts.splitlines())
    return [place for device, place, *_ in words if device.startswith("/dev/nvme")][::-1]


def unbind_drives(tool: Tool, busybox: str) -> list[str]:
    """Takes the driver from every NVMe drive, and tells of DMA mappings that are left on any.

    Of those that lost their driver earlier, too.
    """
    problems = []
    # A device without a driver passes no filter.
    write_file(f"{DMA_API}/driver_filter", "\n")
    for place in mounted_disks(read_file("/proc/mounts")):
        tool(busybox, "umount", place, limit_s=UNBIND_LIMIT_S)
    drives = [name for name in os.listdir(NVME) if re.match(r"[0-9a-f]{4}:", name)]
    for name in drives:
        command = f"echo {name} >{NVME}/unbind"
        status, text = tool(busybox, "sh", "-c", command, limit_s=UNBIND_LIMIT_S)
        if status != 0:
            problems.append(f"the driver could not be taken from drive {name}: {text or 'time-out'}")
    if read_file(f"{DMA_API}/disabled").strip() != "N":
        return problems + ["DMA debugging turned itself off before the end of the run"]
    return problems + mappings_left(read_file(f"{DMA_API}/dump"))


def lockdep_off(stats: str) -> list[str]:
    """A problem when lockdep stopped looking, which it does after its first complaint."""
    found = re.search(r"^\s*debug_locks:\s+(\d+)", stats, re.MULTILINE)
    if found is None:
        return [f"{LOCKDEP} does not say whether lockdep is on"]
    return [] if found[1] == "1" else ["lockdep turned itself off before the end of the run"]


def kcsan_off(stats: str) -> list[str]:
    """A problem when KCSAN does not look for data races."""
    if re.search(r"^enabled: 1$", stats, re.MULTILINE) is None:
        return [f"{KCSAN} does not say that KCSAN is on"]
    if re.search(r"^setup_watchpoints: [1-9]\d*$", stats, re.MULTILINE) is None:
        return ["KCSAN has not watched a single access"]
    return []
