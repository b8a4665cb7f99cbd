# SPDX-License-Identifier: GPL-2.0-only
"""Loading: symbols, versions, the ways to name the library."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import environment

Fio = Callable[..., Any]


def loaded() -> dict[str, str]:
    """The environment of a program that loads the engine, with the sanitizer if that has it."""
    variables = dict(os.environ)
    if os.environ.get("SANITIZER") == "asan":
        variables["LD_PRELOAD"] = subprocess.check_output(
            ["gcc", "-print-file-name=libasan.so"], text=True).strip()
        variables["ASAN_OPTIONS"] = "detect_leaks=0"
    return variables


def running() -> str:
    """What the fio under test calls itself."""
    return subprocess.check_output([environment("FIO"), "--version"], text=True).strip()


def engines(library: str) -> list[Path]:
    """The engines beside libdmabuf.so, of which this fio's is one."""
    found = sorted(Path(library).with_name("libdmabuf").glob("*.so"))
    assert f"{running()}.so" in [path.name for path in found]
    return found


def test_get_ioengine_is_the_only_exported_symbol(library: str) -> None:
    for path in (Path(library), *engines(library)):
        lines = subprocess.check_output(["nm", "-D", "--defined-only", path], text=True).splitlines()
        assert [line.split()[-1] for line in lines] == ["get_ioengine"], path


def test_the_library_and_its_engines_stay_loaded(library: str) -> None:
    for path in (Path(library), *engines(library)):
        assert "NODELETE" in subprocess.check_output(["readelf", "-d", path], text=True), path


def test_every_symbol_resolves_when_loaded(fio: Fio) -> None:
    result = fio(size="1m", dmabuf_datapath="host", env={"LD_BIND_NOW": "1"})
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True


def alone(library: str, folder: Path, **files: Path) -> str:
    """A copy of libdmabuf.so with these files as its engines, and no others."""
    copy = shutil.copy(library, folder)
    for name, file in files.items():
        (folder / "libdmabuf").mkdir(exist_ok=True)
        shutil.copy(file, folder / "libdmabuf" / name)
    return copy


def test_an_engine_for_another_fio_is_refused(fio: Fio, library: str, tmp_path: Path) -> None:
    """By its own word: given as the engine, and under the name of the one that fits."""
    other = Path(environment("LIBDMABUF_OTHER"))
    for engine in (str(other), alone(library, tmp_path, **{f"{running()}.so": other})):
        result = fio(library=engine, dmabuf_datapath="host")
        assert result.status != 0
        assert f"built for fio-0.0-other and cannot work in {running()}" in result.stderr
        assert not result.reports


def test_the_engines_that_are_there_are_named_where_none_fits(fio: Fio, library: str, tmp_path: Path) -> None:
    own = engines(library)[0]
    names = ("fio-3.9.so", "fio-3.41-dirty.so", "fio-3.10.so", "fio-.so", "fio-3.8.so.bak", "README")
    result = fio(library=alone(library, tmp_path, **dict.fromkeys(names, own)), dmabuf_datapath="host")
    assert result.status != 0
    assert f"libdmabuf: no engine for {running()}: {tmp_path}/libdmabuf has fio-3.9, fio-3.10 and fio-3.41-dirty; " \
        f"build one with -DFIO_SOURCE_DIRS=<the source of {running()}>" in result.stderr, result.stderr
    assert not result.reports


def test_that_there_are_no_engines_is_said(fio: Fio, library: str, tmp_path: Path) -> None:
    """Someone copied libdmabuf.so and not its folder."""
    result = fio(library=alone(library, tmp_path), dmabuf_datapath="host")
    assert result.status != 0
    assert f"libdmabuf: no engine for {running()}: there is none in {tmp_path}/libdmabuf" in result.stderr


def test_an_engine_that_everybody_may_have_put_there_is_not_run(fio: Fio, library: str, tmp_path: Path) -> None:
    """Beside a copy of libdmabuf.so in a folder such as /tmp, another user was first with the folder of engines."""
    own = Path(library).with_name("libdmabuf") / f"{running()}.so"
    copy = alone(library, tmp_path, **{own.name: own})
    folder = tmp_path / "libdmabuf"
    tmp_path.chmod(0o1777)
    assert fio(library=copy, dmabuf_datapath="host").status == 0
    folder.chmod(0o777)
    result = fio(library=copy, dmabuf_datapath="host")
    assert result.status != 0 and not result.reports
    assert f"libdmabuf: {folder}/{own.name} is not loaded: everybody may write to {folder}" in result.stderr
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        result = fio(library=copy, dmabuf_datapath="host")
        assert result.status != 0 and not result.reports
        assert f"{folder} belongs to user 65534" in result.stderr


