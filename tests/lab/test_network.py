# SPDX-License-Identifier: GPL-2.0-only
"""A network that breaks off in the middle of a set-up, and one that is slow: with apt itself and an archive that is here."""

import io
import os
import random
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import TARBALL, Archive, lay_out, served
from dmabuf_lab import apt, cli, config, fio_source, private_apt, progress, root
from dmabuf_lab.errors import BrokenOff, LabError

SUITES = (config.SUITE, config.UPDATES, config.BACKPORTS, config.SECURITY)
DEB = "/pool/apt_1_amd64.deb"
# apt as it is, but without a proxy, with an archive that nobody signed, and in a hurry.
SETTINGS = (
    'Acquire::http::Proxy "DIRECT"',
    'Acquire::http::Timeout "5"',
    'Acquire::Retries "1"',
    'Acquire::AllowInsecureRepositories "true"',
    'APT::Get::AllowUnauthenticated "true"',
)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in (("fio/fio.h", b""), ("fio/all-else", random.Random(1).randbytes(TARBALL))):
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    (tmp_path / "archive").mkdir()
    for suite in SUITES:
        lay_out(tmp_path / "archive", suite, packed.getvalue())
    (tmp_path / "apt.conf").write_text("".join(f"{setting};\n" for setting in SETTINGS))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(private_apt, "KEYRINGS", ())
    monkeypatch.setattr(fio_source, "suites", lambda _host: [config.SUITE])
    (tmp_path / "cache").mkdir()
    with served(tmp_path / "archive") as made:
        monkeypatch.setattr(root, "debian_mirror", lambda: made.mirror)
        yield made


@pytest.mark.parametrize(("fault", "why"), [("breaks", "Remote end closed connection"), ("stalls", "timed? ?out")])
def test_a_network_that_breaks_off_is_said_in_a_sentence_and_the_command_is_simply_run_again(
    archive: Archive, capsys: pytest.CaptureFixture[str], fault: str, why: str
) -> None:
    setattr(archive, fault, True)
    assert cli.main(["fio-source", "3.41"]) == 2
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert out == "" and re.fullmatch(
        rf"dmabuf-lab: {archive.mirror}/\S+ could not be fetched: [^:]*{why}[^:]*; when the archive answers, run this again",
        last, re.IGNORECASE), err
    assert "git clone" not in err, "the archive has it"
    setattr(archive, fault, False)
    assert cli.main(["fio-source", "3.41"]) == 0
    assert (Path(capsys.readouterr().out.strip()) / "all-else").stat().st_size == TARBALL


def test_what_the_archive_lists_and_has_not_is_no_fault_of_the_network(archive: Archive) -> None:
    shutil.rmtree(archive.folder / "pool")
    with pytest.raises(LabError, match="404") as caught:
        fio_source.get("3.41", archive.mirror)
    assert not isinstance(caught.value, BrokenOff) and "git clone" in str(caught.value)


def test_a_slow_mirror_is_waited_for_and_what_came_is_told(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.pause_s = 0.2
    monkeypatch.setattr(progress, "EVERY_S", 0.2)
    assert cli.main(["fio-source", "3.41"]) == 0
    told = [float(part) for part in re.findall(r"fetching the source of fio 3\.41: (\S+) MiB so far", capsys.readouterr().err)]
    assert len(told) >= 4 and min(told) >= 0
    assert told[0] < TARBALL / 2**20 / 2 < max(told)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mmdebstrap"), reason="needs root and mmdebstrap")
def test_a_root_of_which_half_was_fetched_is_not_there_and_is_made_anew(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to the unpacking: the archive has no package that could be."""
    monkeypatch.setattr(apt, "install", lambda _packages: None)
    monkeypatch.setattr(apt, "host_mirrors", lambda: apt.Mirrors(archive.mirror, archive.mirror))
    monkeypatch.setattr(apt, "host_settings", lambda: list(SETTINGS))
    monkeypatch.setattr(config, "PACKAGES", ("apt",))
    archive.breaks = True
    assert cli.main(["setup"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"dmabuf-lab: \S+/pool/apt_1_amd64.deb could not be fetched: .*; when the archive answers, run this "
                        "again", said[-1])
    assert len(said) == 3, "what is made, the step, and how it ended"
    assert not list(root.root_path().parent.glob("root-*/"))
    archive.breaks = False
    archive.asked.clear()
    assert cli.main(["setup"]) == 2
    assert archive.asked.count(DEB) >= 1
    assert "dpkg-deb" in capsys.readouterr().err
    # What came whole is not fetched again, though nothing could be made of it.
    archive.asked.clear()
    assert cli.main(["setup"]) == 2
    assert "dpkg-deb" in capsys.readouterr().err
    assert archive.asked and DEB not in archive.asked


def test_a_package_that_did_not_change_is_fetched_once(archive: Archive, tmp_path: Path) -> None:
    """By the apt that fetches kernels and firmware, each time in a folder of its own."""
    def download(number: int) -> bytes:
        private = private_apt.PrivateApt(tmp_path / str(number), name="some-kernel")
        assert private.use(archive.mirror, config.SUITE, "deb")
        archive.asked.clear()
        (package,) = private.download("apt").iterdir()
        assert private.used == {package.name}
        return package.read_bytes()

    first = download(1)
    assert archive.asked.count(DEB) == 1 and len(first) >= TARBALL
    assert download(2) == first and DEB not in archive.asked
    # apt itself would take a file of that length.
    (tmp_path / "cache/packages" / Path(DEB).name).write_bytes(bytes(len(first)))
    assert download(3) == first and archive.asked.count(DEB) == 1
    changed = random.Random(2).randbytes(len(first))
    shutil.rmtree(archive.folder / "dists")
    lay_out(archive.folder, config.SUITE, changed)
    assert download(4) == changed and archive.asked.count(DEB) == 1
    assert download(5) == changed and DEB not in archive.asked
