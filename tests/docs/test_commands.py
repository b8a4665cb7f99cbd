# SPDX-License-Identifier: GPL-2.0-only
"""Every command of README.md, docs/ and the pages for contributors is executed.

A shell runs each block as it stands, with stand-ins for the programs (stand_in.py): quoting, options, names of cases,
presets, files and modules are right. A block that another test runs to the letter is in LETTER. One whose programs have
no stand-in fails, and so does one of which nobody said whether it is a command.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
from stand_in import DO, FOREIGN, PARSERS, ROOT

PAGES = ["README.md", "CONTRIBUTING.md", "jobs/README.md", "tests/README.md",
         *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
# Really started. A program that is neither here nor a stand-in is not found.
REAL = ("bash", "cat", "env", "jq", "rm", "sh", "tail", "uname")
WORDS = {*PARSERS, *DO, *(Path(name).name for name in FOREIGN), *REAL}
# Languages of fenced blocks that are no shell's.
LANGUAGES = {"c", "json", "toml", "ini", "cpp", "python", "xml", "groovy", "yaml"}
# How the other blocks begin that are no commands.
OTHER = (
    "exporter  datapath", "exporter fd does not let", "fio                                    your program", "libdmabuf: job", "fio -- loads",
    "// SPDX", "# SPDX", "DMABUF_EXPORTER(", "| `sample`", "*sample*", "/usr/lib/x86_64-linux-gnu/libdmabuf.so  ", "{", "int dev",
    "struct ", "cannot be mapped", "version = 1", "[target]", "A/A, ",
)
# By page and first words of a block: the test that runs it to the letter.
LETTER = {
    ("README.md", "./scripts/demo"): "tests/bare/test_commands.py::test_the_demo_proves_every_path",
    ("README.md", "./scripts/dmabuf-lab run -- fio"): "tests/lab/vm/test_run.py::test_readmes_command_runs_in_the_guest",
    ("README.md", "apt-get install linux-headers"): "tests/bare/test_packages.py::test_they_are_installed_and_the_module_is_built",
    ("README.md", "apt-get update"): "tests/bare/test_recipe.py::test_every_line_works_and_a_job_is_proven",
    ("README.md", "cmake --preset package"): "tests/bare/test_packages.py::test_the_first_result_is_readmes",
    ("README.md", "fio --name=t --filename=/dev/nvme0n1 --readonly"):
        "tests/install/test_readme.py::test_fio_finds_the_library_as_readme_names_it",
    ("docs/adding-an-exporter.md", "fio --name=t"): "tests/host/test_adding.py",
    ("docs/library.md", "cc -o program"): "tests/install/test_library.py",
}
# README's blocks that only hardware runs to the letter.
HARDWARE = {"dmabuf-qual preflight /dev/nvme1n1": "a drive that may be lost, and a GPU"}


def blocks(text: str) -> list[tuple[str, str]]:
    """Indented and fenced blocks, each with its language, if the page says one."""
    found = []
    lines = [*text.split("\n"), ""]
    at = 0
    while at < len(lines):
        if lines[at].startswith("```"):
            end = lines.index("```", at + 1)
            found.append((lines[at][3:], "\n".join(lines[at + 1 : end])))
            at = end + 1
        elif re.match(r"(    |\t)\S", lines[at]) and (at == 0 or not lines[at - 1].strip()):
            end = at
            while lines[end].startswith(("    ", "\t")) or (not lines[end] and lines[end + 1 : end + 2] and
                                                            lines[end + 1].startswith(("    ", "\t"))):
                end += 1
            found.append(("", "\n".join(re.sub("^(    |\t)", "", line) for line in lines[at:end])))
            at = end
        else:
            at += 1
    return found


def first_program(block: str) -> str:
    """The program that a block starts first; "" for what begins otherwise."""
    line = re.sub(r"^(?:\w+=\S* )+", "", block.split("\n")[0].replace("$(uname -r)", "RELEASE"))
    if line.startswith("--"):
        return "fio"  # options alone
    word = line.split()[0]
    return word if word in ("for", "export") else Path(word).name if Path(word).name in WORDS else ""


def commands() -> list[tuple[str, str]]:
    return [
        (page, block)
        for page in PAGES
        for language, block in blocks((ROOT / page).read_text())
        if language not in LANGUAGES and not block.startswith(OTHER)
    ]


COMMANDS = commands()


def name_of(page: str, block: str) -> str:
    return f"{page}: {block[:40]}"


def run(block: str, place: Path) -> tuple[int, str]:
    """A shell's status, with what it printed and what the stand-ins did not like."""
    stand_in = ROOT / "tests/docs/stand_in.py"
    for folder in ("bin", "work/scripts", "work/docs/examples", "work/sys/bus/pci/devices/0000:01:00.0/driver", "work/sys/bus/pci/drivers"):
        (place / folder).mkdir(parents=True)
    work = place / "work"
    for name in WORDS - set(REAL) - {"echo"}:
        (place / "bin" / name).symlink_to(stand_in)
    for name in REAL:
        (place / "bin" / name).symlink_to(f"/usr/bin/{name}")
    for path in (ROOT / "scripts").iterdir():
        if path.is_file() and os.access(path, os.X_OK):
            (work / "scripts" / path.name).symlink_to(stand_in)
    for name in ("jobs", "kernel", "packaging"):
        (work / name).symlink_to(ROOT / name)
    (work / "docs/examples/hand_out.py").symlink_to(stand_in)
    for name in ("load-module", "drive"):
        (work / name).symlink_to(stand_in)
    (work / "default.json").write_text('{"syscalls": []}')
    text = block.replace("/sys/bus/", f"{work}/sys/bus/").replace("--notify ", "dmabuf-nightly run plan.toml --notify ")
    text = re.sub(r"^--dmabuf", "fio --dmabuf", text)
    text = text.replace("/lib/modules/$(uname -r)/build/scripts/", "")
    # The last lines: what was started beside it has ended.
    env = {"PATH": str(place / "bin"), "HOME": str(place), "DMABUF_ROOT": str(ROOT), "WRONG": str(place / "wrong"),
           "ENGINE": "libdmabuf.so", "DEV": "/dev/nvme0n1"}
    done = subprocess.run(["/usr/bin/bash", "-euc", f"set -o pipefail\n{text}\nwait\n"], cwd=work, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60)
    wrong = (place / "wrong").read_text() if (place / "wrong").exists() else ""
    return done.returncode, done.stdout + wrong


