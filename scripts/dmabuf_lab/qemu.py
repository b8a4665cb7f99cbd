# SPDX-License-Identifier: GPL-2.0-only
"""The virtual machine: which devices it has and the QEMU command line that makes it."""

import errno
import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import config
from .errors import LabError
from .guest_kernel import GuestKernel


@dataclass(frozen=True)
class Firmware:
    """UEFI. code: the firmware; shim: what it starts first, and grub: what that starts, or manager, where the user asked for a
    key; guest: a folder shown over the guest's root; variables: what its flash holds, with the keys that are enrolled;
    flash: a file that holds that, and keeps it for the next machine.
    """

    code: Path
    shim: Path
    grub: Path
    manager: Path
    guest: Path
    variables: bytes = b""
    flash: Path | None = None


@dataclass(frozen=True)
class Machine:
    """What the caller can choose about the guest.

    iommu: "off", "lazy" or "strict"; memory_mib in MiB; p2p: NVMe and a PCI BAR (ivshmem) behind root
    ports of their own; icount: a clock that counts the instructions of all vCPUs, each of which takes 1 ns <<
    icount_shift; mdts: the NVMe drive moves at most 4 KiB << mdts in a command, 0: no limit, None:
    QEMU's own; share: a folder of the host shown read-write at /share; append: more kernel parameters;
    cpu: QEMU's CPU model (the kernel lets PCI peers talk through the host bridge on some only), None:
    that of the architecture; incoherent: PCI devices do not look into the CPU's caches, for arm64; qmp:
    the guest may command its own QEMU, by the virtio-serial port lab.qmp; formats: one more NVMe drive,
    with the namespaces of config.FORMATS; errors: one more, with the sectors of config.BAD_SECTORS;
    paths: controllers of the first NVMe drive, which share its namespace as one multipath head, 0: a
    plain disk; nodes: NUMA nodes that memory and CPUs are dealt out to; plugin: a plug-in that QEMU
    loads, FILE[,NAME=VALUE...], or "" for none; debug: the kernel is the debug kernel; arch: the
    architecture; drive_gib: the size of the first NVMe drive; writes: a log of what the guest writes to
    it, in order (see the lab's page); topology: one more drive for each of config.BRANCHES, two of them
    behind root ports, two behind a switch that has a PCI BAR (ivshmem), too, and one on NUMA node 1;
    kaslr: a stock kernel's image starts itself, as on other machines, at an address that it chooses.
    """

    release: str
    iommu: str = "lazy"
    smp: int = config.DEFAULT_SMP
    memory_mib: int = config.DEFAULT_MEMORY_MIB
    p2p: bool = False
    icount: bool = False
    icount_shift: int = config.DEFAULT_ICOUNT_SHIFT
    multipath: bool = True
    mdts: int | None = None
    share: Path | None = None
    append: str = ""
    shell: bool = False
    cpu: str | None = None
    qmp: bool = False
    formats: bool = False
    errors: bool = False
    paths: int = 0
    nodes: int = 1
    plugin: str = ""
    debug: bool = False
    # With p2p: the drives and the BAR are behind one PCIe switch, a port of it for each.
    switch: bool = False
    # Of the user, in place of the lab's; QEMU and the kernel are the lab's all the same.
    root: Path | None = None
    arch: str = "amd64"
    incoherent: bool = False
    drive_gib: int = 1
    writes: Path | None = None
    # UEFI with Secure Boot, in place of QEMU's BIOS.
    firmware: Firmware | None = None
    topology: bool = False
    kaslr: bool = False


