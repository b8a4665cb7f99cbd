# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages of this checkout, in two versions, built by the presets that users have."""

import os
import subprocess
from pathlib import Path

from bare_root import CHECKOUT

CMAKE = os.environ.get("CMAKE", "/usr/bin/cmake")
NAMES = ("dmabuf-rw-dkms", "libdmabuf", "libdmabuf-doc", "libdmabuf-rw-dev", "libdmabuf-rw0")
BUILD = CHECKOUT / "build/package"


def _call(*argv: str, **more: str) -> str:
    done = subprocess.run(argv, cwd=CHECKOUT, text=True, capture_output=True, check=False, env={**os.environ, **more})
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def build(version: str, place: Path) -> list[Path]:
    """The packages of one version, in a folder; what was built before is built no second time."""
    lab = str(CHECKOUT / "scripts/dmabuf-lab")
    sources = ";".join(_call(lab, "fio-source", which).strip() for which in ("--tests", "--lab"))
    who = {"DEBFULLNAME": "Somebody", "DEBEMAIL": "somebody@debian.org"}
    _call(CMAKE, "--preset", "package", f"-DFIO_SOURCE_DIRS={sources}", f"-DDMABUF_PACKAGE_VERSION={version}",
          "-UDMABUF_MAINTAINER", **who)  # fmt: skip
    _call(CMAKE, "--build", "--preset", "package")
    cpack = str(Path(CMAKE).with_name("cpack"))
    _call(cpack, "-G", "DEB", "--config", str(BUILD / "CPackConfig.cmake"), "-B", str(place))
    made = sorted(place.glob("*.deb"))
    assert {file.name.partition("_")[0] for file in made} == set(NAMES)
    return made