@pytest.mark.parametrize(("page", "block"), COMMANDS, ids=[name_of(*one) for one in COMMANDS])
def test_a_block_runs(page: str, block: str, tmp_path: Path) -> None:
    assert first_program(block), f"is it a command? then it needs a stand-in; else it goes into OTHER:\n{block}"
    if not Path("/usr/bin/jq").exists() and "jq" in block:
        pytest.skip("jq is not here: apt-get install jq")
    status, said = run(block, tmp_path)
    assert status == 0 and not (tmp_path / "wrong").exists(), said


def test_there_are_blocks() -> None:
    assert len(COMMANDS) > 30
    assert len([page for page, _ in COMMANDS if page == "README.md"]) > 4


@pytest.mark.parametrize("wrong", [
    "dmabuf-qual run --no-such-option",
    "fio --dmabuf_exporter=none",
    "fio --dmabuf_none=1 | cat",
    "for a in b; do\nfio --dmabuf_report=r.json; jq -r '.none.none |' r.json; done",
    "cmake --preset none",
    "make -C kernel none",
    "insmod dmabuf_none.ko",
    "mokutil --import none.pub",
    "sign-file sha256 none.key /var/lib/dkms/mok.pub dmabuf_rw.ko",
    "none --option",
    "dmabuf-integrity none --device x",
    "./scripts/none",
    "scripts/check --label none",
    "fio none/none.fio",
    "cp none/none /etc",
    "dmabuf-lab run -- 'a",
])
def test_what_is_wrong_is_noticed(wrong: str, tmp_path: Path) -> None:
    status, said = run(wrong, tmp_path)
    assert status != 0 or (tmp_path / "wrong").exists(), said


def test_blocks_are_found() -> None:
    text = "a\n\n    b \\\n        c\n\n    d\n\ne\n    f\n\n```c\ng\n```\n\n\th\n"
    assert blocks(text) == [("", "b \\\n    c\n\nd"), ("c", "g"), ("", "h")]
    assert first_program("A=b ./scripts/dmabuf-lab run") == "dmabuf-lab" and first_program("nvme list") == ""


@pytest.mark.parametrize("page", ["README.md"])
def test_a_test_runs_each_block_to_the_letter(page: str) -> None:
    """Of the first page, all but what needs hardware."""
    alone = [block for where, block in COMMANDS if where == page]
    alone = [block for block in alone if not any(block.startswith(words) for words in HARDWARE)]
    assert [b for b in alone if not any(page == where and b.startswith(words) for where, words in LETTER)] == []


@pytest.mark.parametrize(("where", "test"), LETTER.items())
def test_the_test_that_is_named_is_there(where: tuple[str, str], test: str) -> None:
    page, words = where
    assert any(there == page and block.startswith(words) for there, block in COMMANDS), f"{page} has no {words}"
    file, _, function = test.partition("::")
    text = (ROOT / file).read_text()
    assert f"def {function}(" in text if function else Path(page).name in text or "library" in text