@dataclass(frozen=True)
class Descriptors:
    """File descriptors that QEMU inherits: the initramfs, two disks, and one socket per channel."""

    initrd: int
    nvme: int
    virtio: int
    channels: dict[str, int] = field(default_factory=dict)
    # With Machine.formats: a disk for each namespace of the second drive.
    formats: tuple[int, ...] = ()
    # With Machine.errors: the disk of that drive.
    errors: int | None = None
    # With Machine.incoherent: the device tree that says so.
    device_tree: int | None = None
    # With Machine.qmp: the two ends of one socket pair. QEMU holds both, and talks to itself.
    qmp: tuple[int, ...] = ()
    # With Machine.writes: the log.
    writes: int | None = None
    # With Machine.firmware: its variables.
    variables: int | None = None
    # With Machine.firmware: the folder that is shown as the disk that it boots from.
    boot: Path | None = None
    # With Machine.topology: a disk for each of config.BRANCHES.
    branches: tuple[int, ...] = ()
    # What kernel_image took out of the kernel's image; None: the image itself is started.
    kernel: int | None = None

    def all(self) -> list[int]:
        """Every descriptor to keep open in the child."""
        return [*self.files(), *self.channels.values(), *self.qmp]

    def files(self) -> list[int]:
        """Those that are files, made for this machine."""
        perhaps = (self.kernel, self.errors, self.device_tree, self.writes, self.variables)
        some = [fd for fd in perhaps if fd is not None]
        return [self.initrd, self.nvme, self.virtio, *self.formats, *self.branches, *some]


CONSOLE = "console"
PORTS = ("lab.ctl", "lab.out", "lab.err")


# Everything takes longer on the debug kernel, and what is slow is not stuck.
DEBUG_PARAMETERS = (
    "watchdog_thresh=40",
    "rcupdate.rcu_cpu_stall_timeout=120",
    "workqueue.watchdog_thresh=120",
    "dma_debug_entries=262144",
)


def kernel_parameters(machine: Machine) -> str:
    """The kernel command line: problems must be visible on the console, and end an oops at once."""
    arm64 = machine.arch == "arm64"
    words = [
        f"console={'ttyAMA0' if arm64 else 'ttyS0'}",
        "loglevel=5",
        "log_buf_len=2M",
        "printk.devkmsg=on",
        "panic=-1",
        "oops=panic",
        "random.trust_cpu=on",
        *(() if arm64 else ("no_timer_check",)),
        "cryptomgr.notests",
        # No text console on the GPU: it would only cost time, the console is the serial line.
        "drm_kms_helper.fbdev_emulation=0",
    ]
    if not arm64:
        words.append(f"intel_iommu={'off' if machine.iommu == 'off' else 'on'}")
    if machine.iommu != "off":
        strict = 1 if machine.iommu == "strict" else 0
        words += ["iommu.passthrough=0", f"iommu.strict={strict}"]
    if not machine.multipath:
        words.append("nvme_core.multipath=N")
    if machine.debug:
        words += DEBUG_PARAMETERS
    if machine.append:
        words.append(machine.append)
    return " ".join(words)


def _has_ports(machine: Machine) -> bool:
    """Root ports: for peer to peer, and for a drive that can be unplugged."""
    return machine.p2p or machine.qmp or machine.paths > 0


def _root_ports(machine: Machine) -> dict[str, str]:
    """The root port of each device that has one of its own, by the device's id.

    The guest names drives in the order of PCI addresses: further paths come last, so that they
    change the names of no other drive.
    """
    if not _has_ports(machine):
        return {}
    devices = ["nvme", "bar", *_more_drives(machine), *_more_paths(machine)]
    return {device: f"port{number}" for number, device in enumerate(devices, 1)}


def _more_drives(machine: Machine) -> list[str]:
    """The ids of the NVMe drives after the first one, in the order in which the guest names them."""
    wanted = {"formats": machine.formats, "errors": machine.errors}
    return [ident for ident, there in wanted.items() if there]


def _drive_number(machine: Machine, ident: str) -> int:
    """The number by which the guest names a further NVMe drive."""
    return 1 + _more_drives(machine).index(ident)


def _more_paths(machine: Machine) -> list[str]:
    """The ids of the first drive's controllers but the first: nvme-path2 and so on."""
    return [f"nvme-path{number}" for number in range(2, machine.paths + 1)]


def _drive(ident: str, fd: int, *more: str) -> list[str]:
    """What is behind a disk: an inherited file."""
    options = ",".join(["if=none,format=raw,cache=unsafe,discard=unmap,file.locking=off", *more])
    return ["-drive", f"id={ident},file=/proc/self/fd/{fd},{options}"]


