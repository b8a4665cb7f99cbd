# SPDX-License-Identifier: GPL-2.0-only
"""Exporters of the user's own through fio: the documentation's plug-in, and a peer that hands memory over a
socket. What they give is the stand-in for a dma-buf; datapath bounce moves the data."""

import contextlib
import errno
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import environment

Fio = Callable[..., Any]
MIB = 1 << 20
VERIFY = {"rw": "randrw", "verify": "crc32c", "size": "2m", "dmabuf_datapath": "bounce"}


def plugin(name: str) -> str:
    return f"{environment('PLUGINS')}/{name}.so"


class Peer:
    """Hands out memory on a socket to everybody who asks, until the test ends."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "s")
        self.text = b"ok a pool of frames"
        self.memory = "stand-in-dmabuf"
        self.asked: list[int] = []
        self.ends: list[bytes] = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen()
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=self._serve, args=(self.listener.accept()[0],))
                self.threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            asked = re.fullmatch(rb"libdmabuf 1 buffers=1 bytes=(\d+)", connection.recv(256))
            assert asked
            self.asked.append(int(asked[1]))
            memfd = os.memfd_create(self.memory)
            os.ftruncate(memfd, int(asked[1]))
            socket.send_fds(connection, [self.text], [memfd])
            os.close(memfd)
            self.ends.append(connection.recv(1))

    def end(self) -> None:
        with contextlib.suppress(OSError):  # a second time
            self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.listener.close()


@pytest.fixture
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    # A socket's name is short.
    made = Peer(tmp_path_factory.mktemp("peer"))
    yield made
    made.end()


@pytest.mark.parametrize("name", ["udmabuf_plugin", "udmabuf_copies"])
@pytest.mark.parametrize("thread", [0, 1])
def test_a_plug_in_gives_what_fio_verifies(fio: Fio, name: str, thread: int) -> None:
    result = fio(stand_in=True, numjobs=2, thread=thread, offset_increment="2m", dmabuf_exporter="plugin",
                 dmabuf_device=plugin(name), **VERIFY)
    assert result.status == 0, result.stderr
    assert [(r["exporter"], r["device"], r["proven"]) for r in result.reports] == [("plugin", "/dev/udmabuf", True)] * 2
    assert all(r["copies"]["to_buffer_bytes"] > 0 for r in result.reports)


def run_to_its_end(fio: Fio, function: str, way: str, thread: int) -> Any:
    """With a plug-in that ends the process so, in one of its functions."""
    return fio(stand_in=True, thread=thread, dmabuf_exporter="plugin",
               dmabuf_device=f"{plugin('exit_plugin')},{function};{way}", **VERIFY)


FUNCTIONS = ["open", "alloc", "read", "write", "free", "close"]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("thread", [0, 1])
def test_a_plug_in_that_exits_is_named_and_fails_the_job(fio: Fio, function: str, thread: int) -> None:
    result = run_to_its_end(fio, function, "exit", thread)
    assert result.status != 0, result.stderr
    assert f"libdmabuf: plug-in that ends called exit(0) in its {function}(), and what ran counts for nothing" in result.stderr


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_plug_in_that_ends_the_jobs_process_fails_fio(fio: Fio, function: str) -> None:
    """There is nobody left in it to say so. fio's own process misses the job, unless it dies first: it frees the
    options that were the job's (fio 3.33 with any engine that has options)."""
    result = run_to_its_end(fio, function, "_exit", 0)
    assert result.status in (1, -11), result.stderr
    assert result.stderr.count("libdmabuf: job t did not come to its end") == (result.status == 1)


def test_a_job_that_does_not_come_to_its_end_fails_fio(fio: Fio, tmp_path: Path) -> None:
    """Somebody calls exit(0) in fio's process, and no plug-in is in use: it was of a job that has ended."""
    other = ["--name=u", "--thread=1", f"--ioengine=external:{environment('LIBDMABUF')}", "--dmabuf_datapath=host",
             f"--filename={tmp_path}/other", "--size=1m", "--rw=randread", "--time_based", "--runtime=60"]
    result = fio(*other, stand_in=True, thread=1, dmabuf_exporter="plugin", dmabuf_device=f"{plugin('exit_plugin')},close;later",
                 **VERIFY)
    assert result.status == 1, result.stderr
    assert result.reports[0]["proven"] is True, "the job before it"
    assert "libdmabuf: job u did not come to its end" in result.stderr and "job t did not" not in result.stderr


@pytest.mark.parametrize("thread", [0, 1])
def test_a_thread_of_a_plug_in_that_exits_fails_the_job(fio: Fio, thread: int) -> None:
    result = run_to_its_end(fio, "read", "thread", thread)
    assert result.status != 0, result.stderr
    assert "libdmabuf: exit(0) was called while plug-in that ends was in use, and what ran counts for nothing" in result.stderr


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("thread", [0, 1])
def test_a_child_of_a_plug_in_may_exit(fio: Fio, function: str, thread: int) -> None:
    result = run_to_its_end(fio, function, "child", thread)
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True and "called exit" not in result.stderr


