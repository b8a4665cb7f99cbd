#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Exporters of the user's own: plug-ins, and a program that hands dma-bufs over a socket.

fio with checksums, each direction alone, with fio's own io_uring engine as the other side; dmabuf-integrity
with every byte, and with memory that the plug-in moves and takes away; plug-ins and peers that do wrong;
dmabuf-qual. Its arguments are the parts to do: fio, integrity, qual; all without. Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from gpu.stand_ins import AREA, CHECK, WRITE, plain
from fio.harness import Run, Tally, engine, fio, need_engine, nothing_left
from fio.moves import load
from gpu.integrity import CASES, integrity, right
from qual.whole import records, script, words

PLUGINS = Path("/src/build/lab/tests/plugins")
HAND_OUT = Path(__file__).resolve().parents[3] / "docs/examples/hand_out.py"
MIB = 1 << 20
# dmabuf_device; the device and the maker that are reported; whether the engine copies
SPECS = {
    "udmabuf_plugin": ("", "/dev/udmabuf", "udmabuf example 1.0", False),
    "udmabuf_copies": ("", "/dev/udmabuf", "udmabuf example 1.0", True),
    "testexp_plugin": ("", "", "testexp plug-in 1.0", False),
    "testexp_copies": (",no-cpu", "", "testexp plug-in 1.0", True),
}
PAGELESS = "testexp_copies"


def device_of(name: str) -> str:
    """What dmabuf_device is for one of these plug-ins."""
    return f"{PLUGINS}/{name}.so{SPECS[name][0]}"


@contextlib.contextmanager
def handing_out() -> Iterator[str]:
    """The documentation's example of a program that hands out dma-bufs: its socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/pool.sock"
        with subprocess.Popen([HAND_OUT, path], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            server.stdout.readline()  # it listens
            try:
                yield path
            finally:
                server.kill()


@contextlib.contextmanager
def peer(does: Callable[[socket.socket], object]) -> Iterator[str]:
    """One that answers the first who connects as it likes."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection = listener.accept()[0]
                with connection:
                    connection.recv(256)
                    does(connection)
                    connection.recv(1)  # until the other side has looked

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"{folder}/s"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def giving(fds: list[int]) -> Callable[[socket.socket], object]:
    """A peer that says it is fine, and gives these."""
    return lambda to: socket.send_fds(to, [b"ok"], fds)


def run(exporter: str, device: str, datapath: str, options: list[str], more: tuple[str, ...] = ()) -> Run:
    """fio on this memory."""
    chosen = [f"--dmabuf_exporter={exporter}", f"--dmabuf_device={device}"]
    return fio([*AREA, *options, *engine(chosen, datapath), *more])


def good(tally: Tally, name: str, got: Run, exporter: str, device: str, datapath: str,
         jobs: int = 1) -> None:
    """What must hold of every run."""
    if not tally.check(got.status == 0, f"{name}: fio's exit status", got.said()):
        return
    tally.same(len(got.reports), jobs, f"{name}: report lines")
    for report in got.reports:
        tally.same(report["proven"], True, f"{name}: proven, by {report['proof']!r}")
        tally.same((report["exporter"], report["device"], report["datapath"]), (exporter, device, datapath),
                   f"{name}: exporter, device, datapath")


def directions(tally: Tally, exporter: str, device: str, reported: str, datapath: str) -> None:
    """What the drive got from the memory is right, and what that got from the drive."""
    name = f"{exporter} {device} {datapath}"
    with nothing_left(tally, name):
        good(tally, f"{name} write", run(exporter, device, datapath, WRITE), exporter, reported, datapath)
    got = plain(CHECK)
    tally.check(got.status == 0, f"{name}: what was written", got.said())
    got = plain([*WRITE, "--verify_pattern=%o", "--verify=pattern"])
    tally.check(got.status == 0, f"{name}: io_uring writes", got.said())
    # Bytes that the earlier run did not write: stale memory would show.
    options = [*CHECK, "--verify_pattern=%o", "--verify=pattern"]
    with nothing_left(tally, name):
        good(tally, f"{name} read", run(exporter, device, datapath, options), exporter, reported, datapath)


