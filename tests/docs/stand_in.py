#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-only
"""Stands in for every program that a command of README or docs/ starts; test_commands.py links it under their names.

The project's own programs get what their own parsers say; fio and dmabuf-integrity, what the engine's tables say. A
program of others is taken as it is, but for what it names of ours: a preset, a module, a folder, a file. What does not
fit goes to the file $WRONG, too, as a shell may hide a status.
"""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(os.environ["DMABUF_ROOT"])
sys.path.insert(0, str(ROOT / "scripts"))

PARSERS = {
    "dmabuf-qual": "dmabuf_qual.cli",
    "dmabuf-nightly": "dmabuf_nightly.cli",
    "dmabuf-bench": "dmabuf_bench.cli",
    "dmabuf-lab": "dmabuf_lab.cli",
    "dmabuf-mutate": "dmabuf_mutate.cli",
    "dmabuf-guard": "dmabuf_common.drive_program",
    "gpu-check": "dmabuf_gpu.cli",
}
# Programs of others. What they are told is not looked at.
FOREIGN = ("addgroup", "apt", "apt-get", "ctest", "curl", "docker", "echo", "git", "ldconfig", "qemu", "reboot", "scp", "ssh",
           "udevadm", "./load-module", "./drive")
CERTIFICATE = "/var/lib/dkms/mok.pub"
MODULES = {"dmabuf_rw", "dmabuf_testexp", "vfio-pci", "vfio_iommu_type1", "udmabuf"}


class Wrong(Exception):
    """What does not fit."""


def source(name: str) -> str:
    return (ROOT / name).read_text()


