# SPDX-License-Identifier: GPL-2.0-only
"""README's way to install, line by line as it stands there, on a machine with nothing but apt."""

import json
import re

import bare_root
import kernel_of

README = (bare_root.CHECKOUT / "README.md").read_text()
OTHER_FIO = re.compile(r"`dmabuf-lab fio ([0-9.]+)`")
JOB = "--name=t --filename=/tmp/target --size=8m --rw=randrw --verify=crc32c --iodepth=8 --dmabuf_datapath=host"


def recipe() -> list[str]:
    """The lines of README's block for the user's own machine."""
    section = README.split("\n## On your own machine\n")[1]
    block = re.match(r"\n((?:    .*\n)+)", section)
    assert block
    return [line.strip() for line in block[1].splitlines()]


def test_every_line_works_and_a_job_is_proven(suite: str) -> None:
    lines = recipe()
    assert [line.split()[0] for line in lines] == ["apt-get", "apt-get", "make", "modprobe", "cmake", "cmake"]
    with bare_root.bare(suite) as bare:
        assert "python3" not in bare.packages()
        release = kernel_of.pretend(bare)
        # Nobody is there to say yes.
        bare.write("/etc/apt/apt.conf.d/99yes", 'APT::Get::Assume-Yes "true";\n')
        fio = "fio"
        for line in lines[:4]:
            said = bare.check(line)
            print(f"{suite}: {line}")
        assert re.fullmatch(rf"insmod /lib/modules/{re.escape(release)}/\S+/dmabuf_rw\.ko\S*", said.splitlines()[-1].strip())
        source = bare.run("./scripts/dmabuf-lab fio-source")
        configure = lines[4]
        if source.returncode != 0:
            # This mirror lists the machine's fio and does not keep its source: what is said then is done.
            assert "git clone --depth 1 --branch fio-" in source.stdout, source.stdout
            other = OTHER_FIO.search(source.stdout)
            assert other, source.stdout
            print(f"{suite}: the mirror has no source of the machine's fio; fio {other[1]} is taken")
            fio = bare.check(f"./scripts/dmabuf-lab fio {other[1]}").splitlines()[-1]
            configure = configure.replace("fio-source", f"fio-source {other[1]}")
        for line in (configure, lines[5]):
            bare.check(line)
            print(f"{suite}: {line}")
        said = bare.check(f"{fio} --ioengine=libdmabuf.so {JOB} --dmabuf_report=/tmp/report && cat /tmp/report", "/")
        assert json.loads(said.splitlines()[-1])["proven"] is True
