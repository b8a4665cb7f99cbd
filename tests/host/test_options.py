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
    "dmabuf_max_command_kb", "dmabuf_buffers", "dmabuf_remap_every", "dmabuf_report",
]
# Of fio's engine io_uring, under their names there.
FOLLOWED = ["hipri", "fixedbufs", "registerfiles", "sqthread_poll", "sqthread_poll_cpu", "nowait", "force_async",
            "cmdprio_percentage", "cmdprio_class", "cmdprio", "cmdprio_bssplit"]
REFUSED = {"uncached": 1, "md_per_io_size": 8, "readfua": 1, "writefua": 1, "deac": 1, "write_mode": "zeroes",
           "verify_mode": "compare"}
NO_EFFECT = {"nonvectored": 1, "pi_act": 0, "pi_chk": "GUARD", "apptag": 5, "apptag_mask": 7, "cmd_type": "nvme"}


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
    ours = [*OPTIONS, *FOLLOWED, *REFUSED, *NO_EFFECT]
    assert sorted(set(listed) - {"cmdprio_hint"}) == sorted(ours)


def test_every_option_of_fios_io_uring_is_known(library: str) -> None:
    """A job of that engine does not fail on an option's name, whatever the fio."""
    listed = [line.split(":")[0].strip() for line in enghelp("io_uring").splitlines() if ":" in line]
    assert len(listed) > 10
    known = [line.split(":")[0].strip() for line in enghelp(library).splitlines() if ":" in line]
    assert not set(listed) - set(known)


def test_flags_need_no_value_and_take_one(fio: Fio) -> None:
    for flags in (["--registerfiles", "--fixedbufs"], ["--registerfiles=1", "--fixedbufs=0", "--hipri=0"]):
        result = fio(*flags, size="1m", dmabuf_datapath="host")
        assert result.status == 0, result.stderr
    refused = fio("--hipri", direct=0, dmabuf_datapath="host")
    assert refused.status != 0
    assert "direct=1" in refused.stderr


@pytest.mark.parametrize("option,value", REFUSED.items())
def test_what_is_not_followed_is_refused_unless_it_is_the_default(fio: Fio, option: str, value: Any) -> None:
    result = fio(f"--{option}={value}", size="64k", dmabuf_datapath="host")
    assert result.status != 0
    assert f"{option}={value} is an option of engine io_uring that this engine does not have" in result.stderr
    assert not result.reports
    default = {"write_mode": "write", "verify_mode": "read"}.get(option, 0)
    assert fio(f"--{option}={default}", size="64k", dmabuf_datapath="host").status == 0


def test_what_engine_io_uring_ignores_is_ignored(fio: Fio) -> None:
    result = fio(*[f"--{option}={value}" for option, value in NO_EFFECT.items()], size="64k", dmabuf_datapath="host")
    assert result.status == 0, result.stderr


@pytest.mark.parametrize("option", [*OPTIONS, *FOLLOWED, *REFUSED, *NO_EFFECT])
def test_every_option_has_a_help_text(library: str, option: str) -> None:
    text = enghelp(library, option)
    first = text.splitlines()[0]
    assert first.strip().startswith(f"{option}:")
    assert len(first.split(":", 1)[1].strip()) > 10


def test_values_are_explained(library: str) -> None:
    text = enghelp(library, "dmabuf_datapath")
    for value in ("auto", "premapped", "registered", "bvec", "bounce", "host", "syscall", "upstream"):
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