def need(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(what)


def ours(name: str, words: list[str]) -> None:
    if name == "dmabuf-guard" and "--" in words:
        # It starts what is behind that.
        at = words.index("--")
        command = [word.format(fd=3, path=words[at - 1]) for word in words[at + 1 :]]
        words = words[:at]
        need(subprocess.run(command, check=False).returncode == 0, f"it starts {command}")
    try:
        importlib.import_module(PARSERS[name]).parser().parse_args(words)
    except SystemExit as end:
        need(end.code == 0, f"{name}: it refuses {words}")


def choices(option: str) -> set[str]:
    """What the engine's tables have for one of its options; empty: no table."""
    kinds = source("engine/datapath/kinds.hpp")
    if option == "dmabuf_exporter":
        return set(re.findall(r"^DMABUF_EXPORTER\((\w+),", source("engine/exporter/exporters.def"), re.MULTILINE)) | {"sample"}
    if option == "dmabuf_datapath":
        return {"auto"} | set(re.findall(r"\{\.path = Datapath::\w+,\s*\.name = \"(\w+)\"", kinds))
    if option == "dmabuf_submit":
        return set(re.findall(r"\{\.submit = Submit::\w+,\s*\.name = \"(\w+)\"", kinds))
    return set()


def fio(words: list[str]) -> None:
    code = source("engine/fio/options.cpp") + source("engine/fio/options_uring.cpp")
    options = set(re.findall(r'(?:\boption|\bflag|\badd)\(\s*"(\w+)"', code))
    for word in words:
        option, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            # A job, of ours or of the reader's own.
            need("/" not in word or (ROOT / word).exists(), f"fio: there is no {word}")
        elif option.startswith("dmabuf_"):
            need(bool(equals) and option in options, f"fio: the engine has no {option}")
            need(not choices(option) or value in choices(option), f"fio: {option} is never {value}")
        elif option == "ioengine":
            need("libdmabuf.so" in value, f"fio: {value} is no engine of ours")
        if option == "dmabuf_report":
            with open(value, "a", encoding="utf-8") as report:
                report.write(json.dumps(REPORT) + "\n")


REPORT = {"job": "t", "job_number": 1, "datapath": "premapped", "memory": "system", "route": "memory", "proven": True,
          "issued": {"reads": 4, "writes": 0}, "module": {"commands": 4}}


def integrity(words: list[str]) -> None:
    code = source("engine/integrity/main.cpp")
    known = dict(re.findall(r'\{"([\w-]+)", ([01]), nullptr, \w+\}', code))
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            need(f'{{"{word}", run_{word}, ' in code, f"dmabuf-integrity: there is no case {word}")
            continue
        option, equals, _ = word.removeprefix("--").partition("=")
        need(option in known, f"dmabuf-integrity: there is no {word}")
        if known[option] == "1" and not equals:
            need(bool(rest), f"dmabuf-integrity: {word} needs a value")
            rest.pop(0)


def cmake(words: list[str]) -> None:
    presets = json.loads(source("CMakePresets.json"))
    build = "--build" in words
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word == "--preset":
            names = {one["name"] for one in presets["buildPresets" if build else "configurePresets"]}
            need(value in names, f"cmake: there is no preset {value}")
        elif word.startswith("-D"):
            name = word[2:].partition("=")[0]
            need(bool(re.search(rf"\b{name}\b", source("CMakeLists.txt"))), f"cmake: there is no {name}")


def make(words: list[str]) -> None:
    folder = ROOT / (words[words.index("-C") + 1] if "-C" in words else ".")
    need((folder / "Makefile").exists(), f"make: {folder} has no Makefile")
    text = (folder / "Makefile").read_text()
    for name in re.findall(r"^include \$\(here\)(\S+)$", text, re.MULTILINE):
        text += (folder / name).read_text()
    for before, word in zip(["", *words], words, strict=False):
        if re.fullmatch(r"[a-z_]+", word) and before != "-C":
            need(bool(re.search(rf"^{word}:", text, re.MULTILINE)), f"make: {folder} makes no {word}")
        elif "=" in word:
            need(word.partition("=")[0] in text, f"make: {folder} knows no {word}")


def module(words: list[str]) -> None:
    names = [word for word in words if not word.startswith("-") and "=" not in word]
    for name in names:
        need(Path(name).name.removesuffix(".ko") in MODULES, f"there is no module {name}")
    for word in words:
        if "=" in word:
            text = "".join(path.read_text() for path in (ROOT / "kernel").rglob("*.c"))
            need(f"module_param({word.partition('=')[0]}," in text, f"no module of ours has the parameter {word}")


def check(words: list[str]) -> None:
    text = source("scripts/check")
    for word in words:
        need(bool(re.search(rf"(?<![\w-]){word}(?![\w-])", text)), f"scripts/check knows no {word}")


def files(words: list[str]) -> None:
    """The first of them is of this tree, where it is installed or not."""
    name = words[0].replace("/usr/share/libdmabuf/", "")
    need((ROOT / name).exists(), f"there is no {name}")


def install(words: list[str]) -> None:
    """A folder that a unit takes things from."""
    units_text = "".join(path.read_text() for path in (ROOT / "scripts/systemd").iterdir())
    need(words[:1] == ["-d"] and len(words) == 2 and words[1] in units_text, f"install: {words}")


def units(words: list[str]) -> None:
    for word in words:
        if "." in word:
            name = re.sub(r"@\w+\.", "@.", word)
            need(any((ROOT / "scripts/systemd").glob(f"{name}*")), f"there is no unit {word}")


def cc(words: list[str]) -> None:
    """Compiles what is of this tree."""
    sources = [word for word in words if word.endswith(".c") and "/" in word]
    for name in sources:
        done = subprocess.run(["/usr/bin/cc", *words[: words.index("-o")], "-fsyntax-only", f"-I{ROOT / 'kernel/uapi'}", ROOT / name],
                              check=False)
        need(done.returncode == 0, f"cc: {name} cannot be compiled")


def then(words: list[str]) -> None:
    """`git bisect run` starts what is behind it."""
    if words[:2] == ["bisect", "run"]:
        subprocess.run(words[2:], check=True)


def nothing(words: list[str]) -> None:
    need(not words, f"it takes no {words}")


def mokutil(words: list[str]) -> None:
    """With the certificate that DKMS has, or alone."""
    need(words in (["--sb-state"], *([option, CERTIFICATE] for option in ("--import", "--test-key"))),
         f"mokutil: it has no {words}")


def sign(words: list[str]) -> None:
    """A hash, key and certificate of DKMS, and a module."""
    need(words[:3] == ["sha256", "/var/lib/dkms/mok.key", CERTIFICATE], f"sign-file: {words}")
    module(words[3:])


DO: dict[str, Callable[[list[str]], None]] = {
    "fio": fio, "dmabuf-integrity": integrity, "cmake": cmake, "make": make, "modprobe": module, "insmod": module,
    "check": check, "cp": files, "install": install, "systemctl": units, "cc": cc, "mokutil": mokutil, "sign-file": sign, "git": then, "demo": nothing, "hand_out.py": lambda _: None,
    "pkg-config": lambda words: need(words[-1] == "libdmabuf_rw", f"pkg-config: no {words}"),
}


def main() -> int:
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    try:
        if name in PARSERS:
            ours(name, words)
        elif name in DO:
            DO[name](words)
    except Wrong as wrong:
        with open(os.environ["WRONG"], "a", encoding="utf-8") as file:
            file.write(f"{wrong}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
