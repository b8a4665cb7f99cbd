# SPDX-License-Identifier: GPL-2.0-only
"""The command line of dmabuf-lab."""

import argparse
import json
import shutil
from pathlib import Path

from dmabuf_common import arguments, program

from . import (
    arm64,
    bare,
    build,
    cache,
    config,
    debug_kernel,
    fio_program,
    fio_source,
    formatting,
    guest_kernel,
    kept,
    kernel_tree,
    lint,
    matrix,
    root,
    runner,
    secure_boot,
    stock_kernel,
)
from .errors import LabError
from .progress import say

EXAMPLES = """\
examples:
  dmabuf-lab setup
  dmabuf-lab run -- nvme list
  dmabuf-lab run -- 'fio --name=t --filename=$DEV --direct=1 --rw=randread --bs=4k --iodepth=32
      --size=64m --ioengine=$ENGINE --dmabuf_exporter=drm --dmabuf_datapath=premapped'
  dmabuf-lab run --kernel 6.12 --no-module -- uname -r
  dmabuf-lab run --iommu strict --p2p --share results -- /src/build/lab/tests/vm/p2p
  dmabuf-lab shell

exit status:
  run: that of the command (128 + N when signal N ended it); 1 when the guest's kernel complained,
  something was left behind or time ran out; 2 when the lab itself failed. Others: 0 or 2.

in the guest:
  the checkout is at /src (read-only), --share at /share, scratch disks are /dev/nvme0n1 and /dev/vda;
  LIBDMABUF, ENGINE, DEV and DMABUF_RW_KO are set.
"""


def _kernel_options(parser: argparse.ArgumentParser) -> None:
    names = guest_kernel.names()
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--kernel",
        choices=names,
        default=names[0],
        help="stock kernel series, or a debug kernel (default: %(default)s); a series that set-up "
        "does not bring is fetched when it is first asked for",
    )
    which.add_argument(
        "--kernel-tree",
        type=Path,
        metavar="DIR",
        help="a kernel that you built in DIR, in the folder of its source",
    )
    parser.add_argument(
        "--arch",
        choices=config.ARCHITECTURES,
        default=config.ARCHITECTURES[0],
        help="the guest's architecture (default: %(default)s); all that arm64 needs is fetched when it is "
        "first asked for",
    )
    parser.add_argument(
        "--pages",
        choices=config.PAGES["arm64"],
        default="4k",
        help="the size of the kernel's pages (default: %(default)s); more than 4k is for arm64",
    )
    parser.add_argument(
        "--incoherent",
        action="store_true",
        help="with --arch arm64: PCI devices do not look into the CPU's caches, as on some boards",
    )
    parser.add_argument(
        "--secure-boot",
        action="store_true",
        help="UEFI with Secure Boot, and our modules signed with a key made for this run; the firmware is "
        "fetched when it is first asked for",
    )
    parser.add_argument(
        "--flash",
        type=Path,
        metavar="FILE",
        help="with --secure-boot: the firmware's variables stay in FILE, which is made if it is missing. No key is enrolled "
        "but by you, with mokutil --import and --mok-password; the module is built and not loaded",
    )
    parser.add_argument(
        "--mok-password",
        metavar="WORD",
        help="with --flash: somebody goes through MokManager's screen first, which comes after mokutil --import, with this "
        "password",
    )


def _machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--iommu",
        choices=("off", "lazy", "strict"),
        default="lazy",
        help="no IOMMU, or one with lazy or strict invalidation (default: lazy, as Debian's kernels)",
    )
    parser.add_argument("--smp", type=arguments.positive, metavar="N", help="vCPUs (default: 2)")
    parser.add_argument(
        "--memory",
        type=arguments.positive,
        metavar="MiB",
        help=f"guest memory (default: {config.DEFAULT_MEMORY_MIB}; "
        f"debug kernel: {config.DEBUG_MEMORY_MIB})",
    )
    parser.add_argument(
        "--p2p", action="store_true", help="NVMe and a PCI BAR (ivshmem) behind own root ports"
    )
    parser.add_argument(
        "--switch", action="store_true", help="with --p2p: both behind one PCIe switch"
    )
    parser.add_argument(
        "--icount", action="store_true", help="a clock that counts the instructions of all vCPUs, of which there is one, or --smp N"
    )
    parser.add_argument(
        "--icount-shift",
        type=int,
        choices=range(11),
        metavar="N",
        help="with --icount: an instruction takes 1 ns << N of the guest's time "
        f"(default: {config.DEFAULT_ICOUNT_SHIFT}); more of it makes the guest's hours pass sooner",
    )
    parser.add_argument("--plugin", default="", metavar="FILE[,NAME=VALUE]",
                        help="a plug-in that QEMU loads, such as build/lab/tests/vm/libcount.so")
    parser.add_argument(
        "--cpu",
        metavar="MODEL",
        help=f"QEMU's CPU model (default: {config.DEFAULT_CPU}; arm64: {config.ARM64_CPU})",
    )
    parser.add_argument(
        "--qmp", action="store_true", help="the guest may command its QEMU (port lab.qmp)"
    )
    parser.add_argument(
        "--nodes",
        type=int,
        choices=range(1, 5),
        default=1,
        metavar="N",
        help="NUMA nodes that memory and CPUs are dealt out to (default: 1)",
    )
    parser.add_argument(
        "--topology",
        action="store_true",
        help="two NUMA nodes, and five more NVMe drives: behind two root ports, two behind a PCIe switch that has a "
        "BAR, too, and one on node 1",
    )


