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
    "dmabuf_max_command_kb", "dmabuf_buffers", "dmabuf_remap_every", "dmabuf_ranges", "dmabuf_pin_file",
    "dmabuf_report",
]
# Of fio's engine io_uring, under their names there.
FOLLOWED = ["hipri", "fixedbufs", "registerfiles", "sqthread_poll", "sqthread_poll_cpu", "nowait", "force_async",
            "cmdprio_percentage", "cmdprio_class", "cmdprio", "cmdprio_bssplit", "uncached", "readfua", "writefua"]
# Refused, each with the default that is not, which is that of fio's engine.
REFUSED = {"md_per_io_size": "0", "pi_act": "1", "pi_chk": "", "apptag": "0x1234", "apptag_mask": "0xffff",
           "deac": "0", "write_mode": "write", "verify_mode": "read", "read_mode": "read", "cmd_type": "nvme",
           "cdb_len": "0", "verify_bytchk": "0"}
# Other values of these, as any fio has them.
OTHERS = [("md_per_io_size", "8"), ("pi_act", "0"), ("pi_chk", "GUARD,REFTAG"), ("apptag", "5"), ("apptag_mask", "7"),
          ("deac", "1"), ("write_mode", "uncor"), ("write_mode", "zeroes"), ("write_mode", "verify"),
          ("write_mode", "zone_append"), ("write_mode", "write/60:zeroes/40"), ("verify_mode", "compare"),
          ("read_mode", "prefetch"), ("cmd_type", "bsg"), ("cdb_len", "16"), ("cdb_len", "32"), ("verify_bytchk", "1"),
          ("verify_bytchk", "3")]
NO_EFFECT = {"nonvectored": 1}


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


@pytest.mark.parametrize("option,value", OTHERS)
def test_what_is_not_followed_is_refused_by_name(fio: Fio, option: str, value: str) -> None:
    result = fio(f"--{option}={value}", size="64k", dmabuf_datapath="host")
    assert result.status != 0
    shown = str(int(value, 0)) if value.isdigit() and option != "cdb_len" else value
    assert f"libdmabuf: job t: {option}={shown}: " in result.stderr
    assert result.stderr.count("; drop it") == 1
    assert not result.reports


def test_every_refusal_is_tried() -> None:
    assert {option for option, _ in OTHERS} == set(REFUSED)


def test_the_defaults_of_what_is_refused_are_accepted(fio: Fio) -> None:
    given = [f"--{option}={value}" for option, value in REFUSED.items() if value]
    result = fio(*given, size="64k", dmabuf_datapath="host")
    assert result.status == 0, result.stderr


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
