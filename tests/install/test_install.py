# SPDX-License-Identifier: GPL-2.0-only
"""The installed programs, apart from the checkout: their modules, jobs, plan and units."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import BUILD, CMAKE

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("dmabuf_bench", "dmabuf_common", "dmabuf_gpu", "dmabuf_qual", "dmabuf_nightly", "dmabuf_report")


def run(program: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """With Debian's python3, and nothing that leads back to the checkout."""
    return subprocess.run([str(program), *words], cwd=cwd, capture_output=True, text=True, check=False,
                          timeout=120, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


@pytest.mark.parametrize("program", ["dmabuf-bench", "dmabuf-guard", "dmabuf-qual", "dmabuf-nightly", "gpu-check"])
def test_a_program_starts_by_its_link(prefix: Path, tmp_path: Path, program: str) -> None:
    done = run(prefix / "bin" / program, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"usage: {program}" in done.stdout


def test_the_program_that_writes_finds_the_guard(prefix: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(1 << 20))
    done = run(prefix / "bin/dmabuf-integrity", "lay", "--device", str(file), "--serial", "S", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"dmabuf-guard: {file} is no block device")
    assert file.read_bytes() == bytes(1 << 20)


def test_no_module_is_taken_from_the_checkout(prefix: Path, tmp_path: Path) -> None:
    """Every module of the packages can be imported from what is installed."""
    share = prefix / "share/libdmabuf"
    names = [
        f"{package.name}.{file.stem}"
        for package in map(share.joinpath, PACKAGES)
        for file in sorted(package.glob("*.py")) if file.stem != "__init__"
    ]
    assert len(names) > 50
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    code += "print(sorted({m.__file__ for n, m in sys.modules.items() if n.startswith('dmabuf_')}))"
    done = subprocess.run(["/usr/bin/python3", "-B", "-c", code], cwd=tmp_path, text=True, check=False,
                          capture_output=True, env={"PYTHONPATH": str(share)})
    assert done.returncode == 0, done.stderr
    assert str(ROOT) not in done.stdout and str(share) in done.stdout


def test_a_plug_in_is_built_with_what_is_installed(prefix: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.so"
    example = ROOT / "docs/examples/udmabuf_plugin.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", f"-I{prefix / 'include'}", "-o", str(mine),
                    str(example)], check=True, timeout=60)
    done = run(prefix / "bin/dmabuf-integrity", "paths", "--exporter", "plugin", "--exporter-device",
               f"{mine},what", cwd=tmp_path)
    # The module is asked first, and need not be there.
    assert done.returncode == 2
    assert "it takes no arguments" in done.stdout or "/dev/dmabuf_rw" in done.stdout, done.stdout


def test_the_plan_that_ships_finds_its_jobs_wherever_it_lies(prefix: Path, tmp_path: Path) -> None:
    plan = prefix / "share/libdmabuf/jobs/plans/basic.toml"
    shutil.copy(plan, tmp_path / "mine.toml")
    for place in (plan, tmp_path / "mine.toml"):
        done = run(prefix / "bin/dmabuf-nightly", "run", str(place), "--dry-run", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(", run ") == 40


def test_the_plan_only_reads(prefix: Path) -> None:
    plan = prefix / "share/libdmabuf/jobs/plans/basic.toml"
    jobs = [line.split('"')[1] for line in plan.read_text().splitlines() if line.startswith("job = ")]
    assert len(jobs) == 4
    for job in jobs:
        assert "# Destroys data No." in (prefix / "share/libdmabuf/jobs" / job).read_text(), job


def test_systemd_takes_the_units(prefix: Path) -> None:
    folder = prefix / "lib/systemd/system"
    service = (folder / "dmabuf-nightly@.service").read_text()
    assert f"ExecStart={prefix}/bin/dmabuf-nightly run " in service and "@bindir@" not in service
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is not here: apt-get install systemd")
    units = [str(folder / f"dmabuf-nightly@basic.{kind}") for kind in ("service", "timer")]
    for unit in units:
        # verify wants the instance, which is a file of the template's contents.
        shutil.copy(unit.replace("@basic", "@"), unit)
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True,
                          check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "dmabuf-nightly" not in done.stderr, done.stderr
    broken = folder / "dmabuf-nightly@broken.service"
    broken.write_text(service.replace("Type=oneshot", "Type=nothing").replace("ExecStart=", "Exec="))
    done = subprocess.run([analyze, "verify", "--man=no", str(broken)], capture_output=True, text=True,
                          check=False, timeout=60)
    assert "dmabuf-nightly@broken" in done.stderr, "a broken unit is noticed"


# Of a program that stays in the checkout.
NOT_INSTALLED = "dmabuf-lab.1.scd"


def test_manual_pages_are_where_man_looks(prefix: Path) -> None:
    """Those that scdoc makes, each in the folder of its section."""
    if not shutil.which("scdoc"):
        pytest.skip("scdoc is not here: apt-get install scdoc")
    for source in sorted(set((ROOT / "docs/man").glob("*.scd")) - {ROOT / "docs/man" / NOT_INSTALLED}):
        section = source.stem.rpartition(".")[2]
        made = (prefix / f"share/man/man{section}" / source.stem).read_text()
        assert f'.TH "{source.stem.rpartition(".")[0]}" "{section}"' in made
        # man runs tbl for those that say so.
        assert made.startswith("'\\\" t\n") == ("\n.TS\n" in made), source.stem


def test_a_page_is_installed_with_its_program_and_names_pages_that_are(prefix: Path) -> None:
    if not shutil.which("scdoc"):
        pytest.skip("scdoc is not here: apt-get install scdoc")
    pages = {path.name: path.read_text() for path in (prefix / "share/man").rglob("*.[1-8]")}
    programs = {path.name for path in (prefix / "bin").iterdir()}
    assert {name.rpartition(".")[0] for name in pages if name[-1] in "18"} == programs
    own = re.compile(r"\\fB((?:dmabuf|libdmabuf|gpu)[\w-]*)\\fR\((\d)\)")
    named = {f"{name}.{section}" for text in pages.values() for name, section in own.findall(text.replace("\\-", "-"))}
    assert len(named) > 5 and named <= set(pages)


def test_what_was_installed_goes_by_the_line_that_the_page_has(prefix: Path, tmp_path: Path) -> None:
    """Links, and what is written at installation, too; empty folders stay."""
    place = tmp_path / "usr"
    subprocess.run([CMAKE, "--install", BUILD, "--prefix", str(place)], check=True, stdout=subprocess.DEVNULL)

    def files(top: Path) -> set[str]:
        return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_symlink() or not path.is_dir()}

    assert len(files(place)) > 100 and "bin/dmabuf-qual" in files(place)
    page = (ROOT / "docs/kernel-module.md").read_text()
    (line,) = re.findall(r"^\| `cmake --install build/release` \| `(.*?) && ldconfig`", page, re.MULTILINE)
    subprocess.run(["sh", "-c", line.replace("build/release", BUILD)], check=True)
    assert files(place) == set()
    assert files(prefix), "another installation stays"