def several(tally: Tally, exporter: str, device: str, reported: str) -> None:
    """Jobs as processes and as threads, and a dma-buf for each I/O slot."""
    for thread in (0, 1):
        name = f"{exporter} {device} {'threads' if thread else 'processes'}"
        options = ["--rw=randrw", "--numjobs=3", "--offset_increment=4m", f"--thread={thread}"]
        with nothing_left(tally, name):
            good(tally, name, run(exporter, device, "premapped", options), exporter, reported, "premapped", 3)
    name = f"{exporter} {device} a dma-buf for each slot"
    with nothing_left(tally, name):
        got = run(exporter, device, "premapped", ["--rw=randrw"], ("--dmabuf_buffers=io_u",))
        good(tally, name, got, exporter, reported, "premapped")
        tally.same([report["buffers"] for report in got.reports], [8], f"{name}: dma-bufs")


def by_fio(tally: Tally, pool: str) -> None:
    """All of them."""
    for name, (_, reported, _, copies) in SPECS.items():
        device = device_of(name)
        for datapath in ("premapped", "registered", "bvec", "bounce") if name == "udmabuf_plugin" else ("premapped",):
            directions(tally, "plugin", device, reported or device, datapath)
        got = run("plugin", device, "premapped", ["--rw=randrw"])
        tally.same([sum(report["copies"].values()) > 0 for report in got.reports], [copies],
                   f"{name}: whether the plug-in copied")
    for datapath in ("premapped", "registered"):
        directions(tally, "fd", pool, "memory of hand_out.py", datapath)
    several(tally, "plugin", device_of("udmabuf_plugin"), "/dev/udmabuf")
    several(tally, "fd", pool, "memory of hand_out.py")


def refused(tally: Tally, exporter: str, device: str, says: str, name: str) -> None:
    """A job that does not begin, and says why; nothing is left of what was given."""
    with nothing_left(tally, name):
        got = run(exporter, device, "premapped", WRITE)
    tally.check(got.status != 0 and says in got.stderr, f"{name}: says {says!r}", got.said())


def wrong_ones(tally: Tally, pool: str) -> None:
    """Plug-ins and peers that are none, on a kernel that has real dma-bufs."""
    plugin = str(PLUGINS / "udmabuf_plugin.so")
    refused(tally, "plugin", f"{plugin},what", "it takes no arguments", "an argument that is none")
    refused(tally, "plugin", "/no/such.so", "/no/such.so", "no plug-in")
    refused(tally, "fd", "/no/such.sock", "there is no socket", "no socket")
    got = run("fd", pool, "premapped", ["--rw=randrw", "--iodepth=4096", "--bs=1m", "--size=1m"])
    tally.check(got.status != 0 and "more than 1 GiB is not handed out" in got.stderr,
                "a refusal in the peer's words", got.said())
    with open("/dev/zero", "rb+", buffering=0) as zero, open("/dev/null", "rb", buffering=0) as null:
        memfd = os.memfd_create("hostile")
        os.ftruncate(memfd, 64 * MIB)
        ends = os.pipe()
        cases = {
            "a memfd": ([memfd], "is no dma-buf"),
            "a pipe": ([ends[0]], "is no dma-buf"),
            "a device": ([zero.fileno()], "is no dma-buf"),
            "253 descriptors": ([null.fileno()] * 253, "2 descriptors and more where 1 was asked for"),
            "none": ([], "0 descriptors where 1 was asked for"),
        }
        for name, (fds, says) in cases.items():
            with peer(giving(fds)) as path:
                refused(tally, "fd", path, says, f"a peer that gives {name}")
        for fd in (memfd, *ends):
            os.close(fd)
    with peer(lambda to: to.shutdown(socket.SHUT_RDWR)) as path:
        refused(tally, "fd", path, "closed the connection without an answer", "a peer that closes")