def _logged_drive(ident: str, fd: int, log: int) -> list[str]:
    """What is behind a disk whose writes and flushes are logged in order."""

    def file(number: int) -> dict[str, object]:
        name = f"/proc/self/fd/{number}"
        return {"driver": "file", "filename": name, "locking": "off", "cache": {"no-flush": True}}

    # The number of entries is in the log's first sector; a guest that is cut off leaves it right.
    image = {
        "driver": "blklogwrites",
        "node-name": ident,
        "file": file(fd),
        "log": file(log),
        "log-sector-size": 512,
        "log-super-update-interval": 1,
    }
    return ["-blockdev", json.dumps(image)]


def _faulty_drive(ident: str, fd: int) -> list[str]:
    """What is behind a disk that has bad sectors."""
    rules = [
        {"event": "none", "iotype": bad.access, "sector": sector, "once": bad.once, "errno": errno.EIO}
        for bad in config.BAD_SECTORS
        for sector in bad.sectors
    ]
    image = {
        "driver": "file",
        "filename": f"/proc/self/fd/{fd}",
        "locking": "off",
        "discard": "unmap",
    }
    node = {
        "driver": "blkdebug",
        "node-name": ident,
        "cache": {"no-flush": True},
        "image": image,
        "inject-error": rules,
    }
    return ["-blockdev", json.dumps(node)]


def _disks(machine: Machine, fds: Descriptors) -> list[str]:
    ports = _root_ports(machine)

    def controller(ident: str, serial: str, *options: str) -> list[str]:
        words = ["nvme", f"id={ident}", f"serial={serial}", *options]
        if ident in ports:
            words.append(f"bus={ports[ident]}")
        return ["-device", ",".join(words)]

    limit = [] if machine.mdts is None else [f"mdts={machine.mdts}"]
    if fds.writes is None:
        # Zeros take no room: a test can fill a large drive with them.
        words = _drive("nvme0", fds.nvme, *(["detect-zeroes=unmap"] if machine.drive_gib > 1 else []))
    else:
        words = _logged_drive("nvme0", fds.nvme, fds.writes)
    if machine.paths == 0:
        words += controller("nvme", "lab-nvme", "drive=nvme0", *limit)
    else:
        # The namespace belongs to the subsystem: it stays when the controller it is given to goes.
        words += ["-device", "nvme-subsys,id=subsystem,nqn=lab"]
        words += controller("nvme", "lab-nvme", "subsys=subsystem", *limit)
        words += ["-device", "nvme-ns,id=space,bus=nvme,nsid=1,drive=nvme0,shared=on"]
    words += _drive("virtio0", fds.virtio)
    words += ["-device", "virtio-blk-pci,serial=lab-virtio,drive=virtio0"]
    if machine.formats:
        words += controller("formats", "lab-formats")
        for number, (fd, (_, options)) in enumerate(zip(fds.formats, config.FORMATS, strict=True), 1):
            words += _drive(f"format{number}", fd)
            space = f"nvme-ns,bus=formats,nsid={number},drive=format{number},{options}"
            words += ["-device", space]
    if fds.errors is not None:
        words += _faulty_drive("errors0", fds.errors)
        words += controller("errors", "lab-errors", "drive=errors0")
    for ident in _more_paths(machine):
        words += controller(ident, "lab-nvme", "subsys=subsystem", *limit)
    return words


def _nodes(machine: Machine) -> list[str]:
    """NUMA nodes: an even share of the memory for each, the CPUs in turn."""
    if machine.nodes == 1:
        return []
    # QEMU takes shares that are whole pages and sum up to the memory.
    share = machine.memory_mib // machine.nodes
    sizes = [share] * (machine.nodes - 1) + [machine.memory_mib - share * (machine.nodes - 1)]
    words = []
    for node, size in enumerate(sizes):
        words += ["-object", f"memory-backend-ram,id=node{node},size={size}M"]
        words += ["-numa", f"node,nodeid={node},memdev=node{node}"]
    for cpu in range(machine.smp):
        words += ["-numa", f"cpu,node-id={cpu % machine.nodes},socket-id={cpu}"]
    return words


