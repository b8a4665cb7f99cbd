# SPDX-License-Identifier: GPL-2.0-only
"""kernel/probe.mk, with folders that stand in for a kernel's headers."""

import os
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
            "#ifdef FUNCTION\nvoid function(void);\n#endif\n"
            "void probe(void);\nvoid probe(void) { function(); }\n"
        )

    def kernel(self, name: str, flags: str) -> Path:
        """A folder that can be given as KDIR."""
        headers = self.folder / name
        headers.mkdir()
        (headers / "Makefile").write_text(KERNEL.format(flags=flags))
        (headers / ".config").write_text("CONFIG_A=y\n")
        return headers

    def make(self, kernel: Path, **variables: str) -> list[str]:
        """Builds; the names that are defined then."""
        words = [f"{name}={value}" for name, value in variables.items()]
        command = ["make", "-s", f"KDIR={kernel}", f"BUILD={self.build}", *words]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        subprocess.run(command, cwd=self.folder, check=True, env=environment, timeout=120)
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


def test_a_kernel_for_which_nothing_compiles_is_an_error(module: Module) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        module.make(module.kernel("broken", "-include nothing.h"))