def _drive_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-multipath", action="store_true", help="the kernel's NVMe driver without multipath"
    )
    parser.add_argument(
        "--mdts",
        type=int,
        choices=range(12),
        metavar="N",
        help="the NVMe drive moves at most 4 KiB << N in a command, 0: no limit (QEMU's own is 7)",
    )
    parser.add_argument(
        "--formats",
        action="store_true",
        help="an NVMe drive, nvme1, whose namespaces are: "
        + ", ".join(f"{number} {what}" for number, (what, _) in enumerate(config.FORMATS, 1)),
    )
    parser.add_argument(
        "--errors",
        action="store_true",
        help="an NVMe drive, $LAB_ERRORS in the guest, with bad sectors: "
        + ", ".join(f"${bad.variable}" for bad in config.BAD_SECTORS),
    )
    parser.add_argument(
        "--paths",
        type=int,
        choices=(1, 2),
        default=0,
        metavar="N",
        help="the first NVMe drive as a multipath head with N paths (default: a plain disk)",
    )
    parser.add_argument(
        "--drive-gib",
        type=int,
        choices=range(1, 65),
        default=1,
        metavar="N",
        help="size of the first NVMe drive in GiB, up to 64 (default: 1); zeros take no room on this machine",
    )
    parser.add_argument(
        "--writes",
        type=Path,
        metavar="FILE",
        help="a log of the writes and flushes that this drive gets, in the format of dm-log-writes",
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--share", type=Path, metavar="DIR", help="shown read-write at /share")
    parser.add_argument("--root", type=Path, metavar="DIR",
                        help="a root that you made, with python3, in place of the lab's; the guest does not change it")
    parser.add_argument("--no-module", action="store_true", help="do not load dmabuf_rw.ko")
    parser.add_argument("--no-build", action="store_true", help="take what was built before")
    parser.add_argument("--programs", type=lambda text: tuple(text.split(",")), default=(), metavar="NAME,…",
                        help="build these test programs of tests/vm alone, and no engine (default: all)")
    parser.add_argument(
        "--timeout",
        type=arguments.seconds,
        metavar="SECONDS",
        help=f"end the guest after this time (default: {config.DEFAULT_TIMEOUT_S}; "
        f"debug kernel: {config.DEBUG_TIMEOUT_S}; shell: a day)",
    )
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="REGEX",
        help="kernel messages that COMMAND provokes on purpose, or lines of its output with addresses "
        "of the kernel, that fail nothing",
    )
    parser.add_argument(
        "--append", action="append", default=[], metavar="ARGS", help="more kernel parameters; may be repeated"
    )
    parser.add_argument(
        "--kaslr",
        action="store_true",
        help="the image of a stock amd64 kernel starts itself, as on other machines, and puts the kernel at a "
        "random address; without it QEMU starts the kernel, which takes a second less",
    )
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="set in the guest"
    )
    parser.add_argument("--console", action="store_true", help="show the console on stderr, live")
    parser.add_argument("--log", type=Path, metavar="FILE", help="write console and kernel log")


def _guest_options(parser: argparse.ArgumentParser) -> None:
    """What `run` and `shell` have in common."""
    _kernel_options(parser)
    _machine_options(parser)
    _drive_options(parser)
    _run_options(parser)


