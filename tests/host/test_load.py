# SPDX-License-Identifier: GPL-2.0-only
"""Loading: symbols, versions, the ways to name the library."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import environment

Fio = Callable[..., Any]


def test_get_ioengine_is_the_only_exported_symbol(library: str) -> None:
    lines = subprocess.check_output(["nm", "-D", "--defined-only", library], text=True).splitlines()
    assert [line.split()[-1] for line in lines] == ["get_ioengine"]


def test_the_library_stays_loaded(library: str) -> None:
    assert "NODELETE" in subprocess.check_output(["readelf", "-d", library], text=True)


def test_every_symbol_resolves_when_loaded(fio: Fio) -> None:
    result = fio(size="1m", dmabuf_datapath="host", env={"LD_BIND_NOW": "1"})
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True


def test_an_engine_for_another_fio_is_refused(fio: Fio) -> None:
    result = fio(library=environment("LIBDMABUF_OTHER"), dmabuf_datapath="host")
    assert result.status != 0
    running = subprocess.check_output([environment("FIO"), "--version"], text=True).strip()
    assert f"built for fio-0.0-other and cannot work in {running}" in result.stderr
    assert not result.reports


def test_by_bare_name_on_the_loader_path(library: str, tmp_path: Path) -> None:
    """`external:libdmabuf.so` works in a folder that has the file, as the installed jobs folder does."""
    os.symlink(library, tmp_path / "libdmabuf.so")
    variables = os.environ | {"LD_LIBRARY_PATH": str(Path(library).parent)}
    if os.environ.get("SANITIZER") == "asan":
        variables["LD_PRELOAD"] = subprocess.check_output(
            ["gcc", "-print-file-name=libasan.so"], text=True).strip()
        variables["ASAN_OPTIONS"] = "detect_leaks=0"
    for engine in ("external:libdmabuf.so", "external:./libdmabuf.so", "libdmabuf.so"):
        done = subprocess.run(
            [environment("FIO"), "--name=t", "--filename=f", "--size=1m", "--rw=read", f"--ioengine={engine}",
             "--dmabuf_datapath=host"],
            cwd=tmp_path, env=variables, text=True, capture_output=True, check=False,
        )
        assert done.returncode == 0, f"{engine}: {done.stderr}"


def test_a_job_file_sets_the_options(library: str, tmp_path: Path) -> None:
    """In a job file the order of the options does not matter."""
    job = tmp_path / "job.fio"
    job.write_text(
        "[global]\ndmabuf_datapath=host\ndmabuf_report=r.json\nioengine=external:${LIBDMABUF}\n"
        "[a]\nfilename=f\nsize=1m\nrw=read\n[b]\nstonewall\nfilename=f\nsize=1m\nrw=randread\n"
    )
    variables = dict(os.environ)
    if os.environ.get("SANITIZER") == "asan":
        variables["LD_PRELOAD"] = subprocess.check_output(
            ["gcc", "-print-file-name=libasan.so"], text=True).strip()
        variables["ASAN_OPTIONS"] = "detect_leaks=0"
    subprocess.run([environment("FIO"), str(job)], cwd=tmp_path, env=variables, check=True, capture_output=True)
    assert len((tmp_path / "r.json").read_text().splitlines()) == 2


def test_installed_tree_works_from_the_jobs_folder(tmp_path: Path, library: str) -> None:
    """`make install` puts a link to the library beside the jobs."""
    build = Path(library).parent.parent
    if not shutil.which("cmake"):
        raise AssertionError("cmake built this, where is it?")
    subprocess.run(["cmake", "--install", str(build), "--prefix", str(tmp_path / "usr")], check=True,
                   capture_output=True)
    link = tmp_path / "usr/share/libdmabuf/jobs/libdmabuf.so"
    assert link.is_symlink()
    assert link.resolve().is_file(), os.readlink(link)
    assert (tmp_path / "usr/include/linux/dmabuf_rw.h").is_file()
