# SPDX-License-Identifier: GPL-2.0-only
"""README's commands for a machine of one's own, as they stand there, and what is done where this mirror lacks a source."""

import re

from bare_root import CHECKOUT, Bare

README = (CHECKOUT / "README.md").read_text()
OTHER_FIO = re.compile(r"^  scripts/dmabuf-lab fio ([0-9.]+)$", re.MULTILINE)


def _block(first: str) -> list[str]:
    """The commands of the block that begins with these words; each in one line."""
    section = README.split("\n## On your own machine\n")[1]
    found = re.search(rf"\n(    {re.escape(first)}\b.*\n(?:    .*\n)*)", section)
    assert found, f"README has no block with {first}"
    return [" ".join(one.split()) for one in found[1].replace("\\\n", " ").splitlines()]


def recipe() -> list[str]:
    """From apt to the engine, without packages."""
    lines = _block("apt-get update")
    assert [line.split()[0] for line in lines] == ["apt-get", "apt-get", "make", "modprobe", "cmake", "cmake"]
    return lines


def given() -> list[str]:
    """From packages that somebody else built to the first result."""
    lines = _block("apt-get install linux-headers")
    assert [line.split()[0] for line in lines] == ["apt-get", "modprobe", "fio"]
    # Which a guest runs, with a report besides.
    assert packages()[-1] == f"{lines[2]} --dmabuf_report=r.json"
    return lines


def packages() -> list[str]:
    """From the source to the first result, by packages."""
    lines = _block("cmake --preset package")
    assert [line.split()[0] for line in lines] == ["cmake", "cmake", "apt", "modprobe", "fio"]
    return lines


def besides() -> list[str]:
    """What the text has installed besides, for packages."""
    found = re.search(r"Or as Debian packages, with ((?:`[a-z-]+`(?:, | and )?)+) installed besides", README)
    assert found
    return re.findall(r"`([a-z-]+)`", found[1])


def other_fio(bare: Bare) -> str:
    """The fio that `fio-source` names where the mirror has no source of the machine's own; "" where it has it."""
    source = bare.run("./scripts/dmabuf-lab fio-source")
    if source.returncode == 0:
        return ""
    assert "git clone --depth 1 --branch fio-" in source.stdout, source.stdout
    other = OTHER_FIO.search(source.stdout)
    assert other, source.stdout
    print(f"{bare.suite}: the mirror has no source of the machine's fio; fio {other[1]} is taken")
    return other[1]