def parser() -> argparse.ArgumentParser:
    """The argument parser of dmabuf-lab."""
    top = argparse.ArgumentParser(
        prog="dmabuf-lab",
        description="Builds libdmabuf and dmabuf_rw.ko and runs them on stock kernels in a virtual machine (QEMU, no KVM, no\n"
        "device of this machine). It wants root. The lab is made once, by `setup` or by the first command that needs it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("setup", help="make the lab root, a Debian 13 with compilers, QEMU, kernels and fio, in ~/.cache/dmabuf-lab or $DMABUF_LAB_CACHE; "
                        "3 GB and some minutes, once")
    commands.add_parser("build", help="build engine, test programs and module in the lab root")
    debug = commands.add_parser(
        "debug-kernel", help="build the kernel of --kernel debug, once (half an hour on two cores)"
    )
    debug.add_argument(
        "--flavour",
        choices=tuple(config.DEBUG_FLAVOURS),
        default=config.DEBUG_KERNEL,
        help="debug: KASAN, lockdep and more; kcsan: KCSAN, for data races; debug-rt: lockdep on a real-time "
        "kernel (default: %(default)s)",
    )
    run = commands.add_parser(
        "run",
        help="run a command in a fresh guest",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _guest_options(run)
    run.add_argument(
        "words",
        nargs="+",
        metavar="COMMAND",
        help="after --; a single word is a line for the guest's shell",
    )
    shell = commands.add_parser("shell", help="a shell in a fresh guest; `exit` ends it")
    _guest_options(shell)
    reading = commands.add_parser(
        "lint",
        help="checkpatch, kernel-doc, sparse and circles of calls on the modules' sources",
    )
    reading.add_argument("--all", action="store_true",
                         help="sparse and circles of calls for each kernel that set-up brings (default: the newest)")
    layout = commands.add_parser("format", help="lay out the C++ and Python files")
    layout.add_argument("--check", action="store_true", help="only say which differ, and end with 1 if any does")
    clean = commands.add_parser("clean", help="remove what was built here, and what older versions of the lab had fetched")
    clean.add_argument("--all", action="store_true",
                       help="the current root, kernels, fios, packages, compiled objects and bare roots, too: all that the cache has")
    info = commands.add_parser("info", help="show what the lab consists of")
    info.add_argument("--json", action="store_true", help="as JSON")
    source = commands.add_parser(
        "fio-source",
        help="print the path of fio's source, fetched from Debian's source packages",
        epilog=f"example: dmabuf-lab fio-source {config.FIO_VERSION}",
    )
    which = source.add_mutually_exclusive_group()
    which.add_argument("version", nargs="?", metavar="VERSION", help="default: the host's fio's")
    which.add_argument("--lab", action="store_true", help="that of the lab's fio")
    which.add_argument("--tests", action="store_true", help="that of the fio that the host's tests bring")
    table = commands.add_parser(
        "matrix",
        help="make the table of docs/support-matrix.md of the results of runs that docs/matrix.json keeps",
    )
    table.add_argument(
        "--collect",
        type=Path,
        metavar="DIR",
        help="keep the results that the tests labelled matrix left there, first",
    )
    table.add_argument(
        "--mixed",
        action="store_true",
        help="with --collect: let the table have results of different sources of the module side by side",
    )
    made = commands.add_parser("fio", help="build a fio for this machine, once, and print its path")
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument("version", nargs="?", metavar="VERSION", help=f"such as {config.FIO_VERSION}")
    which.add_argument("--tests", action="store_true", help="the one that the host's tests bring")
    return top


def request(args: argparse.Namespace) -> runner.Request:
    """What `run` or `shell` was asked for."""
    shell = args.command == "shell"
    debug = args.kernel in config.DEBUG_FLAVOURS
    timeout_s = config.DEBUG_TIMEOUT_S if debug else config.DEFAULT_TIMEOUT_S
    memory_mib = config.DEBUG_MEMORY_MIB if debug else config.DEFAULT_MEMORY_MIB
    return runner.Request(
        command=["bash", "-i"] if shell else args.words,
        kernel=args.kernel,
        kernel_tree=args.kernel_tree,
        arch=args.arch,
        pages=args.pages,
        incoherent=args.incoherent,
        iommu=args.iommu,
        smp=args.smp,
        memory_mib=args.memory or memory_mib,
        p2p=args.p2p,
        switch=args.switch,
        icount=args.icount,
        icount_shift=args.icount_shift,
        plugin=args.plugin,
        multipath=not args.no_multipath,
        mdts=args.mdts,
        share=args.share,
        root=args.root,
        module=not args.no_module,
        build=not args.no_build,
        programs=args.programs,
        timeout_s=args.timeout or (86400 if shell else timeout_s),
        append=" ".join(args.append),
        cpu=args.cpu,
        qmp=args.qmp,
        formats=args.formats,
        errors=args.errors,
        paths=args.paths,
        nodes=args.nodes,
        drive_gib=args.drive_gib,
        writes=args.writes,
        secure_boot=args.secure_boot,
        flash=args.flash,
        mok_password=args.mok_password,
        topology=args.topology,
        kaslr=args.kaslr,
        expect=tuple(args.expect),
        console=args.console,
        log=args.log,
        shell=shell,
        env=args.env,
    )


def _show(as_json: bool) -> None:
    lab = root.load()
    found = {name: debug_kernel.find(lab, name) if lab else None for name in config.DEBUG_FLAVOURS}
    built = {name: kernel.info if kernel else None for name, kernel in found.items()}
    info = root.machine_info()
    info["debug_kernel"] = built[config.DEBUG_KERNEL]
    info["debug_kernels"] = built
    if as_json:
        print(json.dumps(info, indent=1))
        return
    print(f"root:    {info['root']}")
    if not info["complete"]:
        print("         not made yet; run `dmabuf-lab setup`")
        return
    print(f"made:    {info['made']} in {info['setup_seconds']} s")
    for series in (*config.KERNELS, *config.ARM64_KERNELS):
        fetched = None if series.setup else stock_kernel.find(series)
        release = fetched.release if fetched else "not fetched"
        print(f"kernel:  {series.name}: {info['kernels'].get(series.name, release)}")
    print(f"firmware: {'fetched' if secure_boot.find() else 'not fetched'} (--secure-boot)")
    made = arm64.find()
    print(f"arm64:   {made.path if made else 'not fetched'}")
    for name, about in built.items():
        shown = f"{about['release']} from {about['source']}" if about else "not built"
        print(f"kernel:  {name}: {shown}")
    print(f"qemu:    {info['qemu']}")
    print(f"fio:     {info['fio']}")
    for name, version in info["packages"].items():
        print(f"package: {name} {version}")


def _clean(everything: bool) -> None:
    for arch in config.ARCHITECTURES:
        shutil.rmtree(build.checkout() / build.build_dir(arch), ignore_errors=True)
    in_use = arm64.remove(everything) + secure_boot.remove(everything)
    in_use += debug_kernel.remove(root.load(), everything) + stock_kernel.remove(everything)
    in_use += kernel_tree.remove() + root.remove(everything) + (bare.remove() if everything else [])
    if everything:
        in_use += cache.remove_folder(build.OBJECTS)
    kept.remove(everything, {root.NAME, arm64.TOOLS, arm64.GUEST, secure_boot.NAME, *stock_kernel.kept_names()})
    for path in in_use:
        say(f"kept {path}: it is in use")


def _dispatch(args: argparse.Namespace) -> int:
    match args.command:
        case "setup":
            print(root.setup().path)
        case "build":
            lab = root.setup()
            with root.in_use(lab):
                build.build(lab, guest_kernel.all_for_modules(lab))
        case "debug-kernel":
            lab = root.setup()
            with root.in_use(lab):
                print(debug_kernel.setup(lab, args.flavour).path)
        case "run" | "shell":
            return runner.run(request(args))
        case "lint":
            lab = root.setup()
            with root.in_use(lab):
                return lint.run(lab, args.all)
        case "format":
            return formatting.run(args.check)
        case "clean":
            _clean(args.all)
        case "info":
            _show(args.json)
        case "matrix":
            if args.mixed and args.collect is None:
                raise LabError("--mixed is about results that are kept first, and needs --collect")
            if args.collect is not None:
                runs = matrix.collect(build.checkout(), args.collect, args.mixed)
                say(f"{len(runs)} runs were collected, {sum(run.failed for run in runs)} of them failed")
            matrix.write(build.checkout())
        case "fio-source":
            known = config.FIO_VERSION if args.lab else config.TEST_FIO_VERSION if args.tests else ""
            version = args.version or known or fio_source.host_fio_version()
            print(fio_source.get(version, root.debian_mirror()))
        case "fio":
            print(fio_program.get(args.version or config.TEST_FIO_VERSION, root.debian_mirror()))
    return 0


def main(argv: list[str]) -> int:
    """Runs one sub-command; returns the exit status."""
    args = parser().parse_args(argv)
    return program.run(lambda: _dispatch(args), say, (LabError,))