def test_each_job_has_its_own_arguments(fio: Fio) -> None:
    """A ':' list is dealt out to the jobs; the second one's are refused."""
    result = fio(stand_in=True, numjobs=2, dmabuf_exporter="plugin", dmabuf_buffers="io_u",
                 dmabuf_device=f"{plugin('udmabuf_plugin')}:{plugin('udmabuf_plugin')},no\\:1", **VERIFY)
    assert result.status != 0
    assert result.stderr.count("plug-in udmabuf example did not open (EINVAL): it takes no arguments") == 1


def test_without_a_file_or_socket_the_option_is_named(fio: Fio) -> None:
    for exporter, says in (("plugin", "set dmabuf_device=FILE"), ("fd", "set dmabuf_device to the UNIX socket")):
        result = fio(stand_in=True, dmabuf_exporter=exporter, **VERIFY)
        assert result.status != 0
        assert says in result.stderr


def test_a_peer_gives_what_fio_verifies_and_sees_its_end(fio: Fio, peer: Peer) -> None:
    result = fio(stand_in=True, numjobs=3, offset_increment="2m", dmabuf_exporter="fd", dmabuf_device=peer.path, **VERIFY)
    assert result.status == 0, result.stderr
    assert [(r["exporter"], r["device"], r["proven"]) for r in result.reports] == [("fd", "a pool of frames", True)] * 3
    assert len(peer.asked) == 3 and min(peer.asked) >= 16 * 4096
    peer.end()
    assert peer.ends == [b""] * 3


def test_a_dma_buf_for_each_slot_is_asked_for_by_itself(fio: Fio, peer: Peer) -> None:
    result = fio(stand_in=True, dmabuf_exporter="fd", dmabuf_device=peer.path, dmabuf_buffers="io_u", **VERIFY)
    assert result.status == 0, result.stderr
    assert peer.asked == [4096] * 16


def test_memory_that_is_no_dma_buf_is_refused_by_name(fio: Fio, peer: Peer) -> None:
    peer.memory = "something"
    result = fio(stand_in=True, dmabuf_exporter="fd", dmabuf_device=peer.path, **VERIFY)
    assert result.status != 0
    assert f"who listens on {peer.path} gave something that is no dma-buf" in result.stderr
    peer.memory, peer.text = "stand-in-dmabuf", b"no all frames are in use"
    result = fio(stand_in=True, dmabuf_exporter="fd", dmabuf_device=peer.path, **VERIFY)
    assert result.status != 0
    assert "gives no dma-buf of 1 MiB: all frames are in use" in result.stderr


@pytest.mark.parametrize("exporter,way_out", [
    ("fd", "a GPU's memory comes from that GPU's exporter (cuda, hip, amdgpu, xe), any other such memory from "
           "dmabuf_exporter=plugin with read and write (docs/exporters.md)"),
    ("plugin", "give the plug-in's table the members read and write, which copy (docs/exporters.md)"),
    ("udmabuf", "use another exporter or device"),
])
def test_memory_that_the_cpu_cannot_map_has_a_name_and_a_way_out(fio: Fio, peer: Peer, exporter: str, way_out: str) -> None:
    """As a GPU's: NVIDIA's driver refuses with a number that only the kernel knows."""
    device = {"fd": peer.path, "plugin": plugin("udmabuf_plugin"), "udmabuf": "/dev/udmabuf"}[exporter]
    result = fio(stand_in=True, dmabuf_exporter=exporter, dmabuf_device=device, env={"STAND_IN_FAIL": "mmap:524"}, **VERIFY)
    assert result.status != 0 and not result.reports
    assert (f"exporter {exporter} does not let the CPU map this dma-buf, which fio needs to fill and verify it: ENOTSUPP "
            f"(Not supported, the kernel's own errno 524); {way_out}\n") in result.stderr
    assert result.json["jobs"][0]["error"] == errno.EOPNOTSUPP
    assert "Unknown error" not in result.stderr + result.stdout


def test_a_plug_in_that_copies_needs_no_mapping(fio: Fio) -> None:
    result = fio(stand_in=True, dmabuf_exporter="plugin", dmabuf_device=plugin("udmabuf_copies"),
                 env={"STAND_IN_FAIL": "mmap:524"}, **VERIFY)
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True


def test_the_documentations_program_says_that_its_socket_is_there_already(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One that was killed leaves it behind."""
    path = tmp_path_factory.mktemp("left") / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(path))
    program = Path(__file__).resolve().parents[2] / "docs/examples/hand_out.py"
    done = subprocess.run(["/usr/bin/python3", "-B", str(program), str(path)], text=True, capture_output=True, timeout=60,
                          check=False)
    assert done.returncode == 1
    assert done.stderr == f"{path}: Address already in use; where nobody listens any more, remove it\n"
