# SPDX-License-Identifier: GPL-2.0-only
"""Runs fio with the engine under test and reads what it says."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Result:
    """One run of fio."""

    status: int
    stderr: str
    stdout: str
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def json(self) -> dict[str, Any]:
        """fio's own JSON; raises if stdout is anything but one JSON document.

        When a job fails, fio itself says so on stdout before the document.
        """
        # With exec_prerun and exec_postrun fio says where their output is.
        text = re.sub(r"^\S+ : Saving output of .*\n", "", self.stdout, flags=re.MULTILINE)
        if self.status:
            text = text[text.index("\n{\n") :] if "\n{\n" in text else text
        document = json.loads(text)
        assert isinstance(document, dict)
        return document

    def total(self, kind: str, name: str) -> int:
        """Sum over all jobs of fio's figure `name` for `kind` (read, write, trim)."""
        return sum(job[kind][name] for job in self.json["jobs"])


def environment(name: str) -> str:
    """A path that CMake handed over."""
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set: run this by ctest --label-regex host")
    return value


@pytest.fixture
def library() -> str:
    return environment("LIBDMABUF")


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder any user may enter and write in, with a copy of libdmabuf.so and its engines."""
    with tempfile.TemporaryDirectory(prefix="libdmabuf-test-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        library = Path(environment("LIBDMABUF"))
        Path(shutil.copy(library, folder)).chmod(0o755)
        shutil.copytree(library.with_name("libdmabuf"), folder / "libdmabuf")
        yield folder


@pytest.fixture
def fio(tmp_path: Path) -> Callable[..., Result]:
    """Runs fio with `--ioengine=external:<engine>` and the given options.

    A 16 MiB file in the build tree is the target unless `filename` says otherwise. `stand_in` preloads
    the stand-in for /dev/udmabuf, `preload` further libraries before it; `env` adds to the environment.
    """

    def run(
        *flags: str,
        stand_in: bool = False,
        preload: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        library: str | None = None,
        job: str = "t",
        report: bool = True,
        json_output: bool = True,
        prefix: tuple[str, ...] = (),
        **options: str | int | None,
    ) -> Result:
        merged: dict[str, str | int | None] = {
            "filename": str(tmp_path / "target"),
            "size": "16m",
            "rw": "randread",
            "bs": "4k",
            "iodepth": 16,
            "randseed": 1,
        }
        engine = {k: v for k, v in options.items() if k.startswith(
            ("dmabuf_", "sqthread", "register", "nowait", "force_", "cmdprio", "readfua"))}
        merged |= {k: v for k, v in options.items() if k not in engine}
        merged = {k: v for k, v in merged.items() if v is not None}
        report_path = tmp_path / "report.json"
        report_path.unlink(missing_ok=True)
        if report:
            engine.setdefault("dmabuf_report", str(report_path))
        command = [*prefix, environment("FIO"), f"--name={job}"]
        command += [f"--{k}={v}" for k, v in merged.items()]
        command += [f"--ioengine=external:{library or environment('LIBDMABUF')}"]
        command += [f"--{k}={v}" for k, v in engine.items()]
        command += flags
        if json_output:
            command.append("--output-format=json")
        variables = os.environ | (env or {})
        libraries = []
        if os.environ.get("SANITIZER") == "asan":
            # fio is not built with the sanitizer, so its run-time has to come first.
            libraries.append(subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip())
            variables["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1"
        libraries += preload
        if stand_in:
            libraries.append(environment("STAND_IN"))
        if libraries:
            variables["LD_PRELOAD"] = ":".join(libraries)
        done = subprocess.run(
            command, env=variables, cwd=tmp_path, text=True, capture_output=True, timeout=120, check=False
        )
        result = Result(done.returncode, done.stderr, done.stdout)
        if report_path.exists():
            result.reports = [json.loads(line) for line in report_path.read_text().splitlines()]
        return result

    return run
