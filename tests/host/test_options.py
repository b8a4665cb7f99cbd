# SPDX-License-Identifier: GPL-2.0-only
"""The option table, as fio shows and parses it."""

import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from conftest import environment

Fio = Callable[..., Any]

OPTIONS = [
    "dmabuf_exporter", "dmabuf_device", "dmabuf_datapath", "dmabuf_submit", "dmabuf_hugepages", "dmabuf_timeout_ms",
    "dmabuf_max_command_kb", "dmabuf_report", "registerfiles", "sqthread_poll", "sqthread_poll_cpu",
]


def enghelp(library: str, option: str = "") -> str:
    variables = dict(os.environ)
    if os.environ.get("SANITIZER") == "asan":
        variables["LD_PRELOAD"] = subprocess.check_output(
            ["gcc", "-print-file-name=libasan.so"], text=True).strip()
        variables["ASAN_OPTIONS"] = "detect_leaks=0"
    return subprocess.check_output(
        [environment("FIO"), f"--enghelp={library}" + (f",{option}" if option else "")], text=True, env=variables
    )


def test_enghelp_lists_exactly_our_options(library: str) -> None:
    listed = [line.split(":")[0].strip() for line in enghelp(library).splitlines() if ":" in line]
    assert sorted(listed) == sorted(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_has_a_help_text(library: str, option: str) -> None:
    text = enghelp(library, option)
    first = text.splitlines()[0]
    assert first.strip().startswith(f"{option}:")
    assert len(first.split(":", 1)[1].strip()) > 10


def test_values_are_explained(library: str) -> None:
    text = enghelp(library, "dmabuf_datapath")
    for value in ("auto", "premapped", "registered", "bvec", "bounce", "host", "syscall"):
        assert value in text
    assert "default: auto" in text.lower()
    text = enghelp(library, "dmabuf_submit")
    for value in ("uring", "sync", "ioctl", "mmap"):
        assert value in text
    text = enghelp(library, "dmabuf_exporter")
    for value in ("udmabuf", "heap", "drm", "testexp"):
        assert value in text


@pytest.mark.parametrize("option,value", [
    ("dmabuf_datapath", "teleport"),
    ("dmabuf_submit", "post"),
    ("dmabuf_exporter", "cardboard"),
    ("dmabuf_timeout_ms", "soon"),
    ("dmabuf_timeout_ms", "3600001"),
    ("dmabuf_hugepages", "3"),
    ("dmabuf_no_such_option", "1"),
])
def test_unknown_values_are_refused_by_name(fio: Fio, option: str, value: str) -> None:
    result = fio(**{"dmabuf_datapath": "host", option: value})
    assert result.status != 0
    assert option in result.stderr + result.stdout
    assert not result.reports