def _ports(machine: Machine) -> list[str]:
    """The root ports, or the ports of the switch that stands in their place."""
    words = []
    if machine.switch:
        words += ["-device", "pcie-root-port,id=root,slot=0,chassis=0"]
        words += ["-device", "x3130-upstream,id=switch,bus=root"]
    kind = "xio3130-downstream,bus=switch" if machine.switch else "pcie-root-port"
    for number, port in enumerate(_root_ports(machine).values(), 1):
        words += ["-device", f"{kind},id={port},slot={number},chassis={number}"]
    return words


def _branches(fds: Descriptors) -> list[str]:
    """The drives of config.BRANCHES, the bridges that they are behind, and a BAR."""
    made = [
        "pcie-root-port,bus=pcie.0,id=trunk,slot=100,chassis=100",
        "x3130-upstream,id=fork,bus=trunk",
        f"pxb-pcie,id=other-root,bus=pcie.0,bus_nr={config.FAR_BUS},numa_node=1",
    ]
    kinds = {
        "root port": "pcie-root-port,bus=pcie.0",
        "switch": "xio3130-downstream,bus=fork",
        "node 1": "pcie-root-port,bus=other-root",
    }
    places = [*config.BRANCHES.items(), ("bar", "switch")]
    for number, (name, place) in enumerate(places, 101):
        made.append(f"{kinds[place]},id=to-{name},slot={number},chassis={number}")
    words = [word for device in made for word in ("-device", device)]
    for name, fd in zip(config.BRANCHES, fds.branches, strict=True):
        words += _drive(f"drive-{name}", fd)
        words += ["-device", f"nvme,id={name},serial=lab-{name},drive=drive-{name},bus=to-{name}"]
    return [*words, *_bar("to-bar")]


def _bar(port: str) -> list[str]:
    """A function that is nothing but memory."""
    memory = f"memory-backend-ram,id=bar,size={config.P2P_BAR_MIB}M,share=on"
    return ["-object", memory, "-device", f"ivshmem-plain,memdev=bar,bus={port}"]