def test_an_engine_that_cannot_be_loaded_is_named_with_the_loaders_words(
    fio: Fio, library: str, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("no engine")
    result = fio(library=alone(library, tmp_path, **{f"{running()}.so": text}), dmabuf_datapath="host")
    assert result.status != 0
    assert f"libdmabuf: {tmp_path}/libdmabuf/{running()}.so cannot be loaded: " in result.stderr
    assert "file too short" in result.stderr or "invalid ELF header" in result.stderr


def test_no_engine_is_taken_from_the_current_folder(library: str, tmp_path: Path) -> None:
    """Neither where libdmabuf.so has none beside it, nor through a link to one that has."""
    right = Path(library).with_name("libdmabuf") / f"{running()}.so"
    here, bare = tmp_path / "here", tmp_path / "bare"
    for folder in (here, bare, here / "libdmabuf"):
        folder.mkdir()
    alone(library, bare)
    job = ["--name=t", "--filename=f", "--size=1m", "--rw=read", "--dmabuf_datapath=host"]

    def run(engine: str, folder: Path) -> subprocess.CompletedProcess[str]:
        variables = loaded() | {"LD_LIBRARY_PATH": str(folder)}
        words = [*job[:-1], f"--ioengine={engine}", job[-1]]
        return subprocess.run([environment("FIO"), *words], cwd=here, env=variables, text=True,
                              capture_output=True, check=False)

    for place in (here, here / "libdmabuf"):
        shutil.copy(right, place / f"{running()}.so")
    done = run("libdmabuf.so", bare)
    assert done.returncode != 0
    assert f"there is none in {bare}/libdmabuf" in done.stderr
    for place in (here, here / "libdmabuf"):
        (place / f"{running()}.so").write_text("no engine")
    (here / "libdmabuf.so").symlink_to(library)
    for engine in ("external:./libdmabuf.so", "external:libdmabuf.so", "libdmabuf.so"):
        done = run(engine, Path(library).parent)
        assert done.returncode == 0, f"{engine}: {done.stderr}"


def test_a_program_that_is_no_fio_is_told_so(library: str) -> None:
    code = (
        "import ctypes, sys; ops = ctypes.c_void_p(1);"
        "ctypes.CDLL(sys.argv[1]).get_ioengine(ctypes.byref(ops)); sys.exit(bool(ops.value))"
    )
    done = subprocess.run([sys.executable, "-c", code, library], env=loaded(), text=True, capture_output=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert "by a program that is no fio" in done.stderr


def test_the_options_are_listed_by_the_librarys_path(library: str) -> None:
    for suffix, word in (("", "dmabuf_datapath"), (",dmabuf_exporter", "udmabuf")):
        done = subprocess.run([environment("FIO"), f"--enghelp={library}{suffix}"], env=loaded(), text=True,
                              capture_output=True, check=False)
        assert word in done.stdout, done.stderr


def test_by_bare_name_on_the_loader_path(library: str, tmp_path: Path) -> None:
    """`external:libdmabuf.so` works in a folder that has the file, as the installed jobs folder does."""
    os.symlink(library, tmp_path / "libdmabuf.so")
    variables = loaded() | {"LD_LIBRARY_PATH": str(Path(library).parent)}
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
    subprocess.run([environment("FIO"), str(job)], cwd=tmp_path, env=loaded(), check=True, capture_output=True)
    assert len((tmp_path / "r.json").read_text().splitlines()) == 2


def test_installed_tree_works_from_the_jobs_folder(tmp_path: Path, library: str) -> None:
    """`make install` puts a link to the library beside the jobs, and it finds its engines by that."""
    build = Path(library).parent.parent
    if not shutil.which("cmake"):
        raise AssertionError("cmake built this, where is it?")
    subprocess.run(["cmake", "--install", str(build), "--prefix", str(tmp_path / "usr")], check=True,
                   capture_output=True)
    link = tmp_path / "usr/share/libdmabuf/jobs/libdmabuf.so"
    assert link.is_symlink()
    assert link.resolve().is_file(), os.readlink(link)
    assert (tmp_path / "usr/include/linux/dmabuf_rw.h").is_file()
    done = subprocess.run(
        [environment("FIO"), "--name=t", f"--filename={tmp_path}/f", "--size=1m", "--rw=read",
         "--ioengine=external:./libdmabuf.so", "--dmabuf_datapath=host"],
        cwd=link.parent, env=loaded(), text=True, capture_output=True, check=False,
    )
    assert done.returncode == 0, done.stderr
