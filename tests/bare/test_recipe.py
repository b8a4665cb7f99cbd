# SPDX-License-Identifier: GPL-2.0-only
"""README's way to install, line by line as it stands there, on a machine with nothing but apt."""

import json
import re

import bare_root
import kernel_of
import readme

JOB = "--name=t --filename=/tmp/target --size=8m --rw=randrw --verify=crc32c --iodepth=8 --dmabuf_datapath=host"


def test_every_line_works_and_a_job_is_proven(suite: str) -> None:
    lines = readme.recipe()
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
        configure = lines[4]
        if other := readme.other_fio(bare):
            fio = bare.check(f"./scripts/dmabuf-lab fio {other}").splitlines()[-1]
            configure = configure.replace("fio-source", f"fio-source {other}")
        for line in (configure, lines[5]):
            bare.check(line)
            print(f"{suite}: {line}")
        said = bare.check(f"{fio} --ioengine=libdmabuf.so {JOB} --dmabuf_report=/tmp/report && cat /tmp/report", "/")
        assert json.loads(said.splitlines()[-1])["proven"] is True
