# SPDX-License-Identifier: GPL-2.0-only
"""kernel/probe.mk, with folders that stand in for a kernel's headers."""

import os
import re
import subprocess
from pathlib import Path

import pytest

PROBE_MK = Path(__file__).resolve().parents[2] / "kernel/probe.mk"

# A kernel has the function if its Makefile's FLAGS say so; each run leaves a line in `runs`.
KERNEL = """\
modules:
\t@echo run >>$(M)/runs
\t@set -e; for file in $(M)/*.c; do \\
\t\tcc {flags} -Werror=implicit-function-declaration -c $$file -o $${{file%.c}}.o || true; done
"""

MODULE = f"""\
probes := $(CURDIR)/has_base.c $(CURDIR)/has_function.c
probe_header := $(BUILD)/answers.h
all: $(probe_header)
copy:
\t@mkdir -p $(BUILD)/probes
\t@cp -u $(probes) $(BUILD)/probes/
include {PROBE_MK}
"""


class Module:
    """A module of two probes, and what was asked and answered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.build = folder / "build"
        (folder / "Makefile").write_text(MODULE)
        (folder / "has_base.c").write_text("int base;\n")
        (folder / "has_function.c").write_text(
            "#include <errno.h>\n#ifdef FUNCTION\nvoid function(void);\n#endif\n"
            "void probe(void);\nvoid probe(void)\n{\n"
            "#ifndef COUNTER_PROBE\n\tfunction();\n#endif\n}\n"
        )

    def kernel(self, name: str, flags: str) -> Path:
        """A folder that can be given as KDIR."""
        headers = self.folder / name
        headers.mkdir()
        (headers / "Makefile").write_text(KERNEL.format(flags=flags))
        (headers / ".config").write_text("CONFIG_A=y\n")
        return headers

    def names(self, kernel: Path, release: str) -> None:
        """Has the kernel say its release."""
        header = kernel / "include/generated/utsrelease.h"
        header.parent.mkdir(parents=True)
        header.write_text(f'#define UTS_RELEASE "{release}"\n')

    def make(self, kernel: Path, **variables: str) -> list[str]:
        """Builds; the names that are defined then."""
        words = [f"{name}={value}" for name, value in variables.items()]
        command = ["make", "-s", f"KDIR={kernel}", f"BUILD={self.build}", *words]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        subprocess.run(
            command,
            cwd=self.folder,
            check=True,
            env=environment,
            timeout=120,
            capture_output=True,
            text=True,
        )
        return [line.split()[1] for line in (self.build / "answers.h").read_text().splitlines()]

    def runs(self) -> int:
        """How often the probes were compiled."""
        return len((self.build / "probes/runs").read_text().splitlines())


@pytest.fixture
def module(tmp_path: Path) -> Module:
    return Module(tmp_path)


def test_what_compiles_is_defined(module: Module) -> None:
    assert module.make(module.kernel("old", "")) == ["PROBE_HAS_BASE"]


def test_nothing_is_compiled_again_when_nothing_changed(module: Module) -> None:
    kernel = module.kernel("new", "-DFUNCTION")
    assert module.make(kernel) == ["PROBE_HAS_BASE", "PROBE_HAS_FUNCTION"]
    module.make(kernel)
    assert module.runs() == 1


def test_another_kernel_is_asked_again(module: Module) -> None:
    module.make(module.kernel("new", "-DFUNCTION"))
    assert module.make(module.kernel("old", "")) == ["PROBE_HAS_BASE"]


def test_another_configuration_is_asked_again(module: Module) -> None:
    kernel = module.kernel("new", "-DFUNCTION")
    module.make(kernel)
    (kernel / ".config").write_text("CONFIG_A=m\n")
    module.make(kernel)
    assert module.runs() == 2


def test_another_compiler_asks_again(module: Module) -> None:
    kernel = module.kernel("new", "-DFUNCTION")
    compiler = module.folder / "compiler"
    compiler.write_text("#!/bin/sh\necho compiler 1\n")
    compiler.chmod(0o755)
    module.make(kernel, CC=str(compiler))
    compiler.write_text("#!/bin/sh\necho compiler 2\n")
    module.make(kernel, CC=str(compiler))
    assert module.runs() == 2


def test_a_probe_that_fails_for_another_reason_fails_the_build_by_name(module: Module) -> None:
    kernel = module.kernel("new", "-DFUNCTION")
    (module.folder / "has_function.c").write_text(
        "#include <no_such_header.h>\n#ifndef COUNTER_PROBE\nint gone = function;\n#endif\n"
    )
    with pytest.raises(subprocess.CalledProcessError) as error:
        module.make(kernel)
    assert "the probe has_function cannot be asked" in error.value.stderr
    assert not (module.build / "answers.h").exists()


def test_what_is_asked_for_warnings_answers_the_same(module: Module) -> None:
    """W=1 runs scripts of the kernel's, and one that fails there would be taken for an answer."""
    kernel = module.kernel("new", "$(if $(W),-include no_such_header.h) -DFUNCTION")
    assert module.make(kernel, W="1") == ["PROBE_HAS_BASE", "PROBE_HAS_FUNCTION"]


@pytest.mark.parametrize("release", ["5.10.0-39-amd64", "6.0.19", "4.18.0-553.el8_10.x86_64"])
def test_a_kernel_that_is_too_old_is_refused_in_one_sentence(module: Module, release: str) -> None:
    kernel = module.kernel("old", "")
    module.names(kernel, release)
    with pytest.raises(subprocess.CalledProcessError) as error:
        module.make(kernel)
    assert f"the kernel {release} is too old: 6.1 or newer is needed\n" in error.value.stderr
    assert not (module.build / "probes/runs").exists()


@pytest.mark.parametrize("release", ["6.1.0-50-amd64", "6.12.118+deb13-amd64", "7.3.4-rt", "10.0.1"])
def test_a_kernel_that_is_new_enough_is_asked(module: Module, release: str) -> None:
    kernel = module.kernel("new", "")
    module.names(kernel, release)
    assert module.make(kernel) == ["PROBE_HAS_BASE"]


PROBES = sorted(
    path
    for folder in ("probes", "testexp/probes")
    for path in (PROBE_MK.parent / folder).glob("*.c")
)


@pytest.mark.parametrize("probe", PROBES, ids=lambda path: path.stem)
def test_each_probe_names_the_version_and_has_a_counter_probe(probe: Path) -> None:
    text = probe.read_text()
    if probe.stem == "base":
        return
    assert re.match(r"// SPDX[^\n]*\n/\* \d\.\d+: ", text), text
    assert "#ifdef COUNTER_PROBE" in text


def test_each_answer_is_used_and_each_question_is_asked() -> None:
    for folder in (PROBE_MK.parent, PROBE_MK.parent / "testexp"):
        used = set(re.findall(r"\bPROBE_(\w+)", (folder / "compat.h").read_text()))
        used |= set(re.findall(r"\bPROBE_(\w+)", "".join(p.read_text() for p in folder.glob("*.c"))))
        asked = {path.stem.upper() for path in PROBES if path.parent == folder / "probes"}
        # The test exporter asks two questions of the module's, too, and one that is none.
        if folder.name == "testexp":
            asked |= {"IMPORT_NS_TOKEN", "VMAP_UNLOCKED"}
            asked -= {"BASE"}
        used.discard("")
        assert used == asked


def test_a_kernel_for_which_nothing_compiles_is_an_error(module: Module) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        module.make(module.kernel("broken", "-include nothing.h"))
