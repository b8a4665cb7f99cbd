# SPDX-License-Identifier: GPL-2.0-only
"""A small Debian archive on this machine, whose network breaks off or is slow when a test wants it."""

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# As long as the longest that a connection takes in at once, many times.
TARBALL = 4 << 20


def sums(path: Path, base: Path) -> str:
    data = path.read_bytes()
    return f" {hashlib.sha256(data).hexdigest()} {len(data)} {path.relative_to(base)}\n"


def lay_out(folder: Path, suite: str, tarball: bytes) -> None:
    """One suite with the source of fio 3.41, unsigned, and a binary package for amd64 that has the same bytes."""
    pool, dist = folder / "pool", folder / "dists" / suite
    for name in ("source", "binary-amd64"):
        (dist / "main" / name).mkdir(parents=True)
    pool.mkdir(exist_ok=True)
    (pool / "fio_3.41.orig.tar.gz").write_bytes(tarball)
    (pool / "apt_1_amd64.deb").write_bytes(tarball)
    digest = hashlib.sha256(tarball).hexdigest()
    (dist / "main/source/Sources").write_text(
        "Package: fio\nFormat: 3.0 (quilt)\nBinary: fio\nArchitecture: any\nVersion: 3.41-2\nDirectory: pool\n"
        f"Checksums-Sha256:\n {digest} {len(tarball)} fio_3.41.orig.tar.gz\n\n")
    (dist / "main/binary-amd64/Packages").write_text(
        "Package: apt\nEssential: yes\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n"
        f"Filename: pool/apt_1_amd64.deb\nSize: {len(tarball)}\nSHA256: {digest}\n\n")
    listed = "".join(sums(path, dist) for path in sorted(dist.glob("main/*/*")))
    (dist / "Release").write_text(
        f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
        f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S UTC', time.gmtime())}\nSHA256:\n{listed}")


class Archive(http.server.ThreadingHTTPServer):
    """Serves a folder. Of the pool, in the middle of each file, `breaks`: it closes the connection, or `stalls`: it sends
    no more. `pause_s`: it waits so long after each sixteenth of one. `asked`: the paths that it was asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.breaks = self.stalls = False
        self.over = threading.Event()
        self.pause_s = 0.0
        self.asked: list[str] = []
        self.mirror = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Archive
    protocol_version = "HTTP/1.1"

    def log_message(self, *_words: object) -> None:
        pass

    def do_GET(self) -> None:
        archive = self.server
        archive.asked.append(self.path)
        path = archive.folder / self.path.lstrip("/")
        if not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        begin = 0
        if of := self.headers.get("Range", ""):  # "bytes=N-": what apt has a part of
            begin = int(of.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        data = data[begin:]
        if "/pool/" in self.path and (archive.breaks or archive.stalls):
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            if archive.stalls:
                archive.over.wait(60)
            return None
        step = len(data) // 16 + 1
        for at in range(0, len(data), step):
            self.wfile.write(data[at: at + step])
            self.wfile.flush()
            if "/pool/" in self.path:
                time.sleep(archive.pause_s)
        return None


@contextmanager
def served(folder: Path) -> Iterator[Archive]:
    with Archive(folder) as archive:
        threading.Thread(target=archive.serve_forever, daemon=True).start()
        try:
            yield archive
        finally:
            archive.over.set()
            archive.shutdown()
