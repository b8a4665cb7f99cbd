#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Two fio servers, each in a network namespace of its own, driven by one client with this engine.

Each has its half of the drive: the first writes and verifies, the second reads. The client's JSON
names both, the engine's reports prove the datapath of each, and the bytes are looked at with
plain reads.

Needs the module, ip and /dev/nvme0n1, whose data it destroys. Standard library only.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fio.harness import DEV, ENGINE, Tally

SIZE = 8 << 20
PATTERN = 0x5A
FIO_PORT = 8765


@dataclass(frozen=True)
class Host:
    """One server: its network namespace, address and folder."""

    name: str
    number: int
    folder: Path

    @property
    def address(self) -> str:
        """Where its fio listens."""
        return f"10.7.{self.number}.2"

    @property
    def offset(self) -> int:
        """Where its half of the drive begins."""
        return self.number * SIZE

    def connect(self) -> None:
        """Makes the namespace, with a cable to here."""
        net = ["-n", self.name]
        for words in (
            ["netns", "add", self.name],
            ["link", "add", f"to-{self.name}", "type", "veth", "peer", "name", "eth0", "netns", self.name],
            ["addr", "add", f"10.7.{self.number}.1/24", "dev", f"to-{self.name}"],
            ["link", "set", f"to-{self.name}", "up"],
            [*net, "addr", "add", f"{self.address}/24", "dev", "eth0"],
            [*net, "link", "set", "eth0", "up"],
            [*net, "link", "set", "lo", "up"],
        ):
            subprocess.run(["ip", *words], check=True)

    def serve(self) -> subprocess.Popen[bytes]:
        """Starts its fio; it listens when this returns."""
        log = (self.folder / "log").open("wb")
        argv = ["ip", "netns", "exec", self.name, "fio", f"--server={self.address}"]
        server = subprocess.Popen(argv, cwd=self.folder, stdout=log, stderr=log)
        for _ in range(100):
            if server.poll() is not None or self.listens():
                break
            time.sleep(0.1)
        return server

    def listens(self) -> bool:
        """Is there somebody at fio's port?"""
        words = ["ip", "netns", "exec", self.name, "cat", "/proc/net/tcp"]
        table = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return f":{FIO_PORT:04X} 00000000:0000 0A" in table

    def job(self, words: str) -> Path:
        """A job file that the client sends; the report is the server's."""
        path = self.folder / f"{self.name}.fio"
        path.write_text(
            f"[{self.name}]\nioengine={ENGINE}\ndmabuf_report=report.json\nfilename={DEV}\ndirect=1\nbs=64k\n"
            f"iodepth=8\noffset={self.offset}\nsize={SIZE}\n{words}"
        )
        return path

    def report(self) -> dict[str, Any]:
        """What the engine said of its job."""
        return dict(json.loads((self.folder / "report.json").read_text()))


def drive(tally: Tally, hosts: list[Host]) -> None:
    """One run of the client on all servers."""
    writer, reader = hosts
    with open(DEV, "r+b", buffering=0) as disk:
        os.pwrite(disk.fileno(), bytes([PATTERN]) * SIZE, reader.offset)
        os.fsync(disk.fileno())
    jobs = {
        writer: f"rw=write\nverify=pattern\nverify_pattern={PATTERN:#x}\ndo_verify=1\n",
        reader: f"rw=read\nverify=pattern\nverify_pattern={PATTERN:#x}\n",
    }
    argv = ["fio", "--output-format=json"]
    for host, words in jobs.items():
        argv += [f"--client={host.address}", str(host.job(words))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    tally.same(done.returncode, 0, f"the client's exit status, which said {done.stderr[-300:]}")
    result = json.loads(done.stdout[done.stdout.index("{"):])
    seen = {entry["jobname"]: entry for entry in result["client_stats"] if entry["jobname"] != "All clients"}
    tally.same(sorted(seen), sorted(host.name for host in hosts), "jobs in the client's JSON")
    for host, way in ((writer, "write"), (reader, "read")):
        entry = seen.get(host.name, {})
        tally.same(entry.get("error"), 0, f"{host.name}: error")
        tally.same(entry.get(way, {}).get("io_bytes"), SIZE, f"{host.name}: bytes, by the client")
        report = host.report()
        tally.same(report["datapath"], "premapped", f"{host.name}: datapath")
        # The writer reads everything again to verify it.
        counts = {"read_bytes": SIZE, "write_bytes": SIZE if way == "write" else 0}
        module = {name: report["module"][name] for name in counts}
        tally.same(module, counts, f"{host.name}: bytes, by the module's counters")
        tally.same(report["module"]["errors"], 0, f"{host.name}: errors")
    with open(DEV, "rb", buffering=0) as disk:
        tally.same(os.pread(disk.fileno(), SIZE, writer.offset), bytes([PATTERN]) * SIZE, "bytes written")


def main() -> int:
    """Exit status 0 only if all checks hold."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        hosts = [Host(f"host{number}", number, Path(name) / f"host{number}") for number in range(2)]
        servers = []
        try:
            for host in hosts:
                host.folder.mkdir()
                host.connect()
                servers.append(host.serve())
            drive(tally, hosts)
        finally:
            for server in servers:
                server.terminate()
                server.wait()
            for host in hosts:
                print(f"{host.name}: {(host.folder / 'log').read_text()[-600:]}")
    return tally.finish("fio_servers")


if __name__ == "__main__":
    sys.exit(main())
