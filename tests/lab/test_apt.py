# SPDX-License-Identifier: GPL-2.0-only
"""Mirrors and download settings are read from the host's apt as they are."""

import socket
from pathlib import Path

import pytest
from dmabuf_lab import apt, private_apt
from dmabuf_lab.errors import BrokenOff

BOOKWORM = """\
http://archive.invalid/debian-security|bookworm-security|main|Packages|Debian
http://archive.invalid/debian|bookworm-updates|main|Packages|Debian
http://archive.invalid/debian|bookworm|main|Packages|Debian
https://third.invalid/apt|cloud-bookworm|main|Packages|Cloud
"""


def test_both_archives_of_a_bookworm_host_are_found() -> None:
    mirrors = apt.parse_mirrors(BOOKWORM)
    assert mirrors == apt.Mirrors(
        "http://archive.invalid/debian", "http://archive.invalid/debian-security"
    )


def test_a_trixie_host_with_a_trailing_slash_is_understood() -> None:
    mirrors = apt.parse_mirrors("http://a.invalid/x/debian/|trixie|main|Packages|Debian\n")
    assert mirrors == apt.Mirrors("http://a.invalid/x/debian", None)


def test_third_party_archives_and_source_indexes_are_not_taken() -> None:
    text = (
        "https://third.invalid/debian|bookworm|main|Packages|Third\n"
        "http://a.invalid/debian|bookworm|main|Sources|Debian\n"
        "http://a.invalid/debian|bookworm|contrib|Packages|Debian\n"
        "http://b.invalid/ubuntu|noble|main|Packages|Ubuntu\n"
    )
    assert apt.parse_mirrors(text) == apt.Mirrors(None, None)


def test_an_archive_that_cannot_be_reached_is_told_from_one_that_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """apt's own `update` warns of the former, and ends with status 0."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and listens to none
        mirror = f"http://127.0.0.1:{nobody.getsockname()[1]}/debian"
        assert not private_apt.PrivateApt(tmp_path).use(mirror, "bookworm", "deb")
    assert "bookworm cannot be asked: E: Failed to fetch" in capsys.readouterr().err


def test_a_full_disk_is_told_from_a_network_that_broke_off() -> None:
    """apt says both, the first one in words that it also has for files that did not come."""
    full = apt.failure("E: Failed to fetch a://b/c  Write error - write (28: No space left on device)\n", "else")
    assert str(full).startswith("the disk is full") and not isinstance(full, BrokenOff)
    broken = apt.failure("W: x\nE: Failed to fetch a://b/c  Connection failed [IP: 192.0.2.1 80]\nE: Some\n", "else")
    assert str(broken) == "a://b/c could not be fetched: Connection failed; when the archive answers, run this again"
    assert isinstance(broken, BrokenOff)
    for status in ("404  Not Found", "403  Forbidden", "407  Proxy Authentication Required"):
        assert str(apt.failure(f"E: Failed to fetch a://b/c  {status} [IP: 192.0.2.1 80]\n", "else")) == "else"
    for status in ("429  Too Many Requests", "503  Service Unavailable"):
        assert isinstance(apt.failure(f"E: Failed to fetch a://b/c  {status}\n", "else"), BrokenOff)
    assert str(apt.failure("E: Unable to locate package x\n", "else")) == "else"


def test_no_output_means_no_mirror() -> None:
    assert apt.parse_mirrors("") == apt.Mirrors(None, None)


def test_download_settings_are_carried_over_and_others_are_not() -> None:
    dump = """\
APT::Architecture "amd64";
Acquire "";
Acquire::http::Proxy "http://proxy.invalid:3128";
Acquire::https::Verify-Peer "true";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
Acquire::Retries "3";
Acquire::GzipIndexes "true";
Acquire::http "";
Acquire::IndexTargets::deb::Packages::MetaKey "x";
Dir::Etc "etc/apt";
"""
    assert apt.parse_settings(dump) == [
        'Acquire::http::Proxy "http://proxy.invalid:3128"',
        'Acquire::https::Verify-Peer "true"',
        'Acquire::Check-Valid-Until "false"',
        'Acquire::Check-Date "false"',
        'Acquire::Retries "3"',
    ]
