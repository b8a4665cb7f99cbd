# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages of this checkout, in two versions, built in a bare root by README's words."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import kernel_of
import readme
from bare_root import SOURCE, Bare

NAMES = ("dmabuf-rw-dkms", "libdmabuf", "libdmabuf-doc", "libdmabuf-rw-dev", "libdmabuf-rw0")
WHO = "export DEBFULLNAME=Somebody DEBEMAIL=somebody@debian.org\n"


def build(bare: Bare, places: Mapping[str, Path]) -> None:
    """The packages in a folder for each version: those after the first differ in their version alone."""
    kernel_of.pretend(bare)
    # Nobody is there to say yes.
    bare.write("/etc/apt/apt.conf.d/99yes", 'APT::Get::Assume-Yes "true";\n')
    for line in readme.recipe()[:2]:
        bare.check(line)
    bare.check(f"apt-get install {' '.join(readme.besides())}")
    other = readme.other_fio(bare)
    configure, build_them, *_ = readme.packages()
    if other:
        configure = configure.replace("fio-source", f"fio-source {other}")
    made = bare.inside(SOURCE) / "build/package"
    for version, place in places.items():
        given = f" -DDMABUF_PACKAGE_VERSION={version}" if version != next(iter(places)) else ""
        bare.check(f"{WHO}{configure}{given}\n{build_them}")
        place.mkdir()
        for file in sorted(made.glob("*.deb")):
            shutil.move(file, place)
        names = {file.name.partition("_")[0] for file in place.glob(f"*_{version}_*.deb")}
        assert names == set(NAMES) and len(list(place.iterdir())) == len(NAMES), sorted(place.iterdir())