def by_integrity(tally: Tally, pool: str) -> None:
    """Every byte, and memory that its owner moves, and takes away."""
    for name, (_, reported, says, _) in SPECS.items():
        device = device_of(name)
        place = {"memory": "system", "exporter_device": reported or device, "exporter_says": says}
        right(tally, "plugin", device, place, "premapped",
              CASES if name in ("udmabuf_plugin", PAGELESS) else ("read", "write"))
    right(tally, "fd", pool, {"memory": "system", "exporter_says": pool}, "premapped")
    for name in ("testexp_plugin", PAGELESS):
        for case in ("invalidate", "revoke"):
            with nothing_left(tally, f"{name} {case}"):
                status, said = integrity(case, "plugin", device_of(name))
            facts = said.get("facts", {})
            tally.same((status, said.get("findings")), (0, []), f"{name} {case}: {json.dumps(said)[:600]}")
            seen = ("moves", "told") if case == "invalidate" else ("refused", "restored")
            tally.check(all(facts.get(fact, 0) > 0 for fact in seen), f"{name} {case}: {seen}", str(facts))
    for words_of, case, wanted in (
            (",stubborn", "invalidate", (1, {"NOTHING_MOVED"})), (",lose-writes", "read", (1, {"READ_NOT_LANDED"}))):
        status, said = integrity(case, "plugin", f"{PLUGINS}/testexp_plugin.so{words_of}")
        tally.same((status, {one["name"] for one in said.get("findings", [])}), wanted,
                   f"testexp_plugin{words_of} {case}: {json.dumps(said)[:600]}")
    status, said = integrity("invalidate", "plugin", f"{PLUGINS}/testexp_plugin.so,fails")
    tally.check(status == 2 and "the memory is nailed down" in said.get("error", ""), "a move that fails", str(said))
    for case in ("invalidate", "revoke"):
        status, said = integrity(case, "plugin", device_of("udmabuf_plugin"))
        tally.check(status == 77 and "on demand" in said.get("not_applicable", ""),
                    f"{case} on memory that stays", f"{status} {said}")
    # Without a plug-in it is the test exporter's, as ever.
    status, said = integrity("revoke", "fd", pool)
    tally.same(status, 0, f"revoke on fd: {said}")


def by_qual(tally: Tally) -> None:
    """A quick run with a plug-in that moves, among its cases those of its own faults."""
    device = device_of("testexp_plugin")
    spec = f"plugin:{device}"
    with tempfile.TemporaryDirectory() as folder, nothing_left(tally, "qual"):
        place = Path(folder) / "q"
        name = spec.replace("/", "_")
        only = [f"integrity/{name}/premapped/*", f"perf/{name}/premapped/*"]
        needs = Path(folder) / "needs.toml"
        needs.write_text("load_gib = 0.016\nbuffer_mib = 16\n")
        done = script(words(place, "--requirements", str(needs), "--exporter", spec,
                            *(word for one in only for word in ("--only", one))))
        found = records(place)
        facts = json.loads((place / "run.json").read_text())["environment"] if place.exists() else []
    # What was not asked for is inconclusive.
    tally.same(done.returncode, 77, f"qual: exit status, {done.stdout[-800:]} {done.stderr[-800:]}")
    tests = {record["test"] for record in found.values() if not record["findings"] and "error" not in record}
    wanted = {"read", "write", "load", "close", "invalidate", "revoke", "datapath-cell"}
    tally.check(wanted <= tests, "qual: cases without a finding", str({key: value.get("error", value["findings"])
                                                                       for key, value in found.items()})[:1500])
    own = [(value, role) for name, value, role in facts if name == f"exporter {spec}"]
    tally.check(len(own) == 1 and own[0][1] == "subject" and own[0][0].endswith(" testexp plug-in 1.0"),
                "qual: the plug-in's build is the run's subject", str(own))


def main() -> int:
    need_engine()
    tally = Tally()
    load(os.environ.get("DMABUF_TESTEXP_KO", ""))
    wanted = sys.argv[1:] or ["fio", "integrity", "qual"]
    if set(wanted) - {"fio", "integrity", "qual"}:
        sys.exit(__doc__)
    with handing_out() as pool:
        if "fio" in wanted:
            by_fio(tally, pool)
            wrong_ones(tally, pool)
        if "integrity" in wanted:
            by_integrity(tally, pool)
    if "qual" in wanted:
        by_qual(tally)
    return tally.finish("plugin")


if __name__ == "__main__":
    sys.exit(main())
