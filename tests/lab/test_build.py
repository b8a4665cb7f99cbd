# SPDX-License-Identifier: GPL-2.0-only
"""A build is repeated exactly when something that it depends on changed."""

import os
import re
from pathlib import Path

import pytest
from dmabuf_lab import build, guest_kernel, root
from dmabuf_lab.errors import LabError


def tree(base: Path) -> Path:
    (base / "engine/sub").mkdir(parents=True)
    (base / "engine/a.cpp").write_text("a")
    (base / "engine/sub/b.cpp").write_text("b")
    (base / "CMakeLists.txt").write_text("x")
    return base


def mark(base: Path, extra: str = "") -> str:
    return build.fingerprint(base, ["engine", "CMakeLists.txt"], extra)


def test_nothing_changed(tmp_path: Path) -> None:
    tree(tmp_path)
    assert mark(tmp_path) == mark(tmp_path)


def test_a_changed_new_or_removed_file_or_another_root_changes_it(tmp_path: Path) -> None:
    tree(tmp_path)
    seen = {mark(tmp_path), mark(tmp_path, "another root")}
    (tmp_path / "engine/sub/b.cpp").write_text("bb")
    seen.add(mark(tmp_path))
    os.utime(tmp_path / "engine/a.cpp", ns=(1, 1))
    seen.add(mark(tmp_path))
    (tmp_path / "engine/c.cpp").write_text("")
    seen.add(mark(tmp_path))
    (tmp_path / "engine/a.cpp").unlink()
    seen.add(mark(tmp_path))
    assert len(seen) == 6


def test_an_input_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "CMakeLists.txt").unlink()
    with pytest.raises(LabError, match="no CMakeLists.txt"):
        mark(tmp_path)


def test_every_input_of_a_build_is_in_the_checkout() -> None:
    for inputs in (build.ENGINE_INPUTS, build.MODULE_INPUTS, build.EXPORTER_INPUTS):
        build.fingerprint(build.checkout(), inputs, "")


def test_every_folder_that_the_guests_programs_are_built_from_is_an_input() -> None:
    text = (build.checkout() / "tests/vm/CMakeLists.txt").read_text()
    named = set(re.findall(r"\$\{CMAKE_CURRENT_SOURCE_DIR\}/\.\./((?:\.\./)?[a-z/]+)", text))
    assert named
    for name in named:
        folder = name.removeprefix("../") if name.startswith("../") else f"tests/{name}"
        assert any((folder + "/").startswith(f"{known}/") for known in build.ENGINE_INPUTS), folder


def test_files_outside_the_inputs_do_not_matter(tmp_path: Path) -> None:
    tree(tmp_path)
    before = mark(tmp_path)
    (tmp_path / "README.md").write_text("x")
    assert mark(tmp_path) == before


@pytest.mark.parametrize("line", [
    "/src/build/lab/kernel/7.3/io.c:7:9: warning: unused variable 'x'",
    "././trace.h:12:3: warning: of a header that is read once more",
    "/usr/src/linux-headers-7/include/linux/fortify-string.h:9:3: warning: call to '__write_overflow_field'",
    "WARNING: modpost: dmabuf_rw: section mismatch in reference",
    "io.o: warning: objtool: x(): unreachable instruction",
    "Warning: main.c:12 function parameter 'x' not described in 'y'",
    "cc1: warning: unrecognized option",
])
def test_whatever_complains_in_the_build_of_a_module_is_heard(line: str) -> None:
    assert build.complaints(f"  CC [M]  io.o\n{line}\n{line}\n  LD [M]  errors.o\n") == [line]


def test_a_kernel_of_the_users_own_may_be_of_another_compiler() -> None:
    assert not build.complaints("warning: the compiler differs from the one used to build the kernel\n  You are using: gcc 14\n")


def test_a_warning_ends_the_build_of_a_module_until_it_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As make has it: what was compiled is compiled in silence, also by a build that failed of something else."""
    base = tmp_path / "checkout"
    (base / "kernel").mkdir(parents=True)
    product = base / build.module_path("7.3")
    warns, fails = True, False

    def make(_builder: build.Builder, command: list[str], what: str, *_more: object) -> str:
        assert "W=1" in command
        made = product.with_name("io.o")
        said = "" if made.exists() or not warns else "io.c:7:9: warning: unused variable 'x'\n"
        made.write_text("")
        if fails:
            raise LabError(f"{what} failed")
        product.write_text("")
        return said

    monkeypatch.setattr(build.Builder, "_inside", make)
    builder = build.Builder(root.Root(tmp_path, {"made": "now"}), base)
    kernel = guest_kernel.GuestKernel("7.3", tmp_path / "vmlinuz", tmp_path, headers=tmp_path, source=tmp_path)

    def build_it(text: str) -> None:
        (base / "kernel/main.c").write_text(text)
        builder._module("kernel", kernel, product, ["kernel"])

    for _ in range(2):
        with pytest.raises(LabError, match=r"\nio.c:7:9: warning: unused variable 'x'$"):
            build_it("a warning")
        assert not product.exists()
    fails = True
    with pytest.raises(LabError, match="failed"):
        build_it("an error elsewhere")
    fails = False
    with pytest.raises(LabError, match="unused variable"):
        build_it("that error mended")
    warns = False
    build_it("both mended")
    assert product.exists()