def _share(tag: str, path: Path, read_only: bool) -> list[str]:
    if "," in str(path):
        raise LabError(f"QEMU cannot export a path that has a comma in it: {path}")
    options = f"local,id={tag},path={path},security_model=none,multidevs=remap"
    if read_only:
        options += ",readonly=on"
    return ["-fsdev", options, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _board(machine: Machine) -> list[str]:
    """The machine itself, its processor, and its IOMMU."""
    if machine.arch == "arm64":
        # Every PCI device is behind the SMMU.
        smmu = "" if machine.iommu == "off" else ",iommu=smmuv3"
        return ["-machine", f"virt,gic-version=3{smmu}", "-cpu", machine.cpu or config.ARM64_CPU]
    # Only system management mode may write the flash that holds the keys.
    smm = ",smm=on" if machine.firmware else ""
    words = ["-machine", f"q35,kernel-irqchip=off{smm}", "-cpu", machine.cpu or config.DEFAULT_CPU]
    if machine.iommu != "off":
        words += ["-device", "intel-iommu,aw-bits=48"]
    return words


# Where a disk with a boot loader has it: the firmware looks there for shim, and shim beside itself.
SHIM, GRUB, GRUB_CONFIG = "EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/debian/grub.cfg"
MANAGER = "EFI/BOOT/mmx64.efi"


def boot_disk(folder: Path, firmware: Firmware, kernel: Path, initrd: bytes, parameters: str) -> None:
    """Fills a folder that QEMU shows as a disk with what the firmware boots.

    QEMU's own -kernel writes into the kernel's header, and its signature is wrong then.
    """
    sources = ((SHIM, firmware.shim), (GRUB, firmware.grub), (MANAGER, firmware.manager), ("vmlinuz", kernel))
    for name, source in sources:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    (folder / "initrd").write_bytes(initrd)
    (folder / GRUB_CONFIG).parent.mkdir(parents=True)
    (folder / GRUB_CONFIG).write_text(f"linux /vmlinuz {parameters}\ninitrd /initrd\nboot\n")


def _firmware(firmware: Firmware, variables: int, disk: Path) -> list[str]:
    """The flash, and the disk that the firmware boots from, which the guest has no driver for."""
    flash = "if=pflash,format=raw"
    return [
        *("-global", "driver=cfi.pflash01,property=secure,value=on"),
        *("-global", "ICH9-LPC.disable_s3=1"),
        *("-drive", f"{flash},unit=0,readonly=on,file={firmware.code}"),
        *("-drive", f"{flash},unit=1,file.locking=off,file=/proc/self/fd/{variables}"),
        *("-drive", f"if=none,id=boot,format=raw,snapshot=on,file=fat:{disk}"),
        *("-device", "ide-hd,drive=boot,bootindex=0"),
    ]


def dump_tree(root: Path, machine: Machine, file: Path) -> list[str]:
    """The command by which QEMU writes the device tree of a machine, and ends."""
    _, board, *processor = _board(machine)
    size = ["-smp", str(machine.smp), "-m", f"{machine.memory_mib}M", "-nodefaults", "-display", "none"]
    return [*program(root, machine.arch), "-machine", f"{board},dumpdtb={file}", *processor, *size]


def without_coherence(tree: bytes) -> bytes:
    """A device tree (FDT) in which no device is coherent: the property has another name, of the same length.

    The names are at its end. QEMU leaves a MiB of room behind them, makes more than twice as much of that
    when it reads the tree, and Linux takes no tree of more than 2 MiB: the room goes.
    """
    magic, _, _, strings = struct.unpack(">4I", tree[:16])
    size = struct.unpack(">I", tree[32:36])[0]
    names = tree[strings : strings + size]
    if magic != 0xD00DFEED or names.count(b"dma-coherent\0") != 1:
        raise LabError("QEMU's device tree does not say what is coherent")
    renamed = names.replace(b"dma-coherent\0", b"lab-coherent\0")
    return tree[:4] + struct.pack(">I", strings + size) + tree[8:strings] + renamed


def arguments(
    root: Path, kernel: GuestKernel, checkout: Path, machine: Machine, fds: Descriptors
) -> list[str]:
    """QEMU's arguments, without the program itself."""
    words = [
        *_board(machine),
        *("-accel", "tcg,thread=single" if machine.icount else "tcg,thread=multi"),
        # A processor of its own for each CPU, as nodes have them.
        *("-smp", f"{machine.smp},sockets={machine.smp}" if machine.nodes > 1 else str(machine.smp)),
        *("-m", f"{machine.memory_mib}M"),
        *_nodes(machine),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-net", "none"),
    ]
    if machine.firmware is None:
        words += ["-kernel", str(kernel.image) if fds.kernel is None else f"/proc/self/fd/{fds.kernel}"]
        words += ["-initrd", f"/proc/self/fd/{fds.initrd}"]
        words += ["-append", kernel_parameters(machine)]
    if machine.firmware is not None and fds.variables is not None and fds.boot is not None:
        words += _firmware(machine.firmware, fds.variables, fds.boot)
        words += _share("firmware", machine.firmware.guest, True)
    if fds.device_tree is not None:
        words += ["-dtb", f"/proc/self/fd/{fds.device_tree}"]
    if machine.icount:
        words += ["-icount", f"shift={machine.icount_shift}"]
    if machine.plugin:
        words += ["-plugin", f"file={machine.plugin}"]
    words += _share("root", machine.root or root, True) + _share("src", checkout, True)
    if not kernel.modules.is_relative_to(root):
        words += _share("modules", kernel.modules, True)
    if machine.share is not None:
        words += _share("share", machine.share, False)
    if _has_ports(machine) or machine.topology:
        if machine.arch == "amd64":
            # The slots' own hot-plug, as real machines have it for drives, not the firmware's.
            words += ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
        words += _ports(machine)
    if machine.p2p:
        words += _bar(_root_ports(machine)["bar"])
    words += _disks(machine, fds)
    words += ["-device", "virtio-gpu-pci"]
    words += ["-chardev", f"socket,id={CONSOLE},fd={fds.channels[CONSOLE]}"]
    words += ["-serial", f"chardev:{CONSOLE}"]
    if machine.shell:
        words += ["-chardev", "stdio,id=shell,signal=off", "-serial", "chardev:shell"]
    words += ["-device", "virtio-serial-pci"]
    if machine.qmp:
        monitor, guest = fds.qmp
        words += ["-chardev", f"socket,id=monitor,fd={monitor}"]
        words += ["-mon", "chardev=monitor,mode=control"]
        words += ["-chardev", f"socket,id=lab-qmp,fd={guest}"]
        words += ["-device", "virtserialport,chardev=lab-qmp,name=lab.qmp"]
    for name in PORTS:
        ident = name.replace(".", "-")
        words += ["-chardev", f"socket,id={ident},fd={fds.channels[name]}"]
        words += ["-device", f"virtserialport,chardev={ident},name={name}"]
    if machine.topology:
        # The last ones: QEMU puts a device that names no bus on the root complex that it made last.
        words += _branches(fds)
    return words


def program(root: Path, arch: str = "amd64") -> list[str]:
    """How to run a root's own QEMU on the host: by the root's loader, libraries and firmware."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    return [
        str(root / "usr/lib64/ld-linux-x86-64.so.2"),
        *("--library-path", f"{libraries}:{root / 'usr/lib'}"),
        str(root / "usr/bin" / f"qemu-system-{'aarch64' if arch == 'arm64' else 'x86_64'}"),
        *("-L", str(root / "usr/share/qemu"), "-L", str(root / "usr/share/seabios")),
    ]


def version(root: Path, arch: str = "amd64") -> str:
    """That of a root's QEMU, such as 10.0.13, as it says itself."""
    done = subprocess.run([*program(root, arch), "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env=environment(root, dict(os.environ)), check=False)
    found = re.search(r" version (\S+)", done.stdout)
    if done.returncode != 0 or found is None:
        raise LabError(f"QEMU does not start: {(done.stderr or done.stdout).strip()}")
    return found[1]


def environment(root: Path, base: dict[str, str]) -> dict[str, str]:
    """The environment for program(): where QEMU finds its loadable parts."""
    keep = {key: base[key] for key in ("PATH", "TERM", "TMPDIR") if key in base}
    return {**keep, "QEMU_MODULE_DIR": str(root / "usr/lib/x86_64-linux-gnu/qemu")}


def errors_device(machine: Machine) -> str:
    """The drive that --errors adds, as the guest names it."""
    return f"/dev/nvme{_drive_number(machine, 'errors')}n1"


def guest_environment(machine: Machine) -> dict[str, str]:
    """What the guest is told of its machine: the drive with bad sectors, and which they are."""
    if not machine.errors:
        return {}
    sectors = {bad.variable: " ".join(map(str, bad.sectors)) for bad in config.BAD_SECTORS}
    return {"LAB_ERRORS": errors_device(machine), **sectors}


def guest_devices(machine: Machine) -> Sequence[str]:
    """Device nodes that must exist before the command starts."""
    more = []
    if machine.formats:
        drive = f"/dev/nvme{_drive_number(machine, 'formats')}"
        more += [f"{drive}n{number}" for number in range(1, len(config.FORMATS) + 1)]
    if machine.errors:
        more.append(errors_device(machine))
    if machine.topology:
        first = 1 + len(_more_drives(machine))
        more += [f"/dev/nvme{first + number}n1" for number in range(len(config.BRANCHES))]
    return (
        *more,
        "/dev/nvme0n1",
        "/dev/vda",
        "/dev/dri/card0",
        "/dev/dri/card1",
        "/dev/udmabuf",
        "/dev/dma_heap/system",
    )
